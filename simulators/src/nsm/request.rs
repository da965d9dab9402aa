//! Reading NSM requests: externally tagged, as the crate aws-nitro-enclaves-nsm-api encodes them.
//!
//! Fields are taken in any order, unknown ones are skipped, and text is no byte string, as the device has it.

use minicbor::Decoder;
use minicbor::data::Type;

/// A request; byte strings point into the request's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'b> {
    DescribePcr { index: u16 },
    ExtendPcr { index: u16, data: &'b [u8] },
    LockPcr { index: u16 },
    LockPcrs { range: u16 },
    DescribeNsm,
    GetRandom,
    Attestation(Claims<'b>),
}

/// What the application wants in its document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims<'b> {
    pub(super) public_key: Option<&'b [u8]>,
    pub(super) user_data: Option<&'b [u8]>,
    pub(super) nonce: Option<&'b [u8]>,
}

/// Not a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<minicbor::decode::Error> for Malformed {
    fn from(_: minicbor::decode::Error) -> Self {
        Self
    }
}

#[derive(Default)]
struct Fields<'b> {
    index: Option<u16>,
    range: Option<u16>,
    data: Option<&'b [u8]>,
    claims: Claims<'b>,
}

/// Reads one request and nothing after it.
pub(super) fn decode(bytes: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut decoder = Decoder::new(bytes);
    let request = match decoder.datatype()? {
        Type::String => match decoder.str()? {
            "DescribeNSM" => Request::DescribeNsm,
            "GetRandom" => Request::GetRandom,
            _ => return Err(Malformed),
        },
        _ => variant(&mut decoder)?,
    };
    if decoder.position() == bytes.len() {
        Ok(request)
    } else {
        Err(Malformed)
    }
}

fn variant<'b>(decoder: &mut Decoder<'b>) -> Result<Request<'b>, Malformed> {
    if decoder.map()? != Some(1) {
        return Err(Malformed);
    }
    let variant = decoder.str()?;
    let fields = fields(decoder)?;
    match variant {
        "DescribePCR" => Ok(Request::DescribePcr {
            index: fields.index.ok_or(Malformed)?,
        }),
        "ExtendPCR" => Ok(Request::ExtendPcr {
            index: fields.index.ok_or(Malformed)?,
            data: fields.data.ok_or(Malformed)?,
        }),
        "LockPCR" => Ok(Request::LockPcr {
            index: fields.index.ok_or(Malformed)?,
        }),
        "LockPCRs" => Ok(Request::LockPcrs {
            range: fields.range.ok_or(Malformed)?,
        }),
        "Attestation" => Ok(Request::Attestation(fields.claims)),
        _ => Err(Malformed),
    }
}

fn fields<'b>(decoder: &mut Decoder<'b>) -> Result<Fields<'b>, Malformed> {
    let mut fields = Fields::default();
    let count = decoder.map()?.ok_or(Malformed)?;
    for _ in 0..count {
        match decoder.str()? {
            "index" => fields.index = Some(decoder.u16()?),
            "range" => fields.range = Some(decoder.u16()?),
            "data" => fields.data = Some(decoder.bytes()?),
            "public_key" => fields.claims.public_key = optional(decoder)?,
            "user_data" => fields.claims.user_data = optional(decoder)?,
            "nonce" => fields.claims.nonce = optional(decoder)?,
            _ => decoder.skip()?,
        }
    }
    Ok(fields)
}

fn optional<'b>(decoder: &mut Decoder<'b>) -> Result<Option<&'b [u8]>, Malformed> {
    if decoder.datatype()? == Type::Null {
        decoder.null()?;
        return Ok(None);
    }
    Ok(Some(decoder.bytes()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::unhex;
    use proptest::prelude::*;

    #[test]
    fn requests_of_the_published_crate_are_read() {
        for (bytes, request) in [
            (
                "a16b4465736372696265504352a165696e64657803",
                Request::DescribePcr { index: 3 },
            ),
            (
                "a169457874656e64504352a265696e64657810646461746143010203",
                Request::ExtendPcr {
                    index: 16,
                    data: &[1, 2, 3],
                },
            ),
            (
                "a1674c6f636b504352a165696e64657810",
                Request::LockPcr { index: 16 },
            ),
            (
                "a1684c6f636b50435273a16572616e67651818",
                Request::LockPcrs { range: 24 },
            ),
            ("6b44657363726962654e534d", Request::DescribeNsm),
            (
                "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365f66a7075626c69635f6b6579f6",
                Request::Attestation(Claims::default()),
            ),
            ("6947657452616e646f6d", Request::GetRandom),
        ] {
            assert_eq!(decode(&unhex(bytes).unwrap()), Ok(request), "{bytes}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in [
            "",
            "00",
            "6947657452616e646f6d00",
            "a1674c6f636b504352a0",
            "a1674c6f636b504352a165696e6465783a00000000",
            "a169457874656e64504352a265696e646578106464617461626162",
            "a16447657452a0",
        ] {
            assert_eq!(decode(&unhex(bytes).unwrap()), Err(Malformed), "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
