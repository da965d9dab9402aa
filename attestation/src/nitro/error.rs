//! Why bytes are no attestation document, and why a document proves nothing.

use std::fmt;

use super::certificate::CertificateError;
use crate::time::Timestamp;

/// Why bytes are not an attestation document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The whole is too long or empty (bytes).
    #[error("expected a document of 1 to {max} bytes, found {found}")]
    Size {
        /// Longest document taken.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// Another item stands there, or none.
    #[error("{field}: expected {expected}, found {found}")]
    Expected {
        /// What was being read.
        field: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A string, array or map is too short or too long.
    #[error("{field}: expected a length of {min} to {max}, found {found}")]
    Length {
        /// What was being read.
        field: &'static str,
        /// Shortest length allowed (bytes or items).
        min: usize,
        /// Longest length allowed.
        max: usize,
        /// The length found.
        found: u64,
    },
    /// The protected header is not exactly {1: -35}.
    #[error("protected header: expected a1013822 (ES384), found {found}")]
    Algorithm {
        /// The header found, in hexadecimal.
        found: String,
    },
    /// Bytes follow the document, or its payload's map.
    #[error("{field}: {count} bytes follow where nothing should")]
    Trailing {
        /// After what they follow.
        field: &'static str,
        /// How many.
        count: usize,
    },
    /// A member stands twice in the payload.
    #[error("payload: the member {key:?} stands twice")]
    DuplicateMember {
        /// Its key.
        key: String,
    },
    /// A PCR stands twice.
    #[error("{field}: PCR{index} stands twice")]
    DuplicatePcr {
        /// In which map.
        field: &'static str,
        /// Its index.
        index: u64,
    },
    /// A PCR index is out of range.
    #[error("{field}: expected indices of 0 to 31, found {index}")]
    PcrIndex {
        /// In which map.
        field: &'static str,
        /// The index found.
        index: u64,
    },
    /// A member that every document has is absent.
    #[error("payload: the member {field:?} is missing")]
    Missing {
        /// Its key.
        field: &'static str,
    },
    /// Neither `pcrs` nor `nitrotpm_pcrs` is there.
    #[error("payload: neither \"pcrs\" nor \"nitrotpm_pcrs\" is there")]
    NoPcrs,
    /// Both `pcrs` and `nitrotpm_pcrs` are there.
    #[error("payload: both \"pcrs\" and \"nitrotpm_pcrs\" are there, of which a document has one")]
    BothPcrs,
    /// The module id is not printable ASCII.
    #[error("module_id: expected printable ASCII, found {found:?}")]
    ModuleId {
        /// The id found.
        found: String,
    },
    /// The digest is not SHA384.
    #[error("digest: expected \"SHA384\", found {found:?}")]
    Digest {
        /// The digest found.
        found: String,
    },
    /// The time of the document is zero.
    #[error("timestamp: expected milliseconds above 0, found 0")]
    ZeroTimestamp,
    /// An unknown member nests too deep.
    #[error("payload: an unknown member nests deeper than {max}")]
    TooDeep {
        /// Deepest nesting skipped.
        max: usize,
    },
}

/// Which certificate of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// `cabundle` at an index; 0 is the root.
    Bundle(usize),
    /// `certificate`: the one whose key signs the document.
    Leaf,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(index) => write!(f, "cabundle[{index}]"),
            Self::Leaf => f.write_str("certificate"),
        }
    }
}

/// Why a document proves nothing. The rules are those of aws-nitro-enclaves-nsm-api, docs/attestation_process.md.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The first certificate of the bundle is not the pinned root.
    #[error("cabundle[0]: expected the root with SHA-256 {expected}, found {found}")]
    Anchor {
        /// SHA-256 of the pinned root's DER, in hexadecimal.
        expected: String,
        /// SHA-256 of the certificate found.
        found: String,
    },
    /// A certificate cannot be read or is of a kind that does not occur.
    #[error("{position}: {error}")]
    Certificate {
        /// Which one.
        position: Position,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// A certificate's window has not begun.
    #[error("{position}: valid from {from}, which is after {at}")]
    NotYetValid {
        /// Which one.
        position: Position,
        /// Begin of its window.
        from: Timestamp,
        /// The time of verification.
        at: Timestamp,
    },
    /// A certificate's window has ended.
    #[error("{position}: valid until {until}, which is before {at}")]
    Expired {
        /// Which one.
        position: Position,
        /// End of its window.
        until: Timestamp,
        /// The time of verification.
        at: Timestamp,
    },
    /// A certificate of the bundle has no basicConstraints with cA TRUE.
    #[error("{position}: no certificate authority (basicConstraints)")]
    NotAuthority {
        /// Which one.
        position: Position,
    },
    /// More certificate authorities follow than a pathLenConstraint allows (RFC 5280 section 4.2.1.9).
    #[error("{position}: allows {allowed} certificate authorities below it, and {found} follow")]
    PathLength {
        /// Which one.
        position: Position,
        /// Its pathLenConstraint.
        allowed: u64,
        /// Certificate authorities between it and the leaf.
        found: usize,
    },
    /// A certificate of the bundle may not sign certificates.
    #[error("{position}: keyUsage lacks keyCertSign")]
    NoKeyCertSign {
        /// Which one.
        position: Position,
    },
    /// The leaf is a certificate authority.
    #[error("certificate: a certificate authority, where one that signs documents belongs")]
    LeafIsAuthority,
    /// The leaf has a pathLenConstraint.
    #[error("certificate: has a pathLenConstraint")]
    LeafPathLength,
    /// The leaf may not sign documents.
    #[error("certificate: keyUsage lacks digitalSignature")]
    NoDigitalSignature,
    /// A certificate names another issuer than the one before it.
    #[error("{position}: its issuer is not the subject of the certificate before it")]
    Issuer {
        /// Which one.
        position: Position,
    },
    /// A certificate is not signed by the one before it.
    #[error("{position}: its signature was not made by the certificate before it")]
    CertificateSignature {
        /// Which one.
        position: Position,
    },
    /// The path validator refuses the chain for another reason.
    #[error("the chain is no valid path: {reason}")]
    Path {
        /// What it says.
        reason: String,
    },
    /// The document's own signature does not fit.
    #[error("the document's signature was not made by the key of its certificate")]
    DocumentSignature,
    /// PCR0 is zero: an enclave in debug mode, whose console and memory its host can read.
    #[error("PCR0 is zero: the document comes from an enclave in debug mode")]
    DebugEnclave,
    /// An enclave's document has no PCR0.
    #[error("PCR0 is missing: the document does not say which image runs")]
    NoImageMeasurement,
}
