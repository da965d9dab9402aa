//! Network namespace, user, groups, capabilities.

use std::os::unix::fs::MetadataExt;

use nodeseal_wire::message::Fact;
use rustix::process::{Resource, geteuid, getrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, set_capabilities, set_keep_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::{Needs, SandboxError, fact, gave_up};
use crate::config::Account;
use crate::tcti::Tcti;

/// Moves to a network namespace of its own, with nothing in it, where that is possible and the TPM is a device.
pub fn leave_network(tcti: &Tcti) -> Result<String, SandboxError> {
    match tcti {
        Tcti::Swtpm(at) => Ok(format!("loopback only, to the TPM at {at}")),
        Tcti::Device(_) if geteuid().is_root() => {
            // The call is deprecated because of flags that make file descriptors thread-local; this is not one.
            #[allow(deprecated)]
            let left = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET);
            match left {
                Ok(()) => Ok("none (a namespace of its own)".to_owned()),
                // In a container without CAP_SYS_ADMIN: the system call filter still has no network sockets.
                Err(rustix::io::Errno::PERM) => Ok("none (no sockets but unix)".to_owned()),
                Err(errno) => Err(gave_up("leave the network")(errno)),
            }
        }
        Tcti::Device(_) => Ok("none (no sockets but unix)".to_owned()),
    }
}

/// Becomes the configured account if started as root, and gives up every capability for good; all but `keep`, which is
/// CAP_IPC_LOCK or none.
pub fn drop_all(needs: &Needs<'_>, keep: CapabilitySet) -> Result<Vec<Fact>, SandboxError> {
    let root = geteuid().is_root();
    if let Some(account) = needs.account.filter(|_| root) {
        if let Tcti::Device(device) = needs.tcti {
            check_device(account, device)?;
        }
        empty_bounding_set()?;
        // Until the next lines: a change of user drops all capabilities otherwise.
        set_keep_capabilities(true).map_err(gave_up("keep a capability"))?;
        become_account(account)?;
    } else if root {
        empty_bounding_set()?;
    }
    let kept = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    let held = capabilities(None).map_err(gave_up("read capabilities"))?;
    // Under the systemd unit there are none, and the system call is not allowed.
    if !(held.permitted | held.effective | held.inheritable).is_empty() {
        set_capabilities(None, kept).map_err(gave_up("give up capabilities"))?;
    }
    set_no_new_privs(true).map_err(gave_up("refuse new privileges"))?;
    let (uid, gid) = (geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(vec![
        fact("user", &format!("uid {uid}, gid {gid}")),
        fact(
            "capabilities",
            if keep.is_empty() {
                "none"
            } else {
                "CAP_IPC_LOCK only"
            },
        ),
        fact("new-privileges", "refused"),
    ])
}

/// What memory locking needs later on: nothing where the limit is infinite, else CAP_IPC_LOCK, which new mappings of a
/// process with locked memory are checked against.
pub fn for_locked_memory() -> Result<CapabilitySet, SandboxError> {
    let limit = getrlimit(Resource::Memlock);
    let Some(bytes) = limit.current else {
        return Ok(CapabilitySet::empty());
    };
    let held = capabilities(None).map_err(gave_up("read capabilities"))?;
    if held.effective.contains(CapabilitySet::IPC_LOCK) {
        return Ok(CapabilitySet::IPC_LOCK);
    }
    Err(SandboxError::MemoryLimit { bytes })
}

/// The account must be able to open the TPM again after privileges are gone; saying so now beats failing later.
fn check_device(account: &Account, device: &std::path::Path) -> Result<(), SandboxError> {
    let Ok(about) = device.metadata() else {
        // Absent now; connecting will say so.
        return Ok(());
    };
    let mode = about.mode();
    let may = (about.uid() == account.uid && mode & 0o600 == 0o600)
        || (account.groups.contains(&about.gid()) && mode & 0o060 == 0o060)
        || mode & 0o006 == 0o006
        || account.uid == 0;
    if may {
        return Ok(());
    }
    Err(SandboxError::Device {
        user: account.name.clone(),
        device: device.to_owned(),
        owner: about.uid(),
        group: about.gid(),
        mode: mode & 0o7777,
    })
}

fn become_account(account: &Account) -> Result<(), SandboxError> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<Gid> = account.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&groups).map_err(gave_up("leave root's groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(gave_up("change group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(gave_up("change user"))?;
    // The kernel makes a process that changes its user dumpable as fs.suid_dumpable says; say it again.
    nodeseal_memory::harden_process()?;
    Ok(())
}

/// Capabilities no program started from here could have either.
fn empty_bounding_set() -> Result<(), SandboxError> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability)
                .map_err(gave_up("empty the capability bounding set"))?,
            Ok(false) => {}
            // Beyond the kernel's last capability.
            Err(_) => break,
        }
    }
    Ok(())
}
