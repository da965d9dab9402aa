//! Configuration of nodeseal-tpm: one TOML file, every field typed, unknown ones refused, paths relative to the file.

mod accounts;
mod azure;
mod signer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nodeseal_core::aws::{AwsKmsConfig, AwsKmsSection};
pub use nodeseal_core::settings::ConfigError;
use nodeseal_core::settings::{read_text, read_toml};
use nodeseal_wire::lock::{PcrBank, PolicySigner};
use serde::Deserialize;

use crate::lock::SealTo;
use crate::tcti::{Tcti, TctiError};
use crate::tpm::PcrSelection;

pub use accounts::Account;
use azure::AzureSection;
pub use azure::AzureSettings;

/// PCRs new blobs are sealed to when the configuration names none; docs/tpm.md says why these.
const DEFAULT_PCRS: [u8; 3] = [7, 11, 12];

/// What nodeseal-tpm is to do.
#[derive(Debug)]
pub struct Config {
    /// Where the TPM is.
    pub tcti: Tcti,
    /// Enrolment record.
    pub enrolment: PathBuf,
    /// Unix socket clients connect to; systemd's takes its place under socket activation.
    pub socket: PathBuf,
    /// Permission bits of the socket.
    pub socket_mode: u32,
    /// User ids whose processes may connect.
    pub allowed_uids: Vec<u32>,
    /// Clients served at once; further ones wait.
    pub connections: usize,
    /// The account to run as, when started as root.
    pub account: Option<Account>,
    /// Whether all memory is locked, not only pages with secrets.
    pub lock_memory: bool,
    /// What new blobs are sealed to.
    pub seal_to: SealTo,
    /// AWS KMS, for ways that need it beside the TPM.
    pub aws_kms: Option<AwsKmsConfig>,
    /// Azure Key Vault.
    pub azure: Option<AzureSettings>,
    /// Longest wait for one operation of the TPM.
    pub tpm_timeout: Duration,
    /// Filter of log lines, as tracing-subscriber has it: "info", "nodeseal_tpm=debug".
    pub log: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tpm: String,
    enrolment: PathBuf,
    socket: PathBuf,
    #[serde(default = "default_mode")]
    socket_mode: String,
    allowed_uids: Vec<u32>,
    #[serde(default = "default_connections")]
    connections: u16,
    user: Option<String>,
    group: Option<String>,
    #[serde(default = "default_lock_memory")]
    lock_memory: bool,
    #[serde(default)]
    pcrs: Pcrs,
    signer: Option<Signer>,
    aws_kms: Option<AwsKmsSection>,
    azure: Option<AzureSection>,
    #[serde(default = "default_timeout")]
    tpm_timeout_s: u16,
    #[serde(default = "default_log")]
    log: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pcrs {
    #[serde(default = "default_bank")]
    bank: String,
    #[serde(default = "default_pcrs")]
    select: Vec<u8>,
}

impl Default for Pcrs {
    fn default() -> Self {
        Self {
            bank: default_bank(),
            select: default_pcrs(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signer {
    public_key: PathBuf,
    reference: String,
}

fn default_mode() -> String {
    "0660".to_owned()
}

fn default_connections() -> u16 {
    128
}

fn default_lock_memory() -> bool {
    true
}

fn default_timeout() -> u16 {
    60
}

fn default_log() -> String {
    "info".to_owned()
}

fn default_bank() -> String {
    PcrBank::Sha256.name().to_owned()
}

fn default_pcrs() -> Vec<u8> {
    DEFAULT_PCRS.to_vec()
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it, or a file it names, cannot be read or used.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file: File = read_toml(path)?;
        file.checked(path)
    }
}

impl File {
    fn checked(self, path: &Path) -> Result<Config, ConfigError> {
        let wrong = |field, problem: String| ConfigError::Field {
            path: path.to_owned(),
            field,
            problem,
        };
        let beside = path.parent().unwrap_or(Path::new(""));
        let tcti = self
            .tpm
            .parse()
            .map_err(|error: TctiError| wrong("tpm", error.to_string()))?;
        let socket_mode = u32::from_str_radix(&self.socket_mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| {
                wrong(
                    "socket_mode",
                    format!(
                        "{:?} is not octal permission bits like \"0660\"",
                        self.socket_mode
                    ),
                )
            })?;
        if self.connections == 0 || self.tpm_timeout_s == 0 {
            return Err(wrong(
                "connections, tpm_timeout_s",
                "must be at least 1".to_owned(),
            ));
        }
        let account = match (&self.user, &self.group) {
            (None, None) => None,
            (None, Some(_)) => return Err(wrong("group", "needs a user too".to_owned())),
            (Some(user), group) => Some(
                Account::find(user, group.as_deref()).map_err(|problem| wrong("user", problem))?,
            ),
        };
        let seal_to = SealTo {
            pcrs: self
                .pcrs
                .checked()
                .map_err(|problem| wrong("pcrs", problem))?,
            signer: match &self.signer {
                None => None,
                Some(signer) => Some(signer.checked(beside, path)?),
            },
        };
        let aws_kms = self
            .aws_kms
            .map(|section| section.checked(beside))
            .transpose()
            .map_err(|problem| wrong("aws_kms", problem))?;
        let azure = self
            .azure
            .map(|section| section.checked(beside))
            .transpose()
            .map_err(|problem| wrong("azure", problem))?;
        Ok(Config {
            tcti,
            aws_kms,
            azure,
            enrolment: beside.join(self.enrolment),
            socket: beside.join(self.socket),
            socket_mode,
            allowed_uids: self.allowed_uids,
            connections: usize::from(self.connections),
            account,
            lock_memory: self.lock_memory,
            seal_to,
            tpm_timeout: Duration::from_secs(u64::from(self.tpm_timeout_s)),
            log: self.log,
        })
    }
}

impl Pcrs {
    fn checked(&self) -> Result<PcrSelection, String> {
        let bank = PcrBank::from_name(&self.bank)
            .ok_or_else(|| format!("bank {:?} is neither \"sha256\" nor \"sha384\"", self.bank))?;
        if self.select.is_empty() {
            return Err(
                "select is empty: a blob sealed to no PCR opens in whatever software runs"
                    .to_owned(),
            );
        }
        let ascending = self.select.is_sorted_by(|a, b| a < b);
        if !ascending || self.select.iter().any(|pcr| *pcr > 23) {
            return Err(format!(
                "select {:?} is not an ascending list of PCRs from 0 to 23",
                self.select
            ));
        }
        Ok(PcrSelection {
            bank,
            pcrs: self.select.clone(),
        })
    }
}

impl Signer {
    fn checked(&self, beside: &Path, path: &Path) -> Result<PolicySigner, ConfigError> {
        let wrong = |field, problem: String| ConfigError::Field {
            path: path.to_owned(),
            field,
            problem,
        };
        if self.reference.is_empty() || self.reference.len() > 64 {
            return Err(wrong(
                "signer.reference",
                format!("must be 1 to 64 bytes, has {}", self.reference.len()),
            ));
        }
        let key = beside.join(&self.public_key);
        let public = signer::public_from_pem(&read_text(&key)?).map_err(|problem| {
            wrong("signer.public_key", format!("{}: {problem}", key.display()))
        })?;
        Ok(PolicySigner {
            public,
            reference: self.reference.as_bytes().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
