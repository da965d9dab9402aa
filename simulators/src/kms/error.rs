//! Errors of the API: code, status and text as AWS KMS answers them (API reference, "Common Errors" and the
//! operations' own lists; AccessDeniedException comes with status 400, as seen).

use serde_json::{Value, json};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// `__type`.
    pub code: String,
    /// HTTP status.
    pub status: u16,
    /// `message`; AWS KMS leaves it out for some codes.
    pub message: Option<String>,
}

/// Result of an operation.
pub(super) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A client's error (status 400).
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            status: 400,
            message: Some(message.into()),
        }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new("NotFoundException", message)
    }

    /// Says no more: neither whether blob or context was wrong.
    pub(super) fn invalid_ciphertext() -> Self {
        Self {
            code: "InvalidCiphertextException".to_owned(),
            status: 400,
            message: None,
        }
    }

    pub(super) fn unsupported(what: &str) -> Self {
        let message = format!("nodeseal-sim does not simulate {what}");
        Self::new("UnsupportedOperationException", message)
    }

    /// The simulator itself failed.
    pub(super) fn internal(message: impl std::fmt::Display) -> Self {
        tracing::error!(%message, "internal failure");
        Self {
            code: "KMSInternalException".to_owned(),
            status: 500,
            message: Some(message.to_string()),
        }
    }

    pub(super) fn throttled() -> Self {
        let message = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";
        Self::new("ThrottlingException", message)
    }

    /// The answer's body.
    pub(super) fn body(&self) -> Value {
        match &self.message {
            Some(message) => json!({"__type": self.code, "message": message}),
            None => json!({"__type": self.code}),
        }
    }
}
