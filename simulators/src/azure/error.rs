//! Errors as Azure's services answer them.

use std::fmt::Display;

use hyper::StatusCode;
use serde_json::{Value, json};

/// An error answer: `{"error": {"code", "message", "innererror": {"code"}}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureError {
    /// HTTP status.
    pub status: StatusCode,
    /// `code`.
    pub code: String,
    /// `innererror.code`.
    pub inner: Option<String>,
    /// `message`.
    pub message: String,
    /// Value of `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// `WWW-Authenticate` is needed.
    pub challenge: bool,
}

/// What an operation gives.
pub(super) type AzureResult<T> = Result<T, AzureError>;

impl AzureError {
    /// An error without an inner one.
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            inner: None,
            message: message.into(),
            retry_after: None,
            challenge: false,
        }
    }

    /// 400 BadParameter.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    /// 403 Forbidden, and why.
    pub(super) fn forbidden(inner: &str, message: impl Into<String>) -> Self {
        Self {
            inner: Some(inner.to_owned()),
            ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
        }
    }

    /// 401 Unauthorized, with the challenge that says where tokens come from.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self {
            challenge: true,
            ..Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
        }
    }

    /// 500: the fault is this program's.
    pub(super) fn internal(cause: impl Display) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "InternalServerError", cause.to_string())
    }

    /// The body.
    pub(super) fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(inner) = &self.inner {
            error["innererror"] = json!({ "code": inner });
        }
        json!({ "error": error })
    }
}
