//! The payload of a document: a map of nine members, of definite or indefinite length, in any order.

use super::cbor::Reader;
use super::document::{Form, PCR_COUNT, PCR_LEN, Pcr};
use super::error::ParseError;
use crate::time::Timestamp;

/// Longest certificate, in bytes (nsm-api, docs/attestation_process.md).
const MAX_CERTIFICATE: usize = 1024;
/// Longest public key, user data and nonce, in bytes. AWS's text says 512 for two of them, genuine documents have more.
const MAX_FIELD: usize = 1024;
/// Most certificates above the leaf; genuine documents have four.
const MAX_BUNDLE: usize = 7;
/// Most members, known or not.
const MAX_MEMBERS: usize = 24;
/// Longest key of a member, in bytes.
const MAX_KEY: usize = 64;
/// Longest module id, in bytes; genuine ones have 39 or 40.
const MAX_MODULE_ID: usize = 128;

/// What a document says, with nothing proved: [`Document`](super::Document) is how it is proved.
#[derive(Clone, Debug)]
pub struct Claims<'b> {
    pub(super) form: Form,
    pub(super) module_id: &'b str,
    pub(super) timestamp: Timestamp,
    pub(super) pcrs: [Option<&'b Pcr>; PCR_COUNT],
    pub(super) certificate: &'b [u8],
    pub(super) cabundle: Vec<&'b [u8]>,
    pub(super) public_key: Option<&'b [u8]>,
    pub(super) user_data: Option<&'b [u8]>,
    pub(super) nonce: Option<&'b [u8]>,
}

type Pcrs<'b> = [Option<&'b Pcr>; PCR_COUNT];

impl<'b> Claims<'b> {
    /// Whether this is what QEMU's `nitro-enclave` machine makes in place of a signed document: 64 zero bytes for the
    /// certificate, and for the only one above it (hw/virtio/virtio-nsm.c).
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        let nothing = [0; 64];
        self.certificate == nothing && *self.cabundle == [&nothing[..]]
    }

    /// Reads what a document claims, whatever its algorithm and signature, which nothing is made of: for documents
    /// straight from the device, and for the unsigned ones of QEMU's `nitro-enclave` machine.
    ///
    /// # Errors
    /// Says what stands where what was expected.
    pub fn read(document: &'b [u8]) -> Result<Self, ParseError> {
        Self::parse(super::cose::payload(document)?)
    }

    /// Whose document it is.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Id of the enclave or NitroTPM: `i-…-enc…` or `i-…-tpm0000000000000000`, printable ASCII.
    #[must_use]
    pub fn module_id(&self) -> &'b str {
        self.module_id
    }

    /// When the hypervisor made the document.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Value of a PCR, none where the document does not name it.
    #[must_use]
    pub fn pcr(&self, index: u8) -> Option<&'b Pcr> {
        self.pcrs.get(usize::from(index)).copied().flatten()
    }

    /// The PCRs the document names, ascending.
    pub fn pcrs(&self) -> impl Iterator<Item = (u8, &'b Pcr)> + '_ {
        (0_u8..)
            .zip(self.pcrs.iter())
            .filter_map(|(index, value)| value.map(|value| (index, value)))
    }

    /// The requester's public key, 1 to 1024 bytes; for KMS a DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> Option<&'b [u8]> {
        self.public_key
    }

    /// The requester's data, at most 1024 bytes.
    #[must_use]
    pub fn user_data(&self) -> Option<&'b [u8]> {
        self.user_data
    }

    /// The requester's nonce, at most 1024 bytes.
    #[must_use]
    pub fn nonce(&self) -> Option<&'b [u8]> {
        self.nonce
    }

    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let mut keys: Vec<&str> = Vec::new();
        let mut module_id = None;
        let mut digest = None;
        let mut timestamp = None;
        let mut enclave: Option<Pcrs<'b>> = None;
        let mut nitrotpm: Option<Pcrs<'b>> = None;
        let mut certificate = None;
        let mut cabundle = None;
        let mut public_key = None;
        let mut user_data = None;
        let mut nonce = None;

        let mut members = reader.map("payload", MAX_MEMBERS)?;
        while reader.more("payload", &mut members)? {
            let key = reader.text("payload key", 1, MAX_KEY)?;
            if keys.contains(&key) {
                return Err(ParseError::DuplicateMember {
                    key: key.to_owned(),
                });
            }
            keys.push(key);
            match key {
                "module_id" => module_id = Some(reader.text("module_id", 1, MAX_MODULE_ID)?),
                "digest" => digest = Some(reader.text("digest", 1, MAX_KEY)?),
                "timestamp" => timestamp = Some(reader.uint("timestamp")?),
                // Absent, as null, is no map: the other form may still be there.
                "pcrs" if !reader.null() => enclave = Some(pcrs(&mut reader, "pcrs")?),
                "nitrotpm_pcrs" if !reader.null() => {
                    nitrotpm = Some(pcrs(&mut reader, "nitrotpm_pcrs")?);
                }
                "pcrs" | "nitrotpm_pcrs" => {}
                "certificate" => {
                    certificate = Some(reader.bytes("certificate", 1, MAX_CERTIFICATE)?);
                }
                "cabundle" => cabundle = Some(bundle(&mut reader)?),
                "public_key" => public_key = optional(&mut reader, "public_key", 1)?,
                "user_data" => user_data = optional(&mut reader, "user_data", 0)?,
                "nonce" => nonce = optional(&mut reader, "nonce", 0)?,
                _ => reader.skip("unknown member")?,
            }
        }
        reader.finish("payload")?;

        let (form, pcrs) = match (enclave, nitrotpm) {
            (Some(pcrs), None) => (Form::NitroEnclave, pcrs),
            (None, Some(pcrs)) => (Form::NitroTpm, pcrs),
            (None, None) => return Err(ParseError::NoPcrs),
            (Some(_), Some(_)) => return Err(ParseError::BothPcrs),
        };
        let module_id = required("module_id", module_id)?;
        if !module_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ParseError::ModuleId {
                found: module_id.to_owned(),
            });
        }
        let digest = required("digest", digest)?;
        if digest != "SHA384" {
            return Err(ParseError::Digest {
                found: digest.to_owned(),
            });
        }
        let timestamp = required("timestamp", timestamp)?;
        if timestamp == 0 {
            return Err(ParseError::ZeroTimestamp);
        }
        Ok(Self {
            form,
            module_id,
            timestamp: Timestamp::from_milliseconds(timestamp),
            pcrs,
            certificate: required("certificate", certificate)?,
            cabundle: required("cabundle", cabundle)?,
            public_key,
            user_data,
            nonce,
        })
    }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ParseError> {
    value.ok_or(ParseError::Missing { field })
}

/// Genuine documents write absent members as null, against AWS's own text.
fn optional<'b>(
    reader: &mut Reader<'b>,
    field: &'static str,
    min: usize,
) -> Result<Option<&'b [u8]>, ParseError> {
    if reader.null() {
        return Ok(None);
    }
    reader.bytes(field, min, MAX_FIELD).map(Some)
}

fn pcrs<'b>(reader: &mut Reader<'b>, field: &'static str) -> Result<Pcrs<'b>, ParseError> {
    let mut values: Pcrs<'b> = [None; PCR_COUNT];
    let mut entries = reader.map(field, PCR_COUNT)?;
    while reader.more(field, &mut entries)? {
        let index = reader.uint(field)?;
        let slot = usize::try_from(index)
            .ok()
            .and_then(|index| values.get_mut(index))
            .ok_or(ParseError::PcrIndex { field, index })?;
        if slot.is_some() {
            return Err(ParseError::DuplicatePcr { field, index });
        }
        let value = reader.bytes(field, PCR_LEN, PCR_LEN)?;
        *slot = value.first_chunk::<PCR_LEN>();
    }
    if values.iter().all(Option::is_none) {
        return Err(ParseError::Length {
            field,
            min: 1,
            max: PCR_COUNT,
            found: 0,
        });
    }
    Ok(values)
}

fn bundle<'b>(reader: &mut Reader<'b>) -> Result<Vec<&'b [u8]>, ParseError> {
    let mut certificates = Vec::with_capacity(MAX_BUNDLE);
    let mut items = reader.array("cabundle", MAX_BUNDLE)?;
    while reader.more("cabundle", &mut items)? {
        certificates.push(reader.bytes("cabundle", 1, MAX_CERTIFICATE)?);
    }
    if certificates.is_empty() {
        return Err(ParseError::Length {
            field: "cabundle",
            min: 1,
            max: MAX_BUNDLE,
            found: 0,
        });
    }
    Ok(certificates)
}
