//! `audit reconcile`: the agent's log beside the log of KMS, in which every request stands that KMS was asked.

use std::fs;

use nodeseal_harness::{Agent, Kms};
use serde_json::{Value, json};

use crate::ways::{TpmAndKms, another_region};
use crate::world::{World, expired_and_not};

/// What `audit reconcile` makes of the logs of these KMS: exit status and document.
fn reconciled(agent: &Agent, regions: &[&Kms]) -> (i32, Value) {
    let trails = regions.iter().map(|kms| kms.told("trail").unwrap());
    let arguments = ["audit", "reconcile", "--cloudtrail"].into_iter();
    agent.json(arguments.chain(trails)).unwrap()
}

/// How many requests for secrets KMS was asked.
fn requests(kms: &Kms) -> usize {
    let secrets = [&json!("Decrypt"), &json!("GenerateDataKey")];
    let trail = kms.trail().unwrap();
    let asked = trail
        .iter()
        .filter(|record| secrets.contains(&&record["eventName"]));
    asked.count()
}

/// Expects that the log has just what these KMS were asked, `expected` requests.
fn agree(agent: &Agent, regions: &[&Kms], expected: usize) {
    let asked: usize = regions.iter().map(|kms| requests(kms)).sum();
    assert_eq!(asked, expected);
    let whole = json!({"known": expected, "unknown": [], "missing": []});
    assert_eq!(reconciled(agent, regions), (0, whole));
}

#[test]
fn whatever_the_agent_had_kms_asked_is_in_its_log() {
    let world = World::with_enclave(&["--attempt=5", "--deadline=15"]);
    let (second, _) = another_region(&world);
    let open = |expected: i32| {
        let (status, report) = world.json_as_node(&["open", "--check", "password"]);
        assert_eq!(status, expected, "{report}");
    };
    let kms = &world.cloud.kms;
    // Made in both regions, then opened by the first.
    world.seal();
    open(0);
    agree(&world.agent, &[kms, &second], 3);
    // Throttled twice before it is granted.
    kms.order(&json!({"fault": "throttle", "times": 2}))
        .unwrap();
    open(0);
    agree(&world.agent, &[kms, &second], 6);
    // An answer that is granted, and is none.
    kms.order(&json!({"fault": "wrong-key-id"})).unwrap();
    open(0);
    agree(&world.agent, &[kms, &second], 8);
    // Refused by the first and granted by the second, then refused by both.
    kms.administrate(&["disable", &world.key]).unwrap();
    open(0);
    second
        .order(&json!({"fault": "error", "status": 400, "code": "DisabledException"}))
        .unwrap();
    open(3);
    kms.administrate(&["enable", &world.key]).unwrap();
    agree(&world.agent, &[kms, &second], 12);
    // A way that is made, and another that is not: nothing is sealed, but a data key was had.
    second
        .order(&json!({"fault": "error", "status": 400, "code": "DisabledException"}))
        .unwrap();
    fs::write(world.at("another"), "another").unwrap();
    let (status, report) = world.json_as_node(&["seal", "another"]);
    assert_eq!(status, 3, "{report}");
    agree(&world.agent, &[kms, &second], 14);
}

#[test]
fn a_way_that_fails_after_kms_had_answered_is_in_the_log_with_its_request() {
    let world = TpmAndKms::start(["aws-kms", "tpm"]);
    world.seal();
    assert_eq!(world.opened(), (0, Value::Null));
    world.swtpm.extend_pcr(11).unwrap();
    assert_eq!(world.opened(), (3, "tpm-pcr-mismatch".into()));
    agree(&world.agent, &[&world.cloud.kms], 3);
}

#[test]
fn credentials_that_were_renewed_leave_nothing_unknown() {
    let world = World::sealed();
    let (old, new) = expired_and_not(&world);
    world.opens(|open| world.credential_process(open, &[&old, &new]));
    let (status, found) = reconciled(&world.agent, &[&world.cloud.kms]);
    assert_eq!((status, &found["unknown"]), (0, &json!([])), "{found}");
    assert_eq!(found["known"], 2);
}

#[test]
fn a_stranger_at_our_key_and_a_claim_kms_knows_nothing_of_are_both_told() {
    let world = World::sealed();
    let kms = &world.cloud.kms;
    let mut honest = fs::read_to_string(kms.told("trail").unwrap()).unwrap();
    // The instance's own credentials, outside of the enclave, two minutes later by the clock of KMS.
    kms.set_clock(120).unwrap();
    let (_, blob) = world.json_as_node(&["inspect", "keys/password.sealed"]);
    let (blob, text) = (&blob["blobs"][0], |value: &Value| {
        value.as_str().unwrap().to_owned()
    });
    let ciphertext = text(&blob["ways"][0]["locks"][0]["ciphertext"]);
    let data_key = text(&blob["data_key"]);
    let stranger = ["decrypt", &world.key, &ciphertext, "validator-1", &data_key];
    let told = kms.boto3(&world.cloud.instance, &stranger).unwrap();
    assert_eq!(told, "refused AccessDeniedException");
    let (status, found) = reconciled(&world.agent, &[kms]);
    assert_eq!((status, &found["known"]), (4, &json!(1)), "{found}");
    assert_eq!(found["error"]["code"], "audit-differs");
    let unknown = found["unknown"].as_array().unwrap();
    let trail = kms.trail().unwrap();
    let last = trail.last().unwrap();
    assert_eq!(unknown.len(), 1);
    for (ours, cloudtrail) in [
        ("time", &last["eventTime"]),
        ("operation", &json!("Decrypt")),
        ("key", &json!(world.key)),
        ("principal", &last["userIdentity"]["arn"]),
        ("node", &json!("validator-1")),
        ("refused", &last["errorCode"]),
        ("request-id", &last["requestID"]),
    ] {
        assert!(cloudtrail.is_string());
        assert_eq!(&unknown[0][ours], cloudtrail, "{ours}");
    }
    let human = world
        .agent
        .run(
            ["audit", "reconcile", "--cloudtrail"]
                .into_iter()
                .chain([kms.told("trail").unwrap()]),
        )
        .unwrap();
    let said = human.text();
    assert!(said.starts_with("not in the log: 20"), "{said}");
    assert!(said.ends_with("\n1 requests in both\n"), "{said}");

    // The record of the seal is gone from CloudTrail, or the log was given one more.
    honest = honest
        .lines()
        .filter(|line| !line.contains("GenerateDataKey"))
        .map(|line| format!("{line}\n"))
        .collect();
    let early = json!({"eventTime": "2000-01-01T00:00:00Z", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt"});
    let cut = world.at("cut.jsonl");
    fs::write(&cut, format!("{early}\n{honest}{last}\n")).unwrap();
    let arguments = ["audit", "reconcile", "--cloudtrail", cut.to_str().unwrap()];
    let (status, found) = world.agent.json(arguments).unwrap();
    let missing = found["missing"].as_array().unwrap();
    assert_eq!(
        (status, missing.len(), &found["known"]),
        (4, 1, &json!(0)),
        "{found}"
    );
    assert_eq!(missing[0]["record"], 1);
}
