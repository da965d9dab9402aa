//! Tokens of the attestation service.

use nodeseal_attestation::azure::{
    Jwks, Token, TokenError, TokenExpectations, TokenKind, VerifiedToken,
};
use nodeseal_attestation::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::forge::{
    AT, ISSUER, MACHINE, NONCE, Rsa, SERVICE, at, confidential, jwks, token_header, trusted_launch,
    url,
};

fn verify_with(
    token: &str,
    change: impl FnOnce(&mut TokenExpectations<'_>),
) -> Result<VerifiedToken, TokenError> {
    let modulus = MACHINE.modulus();
    let mut expected = TokenExpectations {
        issuer: ISSUER,
        at: at(),
        leeway: 60,
        nonce: &NONCE,
        key_modulus: &modulus,
        kinds: &[],
        secure_boot: true,
        allow_debug: false,
        vm_id: None,
    };
    change(&mut expected);
    Token::parse(token)?.verify(&Jwks::parse(&jwks(&SERVICE)).unwrap(), &expected)
}

fn verify(claims: &Value) -> Result<VerifiedToken, TokenError> {
    verify_with(&SERVICE.jws(&token_header(), claims), |_| ())
}

/// What is said of a token with one claim changed: the path divided by `/`, as in a JSON pointer.
fn spoilt(path: &str, value: Value) -> String {
    let mut claims = confidential();
    *claims.pointer_mut(path).unwrap() = value;
    verify(&claims).unwrap_err().to_string()
}

#[test]
fn a_confidential_vm_s_token_hands_out_the_key_the_vault_encrypts_to() {
    let token = verify(&confidential()).unwrap();
    assert_eq!(token.kind(), TokenKind::SevSnpVm);
    assert_eq!(token.key_id(), "TpmEphemeralEncryptionKey");
    assert_eq!(token.key().modulus, MACHINE.modulus());
    assert_eq!(token.key().exponent, [1, 0, 1]);
    assert_eq!(token.vm_id(), Some("8A1B0C2D-0000-4000-8000-000000000001"));
    assert_eq!(token.expires(), Timestamp::from_seconds(AT + 28_790));
}

#[test]
fn a_trusted_launch_token_says_so_and_is_refused_where_a_confidential_vm_is_asked_for() {
    let token = SERVICE.jws(&token_header(), &trusted_launch());
    let kind = verify_with(&token, |_| ()).unwrap().kind();
    assert_eq!(kind, TokenKind::TrustedLaunch);
    assert!(!kind.is_confidential());
    let refused = verify_with(&token, |expected| {
        expected.kinds = &[TokenKind::SevSnpVm, TokenKind::TdxVm];
    });
    assert_eq!(
        refused.unwrap_err(),
        TokenError::Kind {
            expected: TokenKind::SevSnpVm,
            found: TokenKind::TrustedLaunch
        }
    );
}

#[test]
fn a_token_of_another_service_signer_or_algorithm_is_refused() {
    let claims = confidential();
    let other = Rsa::new().jws(&token_header(), &claims);
    assert_eq!(
        verify_with(&other, |_| ()).unwrap_err(),
        TokenError::Signature
    );
    let mut header = token_header();
    header["kid"] = json!("service-2");
    assert_eq!(
        verify_with(&SERVICE.jws(&header, &claims), |_| ())
            .unwrap_err()
            .to_string(),
        "attestation token: signed with key \"service-2\", which is not among the service's: service-1"
    );
    for (alg, said) in [
        (json!("none"), "\"none\""),
        (json!("HS256"), "\"HS256\""),
        (json!("RS512"), "\"RS512\""),
        (json!(null), "null"),
    ] {
        let mut header = token_header();
        header["alg"] = alg;
        assert_eq!(
            verify_with(&SERVICE.jws(&header, &claims), |_| ())
                .unwrap_err()
                .to_string(),
            format!("attestation token: header: alg: expected \"RS256\", found {said}")
        );
    }
    let mut header = token_header();
    header["crit"] = json!(["b64"]);
    assert_eq!(
        verify_with(&SERVICE.jws(&header, &claims), |_| ())
            .unwrap_err()
            .to_string(),
        "attestation token: header: crit: no extension is known here"
    );
    assert_eq!(
        spoilt("/iss", json!("https://evil.example")),
        "attestation token: iss: expected \"https://sharedweu.weu.attest.azure.net\", found \"https://evil.example\""
    );
}

#[test]
fn a_slash_at_the_end_of_the_service_s_address_is_no_difference() {
    let token = SERVICE.jws(&token_header(), &confidential());
    let issuer = format!("{ISSUER}/");
    let modulus = MACHINE.modulus();
    let expected = TokenExpectations {
        issuer: &issuer,
        at: at(),
        leeway: 0,
        nonce: &NONCE,
        key_modulus: &modulus,
        kinds: &[],
        secure_boot: true,
        allow_debug: false,
        vm_id: None,
    };
    let keys = Jwks::parse(&jwks(&SERVICE)).unwrap();
    Token::parse(&token)
        .unwrap()
        .verify(&keys, &expected)
        .unwrap();
}

#[test]
fn a_token_is_taken_within_its_time_only_with_the_leeway_given() {
    let token = SERVICE.jws(&token_header(), &confidential());
    let at = |seconds: u64| verify_with(&token, |e| e.at = Timestamp::from_seconds(seconds));
    at(AT - 70).unwrap();
    at(AT + 28_849).unwrap();
    assert_eq!(
        at(AT - 71).unwrap_err().to_string(),
        "attestation token: valid from 2026-11-26T07:59:50Z, which is after 2026-11-26T07:58:49Z; is this machine's clock right?"
    );
    assert_eq!(
        at(AT + 28_850).unwrap_err().to_string(),
        "attestation token: valid until 2026-11-26T15:59:50Z, which is before 2026-11-26T16:00:50Z; ask for a new one"
    );
    assert_eq!(
        spoilt("/exp", json!("soon")),
        "attestation token: exp: expected seconds since 1970, found a string"
    );
}

#[test]
fn a_token_of_another_request_machine_or_boot_is_refused() {
    let nonce = "attestation token: x-ms-runtime.client-payload.nonce is not the nonce of this request: a token of another one";
    assert_eq!(
        spoilt("/x-ms-runtime/client-payload/nonce", json!("AAAA")),
        nonce
    );
    assert_eq!(
        spoilt("/x-ms-runtime/client-payload/nonce", json!("?")),
        nonce
    );
    assert_eq!(
        spoilt("/x-ms-runtime/keys/0/n", json!(url(SERVICE.modulus()))),
        "attestation token: x-ms-runtime.keys: key \"TpmEphemeralEncryptionKey\" is not this machine's ephemeral key: a token of another machine or of an earlier boot"
    );
    assert_eq!(
        spoilt("/x-ms-runtime/keys", json!([])),
        "attestation token: x-ms-runtime.keys: expected an RSA key for encryption, found none"
    );
    let token = SERVICE.jws(&token_header(), &confidential());
    verify_with(&token, |e| {
        e.vm_id = Some("8a1b0c2d-0000-4000-8000-000000000001")
    })
    .unwrap();
    assert_eq!(
        verify_with(&token, |e| e.vm_id = Some("else"))
            .unwrap_err()
            .to_string(),
        "attestation token: vm id: expected \"else\", found \"8A1B0C2D-0000-4000-8000-000000000001\""
    );
}

#[test]
fn only_the_first_suitable_key_at_the_top_counts() {
    let mut claims = confidential();
    let ours = claims["x-ms-runtime"]["keys"][0].clone();
    let mut other = ours.clone();
    other["n"] = json!(url(SERVICE.modulus()));
    claims["x-ms-runtime"]["keys"] = json!([other, ours]);
    assert!(matches!(verify(&claims), Err(TokenError::OtherKey { .. })));
    other["key_ops"] = json!(["verify"]);
    claims["x-ms-runtime"]["keys"] = json!([other, ours]);
    verify(&claims).unwrap();
    claims["x-ms-isolation-tee"]["x-ms-runtime"]["keys"] = json!([ours]);
    claims["x-ms-runtime"]["keys"] = json!([]);
    assert_eq!(verify(&claims).unwrap_err(), TokenError::NoEncryptionKey);
}

#[test]
fn a_machine_that_can_be_looked_into_is_refused_claim_by_claim() {
    for (path, bad) in [
        ("/x-ms-isolation-tee/x-ms-sevsnpvm-is-debuggable", true),
        ("/x-ms-azurevm-bootdebug-enabled", true),
        ("/x-ms-azurevm-debuggersdisabled", false),
        ("/x-ms-azurevm-hypervisordebug-enabled", true),
        ("/x-ms-azurevm-kerneldebug-enabled", true),
        ("/x-ms-azurevm-testsigning-enabled", true),
    ] {
        let claim = path.trim_start_matches('/').replace('/', ".");
        assert_eq!(
            spoilt(path, json!(bad)),
            format!(
                "attestation token: {claim}: expected {}, found {bad}: this machine runs with debugging on",
                !bad
            )
        );
        assert!(
            spoilt(path, json!(null)).contains("found nothing"),
            "{path}"
        );
        let mut claims = confidential();
        *claims.pointer_mut(path).unwrap() = json!(bad);
        let token = SERVICE.jws(&token_header(), &claims);
        verify_with(&token, |expected| expected.allow_debug = true).unwrap();
    }
}

#[test]
fn secure_boot_compliance_and_type_are_asked_for() {
    assert_eq!(
        spoilt("/secureboot", json!(false)),
        "attestation token: secureboot: expected true, found false: this machine was started without Secure Boot"
    );
    assert_eq!(
        spoilt("/secureboot", json!("true")),
        "attestation token: secureboot: expected a boolean, found a string"
    );
    let mut claims = confidential();
    claims["secureboot"] = json!(false);
    let token = SERVICE.jws(&token_header(), &claims);
    verify_with(&token, |expected| expected.secure_boot = false).unwrap();
    assert_eq!(
        spoilt("/x-ms-isolation-tee/x-ms-compliance-status", json!("none")),
        "attestation token: x-ms-isolation-tee.x-ms-compliance-status: expected \"azure-compliant-cvm\", found \"none\""
    );
    assert_eq!(
        spoilt("/x-ms-attestation-type", json!("sevsnpvm")),
        "attestation token: x-ms-attestation-type: expected \"azurevm\", found \"sevsnpvm\""
    );
    assert_eq!(
        spoilt("/x-ms-isolation-tee/x-ms-attestation-type", json!("sgx")),
        "attestation token: x-ms-isolation-tee.x-ms-attestation-type: expected \"sevsnpvm\" or \"tdxvm\", found \"sgx\""
    );
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let payload = r#"{"iss": "a", "iss": "b"}"#;
    let signed = format!("{}.{}", url(token_header().to_string()), url(payload));
    let token = format!("{signed}.{}", url(SERVICE.sign(signed.as_bytes())));
    assert_eq!(
        verify_with(&token, |_| ()).unwrap_err().to_string(),
        "attestation token: payload: expected a JSON object: \"iss\" stands twice at line 1 column 24"
    );
}

#[test]
fn every_flipped_bit_of_a_token_is_refused() {
    let token = SERVICE.jws(&token_header(), &confidential());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(other) = String::from_utf8(bytes) {
            assert!(verify_with(&other, |_| ()).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_key_set_without_usable_keys_says_so() {
    let error = |text: &str| Jwks::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        error("{}"),
        "key set: expected a member \"keys\" with an array of objects"
    );
    assert_eq!(
        error(r#"{"keys": [{"kty": "RSA", "kid": "a", "n": "AAEC", "e": "AQAB"}]}"#),
        "key set: key \"a\": expected \"x5c\" with a certificate, or \"n\" and \"e\""
    );
    assert!(error("{").starts_with("key set: EOF"));
    let empty = Jwks::parse(br#"{"keys": [{"kty": "oct"}]}"#).unwrap();
    assert_eq!(empty.ids().count(), 0);
}

proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,200}", header in "[ -~]{0,60}", payload in "[ -~]{0,60}") {
        let _ = Token::parse(&text);
        let _ = Jwks::parse(text.as_bytes());
        let _ = Token::parse(&format!("{}.{}.", url(header), url(payload)));
    }

    #[test]
    fn no_claims_make_verification_panic(claims in json_value()) {
        let token = SERVICE.jws(&token_header(), &json!({"iss": ISSUER, "exp": AT + 1, "nbf": 0, "iat": 0, "x-ms-runtime": claims}));
        prop_assert!(verify_with(&token, |_| ()).is_err());
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(nonce|AAAA|RSA|[a-z]{0,4})".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = "(client-payload|nonce|keys|kid|kty|n|e|key_ops)";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
