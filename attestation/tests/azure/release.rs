//! Answers of secure key release.

use nodeseal_attestation::azure::{
    KeyWrap, Release, ReleaseError, ReleaseExpectations, ReleasedKey,
};
use nodeseal_attestation::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::forge::{AT, KEY_ID, MACHINE, Rsa, VAULT, Vault, at, key_hsm, released, url};

fn verify_with(
    answer: &str,
    change: impl FnOnce(&mut ReleaseExpectations<'_>),
) -> Result<ReleasedKey, ReleaseError> {
    let roots = [VAULT.anchor()];
    let mut expected = ReleaseExpectations {
        roots: &roots,
        at: at(),
        hosts: &["demo.vault.azure.net"],
        key_id: KEY_ID,
        enc: KeyWrap::RsaAesKeyWrap256,
        nonce: "n-1",
        wrapping_key_id: "TpmEphemeralEncryptionKey",
    };
    change(&mut expected);
    Release::parse(answer)?.verify(&expected)
}

fn verify(payload: &Value) -> Result<ReleasedKey, ReleaseError> {
    verify_with(&VAULT.answer(payload), |_| ())
}

fn spoilt(path: &str, value: Value) -> String {
    let mut payload = released(&key_hsm());
    *payload.pointer_mut(path).unwrap() = value;
    verify(&payload).unwrap_err().to_string()
}

fn spoilt_inside(path: &str, value: Value) -> String {
    let mut inside = key_hsm();
    *inside.pointer_mut(path).unwrap() = value;
    verify(&released(&inside)).unwrap_err().to_string()
}

#[test]
fn an_answer_hands_out_the_ciphertext_and_the_public_key() {
    let key = verify(&released(&key_hsm())).unwrap();
    assert_eq!(key.ciphertext(), [9; 300]);
    assert_eq!(key.public().modulus, MACHINE.modulus());
    assert_eq!(key.public().exponent, [1, 0, 1]);
    assert!(key.nonce_echoed());
}

#[test]
fn a_nonce_is_compared_where_the_vault_sends_it_back() {
    let mut payload = released(&key_hsm());
    payload["request"].as_object_mut().unwrap().remove("nonce");
    assert!(!verify(&payload).unwrap().nonce_echoed());
    assert_eq!(
        spoilt("/request/nonce", json!("n-0")),
        "released key: request.nonce is not the nonce of this request: an answer to another one"
    );
    assert_eq!(
        spoilt("/request/nonce", json!(1)),
        "released key: request.nonce is not the nonce of this request: an answer to another one"
    );
}

#[test]
fn a_jws_of_another_vault_is_refused() {
    let other = Vault::new("*.vault.azure.net");
    let answer = other.answer(&released(&key_hsm()));
    assert_eq!(
        verify_with(&answer, |_| ()).unwrap_err().to_string(),
        "released key: the certificates lead to no root that is trusted here, at 2026-11-26T08:00:00Z: InvalidSignatureForPublicKey: \
         a vault that is not trusted here has signed it"
    );
    // Its key under our vault's certificates.
    let answer = other.key.jws(&VAULT.header(), &released(&key_hsm()));
    assert_eq!(
        verify_with(&answer, |_| ()).unwrap_err(),
        ReleaseError::Signature
    );
    let answer = Rsa::new().jws(&json!({"alg": "RS256"}), &released(&key_hsm()));
    assert_eq!(
        verify_with(&answer, |_| ()).unwrap_err(),
        ReleaseError::NoCertificates
    );
}

#[test]
fn a_certificate_for_another_host_or_time_is_refused() {
    let answer = VAULT.answer(&released(&key_hsm()));
    verify_with(&answer, |e| {
        e.hosts = &["vault.azure.net", "demo.vault.azure.net"]
    })
    .unwrap();
    assert_eq!(
        verify_with(&answer, |e| e.hosts =
            &["vault.azure.net", "demo.vault.azure.cn"])
        .unwrap_err()
        .to_string(),
        "released key: the signer's certificate is for *.vault.azure.net, expected one of vault.azure.net, demo.vault.azure.cn"
    );
    let late = verify_with(&answer, |e| {
        e.at = Timestamp::from_seconds(AT + 30 * 86_400)
    });
    let late = late.unwrap_err().to_string();
    assert!(late.contains("2026-12-26T08:00:00Z"), "{late}");
    assert!(late.contains("CertExpired"), "{late}");
    assert_eq!(
        verify_with(&answer, |e| e.roots = &[])
            .unwrap_err()
            .to_string(),
        "released key: the certificates lead to no root that is trusted here, at 2026-11-26T08:00:00Z: UnknownIssuer: a vault \
         that is not trusted here has signed it"
    );
}

#[test]
fn an_answer_about_another_key_or_encryption_is_refused() {
    let other = "https://demo.vault.azure.net/keys/kek/ffff";
    for path in ["/request/kid", "/response/key/key/kid"] {
        let member = path.trim_start_matches('/').replace('/', ".");
        assert_eq!(
            spoilt(path, json!(other)),
            format!("released key: {member}: expected \"{KEY_ID}\", found \"{other}\"")
        );
    }
    assert_eq!(
        spoilt("/request/enc", json!("CKM_RSA_AES_KEY_WRAP")),
        "released key: request.enc: expected \"RSA_AES_KEY_WRAP_256\", found \"CKM_RSA_AES_KEY_WRAP\""
    );
    assert_eq!(
        spoilt("/response/key/key/kty", json!("EC-HSM")),
        "released key: response.key.key.kty: expected \"RSA-HSM\", found \"EC-HSM\""
    );
    assert_eq!(
        spoilt("/response/key/key/n", json!(1)),
        "released key: response.key.key: expected base64url of n and e, found other members"
    );
}

#[test]
fn an_answer_encrypted_otherwise_or_for_another_key_is_refused() {
    assert_eq!(
        spoilt_inside("/header/kid", json!("HCLAkPub")),
        "released key: key_hsm.header.kid: expected \"TpmEphemeralEncryptionKey\", found \"HCLAkPub\": encrypted for another key"
    );
    for (path, value, said) in [
        (
            "/header/alg",
            "RSA-OAEP",
            "key_hsm.header.alg: expected \"dir\", found \"RSA-OAEP\"",
        ),
        (
            "/header/enc",
            "CKM_RSA_AES_KEY_WRAP",
            "key_hsm.header.enc: expected \"RSA_AES_KEY_WRAP_256\", found \"CKM_RSA_AES_KEY_WRAP\"",
        ),
        (
            "/schema_version",
            "2.0",
            "key_hsm.schema_version: expected \"1.0\", found \"2.0\"",
        ),
        (
            "/ciphertext",
            "",
            "key_hsm.ciphertext: expected base64url without padding, found another text",
        ),
        (
            "/ciphertext",
            "=",
            "key_hsm.ciphertext: expected base64url without padding, found another text",
        ),
    ] {
        assert_eq!(
            spoilt_inside(path, json!(value)),
            format!("released key: {said}")
        );
    }
    assert_eq!(
        spoilt("/response/key/key/key_hsm", json!("e3")),
        "released key: response.key.key.key_hsm: expected base64url without padding, found another text"
    );
}

#[test]
fn every_flipped_bit_of_an_answer_is_refused() {
    let answer = VAULT.answer(&released(&key_hsm()));
    for at in 0..answer.len() {
        let mut bytes = answer.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(other) = String::from_utf8(bytes) {
            let found = verify_with(&other, |_| ());
            assert!(found.is_err(), "byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", key_hsm in "[ -~]{0,60}") {
        let _ = Release::parse(&text);
        let mut payload = released(&crate::forge::key_hsm());
        payload["response"]["key"]["key"]["key_hsm"] = json!(url(key_hsm));
        prop_assert!(verify(&payload).is_err());
    }
}
