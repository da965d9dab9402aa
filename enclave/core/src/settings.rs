//! Configuration files of trusted sides: one TOML file, every field typed, unknown ones refused, files it names beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Longest configuration, key or record file read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not TOML of the expected fields.
    #[error("{path}: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A field has a value that cannot be.
    #[error("{path}: {field}: {problem}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads a configuration file as it is written, before its values are checked.
///
/// # Errors
/// When it cannot be read, or has other fields.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    toml::from_str(&read_text(path)?).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Reads a small text file.
///
/// # Errors
/// When it cannot be read, is no UTF-8, or is longer than 64 KiB.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        match file
            .take(MAX_FILE.saturating_add(1))
            .read_to_string(&mut text)? as u64
        {
            0..=MAX_FILE => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("longer than {MAX_FILE} bytes"),
            )),
        }
    });
    read.map(|()| text).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let longest = "#".repeat(64 * 1024);
        std::fs::write(&path, &longest).unwrap();
        assert_eq!(read_text(&path).unwrap(), longest);
        // What is past the limit might be what forbids something.
        std::fs::write(&path, longest + "#").unwrap();
        let told = read_text(&path).unwrap_err().to_string();
        let file = path.display();
        assert_eq!(told, format!("cannot read {file}: longer than 65536 bytes"));
    }
}
