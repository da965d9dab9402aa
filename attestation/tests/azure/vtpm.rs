//! Quotes and public areas of a TPM, and the report of a paravisor.

use nodeseal_attestation::azure::hcl::{self, HclReport, ReportType, RuntimeClaims};
use nodeseal_attestation::azure::snp::SnpReport;
use nodeseal_attestation::azure::tpm::{
    Attest, Attested, PcrSelection, RsaPublic, attributes, pcr_digest, policy_pcr,
};
use proptest::prelude::*;
use serde_json::json;

use crate::forge::{MACHINE, url};
use nodeseal_attestation::azure::RsaKey;

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn attest(kind: u16, extra: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = 0xff54_4347_u32.to_be_bytes().to_vec();
    out.extend(kind.to_be_bytes());
    out.extend(sized(&[1; 34]));
    out.extend(sized(extra));
    out.extend([0; 8]);
    out.extend(5_u32.to_be_bytes());
    out.extend([0; 4]);
    out.push(1);
    out.extend([0; 8]);
    out.extend(body);
    out
}

fn quote() -> Vec<u8> {
    let selection = [0, 0, 0, 1, 0, 0x0b, 3, 0x81, 0, 0x80];
    attest(
        0x8018,
        b"nonce",
        &[&selection[..], &sized(&pcr_digest(&[[2; 32]; 3]))].concat(),
    )
}

/// TPMT_PUBLIC of an RSA-2048 key.
fn area(object: u32, policy: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 1, 0, 0x0b];
    out.extend(object.to_be_bytes());
    out.extend(sized(policy));
    out.extend([0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0]);
    out.extend(sized(&MACHINE.modulus()));
    out
}

#[test]
fn a_quote_is_read_and_its_signature_looked_at() {
    let bytes = quote();
    let quote = Attest::parse(&bytes).unwrap();
    assert_eq!(quote.extra_data, b"nonce");
    assert_eq!(quote.reset_count, 5);
    let expected = PcrSelection {
        hash: 0x0b,
        indices: vec![0, 7, 23],
    };
    let Attested::Quote {
        selection,
        pcr_digest: digest,
    } = &quote.attested
    else {
        panic!("no quote");
    };
    assert_eq!(selection, &[expected]);
    assert_eq!(*digest, pcr_digest(&[[2; 32]; 3]));
    let key = RsaKey {
        modulus: MACHINE.modulus(),
        exponent: vec![1, 0, 1],
    };
    let mut signature = MACHINE.sign(&bytes);
    assert!(quote.signed_by(&key, &signature));
    signature[9] ^= 1;
    assert!(!quote.signed_by(&key, &signature));
}

#[test]
fn a_certification_names_the_key() {
    let public = sized(&area(attributes::DECRYPT, &[3; 32]));
    let key = RsaPublic::parse(&public).unwrap();
    assert_eq!(key.key.modulus, MACHINE.modulus());
    assert_eq!(key.key.exponent, [1, 0, 1]);
    assert_eq!((key.bits, key.auth_policy), (2048, &[3; 32][..]));
    assert!(key.has(attributes::DECRYPT) && !key.has(attributes::DECRYPT | attributes::SIGN));
    let body = [sized(&key.name()), sized(&[4; 34])].concat();
    let bytes = attest(0x8017, b"", &body);
    let found = Attest::parse(&bytes).unwrap();
    assert_eq!(found.attested, Attested::Certify { name: &key.name() });
}

#[test]
fn what_is_cut_off_or_goes_on_is_refused() {
    let (quote, public) = (quote(), sized(&area(0, &[])));
    for end in 0..quote.len() {
        assert!(Attest::parse(&quote[..end]).is_err(), "{end}");
    }
    for end in 0..public.len() {
        assert!(RsaPublic::parse(&public[..end]).is_err(), "{end}");
    }
    let longer = [quote.as_slice(), &[0]].concat();
    assert_eq!(
        Attest::parse(&longer).unwrap_err().to_string(),
        "TPMS_ATTEST: malformed at its end"
    );
}

#[test]
fn a_pcr_policy_is_that_of_the_tpm() {
    let policy = policy_pcr(&[(0, [0; 32]), (7, [0; 32])]);
    let input = [
        &[0; 32][..],
        &[0, 0, 1, 0x7f, 0, 0, 0, 1, 0, 0x0b, 3, 0x81, 0, 0],
        &pcr_digest(&[[0; 32]; 2]),
    ]
    .concat();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &input);
    assert_eq!(policy, hash.as_ref());
}

/// A report as an NV index holds it: claims, then zeros up to 2600 bytes.
fn report(claims: &[u8], kind: u32) -> Vec<u8> {
    let mut out = vec![0; 0x4c0];
    out[..8].copy_from_slice(b"HCLA\x02\0\0\0");
    for number in [
        u32::try_from(claims.len()).unwrap() + 20,
        1,
        kind,
        1,
        u32::try_from(claims.len()).unwrap(),
    ] {
        out.extend(number.to_le_bytes());
    }
    out.extend(claims);
    out.resize(2600, 0);
    out
}

fn claims() -> Vec<u8> {
    json!({
        "keys": [
            {"kid": "HCLEkPub", "kty": "RSA", "e": "AQAB", "n": "AQAB"},
            {"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": url(MACHINE.modulus())},
        ],
        "vm-configuration": {"vmUniqueId": "8A1B"},
        "user-data": "00",
    })
    .to_string()
    .into_bytes()
}

#[test]
fn a_paravisor_s_report_gives_its_claims_and_the_attestation_key() {
    let claims = claims();
    let bytes = report(&claims, 2);
    let report = HclReport::parse(&bytes).unwrap();
    assert_eq!(report.report_type, ReportType::SevSnp);
    assert_eq!(report.claims, claims);
    assert_eq!(report.hardware.len(), 1184);
    let claims = report.runtime_claims().unwrap();
    assert_eq!(claims.attestation_key().unwrap().modulus, MACHINE.modulus());
    assert_eq!(claims.vm_id(), Some("8A1B"));
}

#[test]
fn a_report_of_another_kind_or_length_is_refused() {
    let error = |bytes: &[u8]| HclReport::parse(bytes).unwrap_err().to_string();
    let good = report(&claims(), 2);
    assert_eq!(error(&[]), "HCL report: expected 4 bytes or more, found 0");
    let mut other = good.clone();
    other[0] = 0;
    assert_eq!(
        error(&other),
        "HCL report: signature: expected 0x414c4348, found 0x414c4300"
    );
    assert_eq!(
        error(&report(&claims(), 1)),
        "HCL report: report type: expected 2 (SEV-SNP) or 4 (TDX), found 0x1"
    );
    assert!(error(&good[..0x4d4]).starts_with("HCL report: expected "));
    let none = RuntimeClaims::parse(b"{}").unwrap().attestation_key();
    assert_eq!(
        none.unwrap_err().to_string(),
        "HCL report: claims: keys: expected an RSA key \"HCLAkPub\", found none"
    );
}

#[test]
fn claims_are_bound_by_their_hash_and_zeros() {
    let data = hcl::report_data(b"claims");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"claims");
    assert_eq!(data[..32], *hash.as_ref());
    assert_eq!(data[32..], [0; 32]);
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Attest::parse(&bytes);
        let _ = RsaPublic::parse(&bytes);
        let _ = HclReport::parse(&bytes);
        let _ = RuntimeClaims::parse(&bytes);
        let _ = SnpReport::parse(&bytes);
    }

    #[test]
    fn no_change_of_a_good_structure_makes_the_readers_panic(at in 0..400_usize, to: u8) {
        for mut bytes in [quote(), sized(&area(0, &[])), report(&claims(), 2)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
            let _ = Attest::parse(&bytes);
            let _ = RsaPublic::parse(&bytes);
            let _ = HclReport::parse(&bytes).map(|report| report.runtime_claims());
        }
    }
}
