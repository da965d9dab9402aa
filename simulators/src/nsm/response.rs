//! Writing NSM responses, as the crate aws-nitro-enclaves-nsm-api reads them.

use nodeseal_wire::cbor::Writer;

use super::pcrs::{PCR_COUNT, PcrError, PcrValue};
use crate::pki::PkiError;

/// Why the module refused, by the names of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    InvalidArgument,
    InvalidIndex,
    ReadOnlyIndex,
    InvalidOperation,
    InputTooLarge,
    InternalError,
}

impl From<PcrError> for ErrorCode {
    fn from(error: PcrError) -> Self {
        match error {
            PcrError::Index(_) => Self::InvalidIndex,
            PcrError::Locked(_) => Self::ReadOnlyIndex,
        }
    }
}

impl From<PkiError> for ErrorCode {
    fn from(error: PkiError) -> Self {
        tracing::error!(%error, "no document");
        Self::InternalError
    }
}

pub(super) fn error(code: ErrorCode) -> Vec<u8> {
    let name = match code {
        ErrorCode::InvalidArgument => "InvalidArgument",
        ErrorCode::InvalidIndex => "InvalidIndex",
        ErrorCode::ReadOnlyIndex => "ReadOnlyIndex",
        ErrorCode::InvalidOperation => "InvalidOperation",
        ErrorCode::InputTooLarge => "InputTooLarge",
        ErrorCode::InternalError => "InternalError",
    };
    Writer::new().map(1).text("Error").text(name).finish()
}

/// A response without fields.
pub(super) fn bare(variant: &str) -> Vec<u8> {
    Writer::new().text(variant).finish()
}

pub(super) fn describe_pcr(value: &PcrValue, locked: bool) -> Vec<u8> {
    let mut writer = variant("DescribePCR", 2);
    writer.text("lock").boolean(locked);
    writer.text("data").bytes(value).finish()
}

pub(super) fn extend_pcr(value: &PcrValue) -> Vec<u8> {
    variant("ExtendPCR", 1).text("data").bytes(value).finish()
}

pub(super) fn describe_nsm(module_id: &str, locked: &[u16]) -> Vec<u8> {
    let mut writer = variant("DescribeNSM", 7);
    writer.text("version_major").uint(1);
    writer.text("version_minor").uint(0);
    writer.text("version_patch").uint(0);
    writer.text("module_id").text(module_id);
    writer.text("max_pcrs").uint(u64::from(PCR_COUNT));
    writer.text("locked_pcrs").array(locked.len());
    for index in locked {
        writer.uint(u64::from(*index));
    }
    writer.text("digest").text("SHA384").finish()
}

pub(super) fn get_random(bytes: &[u8]) -> Vec<u8> {
    variant("GetRandom", 1).text("random").bytes(bytes).finish()
}

pub(super) fn attestation(document: &[u8]) -> Vec<u8> {
    variant("Attestation", 1)
        .text("document")
        .bytes(document)
        .finish()
}

fn variant(name: &str, fields: usize) -> Writer {
    let mut writer = Writer::new();
    writer.map(1).text(name).map(fields);
    writer
}
