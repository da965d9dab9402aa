//! `nodeseal __launch`: the moment between agent and node. Becomes the node's user, ties its life to the agent's, puts
//! each key's file descriptor at its number, and executes the node in its own place.
//!
//! It is a program of its own because these steps must happen after fork(2), where only what is safe beside other
//! threads may run.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Gid, Pid, Signal, Uid, getppid, set_parent_process_death_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::channel;

/// Above every number a node may ask for, below the usual limit of 1024 with room for many keys.
const ASIDE: i32 = 256;
/// As a shell has it: the command is there but cannot be executed, and it is not there.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Arguments of the hidden subcommand.
#[derive(Debug, clap::Args)]
pub struct LaunchArguments {
    /// Process id of the agent.
    #[arg(long)]
    parent: i32,
    /// User id to become.
    #[arg(long)]
    uid: u32,
    /// Group id to become.
    #[arg(long)]
    gid: u32,
    /// Supplementary groups; without it they stay.
    #[arg(long, value_delimiter = ',')]
    groups: Option<Vec<u32>>,
    /// Keys whose file descriptors come, in order: NAME or NAME=NUMBER.
    #[arg(long = "key")]
    keys: Vec<String>,
    /// The node.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the node; returns only when it cannot, with the exit status that says so.
#[must_use]
pub fn launch(arguments: &LaunchArguments) -> u8 {
    // Held aside, closed by the kernel when the node is executed: this is how the agent learns that it was.
    let Ok(agent) = fcntl_dupfd_cloexec(rustix::stdio::stdin(), ASIDE) else {
        return CANNOT_EXECUTE;
    };
    let (why, status) = match become_node(arguments, &agent) {
        Err(why) => (why, CANNOT_EXECUTE),
        Ok(failed) if failed.kind() == std::io::ErrorKind::NotFound => {
            (failed.to_string(), NOT_FOUND)
        }
        Ok(failed) => (failed.to_string(), CANNOT_EXECUTE),
    };
    // The agent reports it; if it is gone, nobody is left to be told.
    let _ = channel::send_failure(&agent, &why);
    status
}

/// Every step; an error of exec(2) is the value, an error before it is told as text.
fn become_node(arguments: &LaunchArguments, agent: &OwnedFd) -> Result<std::io::Error, String> {
    change_user(arguments)?;
    // After the change of user, which clears it (PR_SET_PDEATHSIG(2const)).
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| format!("cannot tie the node's life to the agent's: {errno}"))?;
    // The agent may have ended before that took effect; then this process has another parent already.
    if getppid().map(Pid::as_raw_pid) != Some(arguments.parent) {
        return Err("the agent has ended".to_owned());
    }
    let count = arguments.keys.len().saturating_add(1);
    let mut received = channel::receive(agent, count)
        .map_err(|error| format!("no file descriptors from the agent: {error}"))?;
    let standard_input = received.remove(0);
    rustix::stdio::dup2_stdin(&standard_input)
        .map_err(|errno| format!("cannot set standard input: {errno}"))?;
    drop(standard_input);
    let (placed, paths) = place(&arguments.keys, received)?;
    let [program, rest @ ..] = &arguments.command[..] else {
        return Err("no command".to_owned());
    };
    let replaced = rest.iter().map(|argument| fill_in(argument, &paths));
    let failed = Command::new(program).args(replaced).exec();
    drop(placed);
    Ok(failed)
}

fn change_user(arguments: &LaunchArguments) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(arguments.uid), Gid::from_raw(arguments.gid));
    if let Some(groups) = &arguments.groups {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)
            .map_err(|errno| format!("cannot set the node's groups: {errno}"))?;
    }
    // The whole process has one thread here.
    set_thread_res_gid(gid, gid, gid)
        .map_err(|errno| format!("cannot become group {}: {errno}", arguments.gid))?;
    set_thread_res_uid(uid, uid, uid)
        .map_err(|errno| format!("cannot become user {}: {errno}", arguments.uid))
}

type Placed = (Vec<OwnedFd>, Vec<(String, String)>);

/// Puts each descriptor at its number, or the next free one, to be inherited; gives each key's name and path.
fn place(keys: &[String], received: Vec<OwnedFd>) -> Result<Placed, String> {
    let failed = |errno| format!("cannot place a file descriptor: {errno}");
    // First all out of the way, so that none stands where another should.
    let aside = received
        .iter()
        .map(|descriptor| fcntl_dupfd_cloexec(descriptor, ASIDE).map_err(failed))
        .collect::<Result<Vec<_>, _>>()?;
    drop(received);
    let parse = |key: &'_ String| match key.split_once('=') {
        Some((name, number)) => Ok((name.to_owned(), Some(number.parse::<u16>()?))),
        None => Ok((key.clone(), None)),
    };
    let keys = keys
        .iter()
        .map(parse)
        .collect::<Result<Vec<_>, std::num::ParseIntError>>()
        .map_err(|error| format!("--key: {error}"))?;
    let mut placed = Vec::new();
    let mut paths = Vec::new();
    // Fixed numbers first, so that no free choice takes one of them.
    let (fixed, free): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .zip(&aside)
        .partition(|((_, number), _)| number.is_some());
    for ((name, number), descriptor) in fixed.into_iter().chain(free) {
        let wanted = i32::from(number.unwrap_or(3));
        let put = fcntl_dupfd_cloexec(descriptor, wanted).map_err(failed)?;
        if number.is_some() && put.as_raw_fd() != wanted {
            return Err(format!(
                "key {name:?} should be at file descriptor {wanted}, which is in use"
            ));
        }
        fcntl_setfd(&put, FdFlags::empty()).map_err(failed)?;
        paths.push((name, format!("/proc/self/fd/{}", put.as_raw_fd())));
        placed.push(put);
    }
    Ok((placed, paths))
}

/// Replaces each `{NAME}` of a known key by its path; everything else, other braces too, stays as it is.
pub(super) fn fill_in(argument: &OsStr, paths: &[(String, String)]) -> OsString {
    let mut rest = argument.as_bytes();
    let mut filled = Vec::with_capacity(rest.len());
    while let Some((&first, after)) = rest.split_first() {
        let known = paths.iter().find_map(|(name, path)| {
            let after = after.strip_prefix(name.as_bytes())?.strip_prefix(b"}")?;
            Some((path, after))
        });
        match known {
            Some((path, after)) if first == b'{' => {
                filled.extend_from_slice(path.as_bytes());
                rest = after;
            }
            _ => {
                filled.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_keys_in_braces_are_replaced() {
        let paths = [
            ("key".to_owned(), "/proc/self/fd/3".to_owned()),
            ("a/b".to_owned(), "/run/x".to_owned()),
        ];
        for (argument, expected) in [
            ("{key}", "/proc/self/fd/3"),
            ("--nodekey={key},{a/b}", "--nodekey=/proc/self/fd/3,/run/x"),
            ("{other}", "{other}"),
            ("{{key}}", "{/proc/self/fd/3}"),
            ("{\"key\":1}", "{\"key\":1}"),
            ("{key", "{key"),
            ("key}", "key}"),
            ("", ""),
        ] {
            assert_eq!(
                fill_in(OsStr::new(argument), &paths),
                expected,
                "{argument}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass_through() {
        let argument = OsStr::from_bytes(b"\xff{key}\xfe");
        let paths = [("key".to_owned(), "/p".to_owned())];
        assert_eq!(fill_in(argument, &paths).as_bytes(), b"\xff/p\xfe");
    }
}
