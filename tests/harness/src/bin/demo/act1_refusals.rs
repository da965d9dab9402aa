//! What must fail, and why it fails: other software, another TPM, a changed blob, a blob of another node.

use std::fs;
use std::path::Path;

use nodeseal_harness::{Agent, Context, Result, Swtpm, Table, TpmProcess, short_dir};

use crate::act1_setup::{Machine, NODE, NODE_KEY, reopen};

/// Tries everything that must be refused, and at the end that the genuine still opens.
pub fn play(table: &mut Table, machine: &mut Machine) -> Result<()> {
    let agent = &machine.agent;
    let opens = |agent: &Agent| {
        agent
            .run(["open", "--check", "nodekey"])?
            .success("nodeseal open")
    };
    table.step(
        "PCR 7 extended: the software is not that of sealing",
        || {
            machine.tpm.extend_pcr(7)?;
            agent.refused("nodekey", 3, "tpm-pcr-mismatch")
        },
    )?;
    table.step("after a reboot in the old state", || {
        machine.tpm.reboot()?;
        opens(agent)?;
        Ok(((), "opens".to_owned()))
    })?;
    table.step("the disk in another machine, with another TPM", || {
        let directory = short_dir()?;
        let other = Swtpm::distinct()?;
        let trusted = TpmProcess::start(&other.tcti())?;
        let thief = with_blob_of(machine, directory.path(), NODE, &trusted)?;
        thief.refused("nodekey", 3, "tpm-other")
    })?;
    table.step("one byte of the blob changed", || {
        let blob = machine.blob();
        let genuine = fs::read(&blob).context(blob.display())?;
        let mut changed = genuine.clone();
        if let Some(byte) = changed.last_mut() {
            *byte ^= 1;
        }
        fs::write(&blob, &changed).context(blob.display())?;
        let outcome = agent.refused("nodekey", 4, "blob-authentication");
        fs::write(&blob, &genuine).context(blob.display())?;
        outcome
    })?;
    table.step("the blob given out as another node's", || {
        let directory = short_dir()?;
        let other = with_blob_of(machine, directory.path(), "validator-2", &machine.trusted)?;
        other.refused("nodekey", 4, "wrong-node")
    })?;
    table.step("the blob given out as another key of the node", || {
        fs::copy(machine.blob(), agent.blob("otherkey")).context("copying the blob")?;
        agent.refused("otherkey", 4, "wrong-name")
    })?;
    table.step("and the genuine blobs, on the genuine machine", || {
        opens(agent)?;
        let directory = machine.directory.path().join("last");
        reopen(agent, &directory, &machine.keystores, &machine.owners)?;
        Ok(((), "open".to_owned()))
    })
}

/// An agent for node `node` on `trusted`, with the machine's blob of the node's key.
fn with_blob_of(
    machine: &Machine,
    directory: &Path,
    node: &str,
    trusted: &TpmProcess,
) -> Result<Agent> {
    let agent = Agent::init(directory, node, &trusted.address())?;
    agent.configure(NODE_KEY)?;
    let blob = agent.blob("nodekey");
    fs::create_dir_all(blob.parent().unwrap_or(directory)).context(blob.display())?;
    fs::copy(machine.blob(), &blob).context(blob.display())?;
    Ok(agent)
}
