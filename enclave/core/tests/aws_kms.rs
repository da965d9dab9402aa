//! The `aws-kms` lock against a simulated KMS that verifies attestation and evaluates policies, and a simulated
//! security module, both as processes of their own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "aws_kms/direct.rs"]
mod direct;
#[path = "aws_kms/module.rs"]
mod module;
#[path = "aws_kms/world.rs"]
mod world;

use std::time::{Duration, SystemTime};

use nodeseal_core::aws::{AwsKms, AwsKmsConfig};
use nodeseal_core::lock::{KeyService, LockContext, NewLock, OpenedLock};
use nodeseal_core::tunnel::Clock;
use nodeseal_wire::lock::{Lock, LockSpec};
use nodeseal_wire::message::{Class, Context, Refusal};
use world::{NODE, World};

const ID: [u8; 16] = [7; 16];
/// Longer than any test takes, in seconds.
const LONG: u64 = 3600;

fn context<'a>(node: &'a str, request: &'a Context) -> LockContext<'a> {
    LockContext {
        node,
        data_key_id: &ID,
        request,
    }
}

async fn make(service: &AwsKms, key: &str, request: &Context) -> Result<NewLock, Refusal> {
    let spec = LockSpec::AwsKms {
        key: key.to_owned(),
        attested: true,
    };
    service.new_secret(&spec, context(NODE, request)).await
}

async fn open(service: &AwsKms, lock: &Lock, request: &Context) -> Result<OpenedLock, Refusal> {
    service.open_secret(lock, context(NODE, request)).await
}

async fn refused(service: &AwsKms, lock: &Lock, request: &Context) -> (Class, String, String) {
    let refusal = open(service, lock, request).await.err().unwrap();
    (refusal.class, refusal.code, refusal.message)
}

/// A world with a lock that opened once.
async fn locked(change: impl FnOnce(&mut AwsKmsConfig)) -> (World, AwsKms, Context, Lock) {
    let mut world = World::start("chunked").await;
    let (module, _) = world.module("again", &["--image", "good"]);
    let service = world.trusted(module, change);
    let request = world.request(LONG);
    let made = make(&service, &world.key, &request).await.unwrap();
    let opened = open(&service, &made.lock, &request).await.unwrap();
    assert_eq!(opened.secret.expose(), made.secret.expose());
    (world, service, request, made.lock)
}

#[tokio::test]
async fn the_measured_image_makes_a_lock_and_opens_it_whatever_shape_kms_answers_in() {
    for shape in ["chunked", "primitive", "many-chunks"] {
        let mut world = World::start(shape).await;
        let (module, measured) = world.module("again", &["--image", "good"]);
        let service = world.trusted(module, |_| ());
        let request = world.request(LONG);
        let made = make(&service, &world.key, &request).await.unwrap();
        let opened = open(&service, &made.lock, &request).await.unwrap();
        assert_eq!(opened.secret.expose(), made.secret.expose(), "{shape}");
        let pcrs = opened.facts.iter().find(|f| f.name == "evidence-pcrs");
        let first = format!("PCR0={} ", measured["PCR0"].as_str().unwrap());
        assert!(pcrs.unwrap().value.starts_with(&first));
    }
}

#[tokio::test]
async fn another_image_a_debug_enclave_and_no_attestation_are_denied_and_say_what_was_presented() {
    let (mut world, _, request, lock) = locked(|_| ()).await;
    let (other, measured) = world.module("other", &["--image", "other"]);
    let (class, code, message) = refused(&world.trusted(other, |_| ()), &lock, &request).await;
    assert_eq!((class, code.as_str()), (Class::Denied, "kms-access-denied"));
    let presented = format!("with PCR0={} PCR1=", measured["PCR0"].as_str().unwrap());
    assert!(message.contains(&presented), "{message}");

    let (debug, _) = world.module("debug", &["--image", "good", "--debug"]);
    let (class, code, message) = refused(&world.trusted(debug, |_| ()), &lock, &request).await;
    assert_eq!((class, code.as_str()), (Class::Denied, "kms-access-denied"));
    assert!(
        message.contains("(a debug enclave) with PCR0=0 "),
        "{message}"
    );

    let Lock::AwsKms(mut unattested) = lock else {
        panic!("another kind of lock")
    };
    unattested.attested = false;
    let (module, _) = world.module("silent", &["--image", "good"]);
    let service = world.trusted(module, |_| ());
    let (class, code, _) = refused(&service, &Lock::AwsKms(unattested), &request).await;
    assert_eq!((class, code.as_str()), (Class::Denied, "kms-access-denied"));
}

#[tokio::test]
async fn what_the_owner_does_to_the_key_is_told_apart() {
    let (world, service, request, lock) = locked(|_| ()).await;
    let kms = &world.administrator;
    kms.disable_key().key_id(&world.key).send().await.unwrap();
    let (class, code, message) = refused(&service, &lock, &request).await;
    assert_eq!(
        (class, code.as_str()),
        (Class::Denied, "kms-key-disabled"),
        "{message}"
    );
    kms.enable_key().key_id(&world.key).send().await.unwrap();
    open(&service, &lock, &request).await.unwrap();
    let deletion = kms.schedule_key_deletion().key_id(&world.key);
    deletion.pending_window_in_days(7).send().await.unwrap();
    let (class, code, message) = refused(&service, &lock, &request).await;
    assert_eq!(
        (class, code.as_str()),
        (Class::Denied, "kms-pending-deletion"),
        "{message}"
    );
}

#[tokio::test]
async fn a_lock_opens_for_its_own_node_data_key_and_kms_key_only() {
    let (mut world, service, request, lock) = locked(|_| ()).await;
    let other_node = service.open_secret(&lock, context("validator-8", &request));
    let refusal = other_node.await.err().unwrap();
    assert_eq!(
        refusal.code, "kms-access-denied",
        "the policy names the node"
    );

    let other_id = LockContext {
        data_key_id: &[8; 16],
        ..context(NODE, &request)
    };
    let refusal = service.open_secret(&lock, other_id).await.err().unwrap();
    assert_eq!(
        refusal.code, "kms-ciphertext-invalid",
        "{}",
        refusal.message
    );

    let (_, measured) = world.module("third", &["--image", "good"]);
    let other_key = world.new_key(&measured).await;
    let Lock::AwsKms(mut moved) = lock.clone() else {
        panic!("another kind of lock")
    };
    moved.key = other_key;
    let (class, code, message) = refused(&service, &Lock::AwsKms(moved), &request).await;
    assert_eq!(
        (class, code.as_str()),
        (Class::Damaged, "kms-wrong-key"),
        "{message}"
    );

    let Lock::AwsKms(mut damaged) = lock else {
        panic!("another kind of lock")
    };
    *damaged.ciphertext.last_mut().unwrap() ^= 1;
    let (class, code, message) = refused(&service, &Lock::AwsKms(damaged), &request).await;
    assert_eq!(
        (class, code.as_str()),
        (Class::Damaged, "kms-ciphertext-invalid"),
        "{message}"
    );
}

#[tokio::test]
async fn expired_credentials_and_a_wrong_clock_are_not_taken_for_a_no() {
    let (mut world, service, _, lock) = locked(|_| ()).await;
    let expired = world.request(0);
    let (class, code, message) = refused(&service, &lock, &expired).await;
    assert_eq!(
        (class, code.as_str()),
        (Class::Unavailable, "expired-credentials"),
        "{message}"
    );

    let (module, _) = world.module("late", &["--image", "good"]);
    let late = world.trusted(module, |config| {
        config.clock = Clock::new(|| SystemTime::now() - Duration::from_secs(1800));
    });
    let (class, code, message) = refused(&late, &lock, &world.request(LONG)).await;
    assert_eq!(
        (class, code.as_str()),
        (Class::Unavailable, "kms-clock-skew"),
        "{message}"
    );
}

#[tokio::test]
async fn passing_faults_pass() {
    let (world, service, request, lock) = locked(|_| ()).await;
    for fault in [
        r#"{"fault": "throttle", "times": 2}"#,
        r#"{"fault": "error", "status": 500, "code": "KMSInternalException", "times": 2}"#,
        r#"{"fault": "drop", "when": "accept", "times": 2}"#,
        r#"{"fault": "drop", "when": "answer", "times": 2}"#,
        r#"{"fault": "drop", "when": "body", "times": 2}"#,
        r#"{"fault": "plaintext", "which": "empty"}"#,
    ] {
        world.order(fault).await;
        let opened = open(&service, &lock, &request).await.unwrap();
        let attempts = opened.facts.iter().find(|f| f.name == "kms-attempts");
        let expected = if fault.contains("times") { "3" } else { "1" };
        assert_eq!(attempts.unwrap().value, expected, "{fault}");
    }
}

#[tokio::test]
async fn lasting_faults_have_names() {
    let (world, service, request, lock) = locked(|config| {
        config.attempt = Duration::from_secs(2);
        config.attempts = 1;
    })
    .await;
    for (fault, class, expected) in [
        (
            r#"{"fault": "slow-body", "milliseconds": 1000}"#,
            Class::Unavailable,
            "kms-timeout",
        ),
        (
            r#"{"fault": "endless-body"}"#,
            Class::Damaged,
            "kms-answer-too-large",
        ),
        (
            r#"{"fault": "garbage"}"#,
            Class::Damaged,
            "kms-answer-malformed",
        ),
        (
            r#"{"fault": "wrong-certificate", "which": "other-authority"}"#,
            Class::Unavailable,
            "tls-certificate",
        ),
        (
            r#"{"fault": "wrong-certificate", "which": "other-name"}"#,
            Class::Unavailable,
            "tls-certificate",
        ),
        (
            r#"{"fault": "wrong-certificate", "which": "expired"}"#,
            Class::Unavailable,
            "tls-certificate",
        ),
        (
            r#"{"fault": "plaintext", "which": "beside"}"#,
            Class::Damaged,
            "kms-answer-plaintext",
        ),
        (
            r#"{"fault": "plaintext", "which": "instead"}"#,
            Class::Damaged,
            "kms-answer-plaintext",
        ),
        (
            r#"{"fault": "replay-cms"}"#,
            Class::Damaged,
            "kms-cms-recipient",
        ),
        (
            r#"{"fault": "foreign-cms"}"#,
            Class::Damaged,
            "kms-cms-recipient",
        ),
        (
            r#"{"fault": "garbled-cms"}"#,
            Class::Damaged,
            "kms-cms-decryption",
        ),
        (
            r#"{"fault": "wrong-key-id"}"#,
            Class::Damaged,
            "kms-answer-other-key",
        ),
    ] {
        world.order(fault).await;
        let (found, code, message) = refused(&service, &lock, &request).await;
        assert_eq!(
            (found, code.as_str()),
            (class, expected),
            "{fault}: {message}"
        );
    }
}
