//! A document as parsed: what it says, with nothing yet proved.

use super::cose::Envelope;
use super::error::{ParseError, VerifyError};
use super::payload::Payload;
use super::{certificate::Certificate, error::Position};
use crate::time::Timestamp;

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
    pub(super) payload: Payload<'b>,
}

impl<'b> Document<'b> {
    /// Parses a document, tagged (18) or not.
    ///
    /// # Errors
    /// Says what stands where what was expected; nothing is looked at twice and nothing may follow.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, ParseError> {
        let envelope = Envelope::parse(bytes)?;
        Ok(Self {
            payload: Payload::parse(envelope.payload)?,
            signed: envelope.payload,
            signature: envelope.signature,
        })
    }

    /// Whose document it is.
    #[must_use]
    pub fn form(&self) -> Form {
        self.payload.form
    }

    /// Id of the enclave or NitroTPM: `i-…-enc…` or `i-…-tpm0000000000000000`, printable ASCII.
    #[must_use]
    pub fn module_id(&self) -> &'b str {
        self.payload.module_id
    }

    /// When the hypervisor made the document.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.payload.timestamp
    }

    /// Value of a PCR, none where the document does not name it.
    #[must_use]
    pub fn pcr(&self, index: u8) -> Option<&'b Pcr> {
        self.payload.pcrs.get(usize::from(index)).copied().flatten()
    }

    /// The PCRs the document names, ascending.
    pub fn pcrs(&self) -> impl Iterator<Item = (u8, &'b Pcr)> + '_ {
        (0_u8..)
            .zip(self.payload.pcrs.iter())
            .filter_map(|(index, value)| value.map(|value| (index, value)))
    }

    /// The requester's public key, 1 to 1024 bytes; for KMS a DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> Option<&'b [u8]> {
        self.payload.public_key
    }

    /// The requester's data, at most 1024 bytes.
    #[must_use]
    pub fn user_data(&self) -> Option<&'b [u8]> {
        self.payload.user_data
    }

    /// The requester's nonce, at most 1024 bytes.
    #[must_use]
    pub fn nonce(&self) -> Option<&'b [u8]> {
        self.payload.nonce
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
