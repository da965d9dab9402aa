//! Whatever goes wrong on the way to KMS has a name, says what KMS said, and what to try.

use std::fs;
use std::path::Path;

use memchr::memmem;
use serde_json::{Value, json};

use crate::world::World;

/// A refusal: exit status, code, message.
struct Refused(i32, String, String);

impl Refused {
    /// What `nodeseal open` of the sealed password is refused with; there must be a hint.
    fn of(world: &World) -> Self {
        let (status, report) = world.json_as_node(&["open", "--check", "password"]);
        let text = |name: &str| report["error"][name].as_str().map(str::to_owned);
        let (code, message) = (text("code"), text("message"));
        let hint = text("hint").unwrap_or_default();
        assert!(hint.len() > 20, "no hint: {report}");
        Self(status, code.unwrap(), message.unwrap())
    }

    /// Checks how it is named.
    fn is(&self, status: i32, code: &str, says: &str) -> &Self {
        let Self(found_status, found, message) = self;
        assert_eq!((*found_status, found.as_str()), (status, code), "{message}");
        assert!(message.contains(says), "{message}");
        self
    }

    /// Checks that it says under which id KMS has the request on record.
    fn on_record(&self, world: &World) {
        let Self(_, code, message) = self;
        let id = message.split("request id ").nth(1).unwrap_or_default();
        let id = id.split([',', ')']).next().unwrap_or_default();
        let trail = world.cloud.kms.trail().unwrap();
        let known = trail.iter().any(|record| record["requestID"] == id);
        assert!(known, "{code}: {message}");
    }
}

fn ordered(world: &World, fault: Value) -> Refused {
    world.cloud.kms.order(&fault).unwrap();
    Refused::of(world)
}

fn sealed(enclave: &[&str]) -> World {
    let world = World::with_enclave(enclave);
    world.seal();
    world
}

#[test]
fn answers_that_are_not_what_kms_would_give_are_refused_by_name() {
    let world = sealed(&[]);
    for (fault, code, says) in [
        (
            json!({"fault": "wrong-key-id"}),
            "kms-answer-other-key",
            "the answer is by another key: arn:aws:kms:",
        ),
        (
            json!({"fault": "plaintext", "which": "beside"}),
            "kms-answer-plaintext",
            "carries Plaintext",
        ),
        (
            json!({"fault": "replay-cms"}),
            "kms-cms-recipient",
            "CiphertextForRecipient: ",
        ),
        (
            json!({"fault": "foreign-cms"}),
            "kms-cms-recipient",
            "CiphertextForRecipient: ",
        ),
        (
            json!({"fault": "garbled-cms"}),
            "kms-cms-decryption",
            "CiphertextForRecipient: ",
        ),
    ] {
        ordered(&world, fault).is(4, code, says).on_record(&world);
    }
    let garbage = ordered(&world, json!({"fault": "garbage"}));
    garbage.is(4, "kms-answer-malformed", "HTTP 200: ");
    let endless = ordered(&world, json!({"fault": "endless-body"}));
    endless.is(
        4,
        "kms-answer-too-large",
        "answers with more than 65536 bytes",
    );
    // The right recipient, another secret: KMS is believed, the blob's own authentication is not fooled.
    let other = ordered(&world, json!({"fault": "other-secret"}));
    other.is(4, "data-key-authentication", "does not authenticate");
}

#[test]
fn what_may_pass_is_tried_again_and_named_when_it_does_not() {
    let world = sealed(&["--attempt=1", "--deadline=20"]);
    let throttled = ordered(&world, json!({"fault": "throttle", "times": 5}));
    throttled
        .is(5, "kms-throttled", "; 5 attempts")
        .on_record(&world);
    let failing =
        json!({"fault": "error", "status": 500, "code": "KMSInternalException", "times": 5});
    let failing = ordered(&world, failing);
    failing
        .is(5, "kms-unavailable", "KMSInternalException")
        .on_record(&world);
    let slow = json!({"fault": "slow-body", "milliseconds": 300, "times": 5});
    let slow = ordered(&world, slow);
    slow.is(
        5,
        "kms-timeout",
        "no complete answer within 1000 ms; 5 attempts",
    );
    let dropped = ordered(
        &world,
        json!({"fault": "drop", "when": "answer", "times": 5}),
    );
    dropped.is(5, "kms-connection", "failed: peer closed connection");
    let stranger = json!({"fault": "wrong-certificate", "which": "other-authority"});
    let stranger = ordered(&world, stranger);
    stranger.is(5, "tls-certificate", "invalid peer certificate");
    world
        .as_node(&["open", "--check", "password"])
        .success("open")
        .unwrap();
}

#[test]
fn a_clock_that_is_off_is_not_taken_for_a_no() {
    let world = sealed(&[]);
    world.cloud.kms.set_clock(1800).unwrap();
    let refused = Refused::of(&world);
    refused
        .is(5, "kms-clock-skew", "Signature expired: ")
        .on_record(&world);
}

#[test]
fn a_name_that_does_not_resolve_is_told_from_a_port_that_refuses() {
    let world = sealed(&[]);
    let address = world.cloud.kms.address().unwrap().to_owned();
    world
        .agent
        .replace(&address, "kms.nowhere.invalid:443")
        .unwrap();
    Refused::of(&world).is(5, "name-unresolved", "kms.eu-west-1.amazonaws.com:443");
    // Port 1 (tcpmux) is nobody's.
    world
        .agent
        .replace("kms.nowhere.invalid:443", "127.0.0.1:1")
        .unwrap();
    Refused::of(&world).is(5, "connection-refused", "kms.eu-west-1.amazonaws.com:443");
}

#[test]
fn what_the_owner_of_the_key_does_is_told_apart() {
    let world = sealed(&[]);
    let owner = |action: &str| world.cloud.kms.administrate(&[action, &world.key]).unwrap();
    owner("disable");
    let disabled = Refused::of(&world);
    disabled
        .is(3, "kms-key-disabled", "DisabledException")
        .on_record(&world);
    owner("enable");
    owner("schedule-deletion");
    let deleted = Refused::of(&world);
    deleted
        .is(3, "kms-pending-deletion", "KMSInvalidStateException")
        .on_record(&world);
}

#[test]
fn a_blob_under_another_data_keys_id_has_the_wrong_context() {
    let world = sealed(&[]);
    let blob = world.agent.blob("password");
    changed_id(&blob);
    let refused = Refused::of(&world);
    refused
        .is(4, "kms-ciphertext-invalid", "InvalidCiphertextException")
        .on_record(&world);
}

/// Changes the data key's id in a blob's header, by which KMS was told apart what it encrypted.
fn changed_id(path: &Path) {
    let mut blob = fs::read(path).unwrap();
    let id = nodeseal_wire::blob::Blob::parse(&blob)
        .unwrap()
        .header
        .data_key_id;
    let at = memmem::find(&blob, &id).unwrap();
    blob[at] ^= 1;
    fs::write(path, blob).unwrap();
}
