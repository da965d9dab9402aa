//! `[aws_kms]` in the configuration file of a trusted side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::config::AwsKmsConfig;
use crate::tunnel::Roots;

/// The section as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsKmsSection {
    /// ARNs of the only keys that are used.
    allowed_keys: Vec<String>,
    /// Certificates, PEM, that KMS's must lead to; Mozilla's list where none is given.
    roots: Option<PathBuf>,
    /// Endpoints other than AWS's public ones, by region.
    #[serde(default)]
    endpoints: BTreeMap<String, String>,
    /// Longest that making or opening one lock takes, everything included, in seconds.
    deadline_s: Option<u16>,
    /// Longest that one attempt takes, in seconds.
    attempt_s: Option<u16>,
}

impl AwsKmsSection {
    /// The settings, with the files it names read; relative paths start at `beside`.
    ///
    /// # Errors
    /// Names the field and what is wrong with it.
    pub fn checked(self, beside: &Path) -> Result<AwsKmsConfig, String> {
        let default = AwsKmsConfig::default();
        Ok(AwsKmsConfig {
            roots: Roots::configured(self.roots, beside)?,
            allowed_keys: Some(self.allowed_keys),
            endpoints: self.endpoints,
            deadline: seconds("deadline_s", self.deadline_s, default.deadline)?,
            attempt: seconds("attempt_s", self.attempt_s, default.attempt)?,
            ..default
        })
    }
}

fn seconds(field: &str, given: Option<u16>, default: Duration) -> Result<Duration, String> {
    match given {
        Some(0) => Err(format!("{field}: must be at least 1")),
        Some(seconds) => Ok(Duration::from_secs(u64::from(seconds))),
        None => Ok(default),
    }
}
