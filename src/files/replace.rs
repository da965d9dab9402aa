//! Replacing a file, and keeping the old one until the new one is proved.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};

use super::new::{NewFile, remove_leftovers};
use super::{BLOB_MODE, FileError, io, parent_of, sync_directory};

/// A replaced file's old content, beside it under another name.
#[must_use = "the old file stays until it is discarded"]
pub struct KeptOld {
    path: PathBuf,
}

/// Where the old content of a file is kept.
#[must_use]
pub fn old_path(path: &Path) -> PathBuf {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    old.into()
}

/// Replaces a file. At any instant `path` is the old file whole or the new file whole, and before it is the new one
/// the old one is there as [`old_path`] too.
///
/// # Errors
/// When an old one is there already, or the system refuses; `path` is untouched then.
pub fn replace(path: &Path, content: &[u8]) -> Result<KeptOld, FileError> {
    let parent = parent_of(path);
    remove_leftovers(parent);
    let new = NewFile::write(path, content, BLOB_MODE)?;
    new.sync()?;
    let old = old_path(path);
    linkat(CWD, path, CWD, &old, AtFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::EXIST => FileError::Exists { path: old },
        error => io("keep the old file", path)(error),
    })?;
    if let Err(error) = sync_directory(parent).and_then(|()| new.take_place()) {
        // `path` is still the old file, so its second name is not needed; left behind it would do no harm.
        let _ = std::fs::remove_file(old_path(path));
        return Err(error);
    }
    sync_directory(parent)?;
    Ok(KeptOld {
        path: path.to_owned(),
    })
}

impl KeptOld {
    /// The new file is proved: removes the old one.
    ///
    /// # Errors
    /// When the system refuses; the old one stays then.
    pub fn discard(self) -> Result<(), FileError> {
        let old = old_path(&self.path);
        std::fs::remove_file(&old).map_err(io("remove", &old))?;
        sync_directory(parent_of(&old))
    }

    /// The new file is no good: puts the old one back.
    ///
    /// # Errors
    /// When the system refuses; both stay then.
    pub fn restore(self) -> Result<(), FileError> {
        let old = old_path(&self.path);
        std::fs::rename(&old, &self.path).map_err(io("put back", &old))?;
        sync_directory(parent_of(&old))
    }

    /// The old content of `path` that an earlier run left, where there is one.
    #[must_use]
    pub fn left_of(path: &Path) -> Option<Self> {
        old_path(path).symlink_metadata().is_ok().then(|| Self {
            path: path.to_owned(),
        })
    }
}
