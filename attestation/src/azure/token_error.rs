//! Why a token of the attestation service is refused, one reason each.

use super::TokenKind;
use super::jws::JwsError;
use crate::time::Timestamp;

/// Why a token proves nothing, or not what it has to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("attestation token: {0}")]
    Jws(#[from] JwsError),
    /// No key id in the header.
    #[error("attestation token: header: kid is missing")]
    NoKeyId,
    /// Signed with a key the service does not list.
    #[error(
        "attestation token: signed with key {found:?}, which is not among the service's: {known}"
    )]
    UnknownKey {
        /// The key id found.
        found: String,
        /// The ids known.
        known: String,
    },
    /// The signature does not fit.
    #[error("attestation token: the signature was not made with the key it names")]
    Signature,
    /// A claim is missing, or of another type.
    #[error("attestation token: {claim}: expected {expected}, found {found}")]
    Claim {
        /// Path of the claim.
        claim: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Issued by another service.
    #[error("attestation token: iss: expected {expected:?}, found {found:?}")]
    Issuer {
        /// The service asked.
        expected: String,
        /// The one that issued it.
        found: String,
    },
    /// Not valid yet.
    #[error(
        "attestation token: valid from {from}, which is after {at}; is this machine's clock right?"
    )]
    NotYetValid {
        /// Begin of its validity.
        from: Timestamp,
        /// The time of verification.
        at: Timestamp,
    },
    /// Not valid any more.
    #[error("attestation token: valid until {until}, which is before {at}; ask for a new one")]
    Expired {
        /// End of its validity.
        until: Timestamp,
        /// The time of verification.
        at: Timestamp,
    },
    /// It answers another request.
    #[error(
        "attestation token: x-ms-runtime.client-payload.nonce is not the nonce of this request: a token of another one"
    )]
    Nonce,
    /// No key to encrypt to.
    #[error("attestation token: x-ms-runtime.keys: expected an RSA key for encryption, found none")]
    NoEncryptionKey,
    /// The first suitable key, which Key Vault encrypts to, is not ours.
    #[error(
        "attestation token: x-ms-runtime.keys: key {kid:?} is not this machine's ephemeral key: a token of another machine or of an earlier boot"
    )]
    OtherKey {
        /// Id of the key found.
        kid: String,
    },
    /// A machine of another kind.
    #[error("attestation token: expected {expected}, found {found}")]
    Kind {
        /// The kind asked for.
        expected: TokenKind,
        /// The kind found.
        found: TokenKind,
    },
    /// Secure Boot was off.
    #[error(
        "attestation token: secureboot: expected true, found false: this machine was started without Secure Boot"
    )]
    SecureBoot,
    /// The machine can be looked into.
    #[error(
        "attestation token: {claim}: expected {expected}, found {found}: this machine runs with debugging on"
    )]
    Debug {
        /// Path of the claim.
        claim: &'static str,
        /// What it must be.
        expected: bool,
        /// What is there.
        found: String,
    },
    /// The service does not call the machine compliant.
    #[error(
        "attestation token: x-ms-isolation-tee.x-ms-compliance-status: expected \"azure-compliant-cvm\", found {found:?}"
    )]
    Compliance {
        /// What it says instead.
        found: String,
    },
    /// Another machine.
    #[error("attestation token: vm id: expected {expected:?}, found {found:?}")]
    Machine {
        /// The id expected.
        expected: String,
        /// The id found.
        found: String,
    },
}
