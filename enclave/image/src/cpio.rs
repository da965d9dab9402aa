//! Ramdisks: cpio archives of the "newc" form (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The bytes depend on paths, modes and contents only: entries are sorted, everything belongs to root, times are zero,
//! inode numbers are counted.

use std::collections::BTreeMap;

/// File type bits of a mode (inode(7)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
/// What ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// What cannot go into an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpioError {
    /// Not a path below the root.
    #[error("ramdisk: expected a path like \"etc/file\", found {0:?}")]
    Path(String),
    /// A path that is there already.
    #[error("ramdisk: {0:?} is there twice")]
    Twice(String),
    /// Larger than the format's 32 bits can say.
    #[error("ramdisk: {path:?}: expected less than 4 GiB, found {bytes} bytes")]
    Size {
        /// Which file.
        path: String,
        /// Its size.
        bytes: usize,
    },
}

enum Entry {
    Directory,
    File { mode: u32, content: Vec<u8> },
}

/// An archive being put together.
#[derive(Default)]
pub struct Archive {
    // In this order a directory comes before what is in it.
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory (0755), and those it is in.
    ///
    /// # Errors
    /// When `path` is not a relative path in its shortest form, or a file is where a directory has to be.
    pub fn directory(&mut self, path: &str) -> Result<(), CpioError> {
        check(path)?;
        let parents = path.match_indices('/').map(|(at, _)| at);
        for end in parents.chain([path.len()]) {
            let part = path.get(..end).unwrap_or_default();
            match self.entries.get(part) {
                None => self.entries.insert(part.to_owned(), Entry::Directory),
                Some(Entry::Directory) => continue,
                Some(Entry::File { .. }) => return Err(CpioError::Twice(part.to_owned())),
            };
        }
        Ok(())
    }

    /// Adds a file with permissions `mode` (as in 0o555), and the directories it is in.
    ///
    /// # Errors
    /// As [`Archive::directory`]; when something is there already, or the file is too large.
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) -> Result<(), CpioError> {
        check(path)?;
        if u32::try_from(content.len()).is_err() {
            return Err(CpioError::Size {
                path: path.to_owned(),
                bytes: content.len(),
            });
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent)?;
        }
        if self.entries.contains_key(path) {
            return Err(CpioError::Twice(path.to_owned()));
        }
        let mode = mode & 0o7777;
        self.entries
            .insert(path.to_owned(), Entry::File { mode, content });
        Ok(())
    }

    /// The archive. Its length is a multiple of four, so that another may follow.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let numbered = (1..).zip(&self.entries);
        for (inode, (path, entry)) in numbered {
            let (mode, links, content) = match entry {
                Entry::Directory => (DIRECTORY | 0o755, 2, [].as_slice()),
                Entry::File { mode, content } => (REGULAR | mode, 1, content.as_slice()),
            };
            put(&mut out, inode, mode, links, path, content);
        }
        put(&mut out, 0, 0, 1, TRAILER, &[]);
        out
    }
}

/// A relative path in its shortest form, with nothing in it that could lead elsewhere.
fn check(path: &str) -> Result<(), CpioError> {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fits = path.len() < 4096 && !path.contains('\0') && path != TRAILER;
    if fits && path.split('/').all(part) {
        Ok(())
    } else {
        Err(CpioError::Path(path.to_owned()))
    }
}

fn put(out: &mut Vec<u8>, inode: u32, mode: u32, links: u32, path: &str, content: &[u8]) {
    // Checked on the way in.
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let name = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(b"070701");
    // inode, mode, user, group, links, time, size, device (2), what a device file stands for (2), name, checksum
    for field in [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_order_in_which_things_are_added_does_not_show() {
        let mut one = Archive::new();
        one.file("init", 0o555, b"program".to_vec()).unwrap();
        one.file("etc/a", 0o444, b"1".to_vec()).unwrap();
        one.directory("dev").unwrap();
        let mut other = Archive::new();
        other.directory("dev").unwrap();
        other.directory("etc").unwrap();
        other.file("etc/a", 0o444, b"1".to_vec()).unwrap();
        other.file("init", 0o555, b"program".to_vec()).unwrap();
        assert_eq!(one.to_bytes(), other.to_bytes());
        assert_eq!(one.to_bytes().len() % 4, 0);
    }

    #[test]
    fn a_path_that_leads_elsewhere_and_a_second_file_are_refused() {
        let mut archive = Archive::new();
        for wrong in [
            "", "/", "/init", "a//b", "a/", "../a", "a/./b", "a\0b", TRAILER,
        ] {
            let error = archive.file(wrong, 0o444, Vec::new()).unwrap_err();
            assert_eq!(error, CpioError::Path(wrong.to_owned()));
        }
        archive.file("a", 0o444, Vec::new()).unwrap();
        let twice = CpioError::Twice("a".to_owned());
        assert_eq!(archive.file("a", 0o444, Vec::new()).unwrap_err(), twice);
        assert_eq!(archive.file("a/b", 0o444, Vec::new()).unwrap_err(), twice);
        assert_eq!(archive.directory("a").unwrap_err(), twice);
    }

    /// Other people's cpio, which is on every Debian and Ubuntu (initramfs-tools needs it) but not in every container.
    #[test]
    fn cpio_lists_what_was_put_in() {
        let mut archive = Archive::new();
        archive.file("init", 0o555, vec![7; 5001]).unwrap();
        archive
            .file("etc/nodeseal.toml", 0o444, b"x = 1\n".to_vec())
            .unwrap();
        archive.directory("dev").unwrap();
        let program = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut program) = program else { return };
        program
            .stdin
            .take()
            .unwrap()
            .write_all(&archive.to_bytes())
            .unwrap();
        let listed = String::from_utf8(program.wait_with_output().unwrap().stdout).unwrap();
        let rows: Vec<Vec<&str>> = listed
            .lines()
            .map(|row| row.split_whitespace().collect())
            .collect();
        let seen: Vec<(&str, &str, &str, &str)> = rows
            .iter()
            .map(|row| (row[0], row[2], row[4], row[8]))
            .collect();
        assert_eq!(
            seen,
            [
                ("drwxr-xr-x", "0", "0", "dev"),
                ("drwxr-xr-x", "0", "0", "etc"),
                ("-r--r--r--", "0", "6", "etc/nodeseal.toml"),
                ("-r-xr-xr-x", "0", "5001", "init"),
            ]
        );
    }
}
