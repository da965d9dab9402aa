//! The agent with a simulated Nitro Enclave and a simulated AWS KMS: way out, credentials, policies, evidence, audit.
#![allow(clippy::unwrap_used)]

#[path = "aws/credentials.rs"]
mod credentials;
#[path = "aws/evidence.rs"]
mod evidence;
#[path = "aws/faults.rs"]
mod faults;
#[path = "aws/policy.rs"]
mod policy;
#[path = "aws/reconcile.rs"]
mod reconcile;
#[path = "aws/ways.rs"]
mod ways;
#[path = "aws/world.rs"]
mod world;

use std::fs;

use world::{SECRET, World};

#[test]
fn the_measured_enclave_opens_the_nodes_key_and_the_log_has_the_request() {
    let world = World::new();
    world.seal();
    let done = world.as_node(&["run", "--", "cat", "{password}"]);
    assert_eq!(
        (done.code, done.text().as_str(), done.stderr.as_str()),
        (0, SECRET, "")
    );
    // Nothing of the way out is left.
    let left = fs::read_dir(world.cloud.directory.path()).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("nodeseal-egress-")
    });
    assert_eq!(left.count(), 0);

    on_record(&world, "open", "delivered");
    let generate = ["generate", "--name", "made", "--type", "ed25519"];
    world.as_node(&generate).success("generate").unwrap();
    on_record(&world, "generate", "sealed");
}

/// The last record is of this event and says with what key, request and evidence the data key was had; KMS has the
/// request too.
fn on_record(world: &World, event: &str, outcome: &str) {
    let last = world.last_record();
    assert_eq!(
        (&last["event"], &last["keys"][0]["outcome"]),
        (&event.into(), &outcome.into())
    );
    let data_key = &last["data-keys"][0];
    assert_eq!(
        (&data_key["way"], &data_key["locks"][0]),
        (&"kms".into(), &"aws-kms".into())
    );
    let facts = data_key["facts"].as_array().unwrap();
    let fact = |name: &str| {
        let fact = facts.iter().find(|fact| fact["name"] == name).unwrap();
        fact["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(fact("kms-key"), world.key);
    assert_eq!(fact("evidence-sha256").len(), 64);
    assert!(fact("evidence-pcrs").contains(&world.pcr0()));
    let trail = world.cloud.kms.trail().unwrap();
    let id = fact("kms-request-id");
    assert!(
        trail
            .iter()
            .any(|record| record["requestID"] == id.as_str())
    );
}

#[test]
fn the_enclave_gets_out_to_allowed_hosts_only() {
    let world = World::with_enclave(&["--kms-endpoint", "eu-west-1=kms.attacker.example:443"]);
    fs::write(world.at("password"), SECRET).unwrap();
    let (code, report) = world.json_as_node(&["seal", "password"]);
    assert_eq!(
        (code, &report["error"]["code"]),
        (2, &"egress-refused".into()),
        "{report}"
    );
    let message = report["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("kms.attacker.example:443 is not an allowed host"),
        "{message}"
    );
}
