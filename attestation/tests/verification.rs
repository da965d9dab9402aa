//! Each rule of verification alone: one part of an otherwise good chain or document is spoilt, and named.
#![allow(clippy::unwrap_used)]

mod support;

use nodeseal_attestation::nitro::{
    Anchor, CertificateError, Check, DebugEnclaves, Document, Expectations, Form, Outcome,
    Position, VerifyError, report,
};
use support::{DIGITAL_SIGNATURE, ECDSA_SHA256, Forge, KEY_CERT_SIGN, P256, at, made};

fn verify_at(forge: &Forge, time: &str) -> Result<(), VerifyError> {
    let (bytes, anchor) = forge.document();
    let document = Document::parse(&bytes).unwrap();
    document
        .verify(at(time), &anchor, DebugEnclaves::Refuse)
        .map(drop)
}

fn verify(forge: &Forge) -> Result<(), VerifyError> {
    verify_at(forge, support::NOW)
}

#[test]
fn a_document_of_the_genuine_profile_under_another_root_verifies() {
    let forge = Forge::default();
    let (bytes, anchor) = forge.document();
    let document = Document::parse(&bytes).unwrap();
    let verified = document
        .verify(made(), &anchor, DebugEnclaves::Refuse)
        .unwrap();
    assert_eq!(verified.expires(), at("2026-11-23T15:00:00Z"));
    assert_eq!(verified.document().form(), Form::NitroEnclave);
}

#[test]
fn another_root_than_the_pinned_one_is_refused() {
    let (bytes, anchor) = Forge::default().document();
    let document = Document::parse(&bytes).unwrap();
    let refused = document
        .verify(made(), &Anchor::AWS_NITRO_G1, DebugEnclaves::Refuse)
        .map(drop);
    let hex = nodeseal_attestation::hex::encode;
    let expected = VerifyError::Anchor {
        expected: hex(Anchor::AWS_NITRO_G1.sha256()),
        found: hex(anchor.sha256()),
    };
    assert_eq!(refused, Err(expected));
}

#[test]
fn every_certificate_must_be_in_its_window_the_root_too() {
    for index in 0..=Forge::LEAF {
        let position = match index {
            Forge::LEAF => Position::Leaf,
            index => Position::Bundle(index),
        };
        let late = Forge::default().spec(index, |spec| spec.not_after = "261123115959Z");
        let refused = VerifyError::Expired {
            position,
            until: at("2026-11-23T11:59:59Z"),
            at: made(),
        };
        assert_eq!(verify(&late), Err(refused), "{position}");
        let early = Forge::default().spec(index, |spec| spec.not_before = "261123120001Z");
        let refused = VerifyError::NotYetValid {
            position,
            from: at("2026-11-23T12:00:01Z"),
            at: made(),
        };
        assert_eq!(verify(&early), Err(refused), "{position}");
    }
}

#[test]
fn the_first_and_the_last_second_of_a_window_belong_to_it() {
    let forge = Forge::default();
    assert_eq!(verify_at(&forge, "2026-11-23T11:59:57Z"), Ok(()));
    assert_eq!(verify_at(&forge, "2026-11-23T15:00:00.999Z"), Ok(()));
}

#[test]
fn all_but_the_leaf_must_be_certificate_authorities() {
    for index in 0..Forge::LEAF {
        let position = Position::Bundle(index);
        for constraints in [None, Some((false, None))] {
            let forge = Forge::default().spec(index, |spec| spec.constraints = constraints);
            let refused = VerifyError::NotAuthority { position };
            assert_eq!(verify(&forge), Err(refused), "{position}");
        }
    }
}

#[test]
fn all_but_the_leaf_must_be_allowed_to_sign_certificates() {
    for index in 0..Forge::LEAF {
        let position = Position::Bundle(index);
        for usage in [None, Some(DIGITAL_SIGNATURE)] {
            let forge = Forge::default().spec(index, |spec| spec.usage = usage);
            let refused = VerifyError::NoKeyCertSign { position };
            assert_eq!(verify(&forge), Err(refused), "{position}");
        }
    }
}

#[test]
fn path_lengths_are_kept_the_roots_too() {
    for (index, allowed, found) in [(0, 2, 3), (1, 1, 2), (2, 0, 1)] {
        let forge = Forge::default().spec(index, |spec| {
            spec.constraints = Some((true, Some(allowed)));
        });
        let refused = VerifyError::PathLength {
            position: Position::Bundle(index),
            allowed: u64::from(allowed),
            found,
        };
        assert_eq!(verify(&forge), Err(refused));
    }
    let enough = Forge::default().spec(0, |spec| spec.constraints = Some((true, Some(3))));
    assert_eq!(verify(&enough), Ok(()));
}

#[test]
fn the_leaf_must_be_no_certificate_authority_and_have_no_path_length() {
    let authority =
        Forge::default().spec(Forge::LEAF, |spec| spec.constraints = Some((true, None)));
    assert_eq!(verify(&authority), Err(VerifyError::LeafIsAuthority));
    let length = Forge::default().spec(Forge::LEAF, |spec| {
        spec.constraints = Some((false, Some(0)))
    });
    assert_eq!(verify(&length), Err(VerifyError::LeafPathLength));
    let absent = Forge::default().spec(Forge::LEAF, |spec| spec.constraints = None);
    assert_eq!(verify(&absent), Ok(()));
}

#[test]
fn the_leaf_must_be_allowed_to_sign_documents() {
    for usage in [None, Some(KEY_CERT_SIGN)] {
        let forge = Forge::default().spec(Forge::LEAF, |spec| spec.usage = usage);
        assert_eq!(verify(&forge), Err(VerifyError::NoDigitalSignature));
    }
}

#[test]
fn each_certificate_must_name_the_one_before_it() {
    for index in 1..=Forge::LEAF {
        let position = match index {
            Forge::LEAF => Position::Leaf,
            index => Position::Bundle(index),
        };
        let forge = Forge::default().spec(index, |spec| spec.issuer = Some("somebody else"));
        assert_eq!(verify(&forge), Err(VerifyError::Issuer { position }));
    }
}

#[test]
fn each_certificate_must_be_signed_by_the_one_before_it_and_the_broken_link_is_named() {
    for index in 1..=Forge::LEAF {
        let position = match index {
            Forge::LEAF => Position::Leaf,
            index => Position::Bundle(index),
        };
        let forge = Forge::default().spec(index, |spec| spec.forged = true);
        let refused = VerifyError::CertificateSignature { position };
        assert_eq!(verify(&forge), Err(refused));
    }
}

#[test]
fn the_roots_own_signature_is_not_looked_at_since_its_bytes_are_pinned() {
    let forge = Forge::default().spec(0, |spec| spec.forged = true);
    assert_eq!(verify(&forge), Ok(()));
}

#[test]
fn a_document_not_signed_by_its_leaf_is_refused() {
    let forge = Forge {
        forged: true,
        ..Forge::default()
    };
    assert_eq!(verify(&forge), Err(VerifyError::DocumentSignature));
}

#[test]
fn other_algorithms_than_p384_with_sha384_are_refused() {
    for index in 0..=Forge::LEAF {
        let position = match index {
            Forge::LEAF => Position::Leaf,
            index => Position::Bundle(index),
        };
        let refused = |error| Err(VerifyError::Certificate { position, error });
        let forge = Forge::default().spec(index, |spec| spec.algorithm = ECDSA_SHA256);
        assert_eq!(
            verify(&forge),
            refused(CertificateError::SignatureAlgorithm)
        );
        let forge = Forge::default().spec(index, |spec| spec.curve = P256);
        assert_eq!(verify(&forge), refused(CertificateError::KeyAlgorithm));
    }
}

#[test]
fn an_unknown_extension_passes_unless_it_is_critical_or_stands_twice() {
    const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 99_999, 1];
    let extended = |extensions: &[(&'static [u64], bool)]| {
        let extensions = extensions.to_vec();
        verify(&Forge::default().spec(2, |spec| spec.extensions = extensions))
    };
    let refused = |error| {
        let position = Position::Bundle(2);
        Err(VerifyError::Certificate { position, error })
    };
    let name = || "1.3.6.1.4.1.99999.1".to_owned();
    assert_eq!(extended(&[(UNKNOWN, false)]), Ok(()));
    assert_eq!(
        extended(&[(UNKNOWN, true)]),
        refused(CertificateError::CriticalExtension(name()))
    );
    assert_eq!(
        extended(&[(UNKNOWN, false), (UNKNOWN, false)]),
        refused(CertificateError::DuplicateExtension(name()))
    );
}

#[test]
fn a_zero_pcr0_is_a_debug_enclave_and_a_missing_one_measures_nothing() {
    let debug = Forge::default().payload(|payload| payload.pcrs[0].1 = vec![0; 48]);
    assert_eq!(verify(&debug), Err(VerifyError::DebugEnclave));
    let missing = Forge::default().payload(|payload| drop(payload.pcrs.remove(0)));
    assert_eq!(verify(&missing), Err(VerifyError::NoImageMeasurement));
    // The firmware of a NitroTPM instance knows no debug mode.
    let nitrotpm = Forge::default().payload(|payload| {
        payload.key = "nitrotpm_pcrs";
        payload.pcrs[0].1 = vec![0; 48];
    });
    assert_eq!(verify(&nitrotpm), Ok(()));
}

#[test]
fn a_report_lists_every_failure_and_not_only_the_first() {
    let mut forge = Forge::default()
        .spec(2, |spec| spec.forged = true)
        .spec(1, |spec| spec.usage = None)
        .payload(|payload| payload.pcrs[0].1 = vec![0; 48]);
    forge.forged = true;
    let (bytes, _) = forge.document();
    let report = report(
        &bytes,
        made(),
        &Anchor::AWS_NITRO_G1,
        &Expectations::default(),
    );
    assert!(!report.holds());
    let failed: Vec<Check> = report
        .checks
        .iter()
        .filter(|result| matches!(result.outcome, Outcome::Failed(_)))
        .map(|result| result.check)
        .collect();
    use Check::{Anchor as Root, Constraints, NotDebug, Path, Signature};
    assert_eq!(failed, [Root, Constraints, Path, Signature, NotDebug]);
}

#[test]
fn a_report_of_no_document_says_so_and_reaches_nothing_else() {
    let report = report(
        b"\x84",
        made(),
        &Anchor::AWS_NITRO_G1,
        &Expectations::default(),
    );
    assert_eq!(report.document, None);
    assert_eq!(report.checks.len(), 10);
    assert!(matches!(report.checks[0].outcome, Outcome::Failed(_)));
    let rest = &report.checks[1..];
    assert!(
        rest.iter()
            .all(|result| result.outcome == Outcome::NotReached)
    );
}

#[test]
fn expectations_are_checks_of_the_report() {
    let forge = Forge::default().payload(|payload| payload.nonce = Some(vec![7; 16]));
    let (bytes, anchor) = forge.document();
    let one = "01".repeat(48);
    let outcomes = |text: &str, time: &str| {
        let expectations = Expectations::parse(text).unwrap();
        let report = report(&bytes, at(time), &anchor, &expectations);
        let rest = report.checks[10..].to_vec();
        (report.holds(), rest)
    };
    let good = format!(
        "nonce = \"{}\"\nmax_age_seconds = 60\nmodule_id = \"i-0-enc0\"\n\
         [[generation]]\nname = \"old\"\nprovider = \"nitro-enclave\"\npcrs = {{ 0 = \"{}\" }}\n\
         [[generation]]\nname = \"new\"\nprovider = \"nitro-enclave\"\npcrs = {{ 0 = \"{one}\" }}\n",
        "07".repeat(16),
        "02".repeat(48),
    );
    let (holds, checks) = outcomes(&good, support::NOW);
    assert!(holds, "{checks:?}");
    assert_eq!(checks.len(), 4);
    let (holds, checks) = outcomes(&good, "2026-11-23T12:01:01Z");
    assert!(!holds);
    let age = checks.iter().find(|result| result.check == Check::Age);
    let expected =
        "made at 2026-11-23T12:00:00Z: expected at most 60 s before 2026-11-23T12:01:01Z";
    assert_eq!(age.unwrap().outcome, Outcome::Failed(expected.to_owned()));
    let bad = good.replace(&one, &"03".repeat(48));
    let (holds, checks) = outcomes(&bad, support::NOW);
    assert!(!holds);
    let Outcome::Failed(why) = &checks[0].outcome else {
        panic!("{checks:?}");
    };
    assert!(
        why.contains("the nearest, \"old\": PCR0: expected 0202"),
        "{why}"
    );
    assert!(why.contains(&format!("found {one}")), "{why}");
}
