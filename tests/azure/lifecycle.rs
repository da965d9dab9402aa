//! What an operator does with a vault's key over the years: rotates it, revokes it, looks at who used it.

use std::fs;

use nodeseal_harness::Azure;
use nodeseal_harness::azure::release_and_tpm;
use serde_json::Value;

use crate::world::{Refused, World, open, opens, seal};

const MANAGED: &str = "[[azure]]\nidentity = \"managed\"";

fn denied(code: &str, message: &str) -> Refused {
    Refused {
        exit: 3,
        code: code.to_owned(),
        message: format!(
            "keys/release with {}/VERSION: HTTP 403, {message} (request id …, client request id …)",
            Azure::KEY
        ),
        warnings: String::new(),
    }
}

#[test]
fn after_a_rotation_the_old_version_can_be_disabled_and_opens_nothing_any_more() {
    let mut world = World::new();
    let agent = world.agent("node", &release_and_tpm(), MANAGED);
    world.seal(&agent);
    let newer = world.azure.administrate(&["rotate", "node"]).unwrap();
    // Blobs open by the version they were sealed under.
    opens(&mut open(&agent));
    agent
        .run(["rotate", "--all"])
        .unwrap()
        .success("rotate")
        .unwrap();
    let blob = fs::read(agent.blob("password")).unwrap();
    let names = |version: &str| {
        let id = format!("{}/{version}", Azure::KEY).into_bytes();
        blob.windows(id.len()).any(|window| window == id)
    };
    assert!(names(&newer) && !names(&world.version));

    world
        .azure
        .administrate(&["disable", "node", &world.version])
        .unwrap();
    // A released key is kept for some seconds.
    world.trusted.serve().unwrap();
    opens(&mut open(&agent));
    let forgotten = world.agent("forgotten", &release_and_tpm(), MANAGED);
    assert_eq!(
        world.refused(&forgotten),
        denied(
            "azure-key-disabled",
            "Forbidden/KeyDisabled: \"Operation release is not allowed on a disabled key.\""
        )
    );

    // The role taken away: no version is released any more.
    let identity = world.vm.principal("managed", 0).unwrap();
    let [_, releases] = Azure::ROLES;
    world
        .azure
        .administrate(&["revoke", &identity, releases])
        .unwrap();
    world.trusted.serve().unwrap();
    assert_eq!(world.refused(&agent).code, "azure-permission");
}

#[test]
fn the_vaults_log_and_nodeseals_have_the_same_id_for_each_release() {
    let world = World::new();
    let agent = world.agent("node", &release_and_tpm(), MANAGED);
    world.seal(&agent);
    opens(&mut open(&agent));
    agent
        .run(["audit", "verify"])
        .unwrap()
        .success("audit verify")
        .unwrap();
    let log = fs::read_to_string(agent.directory().join("audit.jsonl")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let facts = last["data-keys"][0]["facts"].as_array().unwrap();
    let fact = |name: &str| {
        let fact = facts.iter().find(|fact| fact["name"] == name);
        fact.unwrap_or_else(|| panic!("{name}: {last:#}"))["value"].clone()
    };
    let records = world.azure.audit().unwrap();
    let released = |record: &&Value| record["operationName"] == "KeyRelease";
    let released = records.iter().rev().find(released).unwrap();
    assert_eq!(released["correlationId"], fact("azure-client-request-id"));
    assert_eq!(fact("azure-vm-id"), world.vm.id().unwrap());
    assert_eq!(
        fact("azure-key"),
        format!("{}/{}", Azure::KEY, world.version)
    );
    let principal = world.vm.principal("managed", 0).unwrap();
    assert_eq!(released["identity"]["claim"]["oid"], principal.as_str());
}

#[test]
fn one_release_opens_every_data_key_of_a_batch() {
    let mut world = World::new();
    let agent = world.agent("node", &release_and_tpm(), MANAGED);
    // Sealed one by one, so each under a data key of its own.
    for name in ["one", "two", "three"] {
        seal(&agent, name, name);
    }
    let releases = || {
        let records = world.azure.audit().unwrap();
        let released = records
            .iter()
            .filter(|r| r["operationName"] == "KeyRelease");
        released.count()
    };
    // A fresh start, which has no key yet.
    let before = releases();
    world.trusted.serve().unwrap();
    let open = ["open", "--check", "one", "two", "three"];
    agent.run(open).unwrap().success("open").unwrap();
    assert_eq!(releases(), before + 1);
}
