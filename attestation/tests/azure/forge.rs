//! Keys, chains, tokens and answers of the genuine shape, each part of which a test may spoil.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nodeseal_attestation::azure::RsaKey;
use nodeseal_attestation::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://sharedweu.weu.attest.azure.net";
pub const NONCE: [u8; 32] = [7; 32];
/// 2026-11-26T08:00:00Z.
pub const AT: u64 = 1_795_680_000;

pub fn at() -> Timestamp {
    Timestamp::from_seconds(AT)
}

pub fn url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn standard(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// An RSA key of 2048 bits.
pub struct Rsa(pub RsaKeyPair);

impl Rsa {
    pub fn new() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn modulus(&self) -> Vec<u8> {
        let key = RsaKey::from_pkcs1_der(self.0.public_key().as_ref());
        key.unwrap().modulus
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .unwrap();
        signature
    }

    pub fn jws(&self, header: &Value, payload: &Value) -> String {
        let signed = format!("{}.{}", url(header.to_string()), url(payload.to_string()));
        format!("{signed}.{}", url(self.sign(signed.as_bytes())))
    }
}

/// The attestation service's key and the machine's: made once, as RSA keys take their time.
pub static SERVICE: LazyLock<Rsa> = LazyLock::new(Rsa::new);
pub static MACHINE: LazyLock<Rsa> = LazyLock::new(Rsa::new);

pub fn jwks(key: &Rsa) -> Vec<u8> {
    let key = json!({
        "kty": "RSA", "use": "sig", "kid": "service-1",
        "n": url(key.modulus()), "e": "AQAB",
    });
    json!({ "keys": [{"kty": "EC", "kid": "other"}, key] })
        .to_string()
        .into_bytes()
}

pub fn token_header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": "service-1", "jku": format!("{ISSUER}/certs")})
}

/// Claims of a confidential VM's token.
pub fn confidential() -> Value {
    let mut claims = trusted_launch();
    claims["x-ms-isolation-tee"] = json!({
        "x-ms-attestation-type": "sevsnpvm",
        "x-ms-compliance-status": "azure-compliant-cvm",
        "x-ms-runtime": {
            "keys": [{"kid": "HCLAkPub", "kty": "RSA", "key_ops": ["encrypt"], "e": "AQAB", "n": "AQAB"}],
            "vm-configuration": {"secure-boot": true, "tpm-enabled": true, "vmUniqueId": "8A1B0C2D-0000-4000-8000-000000000001"},
        },
        "x-ms-sevsnpvm-is-debuggable": false,
        "x-ms-sevsnpvm-vmpl": 0,
    });
    claims
}

/// Claims of a Trusted Launch VM's token.
pub fn trusted_launch() -> Value {
    json!({
        "iss": ISSUER, "jti": "x", "iat": AT - 10, "nbf": AT - 10, "exp": AT + 28_790,
        "secureboot": true,
        "x-ms-attestation-type": "azurevm",
        "x-ms-azurevm-attestation-protocol-ver": "2.0",
        "x-ms-azurevm-attested-pcrs": [0, 1, 2, 3, 4, 5, 6, 7],
        "x-ms-azurevm-bootdebug-enabled": false,
        "x-ms-azurevm-debuggersdisabled": true,
        "x-ms-azurevm-hypervisordebug-enabled": false,
        "x-ms-azurevm-kerneldebug-enabled": false,
        "x-ms-azurevm-testsigning-enabled": false,
        "x-ms-azurevm-vmid": "8A1B0C2D-0000-4000-8000-000000000001",
        "x-ms-runtime": {
            "client-payload": {"nonce": standard(NONCE)},
            "keys": [{
                "kid": "TpmEphemeralEncryptionKey", "kty": "RSA", "key_ops": ["encrypt"],
                "e": "AQAB", "n": url(MACHINE.modulus()),
            }],
        },
        "x-ms-ver": "1.0",
    })
}

/// A vault's front end: a root, an authority under it, and a leaf for `*.vault.azure.net`.
pub struct Vault {
    pub root: CertificateDer<'static>,
    /// Leaf, authority, root.
    pub chain: Vec<Vec<u8>>,
    pub key: Rsa,
}

pub static VAULT: LazyLock<Vault> = LazyLock::new(|| Vault::new("*.vault.azure.net"));

impl Vault {
    pub fn new(name: &str) -> Self {
        let key = Rsa::new();
        let pkcs8 =
            aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key.0)
                .unwrap()
                .as_ref()
                .to_vec();
        let leaf_key = KeyPair::try_from(pkcs8).unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::new([]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = date_time_ymd(2030, 1, 1);
            params
        };
        let new_key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), new_key()).unwrap();
        let middle = CertifiedIssuer::signed_by(authority("middle"), new_key(), &root).unwrap();
        let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
        leaf.not_before = date_time_ymd(2026, 11, 1);
        leaf.not_after = date_time_ymd(2026, 12, 1);
        let leaf = leaf.signed_by(&leaf_key, &middle).unwrap();
        let chain = [leaf.der(), middle.der(), root.der()].map(|der| der.to_vec());
        Self {
            root: root.der().clone(),
            chain: chain.to_vec(),
            key,
        }
    }

    pub fn anchor(&self) -> TrustAnchor<'_> {
        webpki::anchor_from_trusted_cert(&self.root).unwrap()
    }

    pub fn header(&self) -> Value {
        let chain: Vec<String> = self.chain.iter().map(standard).collect();
        json!({"alg": "RS256", "typ": "JWT", "kid": "front", "x5c": chain})
    }

    pub fn answer(&self, payload: &Value) -> String {
        self.key.jws(&self.header(), payload)
    }
}

pub const KEY_ID: &str = "https://demo.vault.azure.net/keys/kek/0123456789abcdef";

pub fn key_hsm() -> Value {
    json!({
        "schema_version": "1.0",
        "header": {"kid": "TpmEphemeralEncryptionKey", "alg": "dir", "enc": "RSA_AES_KEY_WRAP_256"},
        "ciphertext": url([9; 300]),
    })
}

pub fn released(key_hsm: &Value) -> Value {
    json!({
        "request": {"api-version": "2025-07-01", "enc": "RSA_AES_KEY_WRAP_256", "kid": KEY_ID, "nonce": "n-1"},
        "response": {"key": {
            "key": {
                "kid": KEY_ID, "kty": "RSA-HSM", "key_ops": ["unwrapKey"],
                "n": url(MACHINE.modulus()), "e": "AQAB", "key_hsm": url(key_hsm.to_string()),
            },
            "attributes": {"enabled": true, "exportable": true},
            "release_policy": {"data": "e30", "immutable": true},
        }},
    })
}
