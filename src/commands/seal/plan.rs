//! Which files are sealed, under which names, into which blobs: all decided and checked before anything is sealed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nodeseal_wire::blob::MAX_BLOB;
use nodeseal_wire::header::{KeyType, check_name};
use nodeseal_wire::message::KeyAbout;

use super::KeyFile;
use crate::cli::SealArgs;
use crate::config::{BLOB_SUFFIX, Config};
use crate::failure::Failure;
use crate::files::{FileError, Plaintext, find_key_files};

/// Largest key file, in bytes: a blob with its header may have 1 MiB.
pub const MAX_KEY_FILE: u64 = MAX_BLOB as u64 - (64 << 10);

/// What is to be done.
#[derive(Default)]
pub struct Plan {
    /// Files to seal.
    pub files: Vec<KeyFile>,
    /// Files whose keys are sealed already, where those are not to be sealed again.
    pub existing: Vec<KeyFile>,
    /// Files that are no key files.
    pub passed_over: usize,
}

impl Plan {
    /// Every file, with whether it was to be sealed now.
    pub fn all(&self) -> impl Iterator<Item = (&KeyFile, bool)> {
        let existing = self.existing.iter().map(|file| (file, false));
        self.files.iter().map(|file| (file, true)).chain(existing)
    }
}

/// Makes the plan.
///
/// # Errors
/// When a file is none, has no usable name, has a name twice, or its blob exists.
pub fn make(config: &Config, args: &SealArgs) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut names = HashSet::new();
    for (path, name) in named_files(args, &mut plan)? {
        check_name("name", &name).map_err(|error| unusable(&path, &error.to_string()))?;
        if !names.insert(name.clone()) {
            let message = format!(
                "{}: another file gives the name {name:?} too",
                path.display()
            );
            return Err(Failure::usage(message));
        }
        let target = match &args.to {
            Some(directory) => directory.join(format!("{name}{BLOB_SUFFIX}")),
            None => config.blob_path(&name),
        };
        let exists = target.symlink_metadata().is_ok();
        if exists && !args.skip_existing {
            return Err(FileError::Exists { path: target }.into());
        }
        let configured = config.entry(&name).and_then(|entry| entry.key_type);
        // Opened once now, so that what cannot be sealed is known before anything is.
        let plaintext = match args.shred {
            true => Plaintext::open_to_remove(&path, MAX_KEY_FILE)?,
            false => Plaintext::open(&path, MAX_KEY_FILE)?,
        };
        let file = KeyFile {
            size: plaintext.size(),
            path,
            about: KeyAbout {
                name,
                key_type: args.key_type.or(configured).unwrap_or(KeyType::Opaque),
                release: args.release,
            },
            target,
            sealed: exists,
            public_key: None,
            removed: false,
            failed: None,
        };
        match exists {
            true => plan.existing.push(file),
            false => plan.files.push(file),
        }
    }
    Ok(plan)
}

/// The files, each with the name of its key.
fn named_files(args: &SealArgs, plan: &mut Plan) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut named = Vec::new();
    for path in &args.paths {
        let is_directory = path.metadata().is_ok_and(|found| found.is_dir());
        if let Some(name) = &args.name {
            if is_directory || args.paths.len() > 1 {
                return Err(Failure::usage("--name is for a single file"));
            }
            named.push((path.clone(), name.clone()));
        } else if is_directory {
            let found = find_key_files(path, args.all)?;
            plan.passed_over += found.passed_over;
            for within in found.files {
                named.push((path.join(&within), name_of(&path.join(&within), &within)?));
            }
        } else {
            let file_name = Path::new(path.file_name().unwrap_or_default());
            named.push((path.clone(), name_of(path, file_name)?));
        }
    }
    Ok(named)
}

fn name_of(path: &Path, within: &Path) -> Result<String, Failure> {
    match within.to_str() {
        Some(name) => Ok(name.to_owned()),
        None => Err(unusable(path, "name: expected ASCII")),
    }
}

fn unusable(path: &Path, why: &str) -> Failure {
    Failure::new(
        nodeseal_wire::message::Class::Misuse,
        "unusable-name",
        format!("{}: {why}", path.display()),
    )
}
