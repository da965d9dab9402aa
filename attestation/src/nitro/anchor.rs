//! The root a chain must end in, pinned by the SHA-256 of its DER.

use aws_lc_rs::digest::{SHA256, digest};

use super::certificate::{Certificate, CertificateError};
use crate::{base64, hex};

/// Longest PEM text taken, in bytes.
const MAX_PEM: usize = 16 * 1024;

/// A pinned root. The root itself comes with each document, as `cabundle[0]`, and must be this one byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    sha256: [u8; 32],
}

/// Why a root cannot be pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Not exactly one certificate in PEM.
    #[error("expected one certificate in PEM, found {0}")]
    Pem(&'static str),
    /// The certificate cannot be a root of documents.
    #[error("the root: {0}")]
    Certificate(#[from] CertificateError),
    /// The certificate is no certificate authority.
    #[error("the root: no certificate authority (basicConstraints)")]
    NotAuthority,
}

impl Anchor {
    /// Root G1 of AWS Nitro Enclaves and NitroTPM, valid from 2019-10-28 to 2049-10-28. The fingerprint is that of the
    /// EC2 user guide, "nitrotpm-attestation-document-validate"; AWS publishes the root in
    /// `AWS_NitroEnclaves_Root-G1.zip`.
    pub const AWS_NITRO_G1: Self = Self::from_sha256([
        0x64, 0x1a, 0x03, 0x21, 0xa3, 0xe2, 0x44, 0xef, 0xe4, 0x56, 0x46, 0x31, 0x95, 0xd6, 0x06,
        0x31, 0x7e, 0xd7, 0xcd, 0xcc, 0x3c, 0x17, 0x56, 0xe0, 0x98, 0x93, 0xf3, 0xc6, 0x8f, 0x79,
        0xbb, 0x5b,
    ]);

    /// Pins the root whose DER has this SHA-256.
    #[must_use]
    pub const fn from_sha256(sha256: [u8; 32]) -> Self {
        Self { sha256 }
    }

    /// Pins a root given in DER.
    ///
    /// # Errors
    /// It is no certificate authority on P-384.
    pub fn from_der(der: &[u8]) -> Result<Self, AnchorError> {
        let root = Certificate::parse(der)?;
        if !root.constraints.is_some_and(|c| c.authority) {
            return Err(AnchorError::NotAuthority);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, der).as_ref());
        Ok(Self { sha256 })
    }

    /// Pins the one root in a PEM text (RFC 7468); text around it is passed over.
    ///
    /// # Errors
    /// There is not exactly one certificate, or it is no certificate authority on P-384.
    pub fn from_pem(text: &str) -> Result<Self, AnchorError> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        if text.len() > MAX_PEM {
            return Err(AnchorError::Pem("a longer text than is taken"));
        }
        let (_, after) = text.split_once(BEGIN).ok_or(AnchorError::Pem("none"))?;
        let (body, rest) = after.split_once(END).ok_or(AnchorError::Pem("no end"))?;
        if rest.contains(BEGIN) {
            return Err(AnchorError::Pem("several"));
        }
        let body: String = body.split_ascii_whitespace().collect();
        let der = base64::standard(&body).ok_or(AnchorError::Pem("no base64"))?;
        Self::from_der(&der)
    }

    /// SHA-256 of the root's DER.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(super) fn is(&self, der: &[u8]) -> bool {
        digest(&SHA256, der).as_ref() == self.sha256
    }

    pub(super) fn fingerprint(der: &[u8]) -> String {
        hex::encode(digest(&SHA256, der).as_ref())
    }
}
