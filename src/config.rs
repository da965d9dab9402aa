//! The one configuration file: TOML, every field typed, unknown fields refused, paths relative to the file.
//!
//! docs/cli.md is its reference; `nodeseal init` writes one with comments.

mod address;
pub mod duration;
mod key;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nodeseal_wire::header::{MAX_LOCKS, MAX_WAYS, check_name};
use nodeseal_wire::lock::{LockSpec, MAX_KEY_ID};
use nodeseal_wire::message::WaySpec;
use serde::Deserialize;

use crate::audit::AuditSettings;
use crate::azure::{self, Identity};
use crate::egress::EgressSettings;
use crate::run::RunSettings;

pub use address::Address;
pub use key::{Deliver, Encoding, KeyEntry};

/// Where the configuration is looked for when `--config` is not given, in this order.
pub const DEFAULT_PATHS: [&str; 2] = ["nodeseal.toml", "/etc/nodeseal/nodeseal.toml"];
/// What the file name of a sealed blob ends with.
pub const BLOB_SUFFIX: &str = ".sealed";

/// The configuration of one node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's id, in the header of each of its blobs.
    pub node: String,
    /// Directory of sealed blobs: the key `NAME` is in `NAME.sealed` unless its entry says otherwise.
    #[serde(default = "default_keys")]
    pub keys: PathBuf,
    /// Directory of PCR policies signed offline (`*.json`), passed along with each request.
    pub policies: Option<PathBuf>,
    /// Where the trusted side is.
    pub trusted: Trusted,
    /// Ways new data keys are locked in: any one opens.
    #[serde(default, rename = "way")]
    ways: Vec<Way>,
    /// The node's keys, as `nodeseal run` hands them over.
    #[serde(default, rename = "key")]
    pub entries: Vec<KeyEntry>,
    /// As whom `nodeseal run` runs the node.
    #[serde(default)]
    pub run: RunSettings,
    /// Where every open, refusal, seal and generate is recorded.
    #[serde(default)]
    pub audit: AuditSettings,
    /// As whom Azure's vaults are asked.
    #[serde(default, rename = "azure")]
    pub identities: Vec<Identity>,
    /// Where an Azure host gives the certificates of its processor.
    #[serde(default = "default_amd_certification")]
    pub amd_certification: String,
    /// How the trusted side gets out to key management services.
    #[serde(default)]
    pub egress: EgressSettings,
}

/// Where the trusted side is, and how long it may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// Its address.
    pub address: Address,
    /// How long a connection may take to stand.
    #[serde(default = "five_seconds", deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// How long one answer may take: key management services and TPMs are slow.
    #[serde(default = "one_minute", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// How long a key service that is too busy is asked again.
    #[serde(default = "ten_minutes", deserialize_with = "duration::deserialize")]
    pub patience: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Way {
    label: String,
    locks: Vec<LockEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
enum LockEntry {
    // Braces, because serde refuses unknown fields of struct variants only.
    Tpm {},
    AwsKms { key: String, attested: bool },
    AzureUnwrap { key: String },
    AzureRelease { key: String, attestation: String },
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none where it is looked for.
    #[error("no configuration file: looked for {looked_for}")]
    Missing {
        /// The places, separated by " and ".
        looked_for: String,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not the TOML this program takes.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Field, expected and found, with the line where known.
        problem: String,
    },
}

impl Config {
    /// Reads the file at `path`, or the first of [`DEFAULT_PATHS`] that exists.
    ///
    /// # Errors
    /// When there is none, or it is not a valid configuration.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let path = match path {
            Some(path) => path,
            None => DEFAULT_PATHS
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
                .ok_or_else(|| ConfigError::Missing {
                    looked_for: DEFAULT_PATHS.join(" and "),
                })?,
        };
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).map_err(|problem| ConfigError::Invalid {
            path: path.to_owned(),
            problem,
        })
    }

    /// Reads the text of a configuration whose relative paths start at `base`.
    fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        config.check()?;
        config.keys = base.join(&config.keys);
        config.policies = config.policies.map(|policies| base.join(policies));
        config.trusted.address.resolve(base);
        config.audit.resolve(base);
        config.egress.resolve(base);
        for identity in &mut config.identities {
            identity.resolve(base);
        }
        for entry in &mut config.entries {
            entry.resolve(base, &config.keys);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        check_name("node", &self.node).map_err(|error| error.to_string())?;
        at_most("[[way]] entries", self.ways.len(), MAX_WAYS)?;
        for (index, way) in self.ways.iter().enumerate() {
            way.check()?;
            if self
                .ways
                .iter()
                .skip(index + 1)
                .any(|w| w.label == way.label)
            {
                return Err(format!("two ways have the label {:?}", way.label));
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let mut later = self.entries.iter().skip(index + 1);
            if later.any(|other| other.name == entry.name) {
                return Err(format!("two keys have the name {:?}", entry.name));
            }
        }
        azure::check_identities(&self.identities)?;
        let on_stdin = |entry: &&KeyEntry| matches!(entry.deliver, Deliver::Stdin);
        if let [first, second, ..] = self.entries.iter().filter(on_stdin).collect::<Vec<_>>()[..] {
            return Err(format!(
                "keys {:?} and {:?}: only one key can be delivered on standard input",
                first.name, second.name
            ));
        }
        Ok(())
    }

    /// The ways to lock a new data key in.
    #[must_use]
    pub fn way_specs(&self) -> Vec<WaySpec> {
        let spec = |lock: &LockEntry| match lock {
            LockEntry::Tpm {} => LockSpec::Tpm,
            LockEntry::AwsKms { key, attested } => LockSpec::AwsKms {
                key: key.clone(),
                attested: *attested,
            },
            LockEntry::AzureUnwrap { key } => LockSpec::AzureUnwrap { key: key.clone() },
            LockEntry::AzureRelease { key, attestation } => LockSpec::AzureRelease {
                key: key.clone(),
                attestation: attestation.clone(),
            },
        };
        let way = |way: &Way| WaySpec {
            label: way.label.clone(),
            locks: way.locks.iter().map(spec).collect(),
        };
        self.ways.iter().map(way).collect()
    }

    /// The entry of the key of that name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&KeyEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Where the key of that name is, or would be, sealed.
    #[must_use]
    pub fn blob_path(&self, name: &str) -> PathBuf {
        match self.entry(name) {
            Some(entry) => entry.blob.clone(),
            None => self.keys.join(format!("{name}{BLOB_SUFFIX}")),
        }
    }
}

impl Way {
    fn check(&self) -> Result<(), String> {
        check_name("way label", &self.label).map_err(|error| error.to_string())?;
        if self.locks.is_empty() {
            return Err(format!("way {:?} has no locks", self.label));
        }
        at_most("locks of a way", self.locks.len(), MAX_LOCKS)?;
        let has_tpm = self
            .locks
            .iter()
            .any(|lock| matches!(lock, LockEntry::Tpm {}));
        for lock in &self.locks {
            lock.check(has_tpm)
                .map_err(|problem| format!("way {:?}: {problem}", self.label))?;
        }
        Ok(())
    }
}

impl LockEntry {
    fn check(&self, has_tpm: bool) -> Result<(), String> {
        match self {
            Self::Tpm {} => Ok(()),
            Self::AwsKms { key, .. } if key.is_empty() || key.len() > MAX_KEY_ID => {
                Err("aws-kms key is not an ARN".to_owned())
            }
            Self::AwsKms {
                attested: false, ..
            } if !has_tpm => {
                Err("an aws-kms lock without attestation needs a tpm lock beside it".to_owned())
            }
            Self::AwsKms { .. } => Ok(()),
            Self::AzureUnwrap { key } => {
                azure::check_key(key)?;
                match has_tpm {
                    true => Ok(()),
                    false => Err(
                        "an azure-unwrap lock opens for whoever has the identity, whatever software that runs: it needs \
                         a tpm lock beside it"
                            .to_owned(),
                    ),
                }
            }
            Self::AzureRelease { key, attestation } => {
                azure::check_key(key)?;
                azure::check_service(attestation)
            }
        }
    }
}

fn at_most(what: &str, found: usize, limit: usize) -> Result<(), String> {
    if found <= limit {
        return Ok(());
    }
    Err(format!("{found} {what}, where at most {limit} are allowed"))
}

fn default_keys() -> PathBuf {
    PathBuf::from("keys")
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn default_amd_certification() -> String {
    azure::AMD_CERTIFICATION.to_owned()
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

#[cfg(test)]
mod tests;
