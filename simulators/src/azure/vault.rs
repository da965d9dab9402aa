//! Azure Key Vault over HTTPS: keys, roles, secure key release with its policies, throttling, and faults on demand.

mod admin;
mod answer;
mod audit;
mod caller;
mod cipher;
mod faults;
mod key;
mod limit;
mod manage;
mod names;
mod release;
mod roles;
mod server;
mod store;

pub use admin::serve_admin;
pub use faults::VaultFault;
pub use limit::Limit;
pub use roles::Assignment;
pub use server::serve;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nodeseal_attestation::azure::Jwks;
use nodeseal_attestation::policy::azure::Operators;

use super::discovery::Discovery;
use super::faults::FaultQueue;
use crate::files::FileError;
use crate::pki::{FrontEnd, PkiError};
use crate::records::Records;
use crate::state::StateError;
use crate::time::Clock;
use limit::Window;
use store::Store;

/// What a simulated vault is started with.
pub struct VaultConfig {
    /// Holds keys.json and audit.jsonl.
    pub directory: PathBuf,
    /// Name of the vault, in resource ids.
    pub name: String,
    /// Whose tokens it takes.
    pub tenant: String,
    /// Where they are to be had, for the challenge: `https://login.microsoftonline.com`.
    pub authority: String,
    /// Audience they must be for.
    pub resource: String,
    /// Keys of the token service.
    pub token_keys: Jwks,
    /// Looks up who signs attestation tokens.
    pub discovery: Discovery,
    /// Signs released keys.
    pub front_end: FrontEnd,
    /// Another vault's, which is not trusted, for faults.
    pub stranger: FrontEnd,
    /// Which operators of release policies it knows.
    pub operators: Operators,
    /// What it does in a time.
    pub limit: Limit,
    /// Whether 429 says when to come again.
    pub retry_after: bool,
    /// Days a deleted key can be recovered.
    pub recoverable_days: u64,
    /// Roles assigned at the start, besides those kept.
    pub assignments: Vec<Assignment>,
    /// The present.
    pub clock: Clock,
}

/// A vault could not be started.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Its state could not be loaded.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its audit log cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its signing key cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A vault, and everything that answers for it.
pub struct Vault {
    config: VaultConfig,
    store: Store,
    audit: Records,
    faults: FaultQueue<VaultFault>,
    window: Window,
    /// The last key released, for a replay.
    last_release: Mutex<Option<String>>,
}

impl Vault {
    /// Loads the state, or starts without keys.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn open(config: VaultConfig) -> Result<Self, VaultError> {
        let store = Store::in_directory(&config.directory)?;
        for assignment in &config.assignments {
            store.assign(assignment.clone())?;
        }
        Ok(Self {
            audit: Records::at(&config.directory.join("audit.jsonl"))?,
            window: Window::new(config.limit),
            store,
            faults: FaultQueue::default(),
            last_release: Mutex::default(),
            config,
        })
    }

    /// Faults to come.
    #[must_use]
    pub fn faults(&self) -> &FaultQueue<VaultFault> {
        &self.faults
    }

    /// The clock tokens and limits are judged by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.config.clock
    }

    /// The file audit records are appended to.
    #[must_use]
    pub fn audit_path(&self) -> &Path {
        self.audit.path()
    }
}
