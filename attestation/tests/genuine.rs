//! Documents made by AWS's hardware: each gives the result its description says, at its own time.
#![allow(clippy::unwrap_used)]

mod support;

use nodeseal_attestation::nitro::{
    Anchor, Check, DebugEnclaves, Document, Expectations, Form, Outcome, VerifyError, report,
};
use support::{at, fixtures};

struct Fixture {
    file: &'static str,
    at: &'static str,
    form: Form,
    outcome: Result<(), VerifyError>,
}

fn all() -> Vec<Fixture> {
    let fixture = |file, at, form, outcome| Fixture {
        file,
        at,
        form,
        outcome,
    };
    let enclave = Form::NitroEnclave;
    vec![
        fixture(
            "enclave-2025-01-rsa2048-key.cbor",
            "2025-01-06T16:07:05.472Z",
            enclave,
            Ok(()),
        ),
        fixture(
            "enclave-2024-09-fields-1024.cbor",
            "2024-09-07T14:37:39.545Z",
            enclave,
            Ok(()),
        ),
        fixture(
            "enclave-2026-01-indefinite-map.cbor",
            "2026-01-03T20:41:07.402Z",
            enclave,
            Ok(()),
        ),
        fixture(
            "enclave-2022-10-debug-mode.cbor",
            "2022-10-12T13:50:06.081Z",
            enclave,
            Err(VerifyError::DebugEnclave),
        ),
        fixture(
            "enclave-2024-07-bad-signature.cbor",
            "2024-07-23T21:29:40.771Z",
            enclave,
            Err(VerifyError::DocumentSignature),
        ),
        fixture(
            "nitrotpm-2026-02.cbor",
            "2026-02-01T05:19:43.375Z",
            Form::NitroTpm,
            Ok(()),
        ),
    ]
}

#[test]
fn every_genuine_document_gives_its_result_at_its_own_time() {
    let Some(folder) = fixtures() else { return };
    for fixture in all() {
        let bytes = std::fs::read(folder.join(fixture.file)).unwrap();
        let document = Document::parse(&bytes).unwrap();
        assert_eq!(document.timestamp(), at(fixture.at), "{}", fixture.file);
        assert_eq!(document.form(), fixture.form, "{}", fixture.file);
        let time = document.timestamp();
        let outcome = document.verify(time, &Anchor::AWS_NITRO_G1, DebugEnclaves::Refuse);
        assert_eq!(outcome.map(drop), fixture.outcome, "{}", fixture.file);
    }
}

#[test]
fn the_published_root_has_the_pinned_fingerprint() {
    let Some(folder) = fixtures() else { return };
    let pem = std::fs::read_to_string(folder.join("aws-nitro-root-g1.pem")).unwrap();
    assert_eq!(Anchor::from_pem(&pem), Ok(Anchor::AWS_NITRO_G1));
}

#[test]
fn a_report_holds_exactly_where_verification_does_and_says_the_rest() {
    let Some(folder) = fixtures() else { return };
    for fixture in all() {
        let bytes = std::fs::read(folder.join(fixture.file)).unwrap();
        let root = Anchor::AWS_NITRO_G1;
        let report = report(&bytes, at(fixture.at), &root, &Expectations::default());
        assert_eq!(report.holds(), fixture.outcome.is_ok(), "{}", fixture.file);
        let failed: Vec<Check> = report
            .checks
            .iter()
            .filter(|result| matches!(result.outcome, Outcome::Failed(_)))
            .map(|result| result.check)
            .collect();
        let expected = match fixture.outcome {
            Ok(()) => vec![],
            Err(VerifyError::DebugEnclave) => vec![Check::NotDebug],
            // It comes from a debug enclave besides.
            Err(_) => vec![Check::Signature, Check::NotDebug],
        };
        assert_eq!(failed, expected, "{}", fixture.file);
        assert_eq!(report.checks.len(), 10, "{}", fixture.file);
        serde_json::to_string(&report).unwrap();
    }
}

#[test]
fn a_debug_enclave_is_taken_only_by_the_dangerous_name() {
    let Some(folder) = fixtures() else { return };
    let bytes = std::fs::read(folder.join("enclave-2022-10-debug-mode.cbor")).unwrap();
    let document = Document::parse(&bytes).unwrap();
    let (time, root) = (document.timestamp(), Anchor::AWS_NITRO_G1);
    assert!(document.pcr(3).unwrap().iter().any(|byte| *byte != 0));
    let verified = document
        .verify(time, &root, DebugEnclaves::DangerAccept)
        .unwrap();
    assert_eq!(verified.document().pcr(0), Some(&[0; 48]));
}

#[test]
fn every_document_has_expired_a_day_later_and_was_not_valid_a_day_before() {
    let Some(folder) = fixtures() else { return };
    for fixture in all() {
        let bytes = std::fs::read(folder.join(fixture.file)).unwrap();
        let document = Document::parse(&bytes).unwrap();
        let made = document.timestamp().seconds();
        for (shift, late) in [(86_400 * 2, true), (-86_400 * 40, false)] {
            let time = nodeseal_attestation::time::Timestamp::from_seconds(
                made.checked_add_signed(shift).unwrap(),
            );
            let root = Anchor::AWS_NITRO_G1;
            let refused = document
                .clone()
                .verify(time, &root, DebugEnclaves::Refuse)
                .map(drop)
                .unwrap_err();
            let expected = if late {
                matches!(refused, VerifyError::Expired { .. })
            } else {
                matches!(refused, VerifyError::NotYetValid { .. })
            };
            assert!(expected, "{}: {refused}", fixture.file);
        }
    }
}

#[test]
fn the_fields_of_1024_bytes_and_the_rsa_key_are_read_whole() {
    let Some(folder) = fixtures() else { return };
    let bytes = std::fs::read(folder.join("enclave-2024-09-fields-1024.cbor")).unwrap();
    let document = Document::parse(&bytes).unwrap();
    let lengths = [
        document.public_key(),
        document.user_data(),
        document.nonce(),
    ]
    .map(|field| field.map(<[u8]>::len));
    assert_eq!(lengths, [Some(1024); 3]);
    let bytes = std::fs::read(folder.join("enclave-2025-01-rsa2048-key.cbor")).unwrap();
    let document = Document::parse(&bytes).unwrap();
    assert_eq!(document.public_key().map(<[u8]>::len), Some(294));
    assert_eq!(document.pcrs().count(), 16);
    let bytes = std::fs::read(folder.join("nitrotpm-2026-02.cbor")).unwrap();
    let document = Document::parse(&bytes).unwrap();
    assert_eq!(document.pcrs().count(), 24);
    assert_eq!(document.pcr(17), Some(&[0xff; 48]));
}

/// Whether anything at all takes the bytes.
fn accepted(bytes: &[u8], time: &str) -> bool {
    match Document::parse(bytes) {
        Ok(document) => {
            let root = Anchor::AWS_NITRO_G1;
            let verified = document.verify(at(time), &root, DebugEnclaves::DangerAccept);
            verified.is_ok()
        }
        Err(_) => false,
    }
}

#[test]
fn a_flip_in_any_byte_of_a_genuine_document_is_refused() {
    let Some(folder) = fixtures() else { return };
    for fixture in all() {
        let genuine = std::fs::read(folder.join(fixture.file)).unwrap();
        // Every byte of one document, of the others a part.
        let whole = fixture.file == "enclave-2026-01-indefinite-map.cbor";
        let step = if whole { 1 } else { 23 };
        for position in (0..genuine.len()).step_by(step) {
            let mut flipped = genuine.clone();
            flipped[position] ^= 1 << (position % 8);
            assert!(
                !accepted(&flipped, fixture.at),
                "{} {position}",
                fixture.file
            );
        }
    }
}

#[test]
fn no_part_of_a_genuine_document_and_nothing_longer_is_taken() {
    let Some(folder) = fixtures() else { return };
    let fixture = &all()[2];
    let genuine = std::fs::read(folder.join(fixture.file)).unwrap();
    assert!(accepted(&genuine, fixture.at));
    for length in 0..genuine.len() {
        assert!(!accepted(&genuine[..length], fixture.at), "{length}");
    }
    assert!(!accepted(&[&genuine[..], &[0]].concat(), fixture.at));
    assert!(accepted(&[&[0xd2], &genuine[..]].concat(), fixture.at));
}
