//! What the trusted side's own configuration says about Azure.
//!
//! Nothing of it can be changed by the agent: that would be changing who may answer for a vault.

use std::time::Duration;

use nodeseal_core::tunnel::{Clock, Roots, TlsError};

use nodeseal_core::refusal::refuse;
use nodeseal_wire::message::{Class, Refusal};

use super::key_id::{KeyId, KeyIdError, is_host};

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

/// What is asked of machines and answers before a released key is used.
///
/// Points that are not confirmed about Azure are switches here (docs/azure.md, "What is not confirmed").
#[derive(Clone, Debug)]
pub struct ReleaseConfig {
    /// Addresses of the only attestation services that are asked, `https://HOST`.
    pub attestation_services: Vec<String>,
    /// Version of the attestation service's API.
    pub attestation_api: String,
    /// Who may sign the certificates of vaults' answers. Which root Azure's lead to is not confirmed.
    pub signer_roots: Roots,
    /// Names the signer's certificate may have beside the vault's host. A sample has `vault.azure.net`.
    pub signer_names: Vec<String>,
    /// Whether an answer must carry the nonce that was sent. That vaults echo it is not confirmed.
    pub require_nonce_echo: bool,
    /// Whether Secure Boot must have been on.
    pub require_secure_boot: bool,
    /// Whether debugging may be on.
    pub allow_debug: bool,
    /// Whether a Trusted Launch machine will do. That keys are released to one is not confirmed.
    pub allow_trusted_launch: bool,
    /// Unique id of the only machine, where it matters.
    pub vm_id: Option<String>,
}

impl Default for ReleaseConfig {
    fn default() -> Self {
        Self {
            attestation_services: Vec::new(),
            attestation_api: "2020-10-01".to_owned(),
            signer_roots: Roots::WebPki,
            signer_names: vec!["vault.azure.net".to_owned()],
            require_nonce_echo: false,
            require_secure_boot: true,
            allow_debug: false,
            allow_trusted_launch: false,
            vm_id: None,
        }
    }
}

impl ReleaseConfig {
    /// Refuses a service the configuration does not list, before anything is sent to it.
    pub(crate) fn check_service(&self, service: &str) -> Result<(), Refusal> {
        if self.attestation_services.iter().any(|own| own == service) {
            return Ok(());
        }
        let message = format!(
            "the configuration of this trusted side does not allow attestation service {service}; allowed: {}",
            self.attestation_services.join(", ")
        );
        Err(refuse(
            Class::Denied,
            "azure-attestation-not-allowed",
            message,
        ))
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
    /// An attestation service is no address.
    #[error("attestation services: {0:?} is not https://HOST")]
    Service(String),
}

impl ReleaseConfig {
    /// Checks what is only looked at when a key is released.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn check(&self) -> Result<(), AzureConfigError> {
        self.signer_roots.store()?;
        let bad = |service: &&String| !service.strip_prefix("https://").is_some_and(is_host);
        match self.attestation_services.iter().find(bad) {
            Some(service) => Err(AzureConfigError::Service(service.clone())),
            None => Ok(()),
        }
    }
}

impl AzureConfig {
    /// The allowed keys, read.
    pub(crate) fn allowed(&self) -> Result<Vec<KeyId>, AzureConfigError> {
        let keys = self.allowed_keys.iter().map(|key| KeyId::parse(key));
        Ok(keys.collect::<Result<_, _>>()?)
    }
}
