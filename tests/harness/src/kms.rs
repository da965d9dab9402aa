//! A simulated AWS KMS of one region, and its administrator.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cloud::Environment;
use crate::{Context, Error, Finished, Result, Simulator, checkout, python};

/// KMS in one region.
pub struct Kms {
    simulator: Simulator,
    region: String,
    /// Credentials of who may rewrite the policies of keys, and not use the keys.
    administrator: Environment,
}

impl Kms {
    pub(crate) fn new(simulator: Simulator, region: &str, administrator: Environment) -> Self {
        Self {
            simulator,
            region: region.to_owned(),
            administrator,
        }
    }

    /// What the simulator said of itself.
    ///
    /// # Errors
    /// When it said nothing of `what`.
    pub fn told(&self, what: &str) -> Result<&str> {
        self.simulator.told(what)
    }

    /// Name of the region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Where it listens, `HOST:PORT`.
    ///
    /// # Errors
    /// When the simulator did not tell.
    pub fn address(&self) -> Result<&str> {
        Ok(self.told("endpoint")?.trim_start_matches("https://"))
    }

    /// PEM of who signs its certificates.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn authority_pem(&self) -> Result<Vec<u8>> {
        let path = self.told("ca")?;
        fs::read(path).context(path)
    }

    /// Credentials of who may rewrite the policies of keys, and not use the keys.
    #[must_use]
    pub fn administrator(&self) -> &[(String, String)] {
        &self.administrator
    }

    /// Creates a key under a policy, as the administrator; its ARN.
    ///
    /// # Errors
    /// When KMS refuses.
    pub fn create_key(&self, policy: &Path) -> Result<String> {
        self.administrate(&["create", &policy.display().to_string()])
    }

    /// Runs tests/python/kms_key.py (boto3) as the administrator; what it printed.
    ///
    /// # Errors
    /// When KMS refuses.
    pub fn administrate(&self, arguments: &[&str]) -> Result<String> {
        self.boto3(&self.administrator, arguments)
    }

    /// Runs tests/python/kms_key.py (boto3) with these credentials; what it printed.
    ///
    /// # Errors
    /// When KMS refuses.
    pub fn boto3(&self, who: &[(String, String)], arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(python()?);
        command
            .arg(checkout().join("tests/python/kms_key.py"))
            .args([self.told("endpoint")?, self.told("ca")?, &self.region])
            .args(arguments)
            .envs(who.iter().cloned());
        let done = Finished::of(&mut command)?.success("kms_key.py")?;
        Ok(done.text().trim().to_owned())
    }

    /// Orders a fault (docs/simulators.md).
    ///
    /// # Errors
    /// When the simulator does not take it.
    pub fn order(&self, fault: &Value) -> Result<()> {
        self.admin("POST", "/faults", fault)
    }

    /// Puts the service's clock so many seconds ahead of the system's, or behind.
    ///
    /// # Errors
    /// When the simulator does not take it.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        let body = serde_json::json!({ "offset_seconds": seconds });
        self.admin("PUT", "/clock", &body)
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> Result<()> {
        let (address, body) = (self.told("admin")?, body.to_string());
        let to = address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(to).context(address)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .context(address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context(address)?;
        match answer.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(Error::new(format!("{path} {body}: {answer}"))),
        }
    }

    /// Every call it has answered, as CloudTrail has it.
    ///
    /// # Errors
    /// When the trail cannot be read.
    pub fn trail(&self) -> Result<Vec<Value>> {
        let path = self.told("trail")?;
        let text = fs::read_to_string(path).context(path)?;
        let record = |line: &str| {
            serde_json::from_str(line).map_err(|error| Error::new(format!("{path}: {error}")))
        };
        text.lines().map(record).collect()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.simulator.running.kill();
    }
}
