#![allow(clippy::unwrap_used)]
use super::batch::MAX_TEXT;
use super::*;
use crate::header::{KeyType, Release};
use crate::lock::PcrBank;
use crate::message::{
    AwsCredentials, AzureContext, AzureToken, Batch, Class, Context, DataKeyReport, Fact, Outcome,
    PROTOCOL, Refusal, SignedPolicy,
};
use proptest::prelude::*;

fn about(name: &str) -> KeyAbout {
    KeyAbout {
        name: name.into(),
        key_type: KeyType::Ed25519,
        release: Release::Deliver,
    }
}

fn context() -> Context {
    Context {
        aws: Some(AwsCredentials {
            access_key_id: "AKIA".into(),
            secret_access_key: "secret".into(),
            session_token: Some("token".into()),
            expires: Some(1),
        }),
        azure: AzureContext {
            tokens: vec![AzureToken {
                vault: "demo.vault.azure.net".into(),
                token: "eyJ".into(),
                expires: 2,
            }],
            vcek_chain: Some("-----BEGIN CERTIFICATE-----".into()),
        },
        egress: Some("unix:/run/egress".into()),
        policies: vec![SignedPolicy {
            bank: PcrBank::Sha256,
            pcrs: vec![7, 11],
            approved: [1; 32],
            signature: [2; 64],
        }],
    }
}

fn requests() -> Vec<Request> {
    let ways = vec![WaySpec {
        label: "both".into(),
        locks: vec![
            LockSpec::Tpm,
            LockSpec::AwsKms {
                key: "arn".into(),
                attested: true,
            },
            LockSpec::AzureUnwrap {
                key: "https://demo.vault.azure.net/keys/node".into(),
            },
            LockSpec::AzureRelease {
                key: "https://demo.vault.azure.net/keys/node/1".into(),
                attestation: "https://shared.attest.azure.net".into(),
            },
        ],
    }];
    let seal = |data_key| {
        Request::Seal(SealRequest {
            node: "n".into(),
            created: 7,
            data_key,
            keys: vec![
                NewKey::Given {
                    about: about("a"),
                    length: 3,
                },
                NewKey::Generated(about("b")),
                NewKey::Resealed { length: 300 },
            ],
            context: context(),
        })
    };
    vec![
        Request::Hello {
            protocol: PROTOCOL,
            software: "nodeseal 0.1.0".into(),
        },
        seal(DataKeySource::New(ways)),
        seal(DataKeySource::Join(500)),
        Request::Open(OpenRequest {
            node: "n".into(),
            blobs: vec![
                BlobRef {
                    name: None,
                    length: 5,
                },
                BlobRef {
                    name: Some("a".into()),
                    length: 6,
                },
            ],
            more: true,
            context: Context::default(),
        }),
        Request::Evidence { nonce: vec![1, 2] },
        Request::Status,
        Request::Lock,
    ]
}

fn refusal() -> Refusal {
    Refusal {
        class: Class::Damaged,
        code: "wrong-node".into(),
        message: "expected a, found b".into(),
    }
}

fn replies() -> Vec<Reply> {
    let fact = Fact {
        name: "kms-request-id".into(),
        value: "1".into(),
    };
    let batch = || Batch {
        outcomes: vec![
            Outcome::Delivered(32),
            Outcome::Held,
            Outcome::Refused(refusal()),
        ],
        data_keys: vec![DataKeyReport {
            id: [9; 16],
            way: "tpm".into(),
            facts: vec![fact.clone()],
            failed: vec![("kms".into(), refusal())],
        }],
    };
    vec![
        Reply::Hello {
            protocol: PROTOCOL,
            software: "nodeseal-tpm 0.1.0".into(),
        },
        Reply::Sealed(batch()),
        Reply::Opened(batch()),
        Reply::Evidence {
            kind: "nitro-enclave".into(),
        },
        Reply::Status(Status {
            provider: "tpm".into(),
            keys_held: 1,
            data_keys_held: 2,
            opened: 3,
            refused: 4,
            facts: vec![fact.clone()],
        }),
        Reply::Locked,
        Reply::Refused(refusal()),
    ]
}

#[test]
fn every_request_and_reply_reads_back_as_it_was_written() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode()).unwrap(), request);
    }
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply);
    }
}

#[test]
fn every_truncation_and_every_appended_byte_is_refused() {
    for request in requests() {
        let mut bytes = request.encode();
        for end in 0..bytes.len() {
            assert_eq!(
                Request::decode(&bytes[..end]).ok(),
                None,
                "{request:?} {end}"
            );
        }
        bytes.push(0);
        let error = Request::decode(&bytes).unwrap_err().to_string();
        assert_eq!(error, "request: 1 bytes follow where nothing should");
    }
}

#[test]
fn a_request_of_an_unknown_type_is_refused_by_name() {
    let error = Request::decode(&[0x81, 0x18, 99]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request type: expected a known type with its number of items, found type 99 with 1 items"
    );
}

#[test]
fn an_overlong_error_text_is_cut_rather_than_unreadable() {
    let mut long = refusal();
    long.message = "é".repeat(MAX_TEXT);
    let Reply::Refused(read) = Reply::decode(&Reply::Refused(long).encode()).unwrap() else {
        panic!("another reply");
    };
    assert_eq!(read.message.len(), MAX_TEXT);
}

#[test]
fn credentials_do_not_show_in_debug_output() {
    let shown = format!("{:?}", context());
    assert!(shown.contains("AKIA"));
    assert!(
        ["secret\"", "\"token\"", "eyJ"]
            .iter()
            .all(|secret| !shown.contains(secret)),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = (Request::decode(&bytes), Reply::decode(&bytes));
    }

    #[test]
    fn a_changed_byte_is_refused_or_read_as_what_it_now_says(which in 0usize..7, at: usize, value: u8) {
        let mut bytes = requests()[which].encode();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(read) = Request::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
