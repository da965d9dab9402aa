//! Handing keys to the node and supervising it.
//!
//! [`Handover::prepare`] while the process has one thread, [`Handover::deliver`] for each key once it is open,
//! [`Handover::start`], then [`Node::supervise`]. What is delivered is in the kernel's memory (a sealed memfd, a
//! private filesystem, a pipe) and no longer in the agent's; only a key for standard input stays until the node has
//! read it.

mod channel;
mod encoded;
mod identity;
mod launch;
mod memfd;
mod node;
mod private_files;
mod settings;

use std::ffi::OsString;
use std::path::Path;

use nodeseal_memory::{LockMemoryError, Secret};

use crate::config::{Deliver, KeyEntry};

pub use encoded::encoded;
pub use identity::{Identity, IdentityError};
pub use launch::{LaunchArguments, launch};
pub use private_files::PrivateFilesError;
pub use settings::RunSettings;

pub use memfd::sealed_memfd;
use node::{Inherited, Node, NodeProcess, shown};
use private_files::PrivateFiles;

/// Keys could not be handed over, or the node not be started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The user or group to run as is not known.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Keys delivered as files: the place for them cannot be made.
    #[error(transparent)]
    Files(#[from] PrivateFilesError),
    /// No locked memory.
    #[error(transparent)]
    Memory(#[from] LockMemoryError),
    /// A memfd cannot be made.
    #[error("cannot put key {name:?} into a sealed memfd: {source}")]
    Memfd {
        /// The key.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A step of starting or supervising failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The node's program could not be executed.
    #[error("cannot start {}: {why}", shown(program))]
    NotStarted {
        /// The program.
        program: OsString,
        /// Why not.
        why: String,
        /// Exit status as a shell gives it: 127 not found, 126 not executable.
        status: u8,
    },
}

impl RunError {
    fn starting(step: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Step { step, source }
    }
}

/// Keys on their way to the node.
pub struct Handover {
    identity: Identity,
    files: PrivateFiles,
    inherited: Vec<Inherited>,
    paths: Vec<(String, String)>,
    input: Option<Secret>,
}

/// The running node, and the files it was given.
pub struct Started {
    node: Node,
    files: PrivateFiles,
}

impl Handover {
    /// Makes the places keys will be delivered to. Call it first, while the process has one thread.
    ///
    /// # Errors
    /// When the user is not known or the kernel does not allow a private filesystem that `entries` need.
    pub fn prepare(settings: &RunSettings, entries: &[KeyEntry]) -> Result<Self, RunError> {
        let identity = Identity::of(settings)?;
        let file = |entry: &'_ KeyEntry| match &entry.deliver {
            Deliver::File { path, .. } => Some(path.clone()),
            _ => None,
        };
        let files: Vec<_> = entries.iter().filter_map(file).collect();
        let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        Ok(Self {
            identity,
            files: PrivateFiles::mount_for(&files)?,
            inherited: Vec::new(),
            paths: Vec::new(),
            input: None,
        })
    }

    /// Puts an open key where the node will find it. The caller wipes `bytes` afterwards.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn deliver(&mut self, entry: &KeyEntry, bytes: &[u8]) -> Result<(), RunError> {
        let name = || entry.name.clone();
        match &entry.deliver {
            Deliver::Memfd { fd } => {
                let made = encoded(entry.encoding, bytes, |bytes| {
                    sealed_memfd(&entry.name, bytes, &self.identity)
                })?;
                let descriptor = made.map_err(|source| RunError::Memfd {
                    name: name(),
                    source,
                })?;
                self.inherited.push(Inherited {
                    name: name(),
                    number: *fd,
                    descriptor,
                });
            }
            Deliver::File { path, uid } => {
                let mut owner = self.identity.clone();
                owner.uid = uid.unwrap_or(owner.uid);
                encoded(entry.encoding, bytes, |bytes| {
                    self.files.write(path, bytes, &owner)
                })??;
                self.paths.push((name(), path.display().to_string()));
            }
            Deliver::Stdin => {
                self.input = Some(encoded(entry.encoding, bytes, |bytes| {
                    let mut key = Secret::zeroed(bytes.len())?;
                    key.expose_mut().copy_from_slice(bytes);
                    Ok::<_, LockMemoryError>(key)
                })??);
                self.paths.push((name(), "/proc/self/fd/0".to_owned()));
            }
        }
        Ok(())
    }

    /// Starts the node: `command` is its program and arguments, where `{NAME}` stands for the path of the key NAME.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self, command: &[OsString]) -> Result<Started, RunError> {
        self.files.finish(&self.identity)?;
        let node = NodeProcess {
            command,
            identity: &self.identity,
            inherited: self.inherited,
            paths: &self.paths,
            input: self.input,
        };
        Ok(Started {
            node: node.start()?,
            files: self.files,
        })
    }
}

impl Started {
    /// Waits for the node's end and takes away what was made for it; the exit code a shell would give.
    ///
    /// # Errors
    /// When the kernel does not tell how the node ended.
    pub async fn supervise(self) -> Result<u8, RunError> {
        let outcome = self.node.supervise().await;
        drop(self.files);
        outcome
    }
}
