//! A key in a sealed memfd: memory with a file descriptor, which nobody can change any more.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{
    Gid, MemfdFlags, Mode, OFlags, SealFlags, Uid, fchmod, fchown, fcntl_add_seals, memfd_create,
    open,
};
use rustix::io::Errno;

use super::identity::Identity;

/// A memfd with `bytes` in it, sealed against every change, mode 0400, owned by the node's user, opened for reading.
///
/// # Errors
/// When the kernel refuses a step.
pub fn sealed_memfd(name: &str, bytes: &[u8], owner: &Identity) -> std::io::Result<OwnedFd> {
    let label = format!("nodeseal:{name}");
    // The kernel takes at most 249 bytes of name (memfd_create(2)); it is only for people to see.
    let label = label.get(..label.len().min(249)).unwrap_or("nodeseal");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = match memfd_create(label, flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => memfd_create(label, flags)?,
        made => made?,
    };
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    fchmod(&file, Mode::RUSR)?;
    // The node gets a description that can only be read, with an offset of its own.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let reading = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    fchown(
        &file,
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(reading)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_key_in_a_memfd_reads_back_and_can_be_changed_by_nobody() {
        let memfd = sealed_memfd("node/key", b"secret bytes", &Identity::own()).unwrap();
        let seals = rustix::fs::fcntl_get_seals(&memfd).unwrap();
        for seal in [
            SealFlags::WRITE,
            SealFlags::SHRINK,
            SealFlags::GROW,
            SealFlags::SEAL,
        ] {
            assert!(seals.contains(seal), "{seal:?} in {seals:?}");
        }
        let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
        let mut file = File::from(memfd);
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o400);
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"secret bytes");
        assert_eq!(std::fs::read(path).unwrap(), b"secret bytes");
        let refused = rustix::io::write(&file, b"x").unwrap_err();
        assert_eq!(refused, Errno::BADF);
    }
}
