//! `nodeseal run` starts a real node, which seals blocks under the identity `generate` printed.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use nodeseal_harness::{Error, Node, Result, Running, wait_for};

use crate::act1_setup::Machine;
use crate::table::Table;

/// Until the node must have sealed two blocks. On an idle machine it takes six seconds.
const BLOCKS_WITHIN: Duration = Duration::from_secs(90);

/// Until the node must have ended after SIGTERM. Its own timers make it take eight seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Starts the node, looks at its blocks, stops it.
pub fn play(table: &mut Table, machine: &Machine) -> Result<()> {
    let directory = machine.directory.path();
    let node = Node::prepare(directory, &machine.address)?;
    let mut arguments: Vec<OsString> = vec!["run".into(), "--".into()];
    arguments.extend(node.command("{nodekey}")?);
    let mut running = table.step("nodeseal run -- ethereumjs --unlock {nodekey}", || {
        let mut running = machine
            .agent
            .start(arguments, &directory.join("node.log"))?;
        let version = answer(&mut running, || node.version().ok())?;
        Ok((running, version))
    })?;
    table.step("the node seals blocks with the key it was given", || {
        let height = answer(&mut running, || {
            node.height().ok().filter(|height| *height >= 2)
        })?;
        Ok(((), format!("{height} blocks")))
    })?;
    table.step("their signer is the address generate printed", || {
        let (first, second) = (node.signer(1)?, node.signer(2)?);
        if first != second || !first.eq_ignore_ascii_case(&machine.address) {
            return Err(Error::new(format!(
                "blocks 1 and 2 are by {first} and {second}, the address is {}",
                machine.address
            )));
        }
        Ok(((), first))
    })?;
    table.step("the node stops, nothing of the key is left on disk", || {
        let status = running.stop(ENDS_WITHIN)?;
        if status.code() != Some(0) {
            return Err(Error::new(format!(
                "it ended with {status}:\n{}",
                running.output()
            )));
        }
        let found = blobs_only(&directory.join("keys"))?;
        Ok(((), format!("exit code 0, {found} blobs")))
    })
}

/// Waits for what the node is to answer; fails as soon as it ends.
fn answer<T>(running: &mut Running, ask: impl Fn() -> Option<T>) -> Result<T> {
    wait_for("the node", BLOCKS_WITHIN, || match running.ended()? {
        Some(status) => Err(Error::new(format!(
            "it ended ({status}):\n{}",
            running.output()
        ))),
        None => Ok(ask()),
    })
    .map_err(|error| Error::new(format!("{error}\n{}", running.output())))
}

/// Counts the sealed blobs below `directory`; anything else there is an error.
fn blobs_only(directory: &Path) -> Result<usize> {
    let mut count = 0;
    let entries = std::fs::read_dir(directory).map_err(|error| Error::new(error.to_string()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            count += blobs_only(&path)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "sealed")
        {
            count += 1;
        } else {
            return Err(Error::new(format!("{} is no blob", path.display())));
        }
    }
    Ok(count)
}
