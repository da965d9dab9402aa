//! `run`: opens the configured keys as one batch, hands them over, and supervises the node.

use nodeseal_wire::message::{Class, Refusal};

use super::{App, connect};
use crate::audit::{Kind, Trail};
use crate::cli::RunArgs;
use crate::client::{BlobSource, open_blobs};
use crate::config::Config;
use crate::context::gather;
use crate::failure::Failure;
use crate::report::warn;
use crate::run::{Handover, IdentityError, RunError};
use crate::selection::check_blob;

/// Runs the node; its exit status as a shell gives it.
///
/// # Errors
/// When a key was refused or could not be handed over, or the node not be started. It was not started then.
pub fn run(app: &App, args: &RunArgs) -> Result<u8, Failure> {
    let config = app.config()?;
    if config.entries.is_empty() {
        return Err(Failure::usage(
            "the configuration has no [[key]] to hand over: add one for each key the node needs (docs/cli.md, \"Keys\")",
        ));
    }
    // First of all, while there is one thread.
    let mut handover = Handover::prepare(&config.run, &config.entries)?;
    app.wait_for(async {
        open_all(&config, &mut handover).await?;
        let started = match handover.start(&args.command) {
            Err(RunError::NotStarted {
                program,
                why,
                status,
            }) => {
                warn(&format!("error: cannot start {}: {why}", program.display()));
                return Ok(status);
            }
            outcome => outcome?,
        };
        Ok(started.supervise().await?)
    })
}

/// Opens every configured key into `handover`. All of them, or it fails: a node that misses a key is not started.
async fn open_all(config: &Config, handover: &mut Handover) -> Result<(), Failure> {
    let source = |entry: &crate::config::KeyEntry| BlobSource {
        path: entry.blob.clone(),
        name: Some(entry.name.clone()),
    };
    let sources: Vec<_> = config.entries.iter().map(source).collect();
    let mut trail = Trail::new(Kind::Open, &config.node);
    let mut failed: Vec<Failure> = Vec::new();
    let opened = async {
        let mut connection = connect(config).await?;
        let context = gather(config)?;
        open_blobs(
            &mut connection,
            &config.node,
            context,
            sources,
            |index, opened| {
                let Some(entry) = config.entries.get(index) else {
                    return Ok(());
                };
                match opened {
                    Ok(opened) => match check_blob(config, entry, opened.blob) {
                        Ok(()) => {
                            trail.done(&entry.name, opened.blob);
                            if failed.is_empty() {
                                handover.deliver(entry, opened.key)?;
                            }
                        }
                        Err(failure) => {
                            trail.refused(&entry.name, Some(&entry.blob), &failure.refusal());
                            failed.push(failure.of(&entry.name));
                        }
                    },
                    Err(refusal) => {
                        trail.refused(&entry.name, Some(&entry.blob), &refusal);
                        failed.push(Failure::from(refusal).of(&entry.name));
                    }
                }
                Ok::<_, Failure>(())
            },
        )
        .await
    }
    .await;
    let reports = opened.unwrap_or_else(|failure| {
        trail.failed(&Refusal {
            class: failure.class,
            code: failure.code.clone(),
            message: failure.message.clone(),
        });
        failed.push(failure);
        Vec::new()
    });
    trail.record(&config.audit, &reports)?;
    match failed.first() {
        Some(first) => Err(Failure::some_of(failed.len(), config.entries.len(), first)),
        None => Ok(()),
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let (class, code) = match &error {
            RunError::Identity(IdentityError::Read { .. }) => (Class::Internal, "file"),
            RunError::Identity(_) => (Class::Misuse, "configuration"),
            RunError::Files(_) => (Class::Internal, "private-files"),
            RunError::Memory(_) => (Class::Internal, "locked-memory"),
            RunError::Memfd { .. } => (Class::Internal, "memfd"),
            RunError::Step { .. } => (Class::Internal, "node"),
            RunError::NotStarted { .. } => (Class::Misuse, "node-not-started"),
        };
        Self::new(class, code, error.to_string())
    }
}
