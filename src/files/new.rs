//! New files: without a name until they are whole (open(2), `O_TMPFILE`), then linked where nothing may stand yet.
//!
//! Where the file system has no unnamed files, a hidden one that its maker keeps locked takes their place; one that
//! nobody locks is left from a crash and removed by the next who writes in that directory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, fsync, linkat, openat,
    renameat, renameat_with, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::{FileError, io, open_directory, parent_of, sync_directory};

/// How the hidden files are named: prefix, random digits, suffix.
const HIDDEN_PREFIX: &str = ".nodeseal-";
const HIDDEN_SUFFIX: &str = ".new";
/// From this many files on, one `syncfs` costs less than an `fsync` each.
const SYNC_TOGETHER: usize = 8;
/// Files held open at a time.
const AT_A_TIME: usize = 128;
/// Mode of directories made for new files.
const DIRECTORY_MODE: u32 = 0o700;

/// A file with content and without a name.
pub struct NewFile {
    file: File,
    target: PathBuf,
    directory: OwnedFd,
    /// Name of the hidden file, where the file system has no unnamed ones.
    hidden: Option<OsString>,
}

impl NewFile {
    /// Writes the content; the directory is made where it is missing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(target: &Path, content: &[u8], mode: u32) -> Result<Self, FileError> {
        let parent = parent_of(target);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(parent)
            .map_err(io("make the directory", parent))?;
        let directory = open_directory(parent)?;
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, hidden) = match openat(&directory, ".", flags, Mode::from_raw_mode(mode)) {
            Ok(file) => (file, None),
            // What kernels and file systems without O_TMPFILE answer (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let (file, name) = hidden_file(&directory, parent, mode)?;
                (file, Some(name))
            }
            Err(error) => return Err(io("make a file", target)(error)),
        };
        let mut new = Self {
            file: file.into(),
            target: target.to_owned(),
            directory,
            hidden,
        };
        new.file.write_all(content).map_err(io("write", target))?;
        Ok(new)
    }

    /// Waits until the content is on disk.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&self) -> Result<(), FileError> {
        fsync(&self.file).map_err(io("sync", &self.target))
    }

    /// Gives the file its name. It replaces nothing.
    ///
    /// # Errors
    /// When something has that name, or the system refuses.
    pub fn publish(mut self) -> Result<(), FileError> {
        let name = self.target.file_name().unwrap_or_default();
        let published = match self.hidden.take() {
            None => linkat(
                CWD,
                format!("/proc/self/fd/{}", self.file.as_raw_fd()),
                &self.directory,
                name,
                AtFlags::SYMLINK_FOLLOW,
            ),
            Some(hidden) => {
                let (from, to) = (&self.directory, &self.directory);
                let renamed = renameat_with(from, &hidden, to, name, RenameFlags::NOREPLACE);
                if renamed.is_err() {
                    self.hidden = Some(hidden);
                }
                renamed
            }
        };
        published.map_err(|error| match error {
            Errno::EXIST => FileError::Exists {
                path: self.target.clone(),
            },
            error => io("name the new file", &self.target)(error),
        })
    }

    /// Gives the file its name, in place of what had it. What is killed within this leaves the old or the new file.
    pub(super) fn take_place(mut self) -> Result<(), FileError> {
        let failed = |error| io("replace", &self.target)(error);
        if self.hidden.is_none() {
            // An unnamed file cannot replace another; a hidden name is the step between.
            let name = hidden_name();
            let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            flock(&self.file, FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
            let follow = AtFlags::SYMLINK_FOLLOW;
            linkat(CWD, source, &self.directory, &name, follow).map_err(failed)?;
            self.hidden = Some(name);
        }
        if let Some(hidden) = &self.hidden {
            let name = self.target.file_name().unwrap_or_default();
            renameat(&self.directory, hidden, &self.directory, name).map_err(failed)?;
        }
        self.hidden = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // A failure leaves a file that the next writer in this directory removes.
            let _ = unlinkat(&self.directory, hidden, AtFlags::empty());
        }
    }
}

/// Makes files that appear whole, and on disk, or not at all. Each is a matter of its own: the result says how each
/// went, in order. What a crash left in their directories is removed first.
pub fn create_all(
    files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>,
    mode: u32,
) -> Vec<Result<(), FileError>> {
    let mut results = Vec::new();
    let mut cleaned = BTreeSet::new();
    let mut files = files.into_iter().peekable();
    while files.peek().is_some() {
        let mut directories = BTreeSet::new();
        let written: Vec<_> = files
            .by_ref()
            .take(AT_A_TIME)
            .map(|(target, content)| {
                let parent = parent_of(&target);
                if cleaned.insert(parent.to_owned()) {
                    remove_leftovers(parent);
                }
                directories.insert(parent.to_owned());
                NewFile::write(&target, &content, mode)
            })
            .collect();
        let together = written.len() >= SYNC_TOGETHER && sync_together(&written);
        let published: Vec<_> = written
            .into_iter()
            .map(|new| {
                let new = new?;
                if !together {
                    new.sync()?;
                }
                new.publish()
            })
            .collect();
        let synced = directories.iter().try_for_each(|path| sync_directory(path));
        results.extend(published);
        if let Err(error) = synced {
            results.pop();
            results.push(Err(error));
        }
    }
    results
}

/// Syncs the file systems of all these files; false where that did not work out.
fn sync_together(written: &[Result<NewFile, FileError>]) -> bool {
    let mut devices = BTreeSet::new();
    written.iter().flatten().all(|new| {
        let Ok(stat) = rustix::fs::fstat(&new.file) else {
            return false;
        };
        !devices.insert(stat.st_dev) || syncfs(&new.file).is_ok()
    })
}

fn hidden_name() -> OsString {
    // Unique, not secret: RandomState is seeded anew for each process and call.
    use std::hash::{BuildHasher, Hasher};
    let digits = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    format!("{HIDDEN_PREFIX}{digits:016x}{HIDDEN_SUFFIX}").into()
}

fn hidden_file(
    directory: &OwnedFd,
    parent: &Path,
    mode: u32,
) -> Result<(OwnedFd, OsString), FileError> {
    loop {
        let name = hidden_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(directory, &name, flags, Mode::from_raw_mode(mode))
            .map_err(io("make a file in the directory", parent))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io("lock a file in the directory", parent))?;
        let stat = rustix::fs::fstat(&file).map_err(io("look at a file in", parent))?;
        // Between making and locking, another writer may have taken it for a leftover.
        if stat.st_nlink > 0 {
            return Ok((file, name));
        }
    }
}

/// Removes hidden files that nobody holds any more. What cannot be removed is in nobody's way.
pub(super) fn remove_leftovers(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| {
            name.starts_with(HIDDEN_PREFIX) && name.ends_with(HIDDEN_SUFFIX)
        });
        if !ours {
            continue;
        }
        if let Ok(file) = File::open(entry.path())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
