//! What went wrong while starting or driving a real program, as one sentence with its causes.

use std::fmt::Display;

/// A program could not be started, driven or found; the text names it and what it said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Result of the harness.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error from its sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Puts what was being done before the cause.
pub trait Context<T> {
    /// `what`: what was being done, without a full stop.
    ///
    /// # Errors
    /// The error of `self`, with `what` in front.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|cause| Error(format!("{what}: {cause}")))
    }
}
