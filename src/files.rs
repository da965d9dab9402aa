//! Files as an operator may rely on: there whole or not at all, never overwritten unasked, whatever kills the agent.
//!
//! - [`NewFile`], [`create_all`]: a file that appears whole and never replaces another.
//! - [`mod@replace`]: a file that takes another's place and keeps the old one until it is proved.
//! - [`Plaintext`]: a key file that is read, and removed once its blob is proved.
//! - [`find_key_files`], [`find_blobs`]: the files of a directory.

mod new;
mod plaintext;
mod replace;
mod walk;

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

pub use new::{NewFile, create_all, files_at_a_time};
pub use plaintext::Plaintext;
pub use replace::{KeptOld, old_path, replace};
pub use walk::{find_blobs, find_key_files};

/// Mode of files that hold a plaintext key.
pub const SECRET_MODE: u32 = 0o600;
/// Mode of sealed blobs, which are no secret; the umask may take more away.
pub const BLOB_MODE: u32 = 0o644;

/// A file is not, or cannot be made, as it has to be.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A new file would replace one.
    #[error("{}: exists, and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("{}: cannot {what}: {source}", path.display())]
    Io {
        /// What it refused.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key file must be a regular file.
    #[error("{}: expected a regular file, found {found}", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A key file is larger than any key.
    #[error("{}: expected at most {limit} bytes, found {found}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The most a blob can hold.
        limit: u64,
    },
    /// A file is no longer the one that was sealed.
    #[error("{}: was kept: it is not what was sealed any more", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file to be removed has other names, under which it would be destroyed too.
    #[error("{}: was kept: it has {links} names (hard links)", path.display())]
    Linked {
        /// The file.
        path: PathBuf,
        /// How many.
        links: u64,
    },
}

fn io<E: Into<std::io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io {
        what,
        path,
        source: source.into(),
    }
}

/// The directory a file is in.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Waits until what happened in a directory is on disk.
fn sync_directory(path: &Path) -> Result<(), FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(io("sync the directory", path))
}

#[cfg(test)]
mod tests;
