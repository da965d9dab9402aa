#![allow(clippy::unwrap_used)]
use super::*;
use crate::text::unhex;
use nodeseal_wire::cbor::Writer;

const NOW: Timestamp = Timestamp(1_767_472_867_000);

fn boot(debug: bool, map_encoding: MapEncoding) -> NsmSimulator {
    let mut measurements = Measurements::of_name("image");
    measurements.set(8, &"08".repeat(48)).unwrap();
    measurements.set_role_arn("arn:aws:iam::111122223333:role/node");
    NsmSimulator::boot(NsmConfig {
        root: NitroRoot::generate(NOW).unwrap(),
        region: "eu-central-1".to_owned(),
        instance_id: "i-0368fa67e156d6d23".to_owned(),
        measurements,
        debug,
        map_encoding,
        clock: Clock::standing_at(NOW),
    })
    .unwrap()
}

fn call(nsm: &NsmSimulator, request: &str) -> Vec<u8> {
    nsm.call(&unhex(request).unwrap())
}

fn error(name: &str) -> Vec<u8> {
    Writer::new().map(1).text("Error").text(name).finish()
}

fn pcr_request(variant: &str, field: &str, value: u64) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(1).text(variant).map(1);
    writer.text(field).uint(value).finish()
}

fn extend_request(index: u64, data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(1).text("ExtendPCR").map(2);
    writer
        .text("index")
        .uint(index)
        .text("data")
        .bytes(data)
        .finish()
}

#[test]
fn boot_measures_role_and_instance_as_aws_documents() {
    let nsm = boot(false, MapEncoding::Definite);
    // SHA384(0x00 * 48 || text), computed with another program.
    assert_eq!(
        hex(&nsm.pcr(4).unwrap()),
        hex(&pcrs::extended(&[0; 48], b"i-0368fa67e156d6d23"))
    );
    assert_ne!(nsm.pcr(3).unwrap(), [0; 48]);
    assert_eq!(nsm.pcr(8).unwrap(), [8; 48]);
    assert_eq!(nsm.pcr(5).unwrap(), [0; 48]);
    assert_eq!(nsm.pcr(32), None);
}

#[test]
fn debug_mode_zeroes_pcr_0_1_2_and_8_but_not_3_and_4() {
    let nsm = boot(true, MapEncoding::Definite);
    for index in [0, 1, 2, 8] {
        assert_eq!(nsm.pcr(index).unwrap(), [0; 48], "PCR{index}");
    }
    for index in [3, 4] {
        assert_ne!(nsm.pcr(index).unwrap(), [0; 48], "PCR{index}");
    }
}

#[test]
fn an_extended_pcr_hashes_old_value_and_data_and_a_locked_one_stays() {
    let nsm = boot(false, MapEncoding::Definite);
    let once = pcrs::extended(&[0; 48], b"event");
    let twice = pcrs::extended(&once, b"event");
    let answer = |value: &PcrValue| {
        let mut writer = Writer::new();
        writer.map(1).text("ExtendPCR").map(1);
        writer.text("data").bytes(value).finish()
    };
    assert_eq!(nsm.call(&extend_request(16, b"event")), answer(&once));
    assert_eq!(nsm.call(&extend_request(16, b"event")), answer(&twice));
    let lock = pcr_request("LockPCR", "index", 16);
    assert_eq!(nsm.call(&lock), Writer::new().text("LockPCR").finish());
    assert_eq!(nsm.call(&lock), error("ReadOnlyIndex"));
    assert_eq!(
        nsm.call(&extend_request(16, b"event")),
        error("ReadOnlyIndex")
    );
    assert_eq!(nsm.pcr(16).unwrap(), twice);
    let mut described = Writer::new();
    described.map(1).text("DescribePCR").map(2);
    described
        .text("lock")
        .boolean(true)
        .text("data")
        .bytes(&twice);
    assert_eq!(
        nsm.call(&pcr_request("DescribePCR", "index", 16)),
        described.finish()
    );
}

#[test]
fn boot_pcrs_are_locked_and_indices_past_31_do_not_exist() {
    let nsm = boot(false, MapEncoding::Definite);
    for index in 0..16 {
        assert_eq!(
            nsm.call(&extend_request(index, b"x")),
            error("ReadOnlyIndex")
        );
    }
    for request in [
        extend_request(32, b"x"),
        pcr_request("DescribePCR", "index", 32),
        pcr_request("LockPCR", "index", 65_535),
        pcr_request("LockPCRs", "range", 33),
    ] {
        assert_eq!(nsm.call(&request), error("InvalidIndex"));
    }
    let lock = pcr_request("LockPCRs", "range", 32);
    assert_eq!(nsm.call(&lock), Writer::new().text("LockPCRs").finish());
    assert_eq!(nsm.call(&extend_request(31, b"x")), error("ReadOnlyIndex"));
}

#[test]
fn the_description_names_the_module_its_digest_and_the_locked_pcrs() {
    let nsm = boot(false, MapEncoding::Definite);
    let mut expected = Writer::new();
    expected.map(1).text("DescribeNSM").map(7);
    expected.text("version_major").uint(1);
    expected.text("version_minor").uint(0);
    expected.text("version_patch").uint(0);
    expected.text("module_id").text(nsm.module_id());
    expected.text("max_pcrs").uint(32);
    expected.text("locked_pcrs").array(16);
    for index in 0..16 {
        expected.uint(index);
    }
    expected.text("digest").text("SHA384");
    assert_eq!(call(&nsm, "6b44657363726962654e534d"), expected.finish());
    assert_eq!(nsm.module_id().len(), 39);
}

#[test]
fn random_bytes_differ_each_time() {
    let nsm = boot(false, MapEncoding::Definite);
    let first = call(&nsm, "6947657452616e646f6d");
    let head = unhex("a16947657452616e646f6da16672616e646f6d590100").unwrap();
    assert_eq!(first[..head.len()], head);
    assert_eq!(first.len(), head.len() + RANDOM_BYTES);
    assert_ne!(first, call(&nsm, "6947657452616e646f6d"));
}

#[test]
fn too_large_or_unknown_requests_are_answered_with_the_devices_errors() {
    let nsm = boot(false, MapEncoding::Definite);
    assert_eq!(nsm.call(&vec![0; MAX_REQUEST + 1]), error("InputTooLarge"));
    assert_eq!(nsm.call(b"\x01"), error("InvalidOperation"));
    assert_eq!(
        nsm.call(&attestation_request(&[7; 1025])),
        error("InvalidArgument")
    );
}

fn attestation_request(user_data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(1).text("Attestation").map(3);
    writer.text("user_data").bytes(user_data);
    writer.text("nonce").null();
    writer.text("public_key").null().finish()
}

#[test]
fn documents_have_the_outer_bytes_of_genuine_ones_in_both_encodings() {
    for (encoding, first, last) in [
        (MapEncoding::Definite, 0xa9, 0xf6),
        (MapEncoding::Indefinite, 0xbf, 0xff),
    ] {
        let nsm = boot(false, encoding);
        let response = nsm.call(&attestation_request(b"hello"));
        assert!(response.len() < MAX_RESPONSE);
        let head = unhex("a16b4174746573746174696f6ea168646f63756d656e7459").unwrap();
        assert_eq!(response[..head.len()], head);
        let document = &response[head.len() + 2..];
        assert_eq!(document[..8], unhex("8444a1013822a059").unwrap());
        let payload_length = usize::from(document[8]) << 8 | usize::from(document[9]);
        let payload = &document[10..10 + payload_length];
        assert_eq!(payload[0], first);
        assert_eq!(*payload.last().unwrap(), last);
        assert_eq!(document[10 + payload_length..][..2], [0x58, 0x60]);
        assert_eq!(document.len(), 10 + payload_length + 2 + 96);
        let size = document.len();
        assert!((4300..5000).contains(&size), "{size}");
    }
}

fn document(nsm: &NsmSimulator) -> Vec<u8> {
    let response = nsm.call(&attestation_request(b"hello"));
    let head = unhex("a16b4174746573746174696f6ea168646f63756d656e7459").unwrap();
    response[head.len() + 2..].to_vec()
}

fn verified(document: &[u8], root: &[u8], at: Timestamp) -> Result<[u8; 48], String> {
    use nodeseal_attestation::nitro::{Anchor, DebugEnclaves, Document};
    use nodeseal_attestation::time;
    let anchor = Anchor::from_der(root).map_err(|error| error.to_string())?;
    let document = Document::parse(document).map_err(|error| error.to_string())?;
    let at = time::Timestamp::from_milliseconds(at.0);
    let verified = document.verify(at, &anchor, DebugEnclaves::Refuse);
    let verified = verified.map_err(|error| error.to_string())?;
    assert_eq!(verified.document().user_data(), Some(&b"hello"[..]));
    assert_eq!(verified.document().timestamp().milliseconds(), NOW.0);
    Ok(*verified.document().pcr(0).unwrap())
}

#[test]
fn documents_verify_under_their_root_until_the_leaf_ends() {
    for encoding in [MapEncoding::Definite, MapEncoding::Indefinite] {
        let nsm = boot(false, encoding);
        let document = document(&nsm);
        let root = nsm.root_certificate();
        let expected = Ok(nsm.pcr(0).unwrap());
        assert_eq!(verified(&document, root, NOW), expected);
        let last = NOW.plus_seconds(3 * 3600);
        assert_eq!(verified(&document, root, last), expected);
        let late = verified(&document, root, last.plus_seconds(1)).unwrap_err();
        let expected =
            "certificate: valid until 2026-01-03T23:41:07Z, which is before 2026-01-03T23:41:08Z";
        assert_eq!(late, expected);
        let other = NitroRoot::generate(NOW).unwrap();
        let foreign = verified(&document, other.certificate(), NOW).unwrap_err();
        let hash = |der: &[u8]| {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
            hex(hash.as_ref())
        };
        let (wanted, found) = (hash(other.certificate()), hash(root));
        let expected =
            format!("cabundle[0]: expected the root with SHA-256 {wanted}, found {found}");
        assert_eq!(foreign, expected);
    }
}

#[test]
fn a_document_of_debug_mode_verifies_only_for_who_takes_those() {
    let nsm = boot(true, MapEncoding::Definite);
    let refusal = verified(&document(&nsm), nsm.root_certificate(), NOW).unwrap_err();
    let expected = "PCR0 is zero: the document comes from an enclave in debug mode";
    assert_eq!(refusal, expected);
}

#[test]
fn leaf_and_chain_are_renewed_as_time_goes_on_or_back() {
    let nsm = boot(false, MapEncoding::Definite);
    let certificate = |document: &[u8]| {
        let parsed = nodeseal_attestation::nitro::Document::parse(document).unwrap();
        (parsed.certificate().to_vec(), parsed.cabundle()[3].to_vec())
    };
    let (leaf, instance) = certificate(&document(&nsm));
    nsm.clock.set_offset(44 * 60 * 1000);
    let same = (leaf.clone(), instance.clone());
    assert_eq!(certificate(&document(&nsm)), same);
    nsm.clock.set_offset(46 * 60 * 1000);
    let (next, same) = certificate(&document(&nsm));
    assert!(next != leaf && same == instance);
    for days in [1, -1, 40] {
        nsm.clock.set_offset(days * 24 * 3_600_000);
        let (next, other) = certificate(&document(&nsm));
        assert!(next != leaf && other != instance, "{days} days");
    }
}

#[test]
fn a_nitrotpm_document_verifies_as_one() {
    use nodeseal_attestation::nitro::{Anchor, DebugEnclaves, Document, Form};
    let root = NitroRoot::generate(NOW).unwrap();
    let anchor = Anchor::from_der(root.certificate()).unwrap();
    let module_id = "i-0368fa67e156d6d23-tpm0000000000000000";
    let mut identity = NitroIdentity::new(root, "eu-west-1", "i-0368fa67e156d6d23", module_id);
    let pcrs: Vec<(u16, PcrValue)> = (0..24).map(|index| (index, [0x11; 48])).collect();
    let attested = Attested {
        form: DocumentForm::NitroTpm,
        encoding: MapEncoding::Indefinite,
        pcrs: &pcrs,
        claims: request::Claims::default(),
    };
    let document = attested.document(&mut identity, NOW).unwrap();
    let parsed = Document::parse(&document).unwrap();
    let at = nodeseal_attestation::time::Timestamp::from_milliseconds(NOW.0);
    let verified = parsed.verify(at, &anchor, DebugEnclaves::Refuse).unwrap();
    assert_eq!(verified.document().form(), Form::NitroTpm);
    assert_eq!(verified.document().pcrs().count(), 24);
    assert_eq!(verified.document().module_id(), module_id);
}
