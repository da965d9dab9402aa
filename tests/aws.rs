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

    let last = world.last_record();
    assert_eq!(last["event"], "open");
    let data_key = &last["data-keys"][0];
    assert_eq!(
        (&data_key["way"], &data_key["locks"][0]),
        (&"kms".into(), &"aws-kms".into())
    );
    let facts = data_key["facts"].as_array().unwrap();
    let fact =
        |name: &str| facts.iter().find(|fact| fact["name"] == name).unwrap()["value"].clone();
    assert_eq!(fact("kms-key"), world.key.as_str());
    let trail = fs::read_to_string(world.cloud.kms.told("trail").unwrap()).unwrap();
    assert!(trail.contains(fact("kms-request-id").as_str().unwrap()));
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
