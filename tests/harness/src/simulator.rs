//! A running simulator: one subcommand of `nodeseal-sim`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::{Error, Result, Running, program, wait_for};

/// How long a simulator may take to be ready; it makes keys and binds sockets.
const START: Duration = Duration::from_secs(60);

/// A simulator that is ready, killed when dropped.
pub struct Simulator {
    /// The process.
    pub running: Running,
    ready: Value,
}

impl Simulator {
    /// Starts `nodeseal-sim SUBCOMMAND ARGUMENTS…` and waits for the line that says it is ready.
    ///
    /// # Errors
    /// When it ends first, with what it said, or is not ready in time.
    pub fn start<A: AsRef<OsStr>>(
        subcommand: &str,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Result<Self> {
        let name = format!("nodeseal-sim {subcommand}");
        let said_before = std::fs::read(log).unwrap_or_default().len();
        let mut command = Command::new(program("nodeseal-sim")?);
        command.arg(subcommand).args(arguments);
        let mut running = Running::start(&name, &mut command, log)?;
        let ready = wait_for(&format!("{name} to be ready"), START, || {
            let output = running.output();
            let new = output.get(said_before..).unwrap_or_default();
            if let Some(line) = new.lines().find(|line| line.starts_with('{')) {
                // The line may be there in part only.
                return Ok(serde_json::from_str(line).ok());
            }
            match running.ended()? {
                Some(status) => Err(Error::new(format!("{name} ended ({status}):\n{new}"))),
                None => Ok(None),
            }
        })?;
        Ok(Self { running, ready })
    }

    /// What it said of itself: an address, a path.
    ///
    /// # Errors
    /// When it said nothing of `what`.
    pub fn told(&self, what: &str) -> Result<&str> {
        let text = self.ready.get(what).and_then(Value::as_str);
        text.ok_or_else(|| {
            Error::new(format!(
                "the simulator does not tell {what}: {}",
                self.ready
            ))
        })
    }

    /// PCR0 a simulated enclave was booted with.
    ///
    /// # Errors
    /// When it is no enclave.
    pub fn pcr0(&self) -> Result<&str> {
        let found = self.ready.pointer("/measurements/PCR0");
        let missing = || Error::new(format!("no PCR0 in {}", self.ready));
        found.and_then(Value::as_str).ok_or_else(missing)
    }

    /// Everything it said of itself when it was ready.
    #[must_use]
    pub fn ready(&self) -> &Value {
        &self.ready
    }
}
