//! The first process's own duties: file systems, its environment, its end. It has no children, so there are none to
//! reap.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// Where the kernel starts it from.
const INIT: &str = "/init";

/// The first process cannot do its duties.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It is not the first process.
    #[error(
        "nodeseal-nitro is the first process of an enclave image, not a command (docs/nitro.md)"
    )]
    NotFirst,
    /// A file system cannot be mounted.
    #[error("cannot mount {target}: {source}")]
    Mount {
        /// Where.
        target: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be executed again.
    #[error("cannot execute {INIT} without arguments and environment: {0}")]
    Again(io::Error),
}

/// Makes sure that the first process has no arguments and no environment: the kernel passes on what it does not know of
/// its command line, and libraries listen to variables.
///
/// # Errors
/// When it cannot be executed anew.
pub fn alone() -> Result<(), InitError> {
    if std::env::args_os().len() <= 1 && std::env::vars_os().next().is_none() {
        return Ok(());
    }
    Err(InitError::Again(again()))
}

fn again() -> io::Error {
    Command::new(INIT).env_clear().exec()
}

/// Mounts what is needed: devices, and the process's own account of itself.
///
/// # Errors
/// When the kernel refuses.
pub fn mounts() -> Result<(), InitError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, target, flags) in [
        ("devtmpfs", "/dev", flags),
        ("proc", "/proc", flags | MountFlags::NODEV),
    ] {
        let failed = |errno: Errno| InitError::Mount {
            target,
            source: errno.into(),
        };
        match rustix::fs::mkdir(target, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match mount(kind, target, kind, flags, None) {
            // Mounted by the kernel (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

/// From now on a panic ends the enclave, with its message on the console; nothing of it stays in a state nobody thought
/// of.
pub fn end_with_panics() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("nodeseal-nitro: {panic}");
        // Where it fails, the process's end makes the kernel end the enclave.
        let _ = end();
    }));
}

/// Ends the enclave: its memory is gone, its parent sees it end.
///
/// # Errors
/// When this is not the first process of a virtual machine.
pub fn end() -> io::Result<Infallible> {
    reboot(RebootCommand::Restart)?;
    Err(io::ErrorKind::Unsupported.into())
}
