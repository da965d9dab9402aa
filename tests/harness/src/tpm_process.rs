//! nodeseal-tpm as an operator runs it: a configuration, an enrolment, a server on a unix socket.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::child::{Finished, Running};
use crate::{Context, Result, program, short_dir};

/// Until a started server must accept clients.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A nodeseal-tpm with a directory of its own; ended and removed on drop.
pub struct TpmProcess {
    directory: TempDir,
    running: Option<Running>,
}

impl TpmProcess {
    /// Enrols the TPM behind `tcti` and serves it, with all settings at their defaults.
    ///
    /// # Errors
    /// When either fails, with what it said.
    pub fn start(tcti: &str) -> Result<Self> {
        let mut process = Self::configured(tcti, "")?;
        process.enroll()?.success("nodeseal-tpm enroll")?;
        process.serve()?;
        Ok(process)
    }

    /// A configuration for the TPM behind `tcti`, with `more` lines of TOML; nothing is run yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configured(tcti: &str, more: &str) -> Result<Self> {
        let process = Self {
            directory: short_dir()?,
            running: None,
        };
        process.configure(tcti, more)?;
        Ok(process)
    }

    /// Writes the configuration anew, for instance to lead to another TPM; a running server is not told.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, tcti: &str, more: &str) -> Result<()> {
        let user = rustix::process::geteuid();
        let text = format!(
            "tpm = \"{tcti}\"\nenrolment = \"enrolment.toml\"\nsocket = \"tpm.sock\"\nsocket_mode = \"0600\"\n\
             allowed_uids = [{}]\nlock_memory = {}\n{more}\n",
            user.as_raw(),
            // Locking everything needs a limit that only root can be sure to have.
            user.is_root(),
        );
        let path = self.config();
        fs::write(&path, text).context(path.display())
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("nodeseal-tpm.toml")
    }

    /// The enrolment record.
    #[must_use]
    pub fn enrolment(&self) -> PathBuf {
        self.directory.path().join("enrolment.toml")
    }

    /// The socket clients connect to.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("tpm.sock")
    }

    /// The socket's address as the agent's configuration has it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// The directory with all of this.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `nodeseal-tpm SUBCOMMAND --config FILE`, to be completed and run.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(program("nodeseal-tpm")?);
        command.args([subcommand, "--config"]).arg(self.config());
        Ok(command)
    }

    /// Pins the TPM.
    ///
    /// # Errors
    /// When the program cannot be run; what it says is in the result.
    pub fn enroll(&self) -> Result<Finished> {
        Finished::of(&mut self.command("enroll")?)
    }

    /// Starts the server and waits until it accepts clients.
    ///
    /// # Errors
    /// When it ends or does not accept in time, with what it said.
    pub fn serve(&mut self) -> Result<()> {
        self.stop();
        let log = self.directory.path().join("log");
        let mut running = Running::start("nodeseal-tpm", &mut self.command("serve")?, &log)?;
        let socket = self.socket();
        running.wait_until("accept clients", STARTS_WITHIN, |_| {
            UnixStream::connect(&socket).is_ok()
        })?;
        self.running = Some(running);
        Ok(())
    }

    /// Runs the server until it ends by itself, as it does where it refuses its TPM.
    ///
    /// # Errors
    /// When it has not ended after a while.
    pub fn serve_to_its_end(&self) -> Result<Finished> {
        let mut command = Command::new("timeout");
        let serve = self.command("serve")?;
        command
            .arg("60")
            .arg(serve.get_program())
            .args(serve.get_args());
        Finished::of(&mut command)
    }

    /// Ends the server at once.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// The server, while it runs.
    pub fn running(&mut self) -> Option<&mut Running> {
        self.running.as_mut()
    }

    /// Process id of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}
