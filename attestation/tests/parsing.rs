//! Each rule of the document's form alone, and arbitrary bytes.
#![allow(clippy::unwrap_used)]

mod support;

use minicbor::Encoder;
use nodeseal_attestation::nitro::{
    Anchor, AnchorError, DebugEnclaves, Document, Expectations, ParseError, cose, report,
};
use proptest::prelude::*;
use support::{Forge, made};

type Cbor = Encoder<Vec<u8>>;

/// Members of a payload in the genuine order, each replaceable.
fn members() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "module_id",
            cbor(|e| {
                e.str("i-0-enc0").unwrap();
            }),
        ),
        (
            "digest",
            cbor(|e| {
                e.str("SHA384").unwrap();
            }),
        ),
        (
            "timestamp",
            cbor(|e| {
                e.u64(1).unwrap();
            }),
        ),
        ("pcrs", pcrs(&[(0, 48)])),
        (
            "certificate",
            cbor(|e| {
                e.bytes(&[1]).unwrap();
            }),
        ),
        (
            "cabundle",
            cbor(|e| {
                e.array(1).unwrap().bytes(&[1]).unwrap();
            }),
        ),
        ("public_key", null()),
        ("user_data", null()),
        ("nonce", null()),
    ]
}

fn cbor(write: impl FnOnce(&mut Cbor)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

fn null() -> Vec<u8> {
    vec![0xf6]
}

fn pcrs(entries: &[(u64, usize)]) -> Vec<u8> {
    cbor(|e| {
        e.map(entries.len() as u64).unwrap();
        for (index, length) in entries {
            e.u64(*index).unwrap().bytes(&vec![1; *length]).unwrap();
        }
    })
}

fn payload(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = cbor(|e| {
        e.map(members.len() as u64).unwrap();
    });
    for (key, value) in members {
        out.extend(cbor(|e| {
            e.str(key).unwrap();
        }));
        out.extend(value);
    }
    out
}

fn parse(payload: &[u8]) -> Result<(), ParseError> {
    Document::parse(&cose::envelope(payload, &[1; 96])).map(drop)
}

/// The genuine members with one of another value.
fn with(key: &str, value: Vec<u8>) -> Result<(), ParseError> {
    let mut members = members();
    for member in members.iter_mut().filter(|member| member.0 == key) {
        member.1.clone_from(&value);
    }
    parse(&payload(&members))
}

fn expected(field: &'static str, expected: &'static str, first: u8) -> ParseError {
    ParseError::Expected {
        field,
        expected,
        found: format!("another item (first byte 0x{first:02x})"),
    }
}

fn length(field: &'static str, min: usize, max: usize, found: u64) -> ParseError {
    ParseError::Length {
        field,
        min,
        max,
        found,
    }
}

#[test]
fn the_members_of_genuine_documents_are_taken_null_or_absent_in_any_order() {
    assert_eq!(parse(&payload(&members())), Ok(()));
    assert_eq!(parse(&payload(&members()[..6])), Ok(()));
    let mut reversed = members();
    reversed.reverse();
    assert_eq!(parse(&payload(&reversed)), Ok(()));
}

#[test]
fn maps_and_arrays_of_indefinite_length_are_taken() {
    let mut indefinite = payload(&members());
    indefinite[0] = 0xbf;
    indefinite.push(0xff);
    assert_eq!(parse(&indefinite), Ok(()));
    let bundle = [&[0x9f, 0x41, 1][..], &[0xff]].concat();
    assert_eq!(with("cabundle", bundle), Ok(()));
    let mut map = pcrs(&[(0, 48)]);
    map[0] = 0xbf;
    map.push(0xff);
    assert_eq!(with("pcrs", map), Ok(()));
}

#[test]
fn an_indefinite_length_without_its_end_is_refused() {
    let mut open = payload(&members());
    open[0] = 0xbf;
    let refused = ParseError::Expected {
        field: "payload key",
        expected: "a text string",
        found: "the end of the data".to_owned(),
    };
    assert_eq!(parse(&open), Err(refused));
}

#[test]
fn strings_of_indefinite_length_are_refused() {
    let chunks = vec![0x5f, 0x41, 1, 0xff];
    assert_eq!(
        with("certificate", chunks),
        Err(expected("certificate", "a byte string", 0x5f))
    );
}

#[test]
fn an_envelope_of_another_shape_is_refused() {
    let good = cose::envelope(&payload(&members()), &[1; 96]);
    let parse = |bytes: &[u8]| Document::parse(bytes).map(drop).unwrap_err();
    assert_eq!(
        parse(&[]),
        ParseError::Size {
            max: 16_512,
            found: 0
        }
    );
    let long = vec![0; 16_513];
    assert_eq!(
        parse(&long),
        ParseError::Size {
            max: 16_512,
            found: 16_513
        }
    );
    let mut three = good.clone();
    three[0] = 0x83;
    let refused = ParseError::Expected {
        field: "COSE_Sign1",
        expected: "an array of 4",
        found: "another array".to_owned(),
    };
    assert_eq!(parse(&three), refused);
    let mut open = good.clone();
    open[0] = 0x9f;
    open.push(0xff);
    assert_eq!(parse(&open), refused);
    let mut other_tag = vec![0xd1];
    other_tag.extend(&good);
    assert_eq!(parse(&other_tag), expected("COSE_Sign1", "an array", 0xd1));
    let mut twice = vec![0xd2, 0xd2];
    twice.extend(&good);
    assert_eq!(parse(&twice), expected("COSE_Sign1", "an array", 0xd2));
    let mut unprotected = good.clone();
    unprotected[6] = 0xa1;
    assert_eq!(parse(&unprotected), length("unprotected header", 0, 0, 1));
    unprotected[6] = 0xf6;
    assert_eq!(
        parse(&unprotected),
        expected("unprotected header", "a map", 0xf6)
    );
    let mut trailing = good.clone();
    trailing.push(0);
    let field = "COSE_Sign1";
    assert_eq!(parse(&trailing), ParseError::Trailing { field, count: 1 });
}

#[test]
fn another_algorithm_than_es384_is_refused() {
    let mut other = cose::envelope(&payload(&members()), &[1; 96]);
    // {1: -39} instead of {1: -35}.
    other[5] = 0x26;
    let found = "a1013826".to_owned();
    let refused = Document::parse(&other).map(drop);
    assert_eq!(refused, Err(ParseError::Algorithm { found }));
}

#[test]
fn lengths_of_the_envelope_are_in_their_shortest_form() {
    let good = cose::envelope(&payload(&members()), &[1; 96]);
    let head = [&good[..7], &[0x59, 0]].concat();
    let long = [&head[..], &good[8..]].concat();
    let refused = ParseError::Expected {
        field: "COSE_Sign1",
        expected: "shortest lengths",
        found: "longer ones".to_owned(),
    };
    assert_eq!(good[7], 0x58);
    assert_eq!(Document::parse(&long).map(drop), Err(refused));
}

#[test]
fn the_signature_has_96_bytes_and_the_payload_at_most_16384() {
    let mut short = cose::envelope(&payload(&members()), &[1; 96]);
    let signature = short.len() - 97;
    short[signature] = 95;
    short.pop();
    assert_eq!(
        Document::parse(&short).map(drop),
        Err(length("signature", 96, 96, 95))
    );
    let empty = cose::envelope(&[], &[1; 96]);
    assert_eq!(
        Document::parse(&empty).map(drop),
        Err(length("payload", 1, 16_384, 0))
    );
    let mut large = members();
    large.push((
        "more",
        cbor(|e| {
            e.bytes(&[0; 16_220]).unwrap();
        }),
    ));
    let large = payload(&large);
    assert_eq!(
        parse(&large),
        Err(length("payload", 1, 16_384, large.len() as u64))
    );
}

#[test]
fn each_member_has_its_type_and_its_bounds() {
    let text = || {
        cbor(|e| {
            e.str("text").unwrap();
        })
    };
    let bytes = |length| {
        cbor(move |e| {
            e.bytes(&vec![0; length]).unwrap();
        })
    };
    for (key, value, refused) in [
        (
            "module_id",
            cbor(|e| {
                e.str("").unwrap();
            }),
            length("module_id", 1, 128, 0),
        ),
        (
            "module_id",
            bytes(4),
            expected("module_id", "a text string", 0x44),
        ),
        (
            "module_id",
            null(),
            expected("module_id", "a text string", 0xf6),
        ),
        ("digest", null(), expected("digest", "a text string", 0xf6)),
        (
            "timestamp",
            text(),
            expected("timestamp", "an unsigned integer", 0x64),
        ),
        ("timestamp", vec![0], ParseError::ZeroTimestamp),
        (
            "timestamp",
            vec![0x20],
            expected("timestamp", "an unsigned integer", 0x20),
        ),
        ("certificate", bytes(0), length("certificate", 1, 1024, 0)),
        (
            "certificate",
            bytes(1025),
            length("certificate", 1, 1024, 1025),
        ),
        (
            "certificate",
            null(),
            expected("certificate", "a byte string", 0xf6),
        ),
        ("cabundle", vec![0x80], length("cabundle", 1, 7, 0)),
        ("cabundle", vec![0x88], length("cabundle", 0, 7, 8)),
        ("cabundle", vec![0x81, 0x40], length("cabundle", 1, 1024, 0)),
        ("public_key", bytes(0), length("public_key", 1, 1024, 0)),
        (
            "public_key",
            bytes(1025),
            length("public_key", 1, 1024, 1025),
        ),
        (
            "public_key",
            text(),
            expected("public_key", "a byte string", 0x64),
        ),
        (
            "public_key",
            vec![0x81, 0],
            expected("public_key", "a byte string", 0x81),
        ),
        ("user_data", bytes(1025), length("user_data", 0, 1024, 1025)),
        ("nonce", bytes(1025), length("nonce", 0, 1024, 1025)),
        (
            "nonce",
            vec![0xd8, 24, 0x41, 0],
            expected("nonce", "a byte string", 0xd8),
        ),
    ] {
        assert_eq!(with(key, value.clone()), Err(refused), "{key} {value:02x?}");
    }
    for key in ["public_key", "user_data", "nonce"] {
        assert_eq!(with(key, bytes(1024)), Ok(()), "{key}");
    }
    for key in ["user_data", "nonce"] {
        assert_eq!(with(key, bytes(0)), Ok(()), "{key}");
    }
}

#[test]
fn the_module_id_is_printable_and_the_digest_sha384() {
    let escape = cbor(|e| {
        e.str("i-\u{1b}[2J").unwrap();
    });
    let found = "i-\u{1b}[2J".to_owned();
    assert_eq!(
        with("module_id", escape),
        Err(ParseError::ModuleId { found })
    );
    let other = cbor(|e| {
        e.str("SHA256").unwrap();
    });
    let found = "SHA256".to_owned();
    assert_eq!(with("digest", other), Err(ParseError::Digest { found }));
}

#[test]
fn pcrs_are_1_to_32_of_index_below_32_and_48_bytes_each_once() {
    let field = "pcrs";
    assert_eq!(with(field, pcrs(&[])), Err(length(field, 1, 32, 0)));
    let all: Vec<(u64, usize)> = (0..32).map(|index| (index, 48)).collect();
    assert_eq!(with(field, pcrs(&all)), Ok(()));
    for index in [32, u64::MAX] {
        let refused = ParseError::PcrIndex { field, index };
        assert_eq!(with(field, pcrs(&[(index, 48)])), Err(refused));
    }
    let twice = ParseError::DuplicatePcr { field, index: 3 };
    assert_eq!(with(field, pcrs(&[(3, 48), (3, 48)])), Err(twice));
    for found in [0, 32, 47, 49, 64] {
        let refused = length(field, 48, 48, found as u64);
        assert_eq!(with(field, pcrs(&[(0, found)])), Err(refused));
    }
    let text_key = vec![0xa1, 0x61, b'0', 0x41, 0];
    assert_eq!(
        with(field, text_key),
        Err(expected(field, "an unsigned integer", 0x61))
    );
    assert_eq!(with(field, vec![0xb8, 33]), Err(length(field, 0, 32, 33)));
}

#[test]
fn there_is_exactly_one_kind_of_pcrs() {
    assert_eq!(with("pcrs", null()), Err(ParseError::NoPcrs));
    let without: Vec<_> = members().into_iter().filter(|m| m.0 != "pcrs").collect();
    assert_eq!(parse(&payload(&without)), Err(ParseError::NoPcrs));
    let mut both = members();
    both.push(("nitrotpm_pcrs", pcrs(&[(4, 48)])));
    assert_eq!(parse(&payload(&both)), Err(ParseError::BothPcrs));
}

#[test]
fn members_that_every_document_has_may_not_be_missing() {
    for field in [
        "module_id",
        "digest",
        "timestamp",
        "certificate",
        "cabundle",
    ] {
        let without: Vec<_> = members().into_iter().filter(|m| m.0 != field).collect();
        assert_eq!(
            parse(&payload(&without)),
            Err(ParseError::Missing { field })
        );
    }
}

#[test]
fn no_member_stands_twice_not_even_an_unknown_one() {
    for key in ["module_id", "nonce", "pcrs"] {
        let mut twice = members();
        let again = twice.iter().find(|m| m.0 == key).unwrap().clone();
        twice.push(again);
        let key = key.to_owned();
        assert_eq!(
            parse(&payload(&twice)),
            Err(ParseError::DuplicateMember { key })
        );
    }
    let mut unknown = members();
    unknown.extend([("more", null()), ("more", null())]);
    let key = "more".to_owned();
    assert_eq!(
        parse(&payload(&unknown)),
        Err(ParseError::DuplicateMember { key })
    );
}

#[test]
fn unknown_members_are_passed_over_within_bounds() {
    let more = |value: Vec<u8>| {
        let mut members = members();
        members.insert(2, ("more", value));
        parse(&payload(&members))
    };
    let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
    for value in [
        vec![0xa1, 0x61, b'a', 0x82, 0xf4, 0x20],
        vec![0xbf, 0x61, b'a', 0x9f, 0xff, 0xff],
        vec![0xc1, 0x1a, 0, 0, 0, 1],
        vec![0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
        nested(8),
    ] {
        assert_eq!(more(value.clone()), Ok(()), "{value:02x?}");
    }
    assert_eq!(more(nested(9)), Err(ParseError::TooDeep { max: 8 }));
    assert_eq!(more(nested(8000)), Err(ParseError::TooDeep { max: 8 }));
    let claims = vec![0x9b, 0, 0, 1, 0, 0, 0, 0, 0];
    assert!(matches!(more(claims), Err(ParseError::Expected { .. })));
    let many: Vec<(String, Vec<u8>)> = (0..25).map(|i| (i.to_string(), null())).collect();
    let many: Vec<(&str, Vec<u8>)> = many.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    assert_eq!(parse(&payload(&many)), Err(length("payload", 0, 24, 25)));
    let mut number = members();
    number.truncate(1);
    let mut bytes = payload(&number);
    bytes[0] = 0xa2;
    bytes.extend([1, 1]);
    assert_eq!(
        parse(&bytes),
        Err(expected("payload key", "a text string", 1))
    );
}

#[test]
fn nothing_follows_the_payloads_map() {
    let mut bytes = payload(&members());
    bytes.push(0);
    let field = "payload";
    assert_eq!(parse(&bytes), Err(ParseError::Trailing { field, count: 1 }));
}

#[test]
fn a_pem_text_holds_one_certificate() {
    for (text, found) in [
        ("", "none"),
        ("-----BEGIN CERTIFICATE-----\nAA==\n", "no end"),
        (
            "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
            "no base64",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAB==\n-----END CERTIFICATE-----\n",
            "no base64",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAA==AA==\n-----END CERTIFICATE-----\n",
            "no base64",
        ),
    ] {
        assert_eq!(
            Anchor::from_pem(text),
            Err(AnchorError::Pem(found)),
            "{text}"
        );
    }
    let one = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    assert_eq!(
        Anchor::from_pem(&one.repeat(2)),
        Err(AnchorError::Pem("several"))
    );
}

#[test]
fn the_leaf_of_a_chain_can_be_no_anchor() {
    let (bytes, anchor) = Forge::default().document();
    let document = Document::parse(&bytes).unwrap();
    assert_eq!(Anchor::from_der(document.cabundle()[0]), Ok(anchor));
    let refused = Anchor::from_der(document.certificate());
    assert_eq!(refused, Err(AnchorError::NotAuthority));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_panic_and_never_hold(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Document::parse(&bytes);
        let _ = Document::parse(&cose::envelope(&bytes, &[0; 96]));
        let _ = Anchor::from_der(&bytes);
        let anchor = Anchor::AWS_NITRO_G1;
        prop_assert!(!report(&bytes, made(), &anchor, &Expectations::default()).holds());
    }

    #[test]
    fn spoilt_certificates_and_payloads_never_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        static FORGED: std::sync::OnceLock<(Vec<u8>, Anchor)> = std::sync::OnceLock::new();
        let (genuine, anchor) = FORGED.get_or_init(|| Forge::default().document());
        let mut bytes = genuine.clone();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let accepted = Document::parse(&bytes)
            .ok()
            .is_some_and(|document| document.verify(made(), anchor, DebugEnclaves::DangerAccept).is_ok());
        prop_assert_eq!(accepted, &bytes == genuine);
    }

    #[test]
    fn arbitrary_text_is_no_pem_and_no_expectation_and_never_panics(text in "\\PC*") {
        let _ = Anchor::from_pem(&text);
        let pem = format!("-----BEGIN CERTIFICATE-----{text}-----END CERTIFICATE-----");
        prop_assert!(Anchor::from_pem(&pem).is_err());
        let _ = Expectations::parse(&text);
    }
}
