//! One `[[key]]`: where it is sealed, what it looks like, and how the node gets it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use nodeseal_wire::header::{KeyType, check_name};
use serde::Deserialize;

use super::BLOB_SUFFIX;

/// Numbers a memfd may be asked to have: above standard error, and low enough that the launcher can work above them.
const FDS: RangeInclusive<u16> = 3..=255;

/// One key of the node.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Entry")]
pub struct KeyEntry {
    /// Its name within the node.
    pub name: String,
    /// Its sealed blob.
    pub blob: PathBuf,
    /// Its type; the blob's header must agree. None takes the blob's word, and opaque when sealing.
    pub key_type: Option<KeyType>,
    /// How the key is written when it is handed over (typed keys only; opaque ones are handed over as they are).
    pub encoding: Encoding,
    /// How the node gets it.
    pub deliver: Deliver,
}

/// How a typed key is written in a file or pipe. A blob always holds the 32 bytes themselves.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The 32 bytes.
    #[default]
    Raw,
    /// 64 lowercase hexadecimal digits, no newline: geth's `nodekey`.
    Hex,
}

/// How `nodeseal run` hands a key to the node.
#[derive(Debug, PartialEq, Eq)]
pub enum Deliver {
    /// A sealed memfd the node inherits.
    Memfd {
        /// Its number, 3 to 255; none takes the next that is free.
        fd: Option<u16>,
    },
    /// A file on a private tmpfs, mode 0400.
    File {
        /// Where the node looks for it.
        path: PathBuf,
        /// Its owner; none leaves it with the user the agent runs as.
        uid: Option<u32>,
    },
    /// The node's standard input.
    Stdin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    blob: Option<PathBuf>,
    #[serde(rename = "type")]
    key_type: Option<String>,
    #[serde(default)]
    encoding: Encoding,
    #[serde(default)]
    deliver: DeliverKind,
    fd: Option<u16>,
    path: Option<PathBuf>,
    uid: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DeliverKind {
    #[default]
    Memfd,
    File,
    Stdin,
}

impl TryFrom<Entry> for KeyEntry {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        let Entry {
            name,
            blob,
            key_type,
            encoding,
            deliver,
            fd,
            path,
            uid,
        } = entry;
        check_name("key name", &name).map_err(|error| error.to_string())?;
        let key_type = key_type.as_deref().map(parse_key_type).transpose()?;
        if key_type == Some(KeyType::Opaque) && encoding == Encoding::Hex {
            return Err(format!(
                "key {name:?}: an opaque key is handed over as it is, so encoding must be \"raw\""
            ));
        }
        if fd.is_some() && !matches!(deliver, DeliverKind::Memfd) {
            return Err(format!("key {name:?}: fd is for deliver = \"memfd\" only"));
        }
        if let Some(fd) = fd.filter(|fd| !FDS.contains(fd)) {
            return Err(format!("key {name:?}: fd must be 3 to 255, not {fd}"));
        }
        let deliver = match (deliver, path, uid) {
            (DeliverKind::File, Some(path), uid) => Deliver::File { path, uid },
            (DeliverKind::File, None, _) => {
                return Err(format!("key {name:?}: deliver = \"file\" needs a path"));
            }
            (DeliverKind::Memfd, None, None) => Deliver::Memfd { fd },
            (DeliverKind::Stdin, None, None) => Deliver::Stdin,
            (DeliverKind::Memfd | DeliverKind::Stdin, ..) => {
                return Err(format!(
                    "key {name:?}: path and uid are for deliver = \"file\" only"
                ));
            }
        };
        Ok(Self {
            name,
            blob: blob.unwrap_or_default(),
            key_type,
            encoding,
            deliver,
        })
    }
}

impl KeyEntry {
    /// Makes relative paths ones that start at `base`, and a blob that is not named one in `keys`.
    pub(super) fn resolve(&mut self, base: &Path, keys: &Path) {
        self.blob = if self.blob.as_os_str().is_empty() {
            keys.join(format!("{}{BLOB_SUFFIX}", self.name))
        } else {
            base.join(&self.blob)
        };
        if let Deliver::File { path, .. } = &mut self.deliver {
            *path = base.join(&path);
        }
    }
}

/// Reads a key type's name.
///
/// # Errors
/// Names the types there are.
fn parse_key_type(name: &str) -> Result<KeyType, String> {
    KeyType::from_name(name).ok_or_else(|| {
        let known = KeyType::ALL.map(KeyType::name).join(", ");
        format!("expected one of {known}, found {name:?}")
    })
}
