//! Configuration of the enclave: one TOML file in the image's second ramdisk, so PCR2 measures it.
//!
//! Every field is typed, unknown ones are refused, paths are relative to the file. Nothing else configures the enclave:
//! not the kernel's command line, not the environment, not the agent.

use std::path::Path;
use std::time::Duration;

use nodeseal_core::aws::{AwsKmsConfig, AwsKmsSection};
use nodeseal_core::service::{Limits, Releases};
pub use nodeseal_core::settings::ConfigError;
use nodeseal_core::settings::read_toml;
use nodeseal_wire::header::Release;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;

/// Where the configuration is in the image.
pub const PATH: &str = "/etc/nodeseal/nodeseal-enclave.toml";
/// vsock port of the service, unless configured: what the agent's `trusted.address` ends with.
pub const SERVICE_PORT: u32 = 5000;
/// vsock port of the parent that log lines are sent to, unless configured: `nodeseal enclave-log` listens there.
pub const LOG_PORT: u32 = 5002;
/// Context id of the parent instance of a Nitro Enclave (AWS Nitro Enclaves User Guide, "vsock").
pub const PARENT_CID: u32 = 3;
/// Context id of the host of a virtual machine (vsock(7), `VMADDR_CID_HOST`): the parent in QEMU and Firecracker.
pub const HOST_CID: u32 = 2;

/// What the enclave is to do.
#[derive(Debug)]
pub struct Config {
    /// vsock port the agent connects to.
    pub port: u32,
    /// Context id of the parent, where the way out and the log lead.
    pub parent_cid: u32,
    /// vsock port of the parent that log lines are sent to; none keeps them.
    pub log_port: Option<u32>,
    /// Least severe level that is logged.
    pub log: LevelFilter,
    /// Clients served at once; further ones wait.
    pub connections: usize,
    /// How long clients are waited for, and what may happen to keys.
    pub limits: Limits,
    /// AWS KMS: its keys, endpoints and trust anchors.
    pub aws_kms: AwsKmsConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "service_port")]
    port: u32,
    #[serde(default = "parent_cid")]
    parent_cid: u32,
    #[serde(default = "deliver")]
    releases: Vec<String>,
    #[serde(default)]
    log: LogSection,
    #[serde(default)]
    limits: LimitsSection,
    aws_kms: AwsKmsSection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LogSection {
    level: String,
    send: bool,
    port: u32,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            send: true,
            port: LOG_PORT,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    connections: u16,
    idle_s: u16,
    write_s: u16,
    request_s: u16,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            connections: 64,
            idle_s: 60,
            write_s: 30,
            request_s: 120,
        }
    }
}

fn service_port() -> u32 {
    SERVICE_PORT
}

fn deliver() -> Vec<String> {
    vec![Release::Deliver.name().to_owned()]
}

fn parent_cid() -> u32 {
    PARENT_CID
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
        if ![HOST_CID, PARENT_CID].contains(&self.parent_cid) {
            let found = self.parent_cid;
            let problem = format!(
                "must be {PARENT_CID} (parent of a Nitro Enclave) or {HOST_CID} (host of a virtual machine), is {found}"
            );
            return Err(wrong("parent_cid", problem));
        }
        port(self.port).map_err(|problem| wrong("port", problem))?;
        port(self.log.port).map_err(|problem| wrong("log.port", problem))?;
        let LimitsSection {
            connections,
            idle_s,
            write_s,
            request_s,
        } = self.limits;
        if [connections, idle_s, write_s, request_s].contains(&0) {
            return Err(wrong("limits", "each must be at least 1".to_owned()));
        }
        let log = level(&self.log.level).map_err(|problem| wrong("log.level", problem))?;
        let releases = releases(&self.releases).map_err(|problem| wrong("releases", problem))?;
        let seconds = |seconds: u16| Duration::from_secs(u64::from(seconds));
        let aws_kms = self
            .aws_kms
            .checked(path.parent().unwrap_or(Path::new("")))
            .map_err(|problem| wrong("aws_kms", problem))?;
        Ok(Config {
            port: self.port,
            parent_cid: self.parent_cid,
            log_port: self.log.send.then_some(self.log.port),
            log,
            connections: usize::from(connections),
            limits: Limits {
                idle: seconds(idle_s),
                write: seconds(write_s),
                request: seconds(request_s),
                releases,
            },
            aws_kms,
        })
    }
}

/// A port somebody can listen on (vsock(7): `VMADDR_PORT_ANY` is none).
fn port(port: u32) -> Result<(), String> {
    match port {
        0 | u32::MAX => Err(format!("must be from 1 to {}, is {port}", u32::MAX - 1)),
        _ => Ok(()),
    }
}

/// Release modes by their names.
fn releases(names: &[String]) -> Result<Releases, String> {
    let modes: Vec<Release> = names
        .iter()
        .filter_map(|name| Release::from_name(name))
        .collect();
    if modes.is_empty() || modes.len() != names.len() {
        return Err(format!(
            "expected \"deliver\", \"sign\" or both, found {names:?}"
        ));
    }
    Ok(Releases::only(&modes))
}

fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        _ => Err(format!(
            "expected \"error\", \"warn\", \"info\" or \"debug\", found {text:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KMS: &str = "[aws_kms]\nallowed_keys = [\"arn:aws:kms:eu-west-1:111122223333:key/1\"]\n";

    fn read(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| {
            let shown = error.to_string();
            shown.replace(&format!("{}", directory.path().display()), "DIR")
        })
    }

    #[test]
    fn the_least_configuration_is_that_of_a_nitro_enclave() {
        let config = read(KMS).unwrap();
        assert_eq!((config.port, config.parent_cid), (SERVICE_PORT, PARENT_CID));
        assert_eq!(config.log_port, Some(LOG_PORT));
        assert_eq!(config.log, LevelFilter::INFO);
        assert_eq!(config.limits.releases, Releases::only(&[Release::Deliver]));
        assert_eq!(config.limits.idle, Limits::default().idle);
        assert_eq!(config.limits.write, Limits::default().write);
        assert_eq!(config.limits.request, Limits::default().request);
    }

    #[test]
    fn every_field_can_be_given() {
        let text = format!(
            "port = 7\nparent_cid = 2\n[log]\nlevel = \"debug\"\nsend = false\nport = 9\n\
             [limits]\nconnections = 2\nidle_s = 3\nwrite_s = 4\nrequest_s = 5\n{KMS}\
             deadline_s = 30\nattempt_s = 20\nendpoints = {{ eu-west-1 = \"kms.example:8443\" }}\n"
        );
        let config = read(&text).unwrap();
        assert_eq!(
            (config.port, config.parent_cid, config.log_port),
            (7, 2, None)
        );
        assert_eq!((config.log, config.connections), (LevelFilter::DEBUG, 2));
        assert_eq!(config.limits.request, Duration::from_secs(5));
        assert_eq!(config.aws_kms.deadline, Duration::from_secs(30));
        assert_eq!(config.aws_kms.attempt, Duration::from_secs(20));
        assert_eq!(config.aws_kms.endpoints["eu-west-1"], "kms.example:8443");
    }

    #[test]
    fn an_unknown_field_is_refused_wherever_it_stands() {
        for (text, field) in [
            (format!("debug = true\n{KMS}"), "debug"),
            (format!("{KMS}accept_any = true\n"), "accept_any"),
            (format!("[limits]\nidle = 1\n{KMS}"), "idle"),
            (format!("[log]\nfile = \"a\"\n{KMS}"), "file"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(
                error.contains(&format!("unknown field `{field}`")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_named_with_what_was_expected_and_found() {
        for (text, expected) in [
            (
                format!("parent_cid = 4\n{KMS}"),
                "parent_cid: must be 3 (parent of a Nitro Enclave) or 2 (host of a virtual machine), is 4",
            ),
            (
                format!("port = 4294967295\n{KMS}"),
                "port: must be from 1 to 4294967294, is 4294967295",
            ),
            (
                format!("[log]\nport = 0\n{KMS}"),
                "log.port: must be from 1 to 4294967294, is 0",
            ),
            (
                format!("[log]\nlevel = \"loud\"\n{KMS}"),
                "log.level: expected \"error\", \"warn\", \"info\" or \"debug\", found \"loud\"",
            ),
            (
                format!("releases = [\"deliver\", \"show\"]\n{KMS}"),
                "releases: expected \"deliver\", \"sign\" or both, found [\"deliver\", \"show\"]",
            ),
            (
                format!("releases = []\n{KMS}"),
                "releases: expected \"deliver\", \"sign\" or both, found []",
            ),
            (
                format!("[limits]\nidle_s = 0\n{KMS}"),
                "limits: each must be at least 1",
            ),
            (
                format!("{KMS}deadline_s = 0\n"),
                "aws_kms: deadline_s: must be at least 1",
            ),
            (
                format!("{KMS}roots = \"ca.pem\"\n"),
                "aws_kms: roots: DIR/ca.pem: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(read(&text).unwrap_err(), format!("DIR/c.toml: {expected}"));
        }
    }

    #[test]
    fn a_configuration_without_a_key_service_is_refused() {
        let error = read("").unwrap_err();
        assert!(error.contains("missing field `aws_kms`"), "{error}");
    }
}
