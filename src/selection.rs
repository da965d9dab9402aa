//! Keys as they are named on the command line: a configured key, a name, a blob, a directory of blobs.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf, absolute};

use nodeseal_wire::blob::Blob;
use nodeseal_wire::header::{Header, KeyType, check_name};
use nodeseal_wire::message::Class;

use crate::client::BlobSource;
use crate::config::{BLOB_SUFFIX, Config, Encoding, KeyEntry};
use crate::failure::Failure;
use crate::files::find_blobs;

/// Finds the blobs that `named` names, each with the name its header must have where the configuration knows it.
///
/// In this order: the name of a configured key; the name of a key in the keys' directory; a path. A file that is only
/// called like a key (its plaintext, say) is thus named by a path: `./NAME`.
///
/// # Errors
/// Names what is none of these.
pub fn select(config: &Config, named: &[OsString]) -> Result<Vec<BlobSource>, Failure> {
    let known = Known::new(config);
    let mut selected = Vec::with_capacity(named.len());
    for one in named {
        if let Some(source) = by_name(config, one) {
            selected.push(source);
            continue;
        }
        let path = Path::new(one);
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                let blobs = find_blobs(path)?;
                if blobs.is_empty() {
                    let message = format!("{}: no *{BLOB_SUFFIX} files in it", path.display());
                    return Err(Failure::new(Class::Misuse, "no-such-key", message));
                }
                known.add_all(path, blobs, &mut selected);
            }
            Ok(_) => selected.push(known.source(path.to_owned())),
            Err(_) => {
                let message = format!(
                    "{}: no such file, and no key of that name configured or in {}",
                    path.display(),
                    config.keys.display()
                );
                return Err(Failure::new(Class::Misuse, "no-such-key", message));
            }
        }
    }
    Ok(selected)
}

/// Every blob in the keys' directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn select_all(config: &Config) -> Result<Vec<BlobSource>, Failure> {
    let mut selected = Vec::new();
    let blobs = find_blobs(&config.keys)?;
    Known::new(config).add_all(&config.keys, blobs, &mut selected);
    Ok(selected)
}

/// The blob of the key of that name; a configured one need not exist, so that its absence is told by its path.
fn by_name(config: &Config, named: &OsString) -> Option<BlobSource> {
    let name = named
        .to_str()
        .filter(|name| check_name("name", name).is_ok())?;
    let path = config.blob_path(name);
    let is_key = config.entry(name).is_some() || path.is_file();
    is_key.then(|| BlobSource {
        path,
        name: Some(name.to_owned()),
    })
}

/// Which names blobs must have by where they are.
struct Known<'c> {
    keys: Option<PathBuf>,
    entries: HashMap<PathBuf, &'c str>,
}

impl<'c> Known<'c> {
    fn new(config: &'c Config) -> Self {
        let of_entry = |entry: &'c KeyEntry| Some((absolute(&entry.blob).ok()?, &*entry.name));
        Self {
            keys: absolute(&config.keys).ok(),
            entries: config.entries.iter().filter_map(of_entry).collect(),
        }
    }

    fn source(&self, path: PathBuf) -> BlobSource {
        let name = absolute(&path).ok().and_then(|full| self.name(&full));
        BlobSource { path, name }
    }

    /// Adds the blobs of a directory. Most directories are nowhere near the keys', so their paths are not looked at
    /// one by one.
    fn add_all(&self, directory: &Path, blobs: Vec<PathBuf>, selected: &mut Vec<BlobSource>) {
        let near_keys = |full: &PathBuf| {
            let keys = self.keys.as_ref();
            keys.is_some_and(|keys| full.starts_with(keys) || keys.starts_with(full))
        };
        let may_be_known =
            !self.entries.is_empty() || absolute(directory).is_ok_and(|d| near_keys(&d));
        selected.extend(blobs.into_iter().map(|path| match may_be_known {
            true => self.source(path),
            false => BlobSource { path, name: None },
        }));
    }

    fn name(&self, full: &Path) -> Option<String> {
        if let Some(name) = self.entries.get(full) {
            return Some((*name).to_owned());
        }
        let within = full.strip_prefix(self.keys.as_ref()?).ok()?;
        let name = within.to_str()?.strip_suffix(BLOB_SUFFIX)?;
        check_name("name", name).is_ok().then(|| name.to_owned())
    }
}

/// Checks an opened blob's header against what the configuration says of that key.
///
/// # Errors
/// Names the two types.
pub fn check_type(config: &Config, header: &Header) -> Result<(), Failure> {
    let expected = config.entry(&header.name).and_then(|entry| entry.key_type);
    match expected {
        Some(expected) if expected != header.key_type => {
            let message = format!(
                "the blob holds a key of type {}, the configuration expects {}",
                header.key_type.name(),
                expected.name()
            );
            Err(Failure::new(Class::Damaged, "wrong-type", message))
        }
        _ => Ok(()),
    }
}

/// Checks an opened blob as [`check_type`]; its header is read only where a type is configured.
///
/// # Errors
/// As [`check_type`].
pub fn check_blob(config: &Config, entry: &KeyEntry, blob: &[u8]) -> Result<(), Failure> {
    if entry.key_type.is_none() {
        return Ok(());
    }
    let blob = Blob::parse(blob)
        .map_err(|error| Failure::new(Class::Internal, "no-blob", error.to_string()))?;
    check_type(config, &blob.header)
}

/// How a key is to be written: as asked, else as configured; an opaque one as it is.
#[must_use]
pub fn encoding_of(config: &Config, header: &Header, asked: Option<Encoding>) -> Encoding {
    if header.key_type == KeyType::Opaque {
        return Encoding::Raw;
    }
    asked
        .or_else(|| config.entry(&header.name).map(|entry| entry.encoding))
        .unwrap_or_default()
}
