//! `[azure]`: Azure Key Vault beside the TPM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nodeseal_azure::AzureConfig;
use nodeseal_core::tunnel::Roots;
use serde::Deserialize;

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
}

fn default_true() -> bool {
    true
}

impl AzureSection {
    pub(super) fn checked(self, beside: &Path) -> Result<AzureConfig, String> {
        if self.allowed_keys.is_empty() {
            return Err("allowed_keys is empty: then no key can be used".to_owned());
        }
        let default = AzureConfig::default();
        Ok(AzureConfig {
            roots: Roots::configured(self.roots, beside)?,
            allowed_keys: self.allowed_keys,
            verify_challenge_resource: self.verify_challenge_resource,
            deadline: match self.deadline_s {
                None => default.deadline,
                Some(0) => return Err("deadline_s must be at least 1".to_owned()),
                Some(seconds) => Duration::from_secs(u64::from(seconds)),
            },
            ..default
        })
    }
}
