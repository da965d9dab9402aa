//! `seal`: key files become blobs, all of one command under one data key.

mod plan;
mod shred;

use std::path::{Path, PathBuf};

use nodeseal_memory::Secret;
use nodeseal_wire::blob::Blob;
use nodeseal_wire::header::{KeyType, Release};
use nodeseal_wire::message::{Class, KeyAbout, NewKey};
use serde_json::json;

use super::{App, connect, recorded};
use crate::audit::{Kind, Trail};
use crate::cli::SealArgs;
use crate::client::Connection;
use crate::config::Config;
use crate::context::gather;
use crate::failure::Failure;
use crate::files::{BLOB_MODE, FileError, Plaintext, create_all};
use crate::key_text::{KEY_LENGTH, read_key};
use crate::public_key::hex;
use crate::report::Report;
use crate::sealing::{Planned, Sealer};
use plan::Plan;

/// A key file, and what became of it.
struct KeyFile {
    path: PathBuf,
    /// Bytes in the file.
    size: u64,
    about: KeyAbout,
    /// Where the blob goes, or is.
    target: PathBuf,
    /// Whether its blob is on disk, made now or before.
    sealed: bool,
    public_key: Option<String>,
    /// Whether the file itself is gone.
    removed: bool,
    failed: Option<Failure>,
}

/// Seals the files.
///
/// # Errors
/// When nothing could be sealed. What failed for single keys is in the report.
pub fn run(app: &App, args: &SealArgs) -> Result<Report, Failure> {
    let config = app.config()?;
    check_release(args.release)?;
    let mut plan = plan::make(&config, args)?;
    let join = read_join(args.join.as_deref())?;
    let to_remove = args.shred && !plan.existing.is_empty();
    if plan.files.is_empty() && !to_remove {
        return Ok(reported(&config, &plan));
    }
    let worked = app.wait_for(async {
        let mut connection = connect(&config).await?;
        if !plan.files.is_empty() {
            seal_all(&mut connection, &config, join, &mut plan.files).await?;
        }
        if args.shred {
            let files = plan.files.iter_mut().chain(&mut plan.existing);
            shred::remove_sealed(&mut connection, &config, files).await?;
        }
        Ok(())
    });
    let mut report = reported(&config, &plan);
    match worked {
        // Nothing done: the failure is the whole report. Else what is done is told too.
        Err(failure) if !plan.files.iter().any(|file| file.sealed) => Err(failure),
        Err(failure) => {
            report.failed = Some(failure);
            Ok(report)
        }
        Ok(()) => Ok(report),
    }
}

async fn seal_all(
    connection: &mut Connection,
    config: &Config,
    join: Option<Vec<u8>>,
    files: &mut [KeyFile],
) -> Result<(), Failure> {
    let mut trail = Trail::new(Kind::Seal, &config.node);
    let mut sealer = Sealer::new(connection, config, gather(config)?, join);
    let mut files = files;
    let mut outcome = Ok(());
    while outcome.is_ok() && !files.is_empty() {
        let count = sealer.fitting(files);
        let (now, later) = files.split_at_mut_checked(count).unwrap_or_default();
        outcome = seal_some(&mut sealer, now, &mut trail).await;
        files = later;
    }
    recorded(trail, config, outcome.map(|()| sealer.reports))?;
    Ok(())
}

/// Seals what fits one request.
async fn seal_some(
    sealer: &mut Sealer<'_>,
    files: &mut [KeyFile],
    trail: &mut Trail,
) -> Result<(), Failure> {
    let (mut to_write, mut places) = (Vec::new(), Vec::new());
    let sealed = sealer.seal(files).await?;
    for (file, sealed) in files.iter_mut().zip(sealed) {
        match sealed {
            Ok(blob) => {
                trail.done(&file.about.name, &blob);
                file.public_key = public_key(&blob);
                to_write.push((file.target.clone(), blob));
                places.push(file);
            }
            Err(refusal) => {
                trail.refused(&file.about.name, None, &refusal);
                file.failed = Some(Failure::from(refusal).of(file.path.display()));
            }
        }
    }
    for (file, written) in places.into_iter().zip(create_all(to_write, BLOB_MODE)) {
        match written {
            Ok(()) => file.sealed = true,
            Err(error) => file.failed = Some(error.into()),
        }
    }
    Ok(())
}

fn public_key(blob: &[u8]) -> Option<String> {
    let header = Blob::parse(blob).ok()?.header;
    header.public_key.as_deref().map(hex)
}

impl KeyFile {
    /// Length in bytes of the key, if the file holds one of this type.
    fn key_length(&self, key_type: KeyType) -> u64 {
        match key_type {
            KeyType::Opaque => self.size,
            _ => KEY_LENGTH as u64,
        }
    }

    /// Reads the key out of the open file.
    fn read(
        &self,
        plaintext: &Plaintext,
        key_type: KeyType,
        key: &mut [u8],
    ) -> Result<(), Failure> {
        let content = plaintext.read()?;
        if content.len() as u64 != self.size {
            let path = self.path.clone();
            return Err(FileError::Changed { path }.into());
        }
        read_key(key_type, content.expose(), key).map_err(|error| {
            let message = format!("{}: {error}", self.path.display());
            Failure::new(Class::Misuse, "not-a-key", message)
        })
    }

    /// The key in the open file.
    fn key(&self, plaintext: &Plaintext, key_type: KeyType) -> Result<Secret, Failure> {
        let length = usize::try_from(self.key_length(key_type)).unwrap_or(usize::MAX);
        let mut key = Secret::zeroed(length)
            .map_err(|error| Failure::new(Class::Internal, "locked-memory", error.to_string()))?;
        self.read(plaintext, key_type, key.expose_mut())?;
        Ok(key)
    }
}

impl Planned for KeyFile {
    fn new_key(&self) -> NewKey {
        NewKey::Given {
            about: self.about.clone(),
            length: self.length(),
        }
    }

    fn length(&self) -> u32 {
        u32::try_from(self.key_length(self.about.key_type)).unwrap_or(u32::MAX)
    }

    fn fill(&self, place: &mut [u8]) -> Result<(), Failure> {
        let plaintext = Plaintext::open(&self.path, plan::MAX_KEY_FILE)?;
        self.read(&plaintext, self.about.key_type, place)
    }
}

/// Refuses by name what this version cannot do.
///
/// # Errors
/// For "sign".
pub fn check_release(release: Release) -> Result<(), Failure> {
    match release {
        Release::Deliver => Ok(()),
        Release::Sign => Err(Failure::new(
            Class::Misuse,
            "release-sign-unsupported",
            "release = \"sign\" is not supported by this version: only \"deliver\" is",
        )),
    }
}

/// Reads the blob to join.
///
/// # Errors
/// When it cannot be read or is no blob.
pub fn read_join(path: Option<&Path>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let bytes = std::fs::read(path).map_err(|error| {
        let message = format!("{}: cannot read: {error}", path.display());
        Failure::new(Class::Internal, "file", message)
    })?;
    match Blob::parse(&bytes) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) => {
            let message = format!("{}: {error}", path.display());
            Err(Failure::new(Class::Damaged, "blob-malformed", message))
        }
    }
}

fn reported(config: &Config, plan: &Plan) -> Report {
    let mut text = String::new();
    let (mut sealed, mut existing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = None;
    for (file, is_new) in plan.all() {
        let KeyFile { path, target, .. } = file;
        let name = &file.about.name;
        let (path, target) = (path.display().to_string(), target.display().to_string());
        if file.sealed {
            let new = if is_new { "" } else { " already" };
            let removed = if file.removed {
                ", plaintext removed"
            } else {
                ""
            };
            text.push_str(&format!("{name}: sealed{new} in {target}{removed}\n"));
            let list = if is_new { &mut sealed } else { &mut existing };
            list.push(json!({
                "name": name,
                "type": is_new.then(|| file.about.key_type.name()),
                "public_key": file.public_key,
                "file": path,
                "blob": target,
                "removed": file.removed,
            }));
        }
        if let Some(failure) = &file.failed {
            text.push_str(&format!("{name}: {}\n", failure.message));
            failed.push(json!({ "name": name, "file": path, "error": failure.json() }));
            first.get_or_insert(failure);
        }
    }
    if plan.passed_over > 0 {
        let count = plan.passed_over;
        text.push_str(&format!(
            "{count} other files are no key files; --all seals all\n"
        ));
    }
    Report {
        json: json!({
            "node": config.node,
            "sealed": sealed,
            "existing": existing,
            "failed": failed,
            "passed_over": plan.passed_over,
        }),
        text,
        failed: first.map(|first| Failure::some_of(failed.len(), plan.all().count(), first)),
    }
}
