//! Why an answer of secure key release is refused, one reason each.

use super::certificates::ChainError;
use super::jws::JwsError;

/// Why a released key is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not a JWS at all.
    #[error("released key: {0}")]
    Jws(#[from] JwsError),
    /// The header has no certificates.
    #[error("released key: header: x5c: expected certificates, found nothing")]
    NoCertificates,
    /// The signer's certificates lead to no trusted root.
    #[error("released key: {0}: a vault that is not trusted here has signed it")]
    Chain(#[from] ChainError),
    /// The signer's certificate is for other hosts.
    #[error("released key: the signer's certificate is for {found}, expected one of {expected}")]
    Host {
        /// The names that would do.
        expected: String,
        /// The DNS names in the certificate.
        found: String,
    },
    /// The signature does not fit.
    #[error("released key: the signature was not made with the key of its certificate")]
    Signature,
    /// A member is missing or of another type.
    #[error("released key: {member}: expected {expected}, found {found}")]
    Member {
        /// Path of the member.
        member: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Another value than what was asked for.
    #[error("released key: {member}: expected {expected:?}, found {found:?}")]
    Other {
        /// Path of the member.
        member: &'static str,
        /// What was asked for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An answer to another request.
    #[error(
        "released key: request.nonce is not the nonce of this request: an answer to another one"
    )]
    Nonce,
    /// Encrypted to a key that is not ours.
    #[error(
        "released key: key_hsm.header.kid: expected {expected:?}, found {found:?}: encrypted for another key"
    )]
    WrappingKey {
        /// Id of our key in the token.
        expected: String,
        /// The id found.
        found: String,
    },
}
