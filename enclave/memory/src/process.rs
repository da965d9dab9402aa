//! What a process that holds secrets switches off for itself, and what it is started with.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use zeroize::Zeroize;

/// A protection could not be switched on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct HardenError {
    what: &'static str,
    source: std::io::Error,
}

fn refused(what: &'static str) -> impl Fn(rustix::io::Errno) -> HardenError {
    move |errno| HardenError {
        what,
        source: errno.into(),
    }
}

/// Forbids core dumps, and tracing by other processes of the same user.
///
/// Call it first in `main`, before any secret exists.
///
/// # Errors
/// When the kernel refuses one of them; no secret may be handled then.
pub fn harden_process() -> Result<(), HardenError> {
    // Asked once and remembered: a sandbox entered later lets nobody ask the kernel for the size of a page any more.
    rustix::param::page_size();
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(refused("forbid core dumps"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(refused("forbid tracing (PR_SET_DUMPABLE)"))
}

/// Locks all memory of the process, now and later, as it is touched (mlockall(2) with `MCL_ONFAULT`).
///
/// Raises the soft `RLIMIT_MEMLOCK` to the hard one first, and the hard one too where the process may (root).
///
/// # Errors
/// When the limit is too low: `LimitMEMLOCK=infinity` in the service's unit is the cure.
pub fn lock_all_memory() -> Result<(), HardenError> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        let maximum = getrlimit(Resource::Memlock).maximum;
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Memlock, raised).map_err(refused("raise RLIMIT_MEMLOCK"))?;
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(
        refused("lock the process's memory (needs LimitMEMLOCK=infinity or CAP_IPC_LOCK)"),
    )
}

/// A duplicate, to be owned, of a descriptor this process was started with and knows by its number only, such as the
/// socket of a service manager (sd_listen_fds(3)).
///
/// # Errors
/// `EBADF` when there is none of that number.
pub fn inherited_descriptor(number: RawFd) -> rustix::io::Result<OwnedFd> {
    if number < 0 {
        return Err(rustix::io::Errno::BADF);
    }
    // SAFETY: not -1; used for this one call, which only reads the table of descriptors and says so where the number is
    // of none.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_dupfd_cloexec(inherited, 0)
}

/// Overwrites what functions that have returned left on this thread's stack, 64 KiB down from here.
///
/// Key arithmetic of other crates moves scalars by value; call this after it, on the thread that ran it.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = [0u8; 64 * 1024];
    // As a slice: an array is wiped byte by byte, which takes a quarter of a millisecond.
    below.as_mut_slice().zeroize();
    std::hint::black_box(&below);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_descriptor_is_duplicated_and_a_number_of_none_is_refused() {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open("/dev/null").unwrap();
        let duplicate = inherited_descriptor(file.as_raw_fd()).unwrap();
        assert_ne!(duplicate.as_raw_fd(), file.as_raw_fd());
        for none in [-1, 999_999] {
            let error = inherited_descriptor(none).unwrap_err();
            assert_eq!(error, rustix::io::Errno::BADF, "{none}");
        }
    }

    #[test]
    fn a_hardened_process_can_neither_dump_core_nor_be_traced() {
        harden_process().unwrap();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            DumpableBehavior::NotDumpable
        );
    }
}
