//! The simulated vTPM, attestation service and Key Vault tried with programs nobody here wrote: tpm2-tools, requests,
//! PyJWT and cryptography (tests/python/azure_attest.py).

#![allow(clippy::unwrap_used)]

use std::process::Command;

use nodeseal_harness::{Finished, Simulator, Swtpm, checkout, free_ports, python, short_dir};
use serde_json::json;

const ISSUER: &str = "https://sharedweu.weu.attest.azure.net";

/// Starts a machine with these arguments, the services around it, and runs a case of the script.
fn run(case: &str, machine: &[&str]) {
    let directory = short_dir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let start = |name: &str, arguments: &[&str]| {
        Simulator::start(
            name,
            arguments,
            &directory.path().join(format!("{name}.log")),
        )
        .unwrap()
    };
    let (tls, roots, issuer) = (at("tls"), at("attestation"), at("entra"));
    let attestation = start(
        "attestation",
        &["--state", &roots, "--tls", &tls, "--issuer", ISSUER],
    );
    let entra = start("entra", &["--state", &issuer, "--tls", &tls]);
    let officer = entra.ready()["identities"]["apps"][0]["object_id"].as_str();
    let officer = format!("{}=Key Vault Crypto Officer", officer.unwrap());
    let connect = format!(
        "sharedweu.weu.attest.azure.net={}",
        attestation.told("address").unwrap()
    );
    let state = at("vault");
    let vault = start(
        "key-vault",
        &[
            "--state",
            &state,
            "--tls",
            &tls,
            "--entra",
            &issuer,
            "--assign",
            &officer,
            "--connect",
            &connect,
        ],
    );
    let tpm = Swtpm::distinct().unwrap();
    let address = format!("127.0.0.1:{}", tpm.port());
    let port = free_ports(2).unwrap().to_string();
    let state = at("vm");
    let mut arguments = vec![
        "--state", &state, "--root", &roots, "--tpm", &address, "--port", &port,
    ];
    arguments.extend(machine);
    let vtpm = start("azure-vtpm", &arguments);
    let mut described = vtpm.ready().clone();
    if machine.contains(&"trusted-launch") {
        described["kind"] = "trusted-launch".into();
    }
    let data = json!({
        "attestation": attestation.ready(),
        "entra": entra.ready(),
        "vault": vault.ready(),
        "vtpm": described,
    });
    let path = directory.path().join("bench.json");
    std::fs::write(&path, data.to_string()).unwrap();
    let mut command = Command::new(python().unwrap());
    command
        .arg(checkout().join("tests/python/azure_attest.py"))
        .arg(case)
        .arg(&path);
    let done = Finished::of(&mut command).unwrap();
    let logs = [&attestation, &vault, &vtpm].map(|one| one.running.output());
    assert_eq!(done.code, 0, "{}\n{}", done.stderr, logs.join("\n"));
}

macro_rules! cases {
    ($($case:ident $($argument:literal)*;)*) => {
        $(
            #[test]
            fn $case() {
                run(stringify!($case), &[$($argument),*]);
            }
        )*
    };
}

cases! {
    a_confidential_vm_gets_a_token_that_says_what_it_is;
    a_trusted_launch_vm_s_token_has_no_processor_in_it "--kind" "trusted-launch";
    user_data_comes_with_the_next_report;
    evidence_that_does_not_hold_is_refused;
    pcrs_that_changed_since_the_boot_are_refused_and_open_nothing;
    a_machine_booted_otherwise_says_so "--secure-boot" "off" "--debug";
    a_key_is_released_to_the_machine_its_policy_names;
    a_key_is_not_released_to_others;
    envelopes_are_forged_as_ordered;
    released_keys_are_forged_as_ordered;
}
