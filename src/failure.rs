//! Why a command failed: sort, stable name, message, and what to try.

use std::fmt;

use nodeseal_wire::message::{Class, Refusal};
use serde_json::{Value, json};

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::context::ContextError;
use crate::files::FileError;
use crate::hints::hint;

/// A failure as it is told to the user.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What sort of failure, which decides the exit status.
    pub class: Class,
    /// Stable name of the reason.
    pub code: String,
    /// The thing, the expected, the found.
    pub message: String,
}

impl Failure {
    /// A failure with a stable name.
    pub fn new(class: Class, code: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// A request that cannot be served as it was made.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Misuse, "usage", message)
    }

    /// The same failure, told of `thing`.
    #[must_use]
    pub fn of(mut self, thing: impl fmt::Display) -> Self {
        self.message = format!("{thing}: {}", self.message);
        self
    }

    /// A failure of some keys among several, where `first` is that of the first.
    #[must_use]
    pub fn some_of(failed: usize, of: usize, first: &Self) -> Self {
        let mut failure = first.clone();
        if of > 1 {
            failure.message = format!("{failed} of {of} keys failed, the first: {}", first.message);
        }
        failure
    }

    /// As the audit log has it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal {
            class: self.class,
            code: self.code.clone(),
            message: self.message.clone(),
        }
    }

    /// As a JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "class": self.class.name(),
            "code": self.code,
            "message": self.message,
            "hint": hint(&self.code),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match hint(&self.code) {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            class,
            code,
            message,
        } = refusal;
        Self {
            class,
            code,
            message,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (class, code) = match &error {
            ClientError::Connect { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => (Class::Unavailable, "trusted-side-access"),
                _ => (Class::Unavailable, "trusted-side-unreachable"),
            },
            ClientError::NotConnected { .. } => (Class::Unavailable, "trusted-side-unreachable"),
            ClientError::Timeout { .. } => (Class::Unavailable, "trusted-side-timeout"),
            ClientError::Frame(_) | ClientError::Ended => (Class::Unavailable, "trusted-side-gone"),
            ClientError::Malformed(_) | ClientError::Unexpected { .. } => {
                (Class::Internal, "trusted-side-reply")
            }
            ClientError::Protocol { .. } => (Class::Misuse, "protocol-version"),
            ClientError::Refused(refusal) => return refusal.clone().into(),
        };
        Self::new(class, code, error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match &error {
            ConfigError::Missing { .. } => "no-configuration",
            ConfigError::Read { .. } | ConfigError::Invalid { .. } => "configuration",
        };
        Self::new(Class::Misuse, code, error.to_string())
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self::new(Class::Misuse, "signed-policy", error.to_string())
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let code = match &error {
            FileError::Exists { .. } => "exists",
            FileError::Io { .. } => "file",
            FileError::NotRegular { .. } => "not-a-regular-file",
            FileError::TooLarge { .. } => "too-large",
            FileError::Changed { .. } => "changed",
            FileError::Linked { .. } => "hard-links",
        };
        Self::new(Class::Internal, code, error.to_string())
    }
}
