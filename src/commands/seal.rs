//! `seal`: key files become blobs, all of one command under one data key.

mod plan;
mod shred;

use std::collections::BTreeMap;
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
use crate::files::{BLOB_MODE, Plaintext, create_all};
use crate::key_text::{KEY_LENGTH, read_key};
use crate::public_key::hex;
use crate::report::Report;
use crate::sealing::{Planned, Sealer};

/// A key file on its way into a blob.
struct KeyFile {
    path: PathBuf,
    /// Bytes in the file.
    size: u64,
    about: KeyAbout,
    /// Where the blob goes.
    target: PathBuf,
}

/// What became of one.
#[derive(Default)]
struct Done {
    sealed: bool,
    public_key: Option<String>,
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
    let plan = plan::make(&config, args)?;
    if plan.files.is_empty() {
        return Ok(reported(&config, &plan, &[]));
    }
    let join = read_join(args.join.as_deref())?;
    let mut done: Vec<Done> = plan.files.iter().map(|_| Done::default()).collect();
    let worked = app.wait_for(async {
        let mut connection = connect(&config).await?;
        seal_all(&mut connection, &config, join, &plan.files, &mut done).await?;
        if args.shred {
            shred::remove_sealed(&mut connection, &config, &plan.files, &mut done).await?;
        }
        Ok(())
    });
    if let Err(failure) = worked {
        // Nothing done: the failure is the whole report. Else what is done is told too.
        if !done.iter().any(|done| done.sealed) {
            return Err(failure);
        }
        let mut report = reported(&config, &plan, &done);
        report.failed = Some(failure);
        return Ok(report);
    }
    Ok(reported(&config, &plan, &done))
}

async fn seal_all(
    connection: &mut Connection,
    config: &Config,
    join: Option<Vec<u8>>,
    files: &[KeyFile],
    done: &mut [Done],
) -> Result<(), Failure> {
    let mut trail = Trail::new(Kind::Seal, &config.node);
    let mut sealer = Sealer::new(connection, config, gather(config)?, join);
    let (mut files, mut done) = (files, done);
    let mut outcome = Ok(());
    while outcome.is_ok() && !files.is_empty() {
        let count = sealer.fitting(files);
        let (now, later) = files.split_at_checked(count).unwrap_or((files, &[]));
        let (done_now, done_later) = done.split_at_mut_checked(count).unwrap_or_default();
        outcome = seal_some(&mut sealer, now, done_now, &mut trail).await;
        (files, done) = (later, done_later);
    }
    recorded(trail, config, outcome.map(|()| sealer.reports))?;
    Ok(())
}

/// Seals what fits one request.
async fn seal_some(
    sealer: &mut Sealer<'_>,
    files: &[KeyFile],
    done: &mut [Done],
    trail: &mut Trail,
) -> Result<(), Failure> {
    let (mut to_write, mut places) = (Vec::new(), Vec::new());
    let sealed = sealer.seal(files).await?;
    for ((file, done), sealed) in files.iter().zip(done).zip(sealed) {
        match sealed {
            Ok(blob) => {
                trail.done(Some(&file.about.name), &blob);
                done.public_key = public_key(&blob);
                to_write.push((file.target.clone(), blob));
                places.push(done);
            }
            Err(refusal) => {
                trail.refused(&file.about.name, None, &refusal);
                done.failed = Some(Failure::from(refusal).of(file.path.display()));
            }
        }
    }
    for (done, written) in places.into_iter().zip(create_all(to_write, BLOB_MODE)) {
        match written {
            Ok(()) => done.sealed = true,
            Err(error) => done.failed = Some(error.into()),
        }
    }
    Ok(())
}

fn public_key(blob: &[u8]) -> Option<String> {
    let header = Blob::parse(blob).ok()?.header;
    header.public_key.as_deref().map(hex)
}

impl KeyFile {
    fn key_length(&self) -> u64 {
        match self.about.key_type {
            KeyType::Opaque => self.size,
            _ => KEY_LENGTH as u64,
        }
    }

    /// Reads the key out of an open file of that name.
    fn read(&self, plaintext: &Plaintext, key: &mut [u8]) -> Result<(), Failure> {
        let content = plaintext.read()?;
        if content.len() as u64 != self.size {
            let path = self.path.clone();
            return Err(crate::files::FileError::Changed { path }.into());
        }
        read_key(self.about.key_type, content.expose(), key).map_err(|error| {
            let message = format!("{}: {error}", self.path.display());
            Failure::new(Class::Misuse, "not-a-key", message)
        })
    }

    /// The key in an open file of that name.
    fn key(&self, plaintext: &Plaintext) -> Result<Secret, Failure> {
        let length = usize::try_from(self.key_length()).unwrap_or(usize::MAX);
        let mut key = Secret::zeroed(length)
            .map_err(|error| Failure::new(Class::Internal, "locked-memory", error.to_string()))?;
        self.read(plaintext, key.expose_mut())?;
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
        u32::try_from(self.key_length()).unwrap_or(u32::MAX)
    }

    fn fill(&self, place: &mut [u8]) -> Result<(), Failure> {
        self.read(&Plaintext::open(&self.path, plan::MAX_KEY_FILE)?, place)
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

fn reported(config: &Config, plan: &plan::Plan, done: &[Done]) -> Report {
    let mut text = String::new();
    let (mut sealed, mut failed) = (Vec::new(), Vec::new());
    let mut first = None;
    let mut by_type: BTreeMap<&str, usize> = BTreeMap::new();
    for (file, done) in plan.files.iter().zip(done) {
        let (path, target) = (
            file.path.display().to_string(),
            file.target.display().to_string(),
        );
        if done.sealed {
            let removed = if done.removed {
                ", plaintext removed"
            } else {
                ""
            };
            text.push_str(&format!(
                "{}: sealed in {target}{removed}\n",
                file.about.name
            ));
            *by_type.entry(file.about.key_type.name()).or_default() += 1;
            sealed.push(json!({
                "name": file.about.name,
                "type": file.about.key_type.name(),
                "public_key": done.public_key,
                "file": path,
                "blob": target,
                "removed": done.removed,
            }));
        }
        if let Some(failure) = &done.failed {
            text.push_str(&format!("{}: {}\n", file.about.name, failure.message));
            failed.push(json!({ "name": file.about.name, "file": path, "error": failure.json() }));
            first.get_or_insert(failure);
        }
    }
    for path in &plan.skipped {
        text.push_str(&format!("{}: is sealed already\n", path.display()));
    }
    if plan.passed_over > 0 {
        text.push_str(&format!(
            "{} other files are no key files; --all seals all\n",
            plan.passed_over
        ));
    }
    let skipped: Vec<_> = plan
        .skipped
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Report {
        json: json!({
            "node": config.node,
            "sealed": sealed,
            "failed": failed,
            "skipped": skipped,
            "passed_over": plan.passed_over,
        }),
        text,
        failed: first.map(|first| Failure::some_of(failed.len(), plan.files.len(), first)),
    }
}
