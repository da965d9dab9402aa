//! What the configuration says about the way out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::hosts::Target;
use crate::config::duration;

/// `[egress]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressSettings {
    /// Hosts besides the KMS endpoints of the keys at hand: "HOST:PORT".
    #[serde(default)]
    pub hosts: Vec<Target>,
    /// Where a host is really reached, for private endpoints and simulators: "HOST:PORT" = "HOST:PORT".
    #[serde(default)]
    pub addresses: BTreeMap<Target, Target>,
    /// Where the proxy's socket is made; the trusted side must be able to reach it. None takes `/run` for root and
    /// the directory for temporary files for others.
    pub directory: Option<PathBuf>,
    /// How long resolving and connecting may take together.
    #[serde(default = "ten_seconds", deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// How long a tunnel may be silent in both directions.
    #[serde(default = "one_minute", deserialize_with = "duration::deserialize")]
    pub idle_timeout: Duration,
}

impl Default for EgressSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            addresses: BTreeMap::new(),
            directory: None,
            connect_timeout: ten_seconds(),
            idle_timeout: one_minute(),
        }
    }
}

impl EgressSettings {
    /// Makes a relative path one that starts at `base`.
    pub fn resolve(&mut self, base: &Path) {
        self.directory = self.directory.as_ref().map(|path| base.join(path));
    }

    /// The directory the proxy's own is made in.
    #[must_use]
    pub fn parent(&self) -> PathBuf {
        match &self.directory {
            Some(directory) => directory.clone(),
            None if rustix::process::geteuid().is_root() => PathBuf::from("/run"),
            None => std::env::temp_dir(),
        }
    }
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}
