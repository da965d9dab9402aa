//! Free TCP ports on the loopback interface, and who listens on one.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::{Error, Result};

/// Below the ephemeral range (32768 and up on Linux), so that no outgoing connection takes a port between
/// the moment it is found free and the moment the program binds it.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Where this process looks next; the start differs from process to process.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// The first of `count` successive ports that are free at this moment.
///
/// Another program may still take one before they are bound: start the program, look whether it really
/// listens ([`listens`]), and try again with other ports if it does not.
///
/// # Errors
/// When no such run of ports is free.
pub fn free_ports(count: u16) -> Result<u16> {
    let span = LAST - FIRST;
    if NEXT.load(Ordering::Relaxed) == 0 {
        let start = std::process::id().wrapping_mul(37) % u32::from(span);
        let start = u16::try_from(start).unwrap_or(0).max(1);
        let _ = NEXT.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
    }
    for _ in 0..span {
        let at = NEXT.fetch_add(count, Ordering::Relaxed) % (span - count);
        let first = FIRST + at;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + count).all(free) {
            return Ok(first);
        }
    }
    Err(Error::new(format!(
        "no {count} free successive ports between {FIRST} and {LAST}"
    )))
}

/// The TCTI string of a software TPM on `port` (control on the next); tss-esapi 7.7 misreads `swtpm:path=`.
#[must_use]
pub fn tcti(port: u16) -> String {
    format!("swtpm:host=127.0.0.1,port={port}")
}

/// Whether the process `pid` itself listens on TCP port `port`: no connection is made, and another
/// process on that port is not taken for it.
#[must_use]
pub fn listens(pid: u32, port: u16) -> bool {
    let inodes: Vec<String> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|text| {
            text.lines()
                .filter_map(|l| listening_inode(l, port))
                .collect::<Vec<_>>()
        })
        .collect();
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|link| {
            inodes
                .iter()
                .any(|inode| link.as_os_str() == inode.as_str())
        })
}

/// From a line of /proc/net/tcp (proc(5)): the socket as /proc/PID/fd names it, if it listens on `port`.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let found = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (found == port && state == "0A").then(|| format!("socket:[{inode}]"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_listener_of_this_process_is_found_and_only_while_it_listens() {
        let first = free_ports(2).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 1)).unwrap();
        assert!(listens(std::process::id(), first + 1));
        assert!(!listens(std::process::id(), first));
        assert!(!listens(1, first + 1));
        drop(listener);
        assert!(!listens(std::process::id(), first + 1));
    }
}
