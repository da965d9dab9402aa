//! A node on a confidential VM of Azure, whose key Key Vault releases to that machine only; and what must fail.

use std::fs;

use nodeseal_harness::azure::release_and_tpm;
use nodeseal_harness::{
    Agent, Azure, AzureVm, Context, Error, NodeStart, Result, Table, TpmProcess, VmOptions,
};
use serde_json::Value;

use crate::act1_setup::{NODE_KEY, generate};

/// A machine, and nodeseal-tpm on it.
struct Machine {
    vm: AzureVm,
    trusted: TpmProcess,
}

impl Machine {
    fn boot(azure: &Azure, name: &str, platform: &[&str]) -> Result<Self> {
        let options = VmOptions {
            platform,
            ..VmOptions::default()
        };
        let vm = azure.machine(name, options)?;
        let trusted = azure.trusted_side(&vm, "")?;
        Ok(Self { vm, trusted })
    }

    fn agent(&self, azure: &Azure, name: &str) -> Result<Agent> {
        let more = format!("{NODE_KEY}\n[[azure]]\nidentity = \"managed\"");
        azure.agent(&self.vm, &self.trusted, name, &release_and_tpm(), &more)
    }
}

/// Everything of the act.
pub fn play(table: &mut Table) -> Result<()> {
    let mut azure = Azure::start()?;
    let mut machine = table.step("a confidential VM, nodeseal-tpm on its vTPM", || {
        let machine = Machine::boot(&azure, "vm", &[])?;
        let found = format!("vm id {:.13}…", machine.vm.id()?);
        Ok((machine, found))
    })?;
    table.step("a vault; roles for the machine's identity", || {
        azure.open_vault(&machine.vm, &[])?;
        Ok(((), "verifies tokens, roles and release policies".to_owned()))
    })?;
    let version = table.step("a key with a release policy, by the Azure SDK", || {
        let made = azure.create_key("confidential-vm", &[machine.vm.id()?])?;
        let found = format!("exportable, immutable; version {made:.8}…");
        Ok((made, found))
    })?;
    let agent = machine.agent(&azure, "node")?;
    let address = table.step("nodeseal generate: azure-release and tpm", || {
        generate(&agent)
    })?;
    let start = NodeStart {
        agent: &agent,
        directory: agent.directory(),
        address: &address,
        trusted: ("nodeseal-tpm", machine.trusted.pid()),
    };
    start.play(table)?;
    other_machines(table, &azure, &agent)?;
    vault_says_no(table, &azure, &mut machine, &agent, &version)?;
    changed_boot(table, &azure, &mut machine, &agent)?;
    table.step("the genuine blob on the genuine machine", || {
        agent
            .run(["open", "--check", "nodekey"])?
            .success("nodeseal open")?;
        Ok(((), "opens".to_owned()))
    })?;
    table.step("the vault's audit log has every release", || {
        on_record(&azure)
    })
}

/// Other machines with the blob and the identity.
fn other_machines(table: &mut Table, azure: &Azure, genuine: &Agent) -> Result<()> {
    for (what, name, platform, code, reason) in [
        (
            "another VM's token, same identity",
            "other",
            &[][..],
            3,
            "azure-policy-mismatch",
        ),
        (
            "a VM started without Secure Boot",
            "insecure",
            &["--secure-boot", "off"][..],
            3,
            "azure-secure-boot",
        ),
        (
            "a VM that can be debugged",
            "debug",
            &["--debug"][..],
            3,
            "azure-debug",
        ),
    ] {
        table.step(what, || {
            let machine = Machine::boot(azure, name, platform)?;
            let agent = machine.agent(azure, &format!("{name}-node"))?;
            let blob = agent.blob("nodekey");
            fs::create_dir_all(agent.directory().join("keys")).context(blob.display())?;
            fs::copy(genuine.blob("nodekey"), &blob).context(blob.display())?;
            agent.refused("nodekey", code, reason)
        })?;
    }
    Ok(())
}

/// The genuine machine, and a vault that refuses, or is not the vault. Each on a fresh start: a released key is kept
/// for some seconds.
fn vault_says_no(
    table: &mut Table,
    azure: &Azure,
    machine: &mut Machine,
    agent: &Agent,
    version: &str,
) -> Result<()> {
    table.step("the version of the key disabled", || {
        azure.administrate(&["disable", "node", version])?;
        machine.trusted.serve()?;
        let outcome = agent.refused("nodekey", 3, "azure-key-disabled");
        azure.administrate(&["enable", "node", version])?;
        outcome
    })?;
    let identity = machine.vm.principal("managed", 0)?;
    let [_, release] = Azure::ROLES;
    table.step("the identity without the release role", || {
        azure.administrate(&["revoke", &identity, release])?;
        machine.trusted.serve()?;
        let outcome = agent.refused("nodekey", 3, "azure-permission");
        azure.administrate(&["assign", &identity, release])?;
        outcome
    })?;
    table.step("an answer signed by another vault", || {
        // Twice: the first request of a fresh start has no token, and is the challenge's.
        azure.administrate(&[
            "fault",
            "vault",
            r#"{"fault": "foreign-jws", "operation": "KeyRelease", "times": 2}"#,
        ])?;
        machine.trusted.serve()?;
        agent.refused("nodekey", 4, "azure-release-signer")
    })
}

/// A PCR that is not as the boot's log says, and a token of an earlier boot.
fn changed_boot(
    table: &mut Table,
    azure: &Azure,
    machine: &mut Machine,
    agent: &Agent,
) -> Result<()> {
    table.step("PCR 4 changed since the boot", || {
        machine.vm.tpm.extend_pcr(4)?;
        machine.trusted.serve()?;
        agent.refused("nodekey", 3, "azure-attestation-refused")
    })?;
    table.step("a token of before the reboot, replayed", || {
        machine.trusted.stop();
        machine.vm.tpm.reboot()?;
        machine.trusted.serve()?;
        azure.administrate(&[
            "fault",
            "attestation",
            r#"{"fault": "replay-envelope", "operation": "AttestAzureGuest"}"#,
        ])?;
        agent.refused("nodekey", 4, "azure-token-other-boot")
    })?;
    machine.trusted.serve()
}

/// Each release, allowed or not, is a record with nodeseal's own id of the attempt.
fn on_record(azure: &Azure) -> Result<((), String)> {
    let records = azure.audit()?;
    let name =
        |record: &&Value| record.get("operationName").and_then(Value::as_str) == Some("KeyRelease");
    let releases: Vec<_> = records.iter().filter(name).collect();
    let status = |record: &&&Value| {
        let status = record.pointer("/properties/httpStatusCode");
        status.and_then(Value::as_u64) == Some(200)
    };
    let allowed = releases.iter().filter(status).count();
    let named = |record: &&Value| record.get("correlationId").is_some_and(Value::is_string);
    if allowed < 2 || releases.len() < allowed + 3 || !releases.iter().all(named) {
        return Err(Error::new(format!("{allowed} allowed of {releases:#?}")));
    }
    let refused = releases.len() - allowed;
    Ok(((), format!("{allowed} allowed, {refused} refused")))
}
