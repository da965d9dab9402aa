//! Attestation reports of AMD SEV-SNP (AMD publication 56860, "SEV Secure Nested Paging Firmware ABI Specification",
//! table "ATTESTATION_REPORT"), signed with ECDSA P-384 by a chip's VCEK.

use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::EndEntityCert;

use super::certificates::{ChainError, verify_chain};
use crate::time::Timestamp;

/// Length of a report, in bytes.
pub const REPORT_LEN: usize = 1184;
/// What is signed: everything before the signature.
pub const SIGNED_LEN: usize = 0x2a0;
/// Each of r and s, little-endian.
const SCALAR: usize = 72;
/// Bit DEBUG of the guest policy.
const POLICY_DEBUG: u64 = 1 << 19;

/// A report proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnpError {
    /// It has another length.
    #[error("SEV-SNP report: expected {REPORT_LEN} bytes, found {0}")]
    Length(usize),
    /// It is signed by another algorithm.
    #[error(
        "SEV-SNP report: signature algorithm: expected 1 (ECDSA P-384 with SHA-384), found {0}"
    )]
    Algorithm(u32),
    /// The chip's certificate leads to no root.
    #[error("SEV-SNP report: VCEK: {0}")]
    Chain(#[from] ChainError),
    /// The signature does not fit.
    #[error("SEV-SNP report: the signature was not made with the VCEK")]
    Signature,
}

/// A report, parsed and not verified.
#[derive(Clone, Copy, Debug)]
pub struct SnpReport<'b>(&'b [u8; REPORT_LEN]);

impl<'b> SnpReport<'b> {
    /// Reads a report.
    ///
    /// # Errors
    /// [`SnpError::Length`], [`SnpError::Algorithm`].
    pub fn parse(bytes: &'b [u8]) -> Result<Self, SnpError> {
        let report = bytes
            .try_into()
            .map(Self)
            .map_err(|_| SnpError::Length(bytes.len()))?;
        let algorithm = u32::from_le_bytes(report.array(0x34));
        if algorithm != 1 {
            return Err(SnpError::Algorithm(algorithm));
        }
        Ok(report)
    }

    /// Verifies that the first certificate (DER) of `chain`, the VCEK, signed this report and leads to one of `roots`.
    ///
    /// # Errors
    /// [`SnpError`].
    pub fn verify(
        &self,
        chain: &[Vec<u8>],
        roots: &[TrustAnchor<'_>],
        at: Timestamp,
    ) -> Result<(), SnpError> {
        verify_chain(chain, roots, at)?;
        let vcek = CertificateDer::from(chain.first().map_or(&[][..], Vec::as_slice));
        let unusable = |error: webpki::Error| ChainError::Certificate(error.to_string());
        let vcek = EndEntityCert::try_from(&vcek).map_err(unusable)?;
        let (signed, signature) = self.0.split_at(SIGNED_LEN);
        let r = signature.get(..SCALAR).unwrap_or_default();
        let s = signature.get(SCALAR..2 * SCALAR).unwrap_or_default();
        let algorithm = webpki::aws_lc_rs::ECDSA_P384_SHA384;
        let signature = asn1_signature(r, s);
        vcek.verify_signature(algorithm, signed, &signature)
            .map_err(|_| SnpError::Signature)
    }

    /// Whether the host may read the guest's memory.
    #[must_use]
    pub fn is_debuggable(&self) -> bool {
        u64::from_le_bytes(self.array(0x08)) & POLICY_DEBUG != 0
    }

    /// Security version of the guest.
    #[must_use]
    pub fn guest_svn(&self) -> u32 {
        u32::from_le_bytes(self.array(0x04))
    }

    /// Privilege level the report was asked for at.
    #[must_use]
    pub fn vmpl(&self) -> u32 {
        u32::from_le_bytes(self.array(0x30))
    }

    /// What the guest put into it.
    #[must_use]
    pub fn report_data(&self) -> &'b [u8] {
        self.field(0x50, 64)
    }

    /// Measurement at launch.
    #[must_use]
    pub fn measurement(&self) -> &'b [u8] {
        self.field(0x90, 48)
    }

    /// What the host put into it.
    #[must_use]
    pub fn host_data(&self) -> &'b [u8] {
        self.field(0xc0, 32)
    }

    /// SHA-384 of the key that signed the guest's ID block.
    #[must_use]
    pub fn id_key_digest(&self) -> &'b [u8] {
        self.field(0xe0, 48)
    }

    /// SHA-384 of the key that signed the ID key.
    #[must_use]
    pub fn author_key_digest(&self) -> &'b [u8] {
        self.field(0x110, 48)
    }

    /// Id of the report.
    #[must_use]
    pub fn report_id(&self) -> &'b [u8] {
        self.field(0x140, 32)
    }

    fn field(&self, at: usize, length: usize) -> &'b [u8] {
        self.0.get(at..at + length).unwrap_or_default()
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.field(at, N).try_into().unwrap_or([0; N])
    }
}

/// DER of the two numbers, given little-endian (RFC 3279 section 2.2.3).
fn asn1_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |little: &[u8]| {
        let mut big: Vec<u8> = little.iter().rev().copied().collect();
        let zeros = big.iter().take_while(|byte| **byte == 0).count();
        big.drain(..zeros.min(big.len().saturating_sub(1)));
        if big.first().is_some_and(|byte| byte & 0x80 != 0) {
            big.insert(0, 0);
        }
        let length = big.len().to_le_bytes().first().copied().unwrap_or(0);
        [&[0x02, length], big.as_slice()].concat()
    };
    let contents = [integer(r), integer(s)].concat();
    let length = contents.len().to_le_bytes().first().copied().unwrap_or(0);
    // At most 150 bytes of contents: one byte of length, with the long form's prefix from 128 on.
    let prefix: &[u8] = if contents.len() < 0x80 {
        &[0x30]
    } else {
        &[0x30, 0x81]
    };
    [prefix, &[length], contents.as_slice()].concat()
}
