//! COSE_Sign1 (RFC 9052 section 4.2) in the one shape AWS uses: ES384, nothing unprotected, payload attached.

use super::cbor::{Reader, Remaining, length};
use super::document::MAX_DOCUMENT;
use super::error::ParseError;
use crate::hex;

/// Longest payload, in bytes (nsm-api, docs/attestation_process.md).
pub const MAX_PAYLOAD: usize = 16_384;
/// Signature in bytes: r and s of P-384, 48 each, big-endian.
pub const SIGNATURE_LEN: usize = 96;
/// Protected header {1: -35}: ES384.
const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// Tag 18, COSE_Sign1. Genuine documents come without; AWS's text allows both.
const TAG: u8 = 0xd2;
/// Everything before the payload: an array of four, the protected header, an empty map.
const HEAD: [u8; 7] = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0];

/// Payload and signature of an untagged or tagged COSE_Sign1, neither of them looked into.
pub(super) struct Envelope<'b> {
    pub(super) payload: &'b [u8],
    pub(super) signature: &'b [u8; SIGNATURE_LEN],
}

/// The items of a COSE_Sign1, whatever its algorithm.
struct Items<'b> {
    untagged: &'b [u8],
    protected: &'b [u8],
    payload: &'b [u8],
    signature: &'b [u8],
}

impl<'b> Items<'b> {
    fn parse(bytes: &'b [u8]) -> Result<Self, ParseError> {
        if bytes.is_empty() || bytes.len() > MAX_DOCUMENT {
            return Err(ParseError::Size {
                max: MAX_DOCUMENT,
                found: bytes.len(),
            });
        }
        let untagged = match bytes.split_first() {
            Some((&TAG, rest)) => rest,
            _ => bytes,
        };
        let mut reader = Reader::new(untagged);
        if !matches!(reader.array("COSE_Sign1", 4)?, Remaining::Exactly(4)) {
            return Err(expected("COSE_Sign1", "an array of 4", "another array"));
        }
        let protected = reader.bytes("protected header", 0, 64)?;
        if !matches!(reader.map("unprotected header", 0)?, Remaining::Exactly(0)) {
            let found = "a map of indefinite length";
            return Err(expected("unprotected header", "an empty map", found));
        }
        let payload = reader.bytes("payload", 1, MAX_PAYLOAD)?;
        let signature = reader.bytes("signature", 0, SIGNATURE_LEN)?;
        reader.finish("COSE_Sign1")?;
        Ok(Self {
            untagged,
            protected,
            payload,
            signature,
        })
    }
}

/// The payload of a COSE_Sign1 whose algorithm and signature are not looked at.
pub(super) fn payload(bytes: &[u8]) -> Result<&[u8], ParseError> {
    Ok(Items::parse(bytes)?.payload)
}

impl<'b> Envelope<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, ParseError> {
        let Items {
            untagged,
            protected,
            payload,
            signature,
        } = Items::parse(bytes)?;
        if protected != PROTECTED {
            return Err(ParseError::Algorithm {
                found: hex::encode(protected),
            });
        }
        length("signature", SIGNATURE_LEN, SIGNATURE_LEN, signature.len())?;
        let signature = signature
            .first_chunk()
            .ok_or_else(|| expected("signature", "96 bytes", "fewer"))?;
        // What the signature does not cover has one spelling only (the signature itself has two, as any by ECDSA).
        if envelope(payload, signature) != untagged {
            let found = "longer ones";
            return Err(expected("COSE_Sign1", "shortest lengths", found));
        }
        Ok(Self { payload, signature })
    }
}

fn expected(field: &'static str, expected: &'static str, found: &str) -> ParseError {
    ParseError::Expected {
        field,
        expected,
        found: found.to_owned(),
    }
}

/// What the signature is made over: `["Signature1", protected header, h'', payload]` (RFC 9052 section 4.4).
#[must_use]
pub fn sig_structure(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 24);
    out.extend_from_slice(b"\x84\x6aSignature1\x44");
    out.extend_from_slice(&PROTECTED);
    out.push(0x40);
    out.extend_from_slice(&head(0x40, payload.len()));
    out.extend_from_slice(payload);
    out
}

/// The untagged document with this payload and signature, as the hypervisor writes it.
#[must_use]
pub fn envelope(payload: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Vec<u8> {
    let mut out = HEAD.to_vec();
    out.extend_from_slice(&head(0x40, payload.len()));
    out.extend_from_slice(payload);
    out.extend_from_slice(&head(0x40, signature.len()));
    out.extend_from_slice(signature);
    out
}

/// Head of an item of a major type (its upper three bits) in the shortest form (RFC 8949 section 4.2.1).
fn head(major: u8, length: usize) -> Vec<u8> {
    let bytes = (length as u64).to_be_bytes();
    let tail = |count: usize| bytes.get(8 - count..).unwrap_or_default().to_vec();
    let (info, tail) = match length {
        0..24 => return vec![major | bytes[7]],
        24..0x100 => (24, tail(1)),
        0x100..0x1_0000 => (25, tail(2)),
        0x1_0000..0x1_0000_0000 => (26, tail(4)),
        _ => (27, tail(8)),
    };
    let mut out = vec![major | info];
    out.extend_from_slice(&tail);
    out
}
