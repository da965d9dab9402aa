//! A node key made in the guest, sealed; the machine killed and booted again; a real node started from the key.

use nodeseal_harness::{Error, NodeStart, Result, Table};
use serde_json::Value;

use crate::figures::{Figures, fact};
use crate::setup::World;

/// Generates, reboots, opens, starts the node; what was measured on the way.
pub fn play(table: &mut Table, world: &mut World) -> Result<Figures> {
    let address = table.step("nodeseal generate, inside the guest", || {
        let generate = ["generate", "--name", "nodekey", "--type", "secp256k1"];
        let (code, report) = world.agent.json(generate)?;
        let address = report.get("address").and_then(Value::as_str);
        match address {
            Some(address) if code == 0 => Ok((address.to_owned(), address.to_owned())),
            _ => Err(Error::new(format!("exit code {code}: {report:#}"))),
        }
    })?;
    table.step("the machine killed, and booted again", || {
        world.reboot()?;
        Ok(((), "answers".to_owned()))
    })?;
    let figures = table.step("opened by the new boot: KMS asked once", || {
        let before = decrypts(world)?;
        let cpu = processor_time(world)?;
        let opened = world.agent.run(["open", "--check", "nodekey"])?;
        opened.success("nodeseal open")?;
        let calls = decrypts(world)? - before;
        if calls != 1 {
            return Err(Error::new(format!("{calls} calls of Decrypt, expected 1")));
        }
        Ok((
            Figures::of(world, calls, processor_time(world)? - cpu)?,
            "1 call of Decrypt".to_owned(),
        ))
    })?;
    let start = NodeStart {
        agent: &world.agent,
        directory: world.agent.directory(),
        address: &address,
        trusted: ("QEMU", Some(world.machine()?.pid())),
    };
    start.play(table)?;
    Ok(figures)
}

/// How often KMS was asked to decrypt.
fn decrypts(world: &World) -> Result<usize> {
    let decrypt =
        |record: &&Value| record.get("eventName").and_then(Value::as_str) == Some("Decrypt");
    Ok(world.cloud.kms.trail()?.iter().filter(decrypt).count())
}

/// Processor time of the enclave's one process since its boot, in milliseconds; the kernel's part of the boot counts, for
/// the kernel became that process.
fn processor_time(world: &World) -> Result<u64> {
    let (_, report) = world.agent.json(["status"])?;
    fact(&report, "cpu-ms")
}
