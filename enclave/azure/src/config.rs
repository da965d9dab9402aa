//! What the trusted side's own configuration says about Azure.
//!
//! Nothing of it can be changed by the agent: that would be changing who may answer for a vault.

use std::time::Duration;

use nodeseal_core::tunnel::{Clock, Roots, TlsError};

use super::key_id::{KeyId, KeyIdError};

/// How Key Vault is reached and which of its keys are used.
#[derive(Clone, Debug)]
pub struct AzureConfig {
    /// Who may sign the certificates of vaults and attestation services.
    pub roots: Roots,
    /// Ids of the only keys that are used, of any version where none is named.
    pub allowed_keys: Vec<String>,
    /// Whether the resource in a vault's challenge must be the vault's domain (azure.md, section "Private names").
    pub verify_challenge_resource: bool,
    /// Longest that making or opening one lock takes, everything included.
    pub deadline: Duration,
    /// Longest that one attempt takes.
    pub attempt: Duration,
    /// Most attempts for faults that may pass; a vault that is too busy is asked until the deadline.
    pub attempts: u32,
    /// Longest pause before the second attempt at a busy vault, doubled each time up to sixteen times as much: 1, 2, 4,
    /// 8, 16 s (Azure Key Vault throttling guidance).
    pub throttle_pause: Duration,
    /// The time, for certificates and tokens.
    pub clock: Clock,
}

impl Default for AzureConfig {
    fn default() -> Self {
        Self {
            roots: Roots::WebPki,
            allowed_keys: Vec::new(),
            verify_challenge_resource: true,
            deadline: Duration::from_secs(45),
            attempt: Duration::from_secs(10),
            attempts: 5,
            throttle_pause: Duration::from_secs(1),
            clock: Clock::system(),
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AzureConfigError {
    /// The trust anchors cannot be used, or TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An allowed key is none.
    #[error("allowed keys: {0}")]
    AllowedKey(#[from] KeyIdError),
}

impl AzureConfig {
    /// The allowed keys, read.
    pub(crate) fn allowed(&self) -> Result<Vec<KeyId>, AzureConfigError> {
        let keys = self.allowed_keys.iter().map(|key| KeyId::parse(key));
        Ok(keys.collect::<Result<_, _>>()?)
    }
}
