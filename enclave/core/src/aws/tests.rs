//! The lock against an endpoint that answers as each test says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod answers;
mod endpoint;
mod faults;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_types::base64;
use nodeseal_wire::lock::{AwsKmsLock, Lock, LockSpec};
use nodeseal_wire::message::{AwsCredentials, Class, Context, Fact, Refusal};
use serde_json::{Value, json};

use super::cms::tests::envelope;
use super::*;
use crate::evidence::{AttestError, AttestationRequest, Attester};
use crate::lock::{BoxFuture, KeyService, LockContext};
use crate::tunnel::{Clock, Roots};
use endpoint::{Asked, Endpoint, Reply, error};

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const OTHER_KEY: &str =
    "arn:aws:kms:eu-west-1:111122223333:key/99999999-12ab-34cd-56ef-1234567890ab";
const HOST: &str = "kms.eu-west-1.amazonaws.com";
const ID: [u8; 16] = [0xab; 16];
const SECRET: [u8; 32] = *b"thirty-two bytes that open a way";

/// Gives the public key itself as the document, so that an endpoint can answer to it.
struct Bare;

impl Attester for Bare {
    fn kind(&self) -> &'static str {
        "nitro-enclave"
    }

    fn attest<'a>(
        &'a self,
        request: AttestationRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, AttestError>> {
        Box::pin(async move { Ok(request.public_key.unwrap().to_vec()) })
    }
}

fn config(endpoint: &Endpoint) -> AwsKmsConfig {
    AwsKmsConfig {
        roots: Roots::Pem(endpoint.authority.clone().into_bytes()),
        recipient_keys: 1,
        attempts: 3,
        deadline: Duration::from_secs(60),
        attempt: Duration::from_secs(30),
        ..AwsKmsConfig::default()
    }
}

fn service(config: AwsKmsConfig) -> AwsKms {
    AwsKms::new(config, Some(Arc::new(Bare))).unwrap()
}

/// A service that makes no recipient keys, for whatever happens before an answer is looked at.
fn unattested(config: AwsKmsConfig) -> AwsKms {
    AwsKms::new(config, None).unwrap()
}

fn request(egress: String) -> Context {
    Context {
        aws: Some(AwsCredentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "secret".to_owned(),
            session_token: Some("token".to_owned()),
            expires: None,
        }),
        egress: Some(egress),
        ..Context::default()
    }
}

fn context(request: &Context) -> LockContext<'_> {
    LockContext {
        node: "validator-7",
        data_key_id: &ID,
        request,
    }
}

fn lock(attested: bool) -> Lock {
    Lock::AwsKms(AwsKmsLock {
        key: KEY.to_owned(),
        attested,
        ciphertext: b"ciphertext".to_vec(),
    })
}

async fn open(
    service: &AwsKms,
    attested: bool,
    request: &Context,
) -> Result<(Vec<u8>, Vec<Fact>), Refusal> {
    let opened = service
        .open_secret(&lock(attested), context(request))
        .await?;
    Ok((opened.secret.expose().to_vec(), opened.facts))
}

async fn refusal(service: &AwsKms, attested: bool, request: &Context) -> Refusal {
    open(service, attested, request).await.unwrap_err()
}

/// The refusal of an unattested open that is answered by `script`, and how often it was asked for.
async fn refusal_after(
    script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
) -> (Refusal, usize) {
    let endpoint = Endpoint::start(HOST, script);
    let service = unattested(config(&endpoint));
    let refused = refusal(&service, false, &request(endpoint.egress())).await;
    (refused, endpoint.count())
}

fn document(asked: &Asked) -> Vec<u8> {
    let document = asked.body["Recipient"]["AttestationDocument"].as_str();
    base64::decode(document.unwrap()).unwrap()
}

fn for_recipient(asked: &Asked) -> String {
    base64::encode(envelope(&document(asked), &SECRET))
}

fn good(asked: &Asked) -> Reply {
    let mut answer = json!({ "KeyId": KEY });
    if asked.head.contains("GenerateDataKey") {
        answer["CiphertextBlob"] = base64::encode("ciphertext").into();
    }
    if asked.body["Recipient"].is_null() {
        answer["Plaintext"] = base64::encode(SECRET).into();
    } else {
        answer["CiphertextForRecipient"] = for_recipient(asked).into();
    }
    Reply::Json(200, answer)
}

fn fact<'a>(facts: &'a [Fact], name: &str) -> &'a str {
    &facts.iter().find(|fact| fact.name == name).unwrap().value
}

#[tokio::test]
async fn an_attested_secret_is_made_and_opened_by_the_key_that_was_named() {
    let endpoint = Endpoint::start(HOST, good);
    let request = request(endpoint.egress());
    let service = service(config(&endpoint));
    let spec = LockSpec::AwsKms {
        key: KEY.to_owned(),
        attested: true,
    };
    let made = service.new_secret(&spec, context(&request)).await.unwrap();
    assert_eq!(made.lock, lock(true));
    assert_eq!(made.secret.expose(), SECRET);
    let opened = service.open_secret(&made.lock, context(&request)).await;
    let opened = opened.unwrap();
    assert_eq!(opened.secret.expose(), SECRET);
    assert_eq!(fact(&opened.facts, "kms-key"), KEY);
    assert_eq!(fact(&opened.facts, "kms-region"), "eu-west-1");
    assert_eq!(fact(&opened.facts, "kms-request-id"), "request-2");
    assert_eq!(fact(&opened.facts, "kms-attempts"), "1");
    assert_eq!(fact(&opened.facts, "evidence-kind"), "nitro-enclave");
    assert_eq!(fact(&opened.facts, "evidence-sha256").len(), 64);

    let asked = endpoint.asked.lock().unwrap();
    assert_ne!(
        document(&asked[0]),
        document(&asked[1]),
        "a key per request"
    );
    for (asked, operation) in asked.iter().zip(["GenerateDataKey", "Decrypt"]) {
        let target = format!("x-amz-target: TrentService.{operation}\r\n");
        assert!(asked.head.contains(&target), "{}", asked.head);
        assert!(asked.head.starts_with("POST / HTTP/1.1\r\n"));
        assert!(asked.head.contains(&format!("host: {HOST}\r\n")));
        assert!(asked.head.contains("x-amz-security-token: token\r\n"));
        assert_eq!(asked.body["KeyId"], KEY);
        let expected = json!({
            "nodeseal:node": "validator-7",
            "nodeseal:data-key": "abababababababababababababababab",
            "nodeseal:version": "1",
        });
        assert_eq!(asked.body["EncryptionContext"], expected);
        let algorithm = &asked.body["Recipient"]["KeyEncryptionAlgorithm"];
        assert_eq!(algorithm, "RSAES_OAEP_SHA_256");
    }
}

#[tokio::test]
async fn a_lock_without_attestation_shows_no_document_and_takes_the_plaintext() {
    let endpoint = Endpoint::start(HOST, good);
    let request = request(endpoint.egress());
    let service = unattested(config(&endpoint));
    let opened = service.open_secret(&lock(false), context(&request)).await;
    assert_eq!(opened.unwrap().secret.expose(), SECRET);
    assert_eq!(
        endpoint.asked.lock().unwrap()[0].body["Recipient"],
        Value::Null
    );
}

#[tokio::test]
async fn an_attested_lock_is_not_opened_without_an_attester() {
    let endpoint = Endpoint::start(HOST, good);
    let request = request(endpoint.egress());
    let service = unattested(config(&endpoint));
    let refused = service.open_secret(&lock(true), context(&request)).await;
    assert_eq!(refused.err().unwrap().code, "no-attestation");
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn requests_are_signed_for_the_time_of_the_given_clock() {
    let endpoint = Endpoint::start(HOST, good);
    let ahead = SystemTime::now() + Duration::from_secs(40 * 86400);
    let config = AwsKmsConfig {
        clock: Clock::new(move || ahead),
        ..config(&endpoint)
    };
    let expected = aws_smithy_types::DateTime::from(ahead)
        .fmt(aws_smithy_types::date_time::Format::DateTime)
        .unwrap();
    let day = expected.split('T').next().unwrap().replace('-', "");
    open(&unattested(config), false, &request(endpoint.egress()))
        .await
        .unwrap();
    let head = &endpoint.asked.lock().unwrap()[0].head;
    assert!(
        head.contains(&format!("Credential=AKIDEXAMPLE/{day}/eu-west-1/kms/")),
        "{head}"
    );
}

#[tokio::test]
async fn what_is_missing_or_not_allowed_is_said_before_anything_is_sent() {
    let endpoint = Endpoint::start(HOST, good);
    let sound = || request(endpoint.egress());
    let only_other = AwsKmsConfig {
        allowed_keys: Some(vec![OTHER_KEY.to_owned()]),
        ..config(&endpoint)
    };
    let mut no_credentials = sound();
    no_credentials.aws = None;
    let mut no_egress = sound();
    no_egress.egress = None;
    for (config, request, class, code) in [
        (only_other, sound(), Class::Denied, "kms-key-not-allowed"),
        (
            config(&endpoint),
            no_credentials,
            Class::Misuse,
            "aws-credentials-missing",
        ),
        (
            config(&endpoint),
            no_egress,
            Class::Misuse,
            "egress-missing",
        ),
        (
            config(&endpoint),
            self::request("http://a".to_owned()),
            Class::Misuse,
            "egress-address",
        ),
    ] {
        let refused = refusal(&unattested(config), false, &request).await;
        assert_eq!((refused.class, refused.code.as_str()), (class, code));
    }
    let alias = LockSpec::AwsKms {
        key: "arn:aws:kms:eu-west-1:111122223333:alias/node".to_owned(),
        attested: true,
    };
    let (service, request) = (unattested(config(&endpoint)), sound());
    let refused = service.new_secret(&alias, context(&request)).await;
    assert_eq!(refused.err().unwrap().code, "kms-key-arn");
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_opens_at_once_do_not_wait_for_each_other() {
    const MANY: usize = 64;
    // Nobody is answered until everybody has asked.
    let endpoint = Endpoint::start(HOST, |asked| match asked.before {
        before if before < MANY - 1 => Reply::Stall(Vec::new()),
        _ => good(asked),
    });
    let config = AwsKmsConfig {
        attempts: 1,
        ..config(&endpoint)
    };
    let service = Arc::new(unattested(config));
    let request = Arc::new(request(endpoint.egress()));
    let mut opens = tokio::task::JoinSet::new();
    for _ in 0..MANY {
        let (service, request) = (Arc::clone(&service), Arc::clone(&request));
        opens.spawn(async move {
            let opened = service.open_secret(&lock(false), context(&request)).await;
            opened.map(drop)
        });
    }
    opens.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(endpoint.count(), MANY);
    opens.shutdown().await;
}
