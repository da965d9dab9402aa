//! The files of a directory: which are key files, which are sealed blobs.

use std::ffi::OsStr;
use std::fs::ReadDir;
use std::path::{Path, PathBuf};

use super::{FileError, io};
use crate::config::BLOB_SUFFIX;

/// [`BLOB_SUFFIX`] without its dot.
const BLOB_EXTENSION: &str = "sealed";
/// What [`super::old_path`] appends.
const OLD_SUFFIX: &str = ".old";

/// Directories whose files are all keys or their passwords: geth and Besu, Lighthouse, Teku, Prysm, Fabric.
const KEY_DIRECTORIES: [&str; 7] = [
    "keystore",
    "keystores",
    "secrets",
    "passwords",
    "private",
    "keys",
    "validator_keys",
];
/// File names of single keys: geth, Besu and Quorum, CometBFT, Polkadot, consensus clients.
const KEY_FILES: [&str; 12] = [
    "nodekey",
    "node_key",
    "node_key.json",
    "key",
    "jwtsecret",
    "jwt.hex",
    "jwt-secret",
    "jwtsecret.hex",
    "priv_validator_key.json",
    "voting-keystore.json",
    "secret_ed25519",
    "password.txt",
];
/// What names of key files begin with: geth's and the launchpad's keystores.
const KEY_PREFIXES: [&str; 2] = ["UTC--", "keystore-"];
/// What names of key files end with: PEM and TLS keys, Fabric's `priv_sk`.
const KEY_SUFFIXES: [&str; 4] = [".key", ".pem", "_sk", ".pass"];
/// How deep directories are entered: more is a loop or a mistake.
const MAX_DEPTH: usize = 16;

/// Files to be sealed, by their path within the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// The files, sorted.
    pub files: Vec<PathBuf>,
    /// How many others there are.
    pub passed_over: usize,
}

/// The key files below `directory`: those recognised by name or by the directory they are in, or all regular files
/// where none is recognised or `all` asks for it. A symbolic link that would be one of them is refused.
///
/// # Errors
/// When the system refuses, or a link stands where a key file should.
pub fn find_key_files(directory: &Path, all: bool) -> Result<KeyFiles, FileError> {
    let mut found = Vec::new();
    let all_are_keys = is_key_directory(directory.file_name());
    walk(directory, Path::new(""), 0, &mut found)?;
    found.retain(|entry| !is_ours(&entry.path));
    for entry in &mut found {
        entry.is_key |= all_are_keys;
    }
    let all = all || !found.iter().any(|entry| entry.is_key);
    let mut files = KeyFiles::default();
    for entry in found {
        if !(all || entry.is_key) {
            files.passed_over += 1;
        } else if entry.is_link {
            return Err(FileError::NotRegular {
                path: directory.join(entry.path),
                found: "a symbolic link",
            });
        } else {
            files.files.push(entry.path);
        }
    }
    files.files.sort();
    Ok(files)
}

/// The sealed blobs below `directory`, sorted.
///
/// # Errors
/// When the system refuses.
pub fn find_blobs(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut blobs = Vec::new();
    add_blobs(directory, 0, &mut blobs)?;
    // Bytes, not components: with ten thousand paths that is felt.
    blobs.sort_unstable_by(|a: &PathBuf, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(blobs)
}

fn add_blobs(directory: &Path, depth: usize, blobs: &mut Vec<PathBuf>) -> Result<(), FileError> {
    for entry in entries(directory, depth)? {
        let entry = entry.map_err(io("list", directory))?;
        let kind = entry
            .file_type()
            .map_err(io("look at a file in", directory))?;
        let name = entry.file_name();
        let is_blob = Path::new(&name)
            .extension()
            .is_some_and(|end| end == BLOB_EXTENSION);
        // Made in one piece: with ten thousand paths it is felt when each grows.
        let path = || {
            let mut path = PathBuf::with_capacity(directory.as_os_str().len() + 1 + name.len());
            path.push(directory);
            path.push(&name);
            path
        };
        if kind.is_dir() {
            add_blobs(&path(), depth + 1, blobs)?;
        } else if is_blob && (kind.is_file() || kind.is_symlink()) {
            blobs.push(path());
        }
    }
    Ok(())
}

/// What is in a directory that is `depth` below the one asked for.
fn entries(directory: &Path, depth: usize) -> Result<ReadDir, FileError> {
    let listed = match depth {
        0..=MAX_DEPTH => std::fs::read_dir(directory),
        _ => Err(std::io::Error::other("directories nested too deep")),
    };
    listed.map_err(io("list", directory))
}

/// Whether a file is a sealed blob, or one that a rotation keeps.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(OLD_SUFFIX).unwrap_or(&name);
    name.ends_with(BLOB_SUFFIX)
}

fn is_key_directory(name: Option<&OsStr>) -> bool {
    KEY_DIRECTORIES
        .iter()
        .any(|known| name == Some(OsStr::new(known)))
}

struct Entry {
    path: PathBuf,
    is_key: bool,
    is_link: bool,
}

fn walk(root: &Path, within: &Path, depth: usize, found: &mut Vec<Entry>) -> Result<(), FileError> {
    let directory = match within.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(within),
    };
    let in_key_directory = within.iter().any(|part| is_key_directory(Some(part)));
    for entry in entries(&directory, depth)? {
        let entry = entry.map_err(io("list", &directory))?;
        let kind = entry
            .file_type()
            .map_err(io("look at a file in", &directory))?;
        let path = within.join(entry.file_name());
        if kind.is_dir() {
            walk(root, &path, depth + 1, found)?;
        } else if kind.is_file() || kind.is_symlink() {
            let name = entry.file_name();
            // A name that is not UTF-8 is none of the known ones.
            let is_key = in_key_directory || name.to_str().is_some_and(is_key_name);
            found.push(Entry {
                path,
                is_key,
                is_link: kind.is_symlink(),
            });
        }
    }
    Ok(())
}

fn is_key_name(name: &str) -> bool {
    KEY_FILES.contains(&name)
        || KEY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || KEY_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}
