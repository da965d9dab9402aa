//! The release policy on its way: written by nodeseal, set by other code, read back out of the vault and examined.

use std::fs;

use nodeseal_harness::Agent;
use serde_json::{Value, json};

use crate::world::World;

#[test]
fn a_policy_that_nodeseal_wrote_is_clean_and_no_different_when_the_vault_gives_it_back() {
    let world = World::new();
    let key = world.azure.path("key.json");
    fs::write(&key, world.azure.administrate(&["get", "node"]).unwrap()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Agent::bare().unwrap();
        command
            .current_dir(world.azure.directory.path())
            .args(arguments);
        let done = nodeseal_harness::Finished::of(&mut command).unwrap();
        (done.code, done.text(), done.stderr)
    };
    let clean = "clean: no way for another machine was found\n".to_owned();
    let lint = |file: &str| run(&["policy", "azure", "lint", file]);
    assert_eq!(lint("key.json"), (0, clean.clone(), String::new()));
    let notice = "notice not-immutable: a policy by itself does not say whether the key's is immutable. Make the policy \
                  immutable (az keyvault key create --immutable true), or keep update rights from whoever may release\n";
    assert_eq!(
        lint("release-policy.json"),
        (0, format!("{notice}{clean}"), String::new())
    );
    let same = (0, "the same\n".to_owned(), String::new());
    assert_eq!(
        run(&["policy", "azure", "diff", "release.toml", "key.json"]),
        same
    );

    // As az prints it: other names, and the policy's bytes in base64url. One that can be replaced is told of.
    let answer: Value = serde_json::from_slice(&fs::read(&key).unwrap()).unwrap();
    let printed = json!({ "releasePolicy": {
        "contentType": answer["release_policy"]["contentType"],
        "encodedPolicy": answer["release_policy"]["data"],
        "immutable": false,
    } });
    fs::write(&key, printed.to_string()).unwrap();
    assert_eq!(
        run(&["policy", "azure", "diff", "release.toml", "key.json"]),
        same
    );
    let (code, found, _) = lint("key.json");
    assert_eq!(code, 0);
    assert!(found.starts_with("notice not-immutable: "), "{found}");
}
