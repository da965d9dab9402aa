//! Chains of X.509 certificates up to roots given, by the rules of RFC 5280 as webpki has them.

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::aws_lc_rs as algorithms;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::time::Timestamp;

/// Most certificates of a chain; genuine ones have three or four.
const MAX_CHAIN: usize = 8;

/// A chain does not lead to a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Too few certificates, or too many.
    #[error("expected 1 to {MAX_CHAIN} certificates, found {0}")]
    Length(usize),
    /// The first certificate cannot be read.
    #[error("the signer's certificate cannot be read: {0}")]
    Certificate(String),
    /// No way leads to a root, or one on it is not valid at that time.
    #[error("the certificates lead to no root that is trusted here, at {at}: {reason}")]
    Path {
        /// The time they were looked at.
        at: Timestamp,
        /// What webpki says.
        reason: String,
    },
}

/// Whatever a certificate is for: who uses this looks at its key and name.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Verifies at time `at` that the first certificate (DER) leads over others of the list, in any order, to one of
/// `roots`. What it is for (extended key usage) is left to the caller.
///
/// # Errors
/// [`ChainError`].
pub fn verify_chain<C: AsRef<[u8]>>(
    chain: &[C],
    roots: &[TrustAnchor<'_>],
    at: Timestamp,
) -> Result<(), ChainError> {
    let ders: Vec<CertificateDer<'_>> = chain
        .iter()
        .map(|der| CertificateDer::from(der.as_ref()))
        .collect();
    let Some((leaf, others)) = ders.split_first().filter(|_| ders.len() <= MAX_CHAIN) else {
        return Err(ChainError::Length(ders.len()));
    };
    let leaf = EndEntityCert::try_from(leaf)
        .map_err(|error| ChainError::Certificate(error.to_string()))?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.seconds()));
    leaf.verify_for_usage(
        &[
            algorithms::RSA_PKCS1_2048_8192_SHA256,
            algorithms::RSA_PKCS1_2048_8192_SHA384,
            algorithms::RSA_PKCS1_2048_8192_SHA512,
            algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
            algorithms::ECDSA_P256_SHA256,
            algorithms::ECDSA_P384_SHA384,
        ],
        roots,
        others,
        time,
        AnyUsage,
        None,
        None,
    )
    .map(drop)
    .map_err(|error| ChainError::Path {
        at,
        reason: error.to_string(),
    })
}
