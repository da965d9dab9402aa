//! What the process gives up before it speaks to the TPM or to a client.
//!
//! The kernel applies most of it to the calling thread and the threads that one starts, so [`enter`] runs in `main`,
//! before there is any other thread.

mod files;
mod privileges;
mod syscalls;

use std::path::{Path, PathBuf};

use nodeseal_memory::{HardenError, harden_process, lock_all_memory};
use nodeseal_wire::message::Fact;
use rustix::thread::CapabilitySet;

use crate::config::Account;
use crate::tcti::Tcti;

/// What the process still needs.
pub struct Needs<'a> {
    /// The TPM, which may have to be connected to again.
    pub tcti: &'a Tcti,
    /// The account to become, when started as root.
    pub account: Option<&'a Account>,
    /// Whether all memory must be locked.
    pub lock_memory: bool,
    /// The socket to remove at the end, if it is ours.
    pub socket: Option<&'a Path>,
}

/// A protection could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Core dumps, tracing, locked memory.
    #[error(transparent)]
    Harden(#[from] HardenError),
    /// A system call that gives something up failed.
    #[error("cannot {what}: {source}")]
    GiveUp {
        /// What was to be given up.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The account cannot use the TPM device.
    #[error(
        "user {user} cannot use {device} (owner {owner}, group {group}, mode {mode:04o}): add it to that group"
    , device = device.display())]
    Device {
        /// The account.
        user: String,
        /// The TPM's device.
        device: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its group.
        group: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Memory cannot stay locked.
    #[error(
        "RLIMIT_MEMLOCK is {bytes} bytes, too little for a process whose memory is all locked: set LimitMEMLOCK=infinity \
         in the unit, or lock_memory = false to lock only pages with secrets"
    )]
    MemoryLimit {
        /// The soft limit.
        bytes: u64,
    },
    /// The system call filter.
    #[error("cannot filter system calls: {0}")]
    Filter(String),
    /// File and network rules.
    #[error("cannot restrict files: {0}")]
    Files(String),
}

fn gave_up(what: &'static str) -> impl Fn(rustix::io::Errno) -> SandboxError {
    move |errno| SandboxError::GiveUp {
        what,
        source: errno.into(),
    }
}

/// Puts every protection in force, in this order: core dumps and tracing off, memory locked, network left, privileges
/// dropped, files and ports restricted, system calls filtered. Returns what is in force, for log and status.
///
/// # Errors
/// When one that must hold cannot be had. The process must end then.
pub fn enter(needs: &Needs<'_>) -> Result<Vec<Fact>, SandboxError> {
    harden_process()?;
    let mut facts = vec![
        fact("core-dumps", "off"),
        fact("tracing", "refused (not dumpable)"),
    ];
    let mut keep = CapabilitySet::empty();
    if needs.lock_memory {
        lock_all_memory()?;
        keep = privileges::for_locked_memory()?;
        facts.push(fact("memory", "locked, all of it"));
    } else {
        facts.push(fact("memory", "locked where secrets are"));
    }
    facts.push(fact("network", &privileges::leave_network(needs.tcti)?));
    facts.extend(privileges::drop_all(needs, keep)?);
    facts.push(fact("files", &files::restrict(needs)?));
    facts.push(fact("system-calls", &syscalls::filter(needs.tcti)?));
    Ok(facts)
}

fn fact(name: &str, value: &str) -> Fact {
    Fact {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}
