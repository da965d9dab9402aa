//! The enrolment record as a file: written whole or not at all, readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nodeseal_core::settings::{ConfigError, read_text};

use crate::config::Account;
use crate::enrolment::Enrolment;

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is one already.
    #[error(
        "{path} exists: this TPM, or another, is enrolled already; --replace writes it anew", path = path.display()
    )]
    Exists {
        /// The record.
        path: PathBuf,
    },
    /// There is none.
    #[error("{path} does not exist: run `nodeseal-tpm enroll` first", path = path.display())]
    Missing {
        /// The record.
        path: PathBuf,
    },
    /// Others than its owner could have changed it.
    #[error(
        "{path} is writable for others (mode {mode:04o}, owner {owner}): whoever writes it decides which TPM is trusted",
        path = path.display()
    )]
    Writable {
        /// The record.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// It is not a record.
    #[error("{path} is not an enrolment record: {source}", path = path.display())]
    Malformed {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// It cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The record.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Reads the record.
///
/// # Errors
/// When there is none, it is malformed, or others than root, this process's user and `owner` could have written it.
pub fn read(path: &Path, owner: Option<&Account>) -> Result<Enrolment, RecordError> {
    let path = path.to_owned();
    let about = match fs::metadata(&path) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(RecordError::Missing { path });
        }
        Err(source) => return Err(ConfigError::Read { path, source }.into()),
    };
    let trusted = [0, rustix::process::geteuid().as_raw()].contains(&about.uid())
        || owner.is_some_and(|account| account.uid == about.uid());
    if about.mode() & 0o022 != 0 || !trusted {
        return Err(RecordError::Writable {
            path,
            mode: about.mode() & 0o7777,
            owner: about.uid(),
        });
    }
    let text = read_text(&path)?;
    serde_json::from_str(&text).map_err(|source| RecordError::Malformed { path, source })
}

/// Writes the record: to a file beside it, synced, then moved into place. `owner` gets it, if there is one.
///
/// # Errors
/// When there is one already and `replace` is not set, or it cannot be written.
pub fn write(
    path: &Path,
    record: &Enrolment,
    replace: bool,
    owner: Option<&Account>,
) -> Result<(), RecordError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => RecordError::Exists {
            path: path.to_owned(),
        },
        _ => RecordError::Write {
            path: path.to_owned(),
            source,
        },
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let beside = path.with_extension("new");
    let text = serde_json::to_string_pretty(record).map_err(|error| failed(error.into()))?;
    let placed = write_new(&beside, &text, owner).and_then(|()| {
        if replace {
            fs::rename(&beside, path)
        } else {
            // Unlike rename, this fails where a record exists.
            fs::hard_link(&beside, path)
        }
    });
    let _ = fs::remove_file(&beside);
    placed
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(failed)
}

fn write_new(path: &Path, text: &str, owner: Option<&Account>) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    if let Some(owner) = owner
        && rustix::process::geteuid().is_root()
    {
        std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::enrolment::PinnedKey;
    use crate::structures::{Name, Template};
    use std::os::unix::fs::PermissionsExt;

    fn record(name: u8) -> Enrolment {
        let key = |template: Template, handle| PinnedKey {
            template: template.id().to_owned(),
            handle,
            name: Name::of(&[name]),
        };
        Enrolment {
            version: 1,
            tpm: "IBM firmware 1.2".to_owned(),
            enrolled: 7,
            srk: key(Template::Srk, Some(0x8100_0001)),
            ek: key(Template::Ek, None),
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written_and_only_its_owner_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enrolment.json");
        write(&path, &record(1), false, None).unwrap();
        assert_eq!(read(&path, None).unwrap(), record(1));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .contains("\"0x81000001\"")
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_record_is_replaced_only_on_demand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enrolment.json");
        write(&path, &record(1), false, None).unwrap();
        let error = write(&path, &record(2), false, None).unwrap_err();
        assert!(matches!(error, RecordError::Exists { .. }), "{error}");
        assert_eq!(read(&path, None).unwrap(), record(1));
        write(&path, &record(2), true, None).unwrap();
        assert_eq!(read(&path, None).unwrap(), record(2));
    }

    #[test]
    fn a_record_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enrolment.json");
        write(&path, &record(1), false, None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        let error = read(&path, None).unwrap_err();
        assert!(
            matches!(error, RecordError::Writable { mode: 0o620, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_missing_or_malformed_record_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("enrolment.json");
        let error = read(&path, None).unwrap_err();
        assert!(matches!(error, RecordError::Missing { .. }), "{error}");
        for text in [
            "{}",
            &serde_json::to_string(&record(1))
                .unwrap()
                .replace("000b", "000c"),
            &serde_json::to_string(&record(1))
                .unwrap()
                .replace("0x81", "0x80"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = read(&path, None).unwrap_err();
            assert!(matches!(error, RecordError::Malformed { .. }), "{error}");
        }
    }
}
