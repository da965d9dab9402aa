//! Files in memory that only the agent and the node see: filesystems mounted in a mount namespace of their own, which
//! the kernel dissolves with the last process in it, however that ends.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::UnshareFlags;

use super::identity::Identity;

/// Keys delivered as files need what this process or machine does not give.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFilesError {
    /// No mount namespace.
    #[error("cannot enter a private mount namespace: {0}")]
    Namespace(std::io::Error),
    /// A directory for keys has something in it, which a filesystem mounted there would hide.
    #[error(
        "{} is not empty: keys delivered as files need a directory of their own", .directory.display()
    )]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// A path names no file in a directory.
    #[error("{} is not the path of a file in a directory", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// One step on one path failed.
    #[error("cannot {step} {}: {source}", .path.display())]
    Step {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// The mounted directories. Dropping it takes away what it made.
pub struct PrivateFiles {
    directories: Vec<Directory>,
}

/// One directory with a filesystem in memory on it.
struct Directory {
    path: PathBuf,
    /// The directory underneath, with a shared lock that says "in use": where two agents have the same path, the one
    /// that ends first must not remove what the other's mount stands on.
    underneath: File,
    /// The directories made for it, the topmost first.
    made: Vec<PathBuf>,
}

const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

impl PrivateFiles {
    /// Leaves the mounts of the host behind and puts an empty filesystem on the directory of each of `paths`.
    ///
    /// Call it while the process has one thread: namespaces belong to threads.
    ///
    /// # Errors
    /// When the kernel does not allow it, or a directory is not empty.
    pub fn mount_for(paths: &[&Path]) -> Result<Self, PrivateFilesError> {
        let mut parents = paths
            .iter()
            .map(|path| parent(path))
            .collect::<Result<Vec<_>, _>>()?;
        // A directory before those inside it.
        parents.sort();
        parents.dedup();
        let mut files = Self {
            directories: Vec::new(),
        };
        if parents.is_empty() {
            return Ok(files);
        }
        leave_the_mounts_of_the_host().map_err(PrivateFilesError::Namespace)?;
        for path in parents {
            files.directories.push(Directory::mount(path)?);
        }
        Ok(files)
    }

    /// Writes one key, readable by `owner` alone.
    ///
    /// # Errors
    /// When a step fails.
    pub fn write(
        &self,
        path: &Path,
        bytes: &[u8],
        owner: &Identity,
    ) -> Result<(), PrivateFilesError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(path)
            .map_err(failed("create", path))?;
        file.write_all(bytes).map_err(failed("write", path))?;
        std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))
            .map_err(failed("give to the node's user", path))
    }

    /// Lets `owner` read the directories, and nobody write any more.
    ///
    /// # Errors
    /// When a step fails.
    pub fn finish(&self, owner: &Identity) -> Result<(), PrivateFilesError> {
        for Directory { path, .. } in self.directories.iter().rev() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o500))
                .map_err(failed("change the mode of", path))?;
            chown(path, Some(owner.uid), Some(owner.gid))
                .map_err(failed("give to the node's user", path))?;
            mount_remount(path, FLAGS | MountFlags::BIND | MountFlags::RDONLY, c"")
                .map_err(|errno| failed("make read-only", path)(errno.into()))?;
        }
        Ok(())
    }
}

impl Directory {
    fn mount(path: PathBuf) -> Result<Self, PrivateFilesError> {
        let made: Vec<PathBuf> = path
            .ancestors()
            .take_while(|ancestor| !ancestor.exists())
            .map(Path::to_owned)
            .collect();
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        let mut entries = fs::read_dir(&path).map_err(failed("read", &path))?;
        if entries.next().is_some() {
            return Err(PrivateFilesError::NotEmpty { directory: path });
        }
        let underneath = File::open(&path).map_err(failed("open", &path))?;
        flock(&underneath, FlockOperation::NonBlockingLockShared)
            .map_err(|errno| failed("lock", &path)(errno.into()))?;
        let directory = Self {
            path,
            underneath,
            made: made.into_iter().rev().collect(),
        };
        mount_memory(&directory.path)
            .map_err(|errno| failed("mount memory on", &directory.path)(errno.into()))?;
        Ok(directory)
    }
}

impl Drop for PrivateFiles {
    fn drop(&mut self) {
        // Nothing can be done about a failure here: the namespace goes with the process in any case.
        for directory in self.directories.drain(..).rev() {
            let _ = unmount(&directory.path, UnmountFlags::DETACH);
            let alone = flock(
                &directory.underneath,
                FlockOperation::NonBlockingLockExclusive,
            );
            if alone.is_ok() {
                for made in directory.made.iter().rev() {
                    let _ = fs::remove_dir(made);
                }
            }
        }
    }
}

/// Memory that is never swapped out: tmpfs with `noswap` (Linux 6.4, not in user namespaces), else ramfs.
fn mount_memory(path: &Path) -> Result<(), Errno> {
    match mount("nodeseal", path, "tmpfs", FLAGS, c"noswap,mode=0700") {
        Err(Errno::INVAL) => mount("nodeseal", path, "ramfs", FLAGS, c"mode=0700"),
        outcome => outcome,
    }
}

/// A mount namespace of our own. Later mounts of the host still come in; ours do not go out.
///
/// Without CAP_SYS_ADMIN, in a user namespace where this user is the same user (user_namespaces(7)).
fn leave_the_mounts_of_the_host() -> std::io::Result<()> {
    match unshare(UnshareFlags::NEWNS) {
        Err(Errno::PERM) => {
            let own = Identity::own();
            unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
            // The maps of a process that cannot be traced are root's (proc(5)). There is no secret here yet, and who
            // could trace this process now could ask the trusted side as well.
            set_dumpable_behavior(DumpableBehavior::Dumpable)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{0} {0} 1", own.uid))?;
            fs::write("/proc/self/gid_map", format!("{0} {0} 1", own.gid))?;
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        outcome => outcome?,
    }
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    // The working directory still refers to the host's mount; resolve it again in ours.
    if let Ok(here) = std::env::current_dir() {
        std::env::set_current_dir(here)?;
    }
    Ok(())
}

/// rustix deprecates the safe form because of CLONE_FILES, which splits file descriptor tables; it is not used here.
#[allow(deprecated)]
fn unshare(what: UnshareFlags) -> Result<(), Errno> {
    rustix::thread::unshare(what)
}

fn parent(path: &Path) -> Result<PathBuf, PrivateFilesError> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(_)) if path.is_absolute() => Ok(parent.to_owned()),
        _ => Err(PrivateFilesError::NotAFile {
            path: path.to_owned(),
        }),
    }
}

fn failed<'p>(
    step: &'static str,
    path: &'p Path,
) -> impl Fn(std::io::Error) -> PrivateFilesError + 'p {
    move |source| PrivateFilesError::Step {
        step,
        path: path.to_owned(),
        source,
    }
}
