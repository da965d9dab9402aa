//! A document as parsed: what it says, with nothing yet proved.

use super::claims::Claims;
use super::cose::Envelope;
use super::error::{ParseError, VerifyError};
use super::{certificate::Certificate, error::Position};
use crate::time::Timestamp;
use std::ops::Deref;

/// Longest document taken, in bytes: the longest payload and the COSE_Sign1 around it. The NSM answers with at most
/// 12,288.
pub const MAX_DOCUMENT: usize = super::cose::MAX_PAYLOAD + 128;
/// Length of a PCR, in bytes: the digest is always SHA-384.
pub const PCR_LEN: usize = 48;
/// PCRs a document can name.
pub(super) const PCR_COUNT: usize = 32;

/// Value of a PCR.
pub type Pcr = [u8; PCR_LEN];

/// Whose document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A Nitro Enclave's: the member `pcrs`.
    NitroEnclave,
    /// A NitroTPM's: the member `nitrotpm_pcrs`.
    NitroTpm,
}

impl Form {
    /// Both forms.
    pub const BOTH: [Self; 2] = [Self::NitroEnclave, Self::NitroTpm];

    /// Name in policies and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NitroEnclave => "nitro-enclave",
            Self::NitroTpm => "nitro-tpm",
        }
    }
}

/// An attestation document, parsed and **not verified**: nothing it says is true until [`Document::verify`] holds.
#[derive(Clone, Debug)]
pub struct Document<'b> {
    pub(super) signed: &'b [u8],
    pub(super) signature: &'b [u8; super::cose::SIGNATURE_LEN],
    pub(super) payload: Claims<'b>,
}

impl<'b> Document<'b> {
    /// Parses a document, tagged (18) or not.
    ///
    /// # Errors
    /// Says what stands where what was expected; nothing is looked at twice and nothing may follow.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, ParseError> {
        let envelope = Envelope::parse(bytes)?;
        Ok(Self {
            payload: Claims::parse(envelope.payload)?,
            signed: envelope.payload,
            signature: envelope.signature,
        })
    }

    /// When the signing certificate ends. Documents share certificates, so this may be minutes away.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn expires(&self) -> Result<Timestamp, VerifyError> {
        Certificate::parse(self.payload.certificate)
            .map(|certificate| certificate.not_after)
            .map_err(|error| VerifyError::Certificate {
                position: Position::Leaf,
                error,
            })
    }

    /// DER of the signing certificate.
    #[must_use]
    pub fn certificate(&self) -> &'b [u8] {
        self.payload.certificate
    }

    /// DER of the certificates above it, root first.
    #[must_use]
    pub fn cabundle(&self) -> &[&'b [u8]] {
        &self.payload.cabundle
    }
}

impl<'b> Deref for Document<'b> {
    type Target = Claims<'b>;

    fn deref(&self) -> &Claims<'b> {
        &self.payload
    }
}
