//! Evidence asked for and verified.

use std::fs;
use std::path::Path;
use std::process::Command;

use nodeseal_harness::{Finished, program};
use serde_json::Value;

use crate::world::World;

#[test]
fn evidence_is_verified_under_the_root_it_should_come_from() {
    let world = World::new();
    let root = world.cloud.path("kms/nitro-root.pem").display().to_string();
    let document = world.at("document").display().to_string();
    let attest = [
        "attest", "--root", &root, "--nonce", "00ff", "--out", &document,
    ];
    let done = world.agent.run(attest).unwrap();
    assert_eq!(done.code, 0, "{}{}", done.text(), done.stderr);
    assert!(
        done.text().starts_with("evidence: nitro-enclave\n"),
        "{}",
        done.text()
    );
    let (code, report) = world
        .agent
        .json(["verify", &document, "--root", &root])
        .unwrap();
    assert_eq!((code, &report["document"]["nonce"]), (0, &"00ff".into()));
    // The genuine root did not sign a simulator's document.
    let (code, report) = world.agent.json(["verify", &document]).unwrap();
    assert_eq!((code, &report["error"]["code"]), (3, &"attestation".into()));
    // Ten years on, its certificates are not valid any more.
    let later = [
        "verify",
        &document,
        "--root",
        &root,
        "--at",
        "2099-01-01T00:00:00Z",
    ];
    let done = world.agent.run(later).unwrap();
    assert_eq!(done.code, 3, "{}", done.text());
    // Another measurement than the expected one.
    let expected = format!(
        "[[generation]]\nname = \"x\"\nprovider = \"nitro-enclave\"\npcrs = {{ 0 = \"{}\" }}\n",
        "ab".repeat(48)
    );
    fs::write(world.at("expected.toml"), expected).unwrap();
    let expected = world.at("expected.toml").display().to_string();
    let done = world
        .agent
        .run(["verify", &document, "--root", &root, "--expect", &expected])
        .unwrap();
    assert_eq!(done.code, 3);
    assert!(
        done.text()
            .contains("FAILED the measurements are those of an allowed generation"),
        "{}",
        done.text()
    );
}

#[test]
fn genuine_documents_are_verified_at_their_own_time_by_the_command() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/attestation");
    if !fixtures.is_dir() {
        println!("skipped: ../shared/fixtures not present");
        return;
    }
    for (name, at, status) in [
        ("enclave-2026-01-indefinite-map.cbor", None, 3),
        ("nitrotpm-2026-02.cbor", None, 3),
    ] {
        let path = fixtures.join(name);
        let mut command = Command::new(program("nodeseal").unwrap());
        command
            .arg("--json")
            .arg("verify")
            .arg(&path)
            .args(at.into_iter().flat_map(|at: &str| ["--at", at]));
        let done = Finished::of(&mut command).unwrap();
        // Today all of them have expired; everything else about them holds.
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(done.code, status, "{name}: {report}");
        let made = report["document"]["timestamp"].as_str().unwrap();
        let mut command = Command::new(program("nodeseal").unwrap());
        command.arg("verify").arg(&path).args(["--at", made]);
        let done = Finished::of(&mut command).unwrap();
        assert_eq!(done.code, 0, "{name}: {}", done.text());
    }
}
