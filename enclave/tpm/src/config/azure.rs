//! `[azure]`: Azure Key Vault beside the TPM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nodeseal_azure::{AzureConfig, ReleaseConfig};
use nodeseal_core::tunnel::Roots;
use serde::Deserialize;

/// Where the kernel gives the boot's event log.
const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// Azure Key Vault as configured.
#[derive(Clone, Debug)]
pub struct AzureSettings {
    /// Vaults and their keys.
    pub vaults: AzureConfig,
    /// What is asked before a released key is used, and the boot's event log; none where no key is released.
    pub release: Option<(ReleaseConfig, PathBuf)>,
}

/// `[azure.release]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseSection {
    attestation_services: Vec<String>,
    #[serde(default = "default_event_log")]
    event_log: PathBuf,
    signer_roots: Option<PathBuf>,
    signer_names: Option<Vec<String>>,
    #[serde(default)]
    require_nonce_echo: bool,
    #[serde(default = "default_true")]
    require_secure_boot: bool,
    #[serde(default)]
    allow_debug: bool,
    #[serde(default)]
    allow_trusted_launch: bool,
    vm_id: Option<String>,
}

fn default_event_log() -> PathBuf {
    PathBuf::from(EVENT_LOG)
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AzureSection {
    /// Ids of the only keys that are used, of any version where none is named.
    allowed_keys: Vec<String>,
    /// Certificates, PEM, that those of vaults and attestation services must lead to; Mozilla's list where none is given.
    roots: Option<PathBuf>,
    /// Whether the resource a vault names in its challenge must be its domain; false for vaults under names of your own.
    #[serde(default = "default_true")]
    verify_challenge_resource: bool,
    /// Longest that one lock may take.
    deadline_s: Option<u16>,
    /// Secure key release.
    release: Option<ReleaseSection>,
}

fn default_true() -> bool {
    true
}

impl AzureSection {
    pub(super) fn checked(self, beside: &Path) -> Result<AzureSettings, String> {
        if self.allowed_keys.is_empty() {
            return Err("allowed_keys is empty: then no key can be used".to_owned());
        }
        let default = AzureConfig::default();
        let release = self
            .release
            .map(|section| section.checked(beside))
            .transpose()?;
        let vaults = AzureConfig {
            roots: Roots::configured(self.roots, beside)?,
            allowed_keys: self.allowed_keys,
            verify_challenge_resource: self.verify_challenge_resource,
            deadline: match self.deadline_s {
                None => default.deadline,
                Some(0) => return Err("deadline_s must be at least 1".to_owned()),
                Some(seconds) => Duration::from_secs(u64::from(seconds)),
            },
            ..default
        };
        Ok(AzureSettings { vaults, release })
    }
}

impl ReleaseSection {
    fn checked(self, beside: &Path) -> Result<(ReleaseConfig, PathBuf), String> {
        let default = ReleaseConfig::default();
        let config = ReleaseConfig {
            attestation_services: self.attestation_services,
            signer_roots: Roots::configured(self.signer_roots, beside)
                .map_err(|problem| format!("release.signer_{problem}"))?,
            signer_names: self.signer_names.unwrap_or(default.signer_names),
            require_nonce_echo: self.require_nonce_echo,
            require_secure_boot: self.require_secure_boot,
            allow_debug: self.allow_debug,
            allow_trusted_launch: self.allow_trusted_launch,
            vm_id: self.vm_id,
            attestation_api: default.attestation_api,
        };
        config
            .check()
            .map_err(|error| format!("release: {error}"))?;
        Ok((config, beside.join(self.event_log)))
    }
}
