//! Plaintext key files: read into locked memory, and removed for good once their blob is proved.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nodeseal_memory::Secret;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, fsync, openat, statat};

use super::{FileError, io, parent_of, sync_directory};

/// An open key file.
pub struct Plaintext {
    file: File,
    path: PathBuf,
    stat: Stat,
}

impl Plaintext {
    /// Opens a regular file of at most `limit` bytes; symbolic links are refused.
    ///
    /// # Errors
    /// When it is something else, larger, or the system refuses.
    pub fn open(path: &Path, limit: u64) -> Result<Self, FileError> {
        Self::open_for(path, limit, OFlags::RDONLY)
    }

    /// As [`Self::open`], to be removed.
    ///
    /// # Errors
    /// As [`Self::open`], and when the file has other names.
    pub fn open_to_remove(path: &Path, limit: u64) -> Result<Self, FileError> {
        let plaintext = Self::open_for(path, limit, OFlags::RDWR)?;
        if plaintext.stat.st_nlink == 1 {
            return Ok(plaintext);
        }
        Err(FileError::Linked {
            path: path.to_owned(),
            links: plaintext.stat.st_nlink,
        })
    }

    fn open_for(path: &Path, limit: u64, access: OFlags) -> Result<Self, FileError> {
        // A named pipe must not make the agent wait for its other end.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::LOOP => FileError::NotRegular {
                path: path.to_owned(),
                found: "a symbolic link",
            },
            error => io("open", path)(error),
        })?;
        let stat = fstat(&file).map_err(io("look at", path))?;
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => None,
            FileType::Directory => Some("a directory"),
            FileType::Fifo => Some("a named pipe"),
            _ => Some("a device or socket"),
        };
        if let Some(found) = found {
            return Err(FileError::NotRegular {
                path: path.to_owned(),
                found,
            });
        }
        let plaintext = Self {
            file: file.into(),
            path: path.to_owned(),
            stat,
        };
        if plaintext.size() > limit {
            return Err(FileError::TooLarge {
                path: path.to_owned(),
                found: plaintext.size(),
                limit,
            });
        }
        Ok(plaintext)
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// The content.
    ///
    /// # Errors
    /// When the system refuses, or the file has grown or shrunk since it was opened.
    pub fn read(&self) -> Result<Secret, FileError> {
        let memory = |error| io("read", &self.path)(std::io::Error::other(error));
        let length = usize::try_from(self.size()).unwrap_or(usize::MAX);
        // One byte more, to see that nothing follows.
        let mut content = Secret::zeroed(length.saturating_add(1)).map_err(memory)?;
        let mut read = 0;
        while let Some(rest) = content
            .expose_mut()
            .get_mut(read..)
            .filter(|r| !r.is_empty())
        {
            match self.file.read_at(rest, read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) => return Err(io("read", &self.path)(error)),
            }
        }
        if read != length {
            return Err(FileError::Changed {
                path: self.path.clone(),
            });
        }
        content.truncate(length);
        Ok(content)
    }

    /// Removes the file: first its name, then, by the open file, its content. So whatever ends the agent, the
    /// directory has the whole file or none. What a copy-on-write file system or a disk's own spare blocks keep is
    /// out of reach (docs/threat-model.md).
    ///
    /// # Errors
    /// When another file has that name by now, or the system refuses.
    pub fn remove(self) -> Result<(), FileError> {
        let follow_not = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        let named = statat(CWD, &self.path, follow_not).map_err(io("look at", &self.path))?;
        if (named.st_dev, named.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            return Err(FileError::Changed { path: self.path });
        }
        std::fs::remove_file(&self.path).map_err(io("remove", &self.path))?;
        sync_directory(parent_of(&self.path))?;
        self.overwrite().map_err(io("overwrite", &self.path))
    }

    fn overwrite(&self) -> std::io::Result<()> {
        let zeros = [0; 4096];
        let size = self.size();
        let mut at = 0;
        while at < size {
            let length = usize::try_from(size - at)
                .unwrap_or(zeros.len())
                .min(zeros.len());
            self.file
                .write_all_at(zeros.get(..length).unwrap_or(&zeros), at)?;
            at += length as u64;
        }
        fsync(&self.file)?;
        Ok(())
    }
}
