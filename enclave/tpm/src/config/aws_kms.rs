//! `[aws_kms]`: AWS KMS beside the TPM, in one way with a `tpm` lock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodeseal_core::aws::AwsKmsConfig;
use nodeseal_core::tunnel::Roots;
use serde::Deserialize;

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AwsKmsSection {
    /// ARNs of the only keys that are used.
    allowed_keys: Vec<String>,
    /// Certificates, PEM, that KMS's must lead to; Mozilla's list where none is given.
    roots: Option<PathBuf>,
    /// Endpoints other than AWS's public ones, by region.
    #[serde(default)]
    endpoints: BTreeMap<String, String>,
}

impl AwsKmsSection {
    pub(super) fn checked(self, beside: &Path) -> Result<AwsKmsConfig, String> {
        let roots = match self.roots {
            None => Roots::WebPki,
            Some(path) => {
                let path = beside.join(path);
                let pem = std::fs::read(&path)
                    .map_err(|error| format!("roots: {}: {error}", path.display()))?;
                Roots::Pem(pem)
            }
        };
        Ok(AwsKmsConfig {
            roots,
            allowed_keys: Some(self.allowed_keys),
            endpoints: self.endpoints,
            ..AwsKmsConfig::default()
        })
    }
}
