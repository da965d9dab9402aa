//! Makes test vectors of the sealed blob: `cargo run -p nodeseal-core --example make-vectors -- OLD.json > NEW.json`.
//!
//! Vectors of OLD.json stay, byte for byte; those whose title is not in it are made, with new random keys.
//! The locks are data for other implementations; no TPM and no KMS is behind them, their secrets stand beside them.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use nodeseal_attestation::hex::encode as hex;
use nodeseal_core::crypto::random_key;
use nodeseal_core::keyring::Keyring;
use nodeseal_core::keys;
use nodeseal_core::lock::{BoxFuture, KeyService, LockContext, NewLock, OpenedLock};
use nodeseal_core::refusal::refuse;
use nodeseal_core::seal::{ContentKey, NewBlob, seal};
use nodeseal_memory::Secret;
use nodeseal_wire::header::{KeyType, Release};
use nodeseal_wire::lock::{
    AwsKmsLock, AzureReleaseLock, AzureUnwrapLock, Lock, LockSpec, PcrBank, PolicySigner, TpmLock,
};
use nodeseal_wire::message::{Class, Context, Refusal, WaySpec};

/// Makes locks with invented data and remembers their secrets.
#[derive(Default)]
struct Remembering(Mutex<Vec<String>>);

impl KeyService for Remembering {
    fn makes(&self, _: &LockSpec) -> bool {
        true
    }

    fn opens(&self, _: &Lock) -> bool {
        false
    }

    fn new_secret<'a>(
        &'a self,
        spec: &'a LockSpec,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        let secret = random_key().unwrap();
        self.0.lock().unwrap().push(hex(secret.expose()));
        let lock = match spec {
            LockSpec::Tpm => Lock::Tpm(TpmLock {
                srk_name: [0x0b; 34],
                bank: PcrBank::Sha256,
                pcrs: vec![7, 11, 12],
                signer: Some(PolicySigner {
                    public: vec![0x23; 88],
                    reference: b"example".to_vec(),
                }),
                public: vec![0x4e; 80],
                private: vec![0x5f; 160],
            }),
            LockSpec::AwsKms { key, attested } => Lock::AwsKms(AwsKmsLock {
                key: key.clone(),
                attested: *attested,
                ciphertext: vec![0xc1; 184],
            }),
            LockSpec::AzureUnwrap { key } => Lock::AzureUnwrap(AzureUnwrapLock {
                key: key.clone(),
                ciphertext: vec![0xc2; 256],
            }),
            LockSpec::AzureRelease { key, attestation } => Lock::AzureRelease(AzureReleaseLock {
                key: key.clone(),
                attestation: attestation.clone(),
                ciphertext: vec![0xc3; 384],
            }),
        };
        Box::pin(async move {
            Ok(NewLock {
                lock,
                secret,
                facts: Vec::new(),
            })
        })
    }

    fn open_secret<'a>(
        &'a self,
        _: &'a Lock,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        Box::pin(async { Err(refuse(Class::Misuse, "example", "only makes locks")) })
    }
}

fn kms(region: &str, attested: bool) -> LockSpec {
    LockSpec::AwsKms {
        key: format!("arn:aws:kms:{region}:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
        attested,
    }
}

/// A version of a key, as Key Vault names it.
const VAULT_KEY: &str =
    "https://example.vault.azure.net/keys/node/0123456789abcdef0123456789abcdef";

fn unwrap() -> LockSpec {
    LockSpec::AzureUnwrap {
        key: VAULT_KEY.to_owned(),
    }
}

fn release() -> LockSpec {
    LockSpec::AzureRelease {
        key: VAULT_KEY.to_owned(),
        attestation: "https://sharedweu.weu.attest.azure.net".to_owned(),
    }
}

fn way(label: &str, locks: Vec<LockSpec>) -> WaySpec {
    WaySpec {
        label: label.into(),
        locks,
    }
}

fn main() {
    let old = std::env::args().nth(1).expect("a file of vectors");
    let old = std::fs::read_to_string(old).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let cases = [
        (
            "one tpm lock, opaque key",
            KeyType::Opaque,
            vec![way("tpm", vec![LockSpec::Tpm])],
        ),
        (
            "two ways, the second with two locks",
            KeyType::Secp256k1,
            vec![
                way("eu", vec![kms("eu-west-1", true)]),
                way("tpm+us", vec![LockSpec::Tpm, kms("us-east-1", false)]),
            ],
        ),
        (
            "ed25519",
            KeyType::Ed25519,
            vec![way("kms", vec![kms("eu-west-1", true)])],
        ),
        (
            "p256",
            KeyType::P256,
            vec![way("kms", vec![kms("eu-west-1", true)])],
        ),
        (
            "bls12-381",
            KeyType::Bls12381,
            vec![way("kms", vec![kms("eu-west-1", true)])],
        ),
        (
            "two ways of Azure Key Vault",
            KeyType::Secp256k1,
            vec![
                way("unwrap", vec![LockSpec::Tpm, unwrap()]),
                way("release", vec![release(), LockSpec::Tpm]),
            ],
        ),
    ];
    let vectors: Vec<String> = cases
        .into_iter()
        .filter(|(title, ..)| !old.contains(&format!("\"title\": \"{title}\"")))
        .map(|(title, key_type, ways)| {
            let service = Arc::new(Remembering::default());
            let keyring = Keyring::new(vec![service.clone()]);
            let made = runtime
                .block_on(keyring.make("validator-1", &ways, &Context::default()))
                .unwrap();
            let mut key = match key_type {
                KeyType::Opaque => Secret::copy_of(b"{\"a keystore\": true}").unwrap(),
                other => keys::generate(other).unwrap(),
            };
            let about = NewBlob {
                node: "validator-1",
                name: "keys/node.key",
                key_type,
                release: Release::Deliver,
                generation: 3,
                created: 1_700_000_000,
                ways: &made.ways,
            };
            let plain = hex(key.expose());
            let mut content_key = ContentKey::new().unwrap();
            let blob = seal(&made.data_key, about, key.expose_mut(), &mut content_key).unwrap();
            let mut secrets = service.0.lock().unwrap().clone().into_iter();
            let per_way: Vec<String> = ways
                .iter()
                .map(|way| {
                    let of_way: Vec<_> = secrets.by_ref().take(way.locks.len()).collect();
                    format!("[\"{}\"]", of_way.join("\", \""))
                })
                .collect();
            format!(
                "  {{\n    \"title\": \"{title}\",\n    \"lock_secrets\": [{}],\n    \"data_key\": \"{}\",\n    \
                 \"key\": \"{}\",\n    \"blob\": \"{}\"\n  }}",
                per_way.join(", "),
                hex(made.data_key.key.expose()),
                plain,
                hex(&blob)
            )
        })
        .collect();
    let kept = old.trim_end().strip_suffix("\n]").unwrap();
    let all: Vec<&str> = [kept]
        .into_iter()
        .chain(vectors.iter().map(String::as_str))
        .collect();
    println!("{}\n]", all.join(",\n"));
}
