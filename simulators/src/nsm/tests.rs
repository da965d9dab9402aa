#![allow(clippy::unwrap_used)]
use super::*;
use crate::text::unhex;
use crate::time::Timestamp;
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
