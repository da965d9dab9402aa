//! New files: without a name until they are whole (open(2), `O_TMPFILE`), then linked where nothing may stand yet.
//!
//! Where the file system has no unnamed files, a hidden one that its maker keeps locked takes their place; one that
//! nobody locks is left from a crash and removed by the next who writes in that directory.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, fsync, linkat, openat,
    renameat_with, syncfs,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{FileError, io, parent_of, sync_directory};

/// How the hidden files are named: prefix, random digits, suffix.
const HIDDEN_PREFIX: &str = ".nodeseal-";
const HIDDEN_SUFFIX: &str = ".new";
/// From this many files on, one `syncfs` costs less than an `fsync` each.
const SYNC_TOGETHER: usize = 8;
/// Descriptors left for everything but new files.
const KEPT_FREE: usize = 64;
/// Mode of directories made for new files.
const DIRECTORY_MODE: u32 = 0o700;

/// A file with content and without a name.
pub struct NewFile {
    file: File,
    target: PathBuf,
    /// The hidden file, where the file system has no unnamed ones.
    hidden: Option<PathBuf>,
}

impl NewFile {
    /// Writes the content; the directory is made where it is missing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(target: &Path, content: &[u8], mode: u32) -> Result<Self, FileError> {
        let parent = parent_of(target);
        let (file, hidden) = match nameless_file(parent, mode) {
            Err(Errno::NOENT) => {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(DIRECTORY_MODE)
                    .create(parent)
                    .map_err(io("make the directory", parent))?;
                nameless_file(parent, mode)
            }
            made => made,
        }
        .map(|file| (file, None))
        .or_else(|error| match error {
            // What kernels and file systems without O_TMPFILE answer (open(2)).
            Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL => hidden_file(parent, mode),
            error => Err(io("make a file in the directory", parent)(error)),
        })?;
        let mut new = Self {
            file: file.into(),
            target: target.to_owned(),
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
        let published = match &self.hidden {
            None => self.link_to(&self.target),
            Some(hidden) => {
                let replace_nothing = RenameFlags::NOREPLACE;
                renameat_with(CWD, hidden, CWD, &self.target, replace_nothing)
            }
        };
        published.map_err(|error| match error {
            Errno::EXIST => FileError::Exists {
                path: self.target.clone(),
            },
            error => io("name the new file", &self.target)(error),
        })?;
        self.hidden = None;
        Ok(())
    }

    /// Gives the file its name, in place of what had it. What is killed within this leaves the old or the new file.
    pub(super) fn take_place(mut self) -> Result<(), FileError> {
        if self.hidden.is_none() {
            // An unnamed file cannot replace another; a hidden name is the step between.
            let name = hidden_name(parent_of(&self.target));
            flock(&self.file, FlockOperation::NonBlockingLockExclusive)
                .and_then(|()| self.link_to(&name))
                .map_err(io("name the new file", &self.target))?;
            self.hidden = Some(name);
        }
        if let Some(hidden) = &self.hidden {
            std::fs::rename(hidden, &self.target).map_err(io("replace", &self.target))?;
        }
        self.hidden = None;
        Ok(())
    }

    fn link_to(&self, name: &Path) -> Result<(), Errno> {
        let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, source, CWD, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // A failure leaves a file that the next writer in this directory removes.
            let _ = std::fs::remove_file(hidden);
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
    let at_a_time = files_at_a_time();
    let mut files = files.into_iter().peekable();
    while files.peek().is_some() {
        let mut directories = BTreeSet::new();
        let written: Vec<_> = files
            .by_ref()
            .take(at_a_time)
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

/// How many new files can be open at a time, at least one: as many as this process may be allowed.
#[must_use]
pub fn files_at_a_time() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(usize::MAX).saturating_sub(KEPT_FREE).max(1)
}

/// Syncs the file systems of all these files; false where that did not work out.
fn sync_together(written: &[Result<NewFile, FileError>]) -> bool {
    let mut devices = BTreeSet::new();
    written.iter().flatten().all(|new| {
        let Ok(stat) = fstat(&new.file) else {
            return false;
        };
        !devices.insert(stat.st_dev) || syncfs(&new.file).is_ok()
    })
}

fn nameless_file(directory: &Path, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(CWD, directory, flags, Mode::from_raw_mode(mode))
}

fn hidden_file(directory: &Path, mode: u32) -> Result<(OwnedFd, Option<PathBuf>), FileError> {
    loop {
        let name = hidden_name(directory);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(CWD, &name, flags, Mode::from_raw_mode(mode))
            .map_err(io("make a file in the directory", directory))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(io("lock", &name))?;
        // Between making and locking, another writer may have taken it for a leftover.
        if fstat(&file).map_err(io("look at", &name))?.st_nlink > 0 {
            return Ok((file, Some(name)));
        }
    }
}

/// Unique, not secret: RandomState is seeded anew for each process and counts up within it.
fn hidden_name(directory: &Path) -> PathBuf {
    let digits = RandomState::new().build_hasher().finish();
    directory.join(format!("{HIDDEN_PREFIX}{digits:016x}{HIDDEN_SUFFIX}"))
}

/// Removes hidden files that nobody holds any more. What cannot be removed is in nobody's way.
pub(super) fn remove_leftovers(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with(HIDDEN_PREFIX) && name.ends_with(HIDDEN_SUFFIX));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What [`NewFile::write`] makes where the file system has no unnamed files.
    fn hidden(target: &Path) -> NewFile {
        let (file, hidden) = hidden_file(parent_of(target), 0o600).unwrap();
        NewFile {
            file: file.into(),
            target: target.to_owned(),
            hidden,
        }
    }

    fn files(directory: &Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn without_unnamed_files_a_hidden_one_is_renamed_and_still_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("key");
        let first = hidden(&target);
        assert!(!target.exists());
        remove_leftovers(directory.path());
        first.publish().unwrap();
        assert!(target.exists());
        let error = hidden(&target).publish().unwrap_err();
        assert!(matches!(error, FileError::Exists { path } if path == target));
        assert_eq!(files(directory.path()), 1);
        hidden(&target).take_place().unwrap();
        assert_eq!(files(directory.path()), 1);
        drop(hidden(&target));
        assert_eq!(files(directory.path()), 1);
    }
}
