#![allow(clippy::unwrap_used)]
use nodeseal_wire::message::{Class, DataKeyReport, Fact, Outcome, Refusal};
use serde_json::json;
use tempfile::TempDir;

use super::super::record::{Event, Kind};
use super::super::{AuditSettings, record};
use super::*;

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1";

/// A log with an open (request "known") after a way that failed (request "denied"), and a refused key ("refused").
fn log(directory: &TempDir) -> PathBuf {
    let file = directory.path().join("audit.jsonl");
    let refusal = |id: &str| Refusal {
        class: Class::Denied,
        code: "kms-access-denied".into(),
        message: format!(
            "kms:Decrypt with {KEY}: AccessDeniedException: \"\" (request id {id}, Mon, 1 Jan 2035)"
        ),
    };
    let mut opened = Event::new(Kind::Open, "v1");
    let fact = |name: &str, value: &str| Fact {
        name: name.into(),
        value: value.into(),
    };
    let report = DataKeyReport {
        id: [7; 16],
        way: "us".into(),
        facts: vec![fact("kms-key", KEY), fact("kms-request-id", "known")],
        failed: vec![("eu".into(), refusal("denied"))],
    };
    opened.data_key(&report, &["aws-kms"]);
    opened.key("nodekey", b"blob", &Outcome::Refused(refusal("refused")));
    record(&AuditSettings { file: file.clone() }, &opened).unwrap();
    file
}

/// A record of CloudTrail.
fn event(id: &str, time: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut event = json!({
        "eventTime": time,
        "eventSource": "kms.amazonaws.com",
        "eventName": "Decrypt",
        "userIdentity": {"arn": "arn:aws:sts::111122223333:assumed-role/validator/i-1"},
        "sourceIPAddress": "192.0.2.1",
        "requestParameters": {"encryptionContext": {"nodeseal:node": "v1"}},
        "requestID": id,
        "resources": [{"ARN": KEY}],
    });
    change(&mut event);
    event
}

const BEFORE: &str = "2000-01-01T00:00:00Z";
const AFTER: &str = "2999-01-01T00:00:00Z";

fn compared(events: &[Value]) -> Reconciled {
    let directory = tempfile::tempdir().unwrap();
    let trail = directory.path().join("trail");
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    std::fs::write(&trail, lines).unwrap();
    reconcile(&[&log(&directory)], &[trail]).unwrap()
}

fn all_known() -> Vec<Value> {
    ["known", "denied", "refused"]
        .map(|id| event(id, BEFORE, |_| ()))
        .to_vec()
}

#[test]
fn requests_that_both_have_are_counted_whatever_became_of_them() {
    let expected = Reconciled {
        known: 3,
        ..Reconciled::default()
    };
    assert_eq!(compared(&all_known()), expected);
}

#[test]
fn a_request_for_our_secrets_that_the_log_does_not_know_is_told() {
    let mut events = all_known();
    events.push(event("stranger", AFTER, |event| {
        event["errorCode"] = "AccessDenied".into()
    }));
    events.push(event("data key", AFTER, |event| {
        event["eventName"] = "GenerateDataKey".into()
    }));
    // Somebody else's key, another operation, another service.
    events.push(event("other", AFTER, |event| {
        event["resources"][0]["ARN"] = "arn:other".into()
    }));
    events.push(event("read", AFTER, |event| {
        event["eventName"] = "DescribeKey".into()
    }));
    events.push(event("s3", AFTER, |event| {
        event["eventSource"] = "s3.amazonaws.com".into()
    }));
    let found = compared(&events);
    assert_eq!((found.known, found.missing.len()), (3, 0));
    let ids: Vec<_> = found
        .unknown
        .iter()
        .map(|request| request.request_id.as_str())
        .collect();
    assert_eq!(ids, ["stranger", "data key"]);
    assert_eq!(found.unknown[0].refused.as_deref(), Some("AccessDenied"));
    assert_eq!(found.unknown[0].node.as_deref(), Some("v1"));
    assert_eq!(found.unknown[1].refused, None);
}

#[test]
fn what_the_log_claims_and_the_trail_lacks_is_told_for_the_trails_time_only() {
    let mut events = all_known();
    events.remove(0);
    // The trail may not have everything up to its last second yet.
    assert_eq!(compared(&events).missing, []);
    events.push(event("read", AFTER, |event| {
        event["resources"][0]["ARN"] = "arn:other".into()
    }));
    let missing = compared(&events).missing;
    let ids: Vec<_> = missing
        .iter()
        .map(|claim| (claim.record, claim.request_id.as_str()))
        .collect();
    assert_eq!(ids, [(1, "known")]);
}

#[test]
fn a_request_that_kms_may_not_have_kept_is_known_but_not_missed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let mut opened = Event::new(Kind::Open, "v1");
    let fact = |name: &str, value: &str| Fact {
        name: name.into(),
        value: value.into(),
    };
    let busy = Refusal {
        class: Class::Unavailable,
        code: "kms-throttled".into(),
        message:
            "ThrottlingException: \"\" (request id late, a) 2 attempts, before it request id first"
                .into(),
    };
    let report = DataKeyReport {
        id: [7; 16],
        way: "us".into(),
        facts: vec![
            fact("kms-key", KEY),
            fact("kms-request-id", "known"),
            fact("kms-earlier-request-id", "throttled"),
        ],
        failed: vec![("eu".into(), busy)],
    };
    opened.data_key(&report, &["aws-kms"]);
    record(&AuditSettings { file: file.clone() }, &opened).unwrap();
    let trail = directory.path().join("trail");
    let compared = |ids: &[(&str, &str)]| {
        // Throttled before KMS looked at the key: the record has none.
        let events = ids.iter().map(|(id, time)| {
            event(id, time, |event| {
                if *id != "known" {
                    event.as_object_mut().unwrap().remove("resources");
                }
            })
        });
        let lines: String = events.map(|event| format!("{event}\n")).collect();
        std::fs::write(&trail, lines).unwrap();
        let found = reconcile(&[&file], std::slice::from_ref(&trail)).unwrap();
        (found.known, found.unknown.len(), found.missing.len())
    };
    let all = [
        ("known", BEFORE),
        ("throttled", BEFORE),
        ("late", BEFORE),
        ("first", AFTER),
    ];
    assert_eq!(compared(&all), (4, 0, 0));
    assert_eq!(
        compared(&[("known", BEFORE), ("stranger", AFTER)]),
        (1, 0, 0)
    );
    assert_eq!(
        compared(&[("late", BEFORE), ("stranger", AFTER)]),
        (1, 0, 1)
    );
}

#[test]
fn a_file_that_is_no_log_is_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let (file, trail) = (log(&directory), directory.path().join("trail"));
    std::fs::write(&trail, event("known", BEFORE, |_| ()).to_string()).unwrap();
    let both: [&Path; 2] = [&file, &trail];
    let told = reconcile(&both, std::slice::from_ref(&trail)).unwrap_err();
    let expected = "trail: no line of it is a record of an audit log";
    assert!(told.to_string().contains(expected), "{told}");
}

#[test]
fn every_form_cloudtrail_comes_in_is_read_and_others_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = log(&directory);
    let trail = directory.path().join("trail");
    let events = all_known();
    let looked_up = events
        .iter()
        .map(|event| json!({"CloudTrailEvent": event.to_string()}));
    for text in [
        json!({"Records": events}).to_string(),
        json!({"Events": looked_up.collect::<Vec<_>>()}).to_string(),
    ] {
        std::fs::write(&trail, text).unwrap();
        let found = reconcile(&[&file], std::slice::from_ref(&trail)).unwrap();
        assert_eq!(found.known, 3);
    }
    for (text, problem) in [
        ("no JSON", "expected ident"),
        ("{}", "a record without eventSource"),
        ("[1]", "a record without eventSource"),
        ("{\"Events\": [{}]}", "EOF while parsing"),
    ] {
        std::fs::write(&trail, text).unwrap();
        let error = reconcile(&[&file], std::slice::from_ref(&trail)).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}
