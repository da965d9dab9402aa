//! What Azure says, verified: tokens of the attestation service ([`Token`]), answers of Key Vault's secure key release
//! ([`Release`]), and what a virtual machine's TPM says of itself ([`tpm`], [`hcl`], [`snp`]).
//!
//! Each is bytes, then parsed, then verified, and only the last hands out what it is for.

mod certificates;
mod claims;
pub(crate) mod debug;
pub mod hcl;
mod jwks;
mod jws;
mod release;
mod release_error;
pub mod snp;
mod token;
mod token_error;
pub mod tpm;

pub use certificates::{ChainError, verify_chain};
pub use claims::{Claims, Value};
pub use jwks::{Jwks, JwksError};
pub use jws::JwsError;
pub use release::{KeyWrap, Release, ReleaseExpectations, ReleasedKey};
pub use release_error::ReleaseError;
pub use token::{Token, TokenExpectations, TokenKind, VerifiedToken, encryption_key};
pub use token_error::TokenError;

use crate::der::{INTEGER, Reader, SEQUENCE};

/// An RSA public key as a JSON Web Key has it (RFC 7518 section 6.3.1): big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaKey {
    /// Modulus.
    pub modulus: Vec<u8>,
    /// Public exponent.
    pub exponent: Vec<u8>,
}

impl RsaKey {
    /// Whether `signature` (RSASSA-PKCS1-v1_5 with SHA-256) of `message` was made with this key; keys of 2048 to 8192
    /// bits only.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        aws_lc_rs::signature::RsaPublicKeyComponents {
            n: &self.modulus,
            e: &self.exponent,
        }
        .verify(
            &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256,
            message,
            signature,
        )
        .is_ok()
    }

    /// The key in an RSAPublicKey (RFC 8017 appendix A.1.1), none where it is not that.
    #[must_use]
    pub fn from_pkcs1_der(der: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(der);
        let mut key = outer.nested(SEQUENCE).ok()?;
        outer.finish().ok()?;
        let modulus = positive(key.contents(INTEGER).ok()?)?;
        let exponent = positive(key.contents(INTEGER).ok()?)?;
        key.finish().ok()?;
        Some(Self { modulus, exponent })
    }

    /// The key in members `n` and `e` of a JSON Web Key, base64url without padding.
    fn of(key: &crate::json::Json) -> Option<Self> {
        let number = |name| {
            let bytes = crate::base64::url(key.get(name)?.string()?)?;
            // RFC 7518 section 2: no leading zeros, and these are not zero.
            (*bytes.first()? != 0).then_some(bytes)
        };
        Some(Self {
            modulus: number("n")?,
            exponent: number("e")?,
        })
    }
}

/// The magnitude of a DER INTEGER above zero.
fn positive(contents: &[u8]) -> Option<Vec<u8>> {
    match contents {
        [0, rest @ ..] if rest.first().is_some_and(|b| b & 0x80 != 0) => Some(rest.to_vec()),
        [0x01..=0x7f, ..] => Some(contents.to_vec()),
        _ => None,
    }
}
