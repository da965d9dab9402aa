//! Which machines a vault releases to: Trusted Launch behind its switch; and a machine as it comes, with nothing
//! configured but its key.

use std::process::Command;

use nodeseal_harness::azure::release_and_tpm;
use nodeseal_harness::{Agent, Azure, Finished, VmOptions, checkout, python};

use crate::world::{Refused, SECRET, World, open, opens};

const MANAGED: &str = "[[azure]]\nidentity = \"managed\"";

fn denied(code: &str, message: &str) -> Refused {
    Refused {
        exit: 3,
        code: code.to_owned(),
        message: message.to_owned(),
        warnings: String::new(),
    }
}

#[test]
fn a_trusted_launch_machine_has_its_key_released_only_if_that_is_switched_on() {
    let options = VmOptions {
        platform: &["--kind", "trusted-launch"],
        ..VmOptions::default()
    };
    let mut world = World::of("trusted-launch", options, "allow_trusted_launch = true");
    let agent = world.agent("node", &release_and_tpm(), MANAGED);
    world.seal(&agent);
    let done = agent.run(["run", "--", "cat", "{password}"]).unwrap();
    assert_eq!(
        (done.code, done.text().as_str()),
        (0, SECRET),
        "{}",
        done.stderr
    );

    // Another nodeseal-tpm on the same machine, as it comes.
    let strict = world.azure.trusted_side(&world.vm, "").unwrap();
    let locks = release_and_tpm();
    let more = "[[key]]\nname = \"password\"\n[[azure]]\nidentity = \"managed\"";
    let refused = world
        .azure
        .agent(&world.vm, &strict, "strict", &locks, more)
        .unwrap();
    std::fs::create_dir_all(refused.directory().join("keys")).unwrap();
    std::fs::copy(agent.blob("password"), refused.blob("password")).unwrap();
    assert_eq!(
        world.refused(&refused),
        denied(
            "azure-machine-kind",
            "attestation token: expected a confidential VM (SEV-SNP), found a Trusted Launch VM"
        )
    );
    let said = refused.run(["open", "--check", "password"]).unwrap().stderr;
    let hint = "hint: a Trusted Launch VM is only taken with [azure.release] allow_trusted_launch = true (docs/azure.md says \
                what that gives up)\n";
    assert!(said.ends_with(hint), "{said}");
    drop(strict);

    // Secure Boot off from the next boot on: this side says so, and without it the vault would.
    world.trusted.stop();
    let platform = ["--kind", "trusted-launch", "--secure-boot", "off"];
    world.azure.reboot(&mut world.vm, &platform).unwrap();
    world.trusted.serve().unwrap();
    assert_eq!(
        world.refused(&agent),
        denied(
            "azure-secure-boot",
            "attestation token: secureboot: expected true, found false: this machine was started without Secure Boot"
        )
    );
    let lax = "allow_trusted_launch = true\nrequire_secure_boot = false";
    world.trusted = world.azure.trusted_side(&world.vm, lax).unwrap();
    let lax = world.agent("lax", &release_and_tpm(), MANAGED);
    assert_eq!(
        world.refused(&lax),
        denied(
            "azure-policy-mismatch",
            "keys/release with https://demo.vault.azure.net/keys/node/VERSION: HTTP 403, Forbidden/AccessDenied: \"Target \
             environment attestation does not meet key release policy requirements.\" (request id …, client request id …); \
             presented: a Trusted Launch VM with vm id …, secureboot false, compliance none"
        )
    );
}

#[test]
fn a_confidential_machines_id_is_read_out_of_its_tpm_as_the_documents_say() {
    let azure = Azure::start().unwrap();
    let vm = azure.machine("vm", VmOptions::default()).unwrap();
    let documents = std::fs::read_to_string(checkout().join("docs/azure.md")).unwrap();
    let line = documents
        .lines()
        .find(|line| line.starts_with("tpm2_nvread "));
    // Without jq, which not everybody has.
    let (line, member) = line.unwrap().split_once(" | jq -r ").unwrap();
    assert_eq!(member, "'.\"vm-configuration\".vmUniqueId'");
    let mut read = Command::new("sh");
    read.args(["-c", line])
        .env("TPM2TOOLS_TCTI", vm.front.told("tcti").unwrap());
    let read = Finished::of(&mut read)
        .unwrap()
        .success("tpm2_nvread")
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    let id = &claims["vm-configuration"]["vmUniqueId"];
    assert_eq!(id.as_str().unwrap(), vm.id().unwrap());
}

/// Runs this test again in a network of its own, where the metadata service can have its real address; gives whether
/// this is that run.
fn in_own_network(test: &str) -> bool {
    const INSIDE: &str = "NODESEAL_TEST_OWN_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let namespaces = Command::new("unshare").args(["--net", "true"]).output();
    if !namespaces.is_ok_and(|done| done.status.success()) {
        println!("skipped: needs root, and a kernel that gives it a network of its own");
        return false;
    }
    let done = Command::new("unshare")
        .arg("--net")
        .arg(python().unwrap())
        .arg(checkout().join("tests/python/own_network.py"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(done.success());
    false
}

#[test]
fn on_a_machine_as_it_comes_the_metadata_service_gives_token_and_certificates() {
    let test =
        "machines::on_a_machine_as_it_comes_the_metadata_service_gives_token_and_certificates";
    if !in_own_network(test) {
        return;
    }
    let options = VmOptions {
        entra: &["--imds", "169.254.169.254:80"],
        ..VmOptions::default()
    };
    let mut world = World::of("confidential-vm", options, "");
    let agent = as_it_comes(&world, "node", "");
    world.seal(&agent);
    opens(&mut open(&agent));

    // A user-assigned identity by its resource id, which App Service does not take. A released key is kept for some
    // seconds, so each of these meets a fresh start.
    let second = world.vm.identity("managed", 2).unwrap();
    let identity = format!(
        "{MANAGED}\nresource_id = {:?}",
        second["resource_id"].as_str().unwrap()
    );
    let agent = as_it_comes(&world, "second", &identity);
    world.trusted.serve().unwrap();
    let refused = world.refused(&agent);
    assert_eq!(
        (refused.code.as_str(), refused.exit),
        ("azure-permission", 3)
    );
    let principal = world.vm.principal("managed", 2).unwrap();
    let [_, releases] = Azure::ROLES;
    world
        .azure
        .administrate(&["assign", &principal, releases])
        .unwrap();
    opens(&mut open(&agent));

    let nobody = format!("{MANAGED}\nclient_id = \"00000000-0000-4000-8000-00000000dead\"");
    let agent = as_it_comes(&world, "nobody", &nobody);
    assert_eq!(world.refused(&agent).code, "azure-token-missing");
}

/// An agent whose configuration has no `amd_certification`, with nothing of App Service's in its environment, and a
/// proxy that nobody is meant to ask.
fn as_it_comes(world: &World, name: &str, identity: &str) -> Agent {
    let mut agent = world.agent(name, &release_and_tpm(), identity);
    let configured =
        "amd_certification = \"http://169.254.169.254:80/metadata/THIM/amd/certification\"\n";
    agent.replace(configured, "").unwrap();
    let proxy = "http://127.0.0.1:9".to_owned();
    agent.set_environment(vec![("http_proxy".to_owned(), proxy)]);
    agent
}
