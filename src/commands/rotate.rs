//! `rotate`: the same keys under a new data key, each blob replaced in place, the old one kept until the new one opened.

use std::path::PathBuf;

use nodeseal_wire::blob::Blob;
use nodeseal_wire::header::Header;
use nodeseal_wire::message::{Class, NewKey, Refusal};
use serde_json::json;

use super::{App, connect, recorded};
use crate::audit::{Kind, Trail};
use crate::cli::RotateArgs;
use crate::client::{BlobSource, Connection, Opened, open_blobs};
use crate::config::Config;
use crate::context::gather;
use crate::failure::Failure;
use crate::files::{KeptOld, old_path, replace};
use crate::public_key::hex;
use crate::report::Report;
use crate::sealing::{Planned, Sealer};
use crate::selection::{check_type, select, select_all};

/// A blob on its way to a new data key.
struct Rotated {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Header,
    /// The old blob, while the new one is not proved.
    kept: Option<KeptOld>,
    /// The new blob's header.
    new: Option<Header>,
    failed: Option<Failure>,
}

/// Rotates the keys.
///
/// # Errors
/// When none could be rotated. What failed for single keys is in the report.
pub fn run(app: &App, args: &RotateArgs) -> Result<Report, Failure> {
    let config = app.config()?;
    let sources = match args.all {
        true => select_all(&config)?,
        false => select(&config, &args.keys)?,
    };
    let mut keys: Vec<Rotated> = sources
        .into_iter()
        .map(|source| read(&config, source))
        .collect::<Result<_, _>>()?;
    let worked = app.wait_for(async {
        let mut connection = connect(&config).await?;
        seal_again(&mut connection, &config, &mut keys).await?;
        prove(&mut connection, &config, &mut keys).await
    });
    let mut report = reported(&config, &keys);
    match worked {
        Err(failure) if keys.iter().all(|key| key.new.is_none()) => Err(failure),
        Err(failure) => {
            report.failed = Some(failure);
            Ok(report)
        }
        Ok(()) => Ok(report),
    }
}

fn read(config: &Config, source: BlobSource) -> Result<Rotated, Failure> {
    let BlobSource { path, name } = source;
    let bytes = std::fs::read(&path).map_err(|error| {
        let message = format!("{}: cannot read: {error}", path.display());
        Failure::new(Class::Internal, "file", message)
    })?;
    let header = match Blob::parse(&bytes) {
        Ok(blob) => blob.header,
        Err(error) => {
            let message = format!("{}: {error}", path.display());
            return Err(Failure::new(Class::Damaged, "blob-malformed", message));
        }
    };
    check_type(config, &header).map_err(|failure| failure.of(path.display()))?;
    if let Some(name) = name.as_ref().filter(|name| **name != header.name) {
        let message = format!(
            "{}: the blob holds key \"{}\", expected \"{name}\"",
            path.display(),
            header.name
        );
        return Err(Failure::new(Class::Damaged, "wrong-name", message));
    }
    Ok(Rotated {
        path,
        bytes,
        header,
        kept: None,
        new: None,
        failed: None,
    })
}

async fn seal_again(
    connection: &mut Connection,
    config: &Config,
    keys: &mut [Rotated],
) -> Result<(), Failure> {
    let mut trail = Trail::new(Kind::Rotate, &config.node);
    let mut sealer = Sealer::new(connection, config, gather(config)?, None);
    let mut keys = keys;
    let mut outcome = Ok(());
    while outcome.is_ok() && !keys.is_empty() {
        let count = sealer.fitting(keys);
        let (now, later) = keys.split_at_mut_checked(count).unwrap_or_default();
        outcome = seal_some(&mut sealer, now, &mut trail).await;
        keys = later;
    }
    recorded(trail, config, outcome.map(|()| sealer.reports))?;
    Ok(())
}

async fn seal_some(
    sealer: &mut Sealer<'_>,
    keys: &mut [Rotated],
    trail: &mut Trail,
) -> Result<(), Failure> {
    let sealed = sealer.seal(keys).await?;
    for (key, sealed) in keys.iter_mut().zip(sealed) {
        let replaced = match sealed {
            Ok(blob) => {
                trail.done(&key.header.name, &blob);
                key.replace_by(&blob)
            }
            Err(refusal) => {
                trail.refused(&key.header.name, Some(&key.path), &refusal);
                Err(key.told(refusal.into()))
            }
        };
        key.failed = replaced.err();
    }
    Ok(())
}

impl Rotated {
    /// Tells of a failure, and where an earlier rotation was interrupted, of the blob it kept.
    fn told(&self, failure: Failure) -> Failure {
        let mut failure = failure.of(self.path.display());
        if KeptOld::left_of(&self.path).is_some() {
            let old = old_path(&self.path);
            failure.message.push_str(&format!(
                "; {} is from before an interrupted rotation",
                old.display()
            ));
        }
        failure
    }

    /// The blob opened just now, so one that an interrupted rotation kept has done its duty.
    fn replace_by(&mut self, blob: &[u8]) -> Result<(), Failure> {
        let unfit = || {
            let message = format!(
                "{}: the new blob does not hold the same key",
                self.path.display()
            );
            Failure::new(Class::Internal, "changed", message)
        };
        let new = Blob::parse(blob).map_err(|_| unfit())?.header;
        if !same_key(&self.header, &new) {
            return Err(unfit());
        }
        if let Some(kept) = KeptOld::left_of(&self.path) {
            kept.discard()?;
        }
        self.kept = Some(replace(&self.path, blob)?);
        self.new = Some(new);
        Ok(())
    }
}

impl Rotated {
    /// The new blob was opened, or refused: the old one goes, or comes back.
    fn proved(
        &mut self,
        opened: Result<Opened<'_>, Refusal>,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        let Some(kept) = self.kept.take() else {
            return Ok(());
        };
        match opened {
            Ok(opened) => {
                trail.done(&self.header.name, opened.blob);
                Ok(kept.discard()?)
            }
            Err(refusal) => {
                trail.refused(&self.header.name, Some(&self.path), &refusal);
                self.new = None;
                kept.restore()?;
                Err(Failure::from(refusal).of(self.path.display()))
            }
        }
    }
}

fn same_key(old: &Header, new: &Header) -> bool {
    (
        &old.node,
        &old.name,
        old.key_type,
        &old.public_key,
        old.release,
    ) == (
        &new.node,
        &new.name,
        new.key_type,
        &new.public_key,
        new.release,
    )
}

/// Opens each new blob as it is on disk. A key with a public half is then proved by the trusted side to be the same; an
/// opaque one by its tag.
async fn prove(
    connection: &mut Connection,
    config: &Config,
    keys: &mut [Rotated],
) -> Result<(), Failure> {
    let mut replaced: Vec<&mut Rotated> =
        keys.iter_mut().filter(|key| key.kept.is_some()).collect();
    let source = |key: &&mut Rotated| BlobSource {
        path: key.path.clone(),
        name: Some(key.header.name.clone()),
    };
    let sources: Vec<_> = replaced.iter().map(source).collect();
    let context = gather(config)?;
    let mut trail = Trail::new(Kind::Open, &config.node);
    let opened = open_blobs(
        connection,
        &config.node,
        context,
        sources,
        |index, opened| {
            if let Some(key) = replaced.get_mut(index) {
                key.failed = key.proved(opened, &mut trail).err();
            }
            Ok::<_, Failure>(())
        },
    );
    let opened = opened.await;
    recorded(trail, config, opened)?;
    Ok(())
}

impl Planned for Rotated {
    fn new_key(&self) -> NewKey {
        NewKey::Resealed {
            length: self.length(),
        }
    }

    fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn fill(&self, place: &mut [u8]) -> Result<(), Failure> {
        place.copy_from_slice(&self.bytes);
        Ok(())
    }
}

fn reported(config: &Config, keys: &[Rotated]) -> Report {
    let (mut text, mut rotated, mut failed) = (String::new(), Vec::new(), Vec::new());
    let mut first = None;
    for key in keys {
        let path = key.path.display().to_string();
        if let Some(new) = &key.new {
            text.push_str(&format!(
                "{}: generation {} in {path}\n",
                new.name, new.generation
            ));
            rotated.push(json!({
                "name": new.name,
                "blob": path,
                "generation": new.generation,
                "data_key": hex(&new.data_key_id),
                "old_kept": key.kept.as_ref().map(|_| old_path(&key.path).display().to_string()),
            }));
        }
        if let Some(failure) = &key.failed {
            text.push_str(&format!("{}: {}\n", key.header.name, failure.message));
            failed.push(json!({ "name": key.header.name, "blob": path, "error": failure.json() }));
            first.get_or_insert(failure);
        }
    }
    Report {
        json: json!({ "node": config.node, "rotated": rotated, "failed": failed }),
        text,
        failed: first.map(|first| Failure::some_of(failed.len(), keys.len(), first)),
    }
}
