//! Files of records, one JSON object a line, appended to.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::files::FileError;

/// A file records are appended to (mode 0600).
pub(crate) struct Records {
    path: PathBuf,
    file: Mutex<File>,
}

impl Records {
    /// Appends to `path`.
    pub(crate) fn at(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file.map_err(FileError::at(path))?),
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a record; a failing disk is told to the log, not to the caller.
    pub(crate) fn write(&self, record: &Value) {
        let mut line = record.to_string();
        line.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!(path = %self.path.display(), %error, "records are missing");
        }
    }
}
