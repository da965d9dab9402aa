//! The simulated Key Vault and Entra tried with clients nobody here wrote: azure-keyvault-keys and azure-identity
//! (tests/python/azure_vault.py).

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use nodeseal_harness::{Finished, Simulator, checkout, python, short_dir};
use serde_json::{Value, json};

/// Everything a case of the Python script talks to.
struct Bench {
    directory: tempfile::TempDir,
    data: Value,
    vault: Simulator,
    entra: Simulator,
}

/// Runs a case of the script with one argument.
fn script(case: &str, argument: &Path) -> Finished {
    let mut command = Command::new(python().unwrap());
    command
        .arg(checkout().join("tests/python/azure_vault.py"))
        .arg(case)
        .arg(argument);
    for variable in ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", "IDENTITY_ENDPOINT"] {
        command.env_remove(variable);
    }
    Finished::of(&mut command).unwrap()
}

impl Bench {
    fn start() -> Self {
        let directory = short_dir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let made = script("registration", directory.path());
        assert_eq!(made.code, 0, "{}", made.stderr);
        let state = at("entra");
        let (tls, identities) = (at("tls"), at("identities.json"));
        let arguments = [
            "--state",
            &state,
            "--tls",
            &tls,
            "--identities",
            &identities,
        ];
        let log = directory.path().join("entra.log");
        let entra = Simulator::start("entra", arguments, &log).unwrap();
        let vault = vault(directory.path(), &entra);
        let data = json!({
            "vault": vault.ready(),
            "entra": entra.ready(),
            "certificate": at("app.pem"),
            "federated": at("federated.jwt"),
            "federated_other": at("federated-other.jwt"),
            "keep": at("kept.json"),
        });
        Self {
            directory,
            data,
            vault,
            entra,
        }
    }

    fn run(&self, case: &str) {
        let path = self.directory.path().join("bench.json");
        std::fs::write(&path, self.data.to_string()).unwrap();
        let done = script(case, &path);
        let log = self.vault.running.output();
        assert_eq!(done.code, 0, "{}\n{log}", done.stderr);
    }
}

fn vault(directory: &Path, entra: &Simulator) -> Simulator {
    let at = |name: &str| directory.join(name).display().to_string();
    let officer = entra.ready()["identities"]["apps"][0]["object_id"].as_str();
    let officer = format!("{}=Key Vault Crypto Officer", officer.unwrap());
    let (state, tls, issuer) = (at("vault"), at("tls"), at("entra"));
    let arguments = [
        "--state",
        &state,
        "--tls",
        &tls,
        "--entra",
        &issuer,
        "--authority",
        entra.told("endpoint").unwrap(),
        "--assign",
        &officer,
        // Nobody listens on port 1.
        "--connect",
        "sharedweu.weu.attest.azure.net=127.0.0.1:1",
    ];
    Simulator::start("key-vault", arguments, &directory.join("vault.log")).unwrap()
}

macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                Bench::start().run(stringify!($case));
            }
        )*
    };
}

cases! {
    keys_are_created_read_updated_and_listed
    what_is_wrapped_is_unwrapped_by_the_vault_and_by_other_code
    a_disabled_version_opens_nothing_and_wraps_still
    a_deleted_key_can_be_recovered_until_it_is_purged
    release_policies_are_kept_as_the_vault_keeps_them
    a_release_without_a_good_token_is_refused
    releases_are_throttled_and_say_when_to_come_again
    roles_are_asked_for_each_action
    identities_are_told_apart
    applications_prove_themselves_by_secret_certificate_or_another_issuer
    every_call_is_in_the_audit_log
    tokens_and_versions_are_checked
    faults_come_as_ordered
}

#[test]
fn keys_survive_a_killed_vault() {
    let mut bench = Bench::start();
    bench.run("makes_a_key_for_the_next_start");
    bench.vault.running.kill();
    bench.vault = vault(bench.directory.path(), &bench.entra);
    bench.data["vault"] = bench.vault.ready().clone();
    bench.run("opens_what_was_wrapped_before_the_restart");
}
