//! `nodeseal` with the configuration of one node.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child::{Finished, Running};
use crate::{Context, Error, Result, program};

/// A node's directory with its configuration, and the agent run on it.
pub struct Agent {
    directory: PathBuf,
}

impl Agent {
    /// Lets `nodeseal init` write a configuration for node `node`, whose trusted side is at `address`, to `directory`.
    ///
    /// # Errors
    /// When init fails, with what it said.
    pub fn init(directory: &Path, node: &str, address: &str) -> Result<Self> {
        let agent = Self {
            directory: directory.to_owned(),
        };
        let init = ["init", "--node", node, "--trusted", address];
        agent.run(init)?.success("nodeseal init")?;
        Ok(agent)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join("nodeseal.toml")
    }

    /// Where the blob of key `name` is.
    #[must_use]
    pub fn blob(&self, name: &str) -> PathBuf {
        self.directory.join("keys").join(format!("{name}.sealed"))
    }

    /// Adds lines to the configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, more: &str) -> Result<()> {
        let path = self.config();
        let text = fs::read_to_string(&path).context(path.display())?;
        fs::write(&path, text + "\n" + more).context(path.display())
    }

    /// `nodeseal --config FILE ARGUMENTS`, to be completed and run.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Command> {
        let mut command = Command::new(program("nodeseal")?);
        command.arg("--config").arg(self.config()).args(arguments);
        Ok(command)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started; how it ended is in the result.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Finished> {
        Finished::of(&mut self.command(arguments)?)
    }

    /// Runs a command with `--json` to its end: exit code and document.
    ///
    /// # Errors
    /// When it cannot be started or does not print a JSON document.
    pub fn json<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<(i32, Value)> {
        let mut command = self.command(["--json"])?;
        command.args(arguments);
        let done = Finished::of(&mut command)?;
        let document = serde_json::from_slice(&done.stdout);
        let said = || format!("{}{}", done.text(), done.stderr);
        let document = document.map_err(|e| Error::new(format!("{e}: {}", said())))?;
        Ok((done.code, document))
    }

    /// Starts a command that goes on, with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Result<Running> {
        Running::start("nodeseal", &mut self.command(arguments)?, log)
    }
}
