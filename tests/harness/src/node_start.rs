//! `nodeseal run` starts a real node, which seals blocks under the identity `generate` printed.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::clique::hex;
use crate::{Agent, Context, Error, Node, Result, Running, Table, memory_scan, wait_for};

/// Until the node must have sealed two blocks. On an idle machine it takes six seconds.
const BLOCKS_WITHIN: Duration = Duration::from_secs(90);

/// Until the node must have ended after SIGTERM. Its own timers make it take eight seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A node that is ready to be started.
pub struct NodeStart<'a> {
    /// Its agent.
    pub agent: &'a Agent,
    /// Its directory.
    pub directory: &'a Path,
    /// Address of its key.
    pub address: &'a str,
    /// What its trusted side is called, and its process.
    pub trusted: (&'a str, Option<u32>),
}

impl NodeStart<'_> {
    /// Starts the node, looks at its blocks and for its key in memory, stops it.
    ///
    /// # Errors
    /// That of the step that fails.
    pub fn play(&self, table: &mut Table) -> Result<()> {
        play(table, self)
    }
}

fn play(table: &mut Table, machine: &NodeStart<'_>) -> Result<()> {
    let directory = machine.directory;
    let node = Node::prepare(directory, machine.address)?;
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
        if first != second || !first.eq_ignore_ascii_case(machine.address) {
            return Err(Error::new(format!(
                "blocks 1 and 2 are by {first} and {second}, the address is {}",
                machine.address
            )));
        }
        Ok(((), first))
    })?;
    // The same key for comparison, by the loud way: as it is, and as the node was given it.
    let raw = machine
        .agent
        .run(["open", "nodekey", "--stdout", "--encoding", "raw"])?;
    let raw = raw.success("nodeseal open --stdout")?.stdout;
    let text = hex(&raw).into_bytes();
    table.step("in memory the key is where it was delivered only", || {
        in_memory(machine, running.pid(), &raw, &text)
    })?;
    table.step("the node stops, and its key is in no file", || {
        let status = running.stop(ENDS_WITHIN)?;
        if status.code() != Some(0) {
            return Err(Error::new(format!(
                "it ended with {status}:\n{}",
                running.output()
            )));
        }
        let looked_at = in_no_file(directory, &[&raw, &text])?;
        Ok(((), format!("exit code 0, {looked_at} files")))
    })
}

/// Looks for the key in the memory of the node (where it must be), of the agent and of nodeseal-tpm.
fn in_memory(machine: &NodeStart<'_>, agent: u32, raw: &[u8], text: &[u8]) -> Result<((), String)> {
    if !rustix::process::geteuid().is_root() {
        return Ok(((), "not looked: needs root".to_owned()));
    }
    let children = format!("/proc/{agent}/task/{agent}/children");
    let children = fs::read_to_string(&children).context(children)?;
    let node = children
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok());
    let node = node.ok_or_else(|| Error::new("the agent has no child"))?;
    let (name, trusted) = (machine.trusted.0, machine.trusted.1.unwrap_or(0));
    let count = |pid| Ok(memory_scan(pid, raw)? + memory_scan(pid, text)?);
    match (count(node)?, count(agent)?, count(trusted)?) {
        (1.., 0, 0) => Ok(((), format!("node yes, agent no, {name} no"))),
        found => Err(Error::new(format!(
            "copies in node, agent, {name}: {found:?}"
        ))),
    }
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

/// Counts the files below `directory`; one that contains any of `needles` is an error.
fn in_no_file(directory: &Path, needles: &[&[u8]]) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory).context(directory.display())? {
        let path = entry.context(directory.display())?.path();
        if path.is_dir() {
            count += in_no_file(&path, needles)?;
            continue;
        }
        let content = fs::read(&path).context(path.display())?;
        if needles
            .iter()
            .any(|needle| memchr::memmem::find(&content, needle).is_some())
        {
            return Err(Error::new(format!("{} contains the key", path.display())));
        }
        count += 1;
    }
    Ok(count)
}
