//! Typed noes of the core itself; docs/cli.md lists their codes.

use nodeseal_wire::cbor::DecodeError;
use nodeseal_wire::message::{Class, Refusal};

use crate::keys::KeyError;
use crate::seal::{OpenError, SealError};

/// A refusal with this class, code and message.
pub fn refuse(class: Class, code: &str, message: impl Into<String>) -> Refusal {
    Refusal {
        class,
        code: code.to_owned(),
        message: message.into(),
    }
}

/// The bytes are no blob of ours.
pub(crate) fn malformed_blob(error: &DecodeError) -> Refusal {
    refuse(
        Class::Damaged,
        "blob-malformed",
        format!("the blob cannot be read: {error}"),
    )
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let (class, code) = match &error {
            OpenError::Authentication => (Class::Damaged, "blob-authentication"),
            OpenError::PublicKey | OpenError::Key(_) => (Class::Damaged, "public-key-mismatch"),
            OpenError::Crypto(_) => (Class::Internal, "crypto"),
        };
        refuse(class, code, error.to_string())
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        let (class, code) = match &error {
            KeyError::Crypto(_) => (Class::Internal, "crypto"),
            _ => (Class::Misuse, "bad-key"),
        };
        refuse(class, code, error.to_string())
    }
}

impl From<SealError> for Refusal {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Key(error) => error.into(),
            SealError::TooLarge { .. } => refuse(Class::Misuse, "too-large", error.to_string()),
            SealError::Header(_) => refuse(Class::Misuse, "bad-header", error.to_string()),
            SealError::Crypto(_) => refuse(Class::Internal, "crypto", error.to_string()),
        }
    }
}
