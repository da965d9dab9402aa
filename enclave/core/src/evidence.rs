//! The seam to whatever proves what this trusted side runs: the NSM of an enclave, a NitroTPM.

use nodeseal_wire::message::{Class, Refusal};

use crate::lock::BoxFuture;
use crate::refusal::refuse;

/// Longest nonce, user data and public key a document carries, in bytes each (measured on genuine documents; the 512
/// bytes of AWS's text are out of date).
pub const MAX_FIELD: usize = 1024;

/// What a document is asked to carry. A field left out is absent in the document.
#[derive(Clone, Copy, Default)]
pub struct AttestationRequest<'a> {
    /// Proof of freshness for whoever asked, up to [`MAX_FIELD`] bytes.
    pub nonce: Option<&'a [u8]>,
    /// Anything else that should be bound, up to [`MAX_FIELD`] bytes.
    pub user_data: Option<&'a [u8]>,
    /// DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) of a key only the asker holds, up to [`MAX_FIELD`] bytes.
    pub public_key: Option<&'a [u8]>,
}

/// Makes signed documents that say what this trusted side runs.
pub trait Attester: Send + Sync {
    /// What the documents are: "nitro-enclave", "nitro-tpm".
    fn kind(&self) -> &'static str;

    /// Asks for a document. The caller bounds the time.
    ///
    /// # Errors
    /// See [`AttestError`].
    fn attest<'a>(
        &'a self,
        request: AttestationRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, AttestError>>;
}

/// No document.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The device is not there, or does not answer.
    #[error("{device} cannot be used: {reason}")]
    Device {
        /// Path or address.
        device: String,
        /// What the system said.
        reason: String,
    },
    /// The device answered with an error of its own.
    #[error("{device} made no attestation document: {reason}")]
    Refused {
        /// Path or address.
        device: String,
        /// The error's name.
        reason: String,
    },
    /// The device answered with something that is no answer.
    #[error("{device} gave a malformed answer: {reason}")]
    Malformed {
        /// Path or address.
        device: String,
        /// What was expected and found.
        reason: String,
    },
}

impl From<AttestError> for Refusal {
    fn from(error: AttestError) -> Self {
        let class = match error {
            AttestError::Device { .. } => Class::Unavailable,
            AttestError::Refused { .. } | AttestError::Malformed { .. } => Class::Internal,
        };
        refuse(class, "attestation-failed", error.to_string())
    }
}
