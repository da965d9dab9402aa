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
    environment: Vec<(String, String)>,
}

impl Agent {
    /// Lets `nodeseal init` write a configuration for node `node`, whose trusted side is at `address`, to `directory`.
    ///
    /// # Errors
    /// When init fails, with what it said.
    pub fn init(directory: &Path, node: &str, address: &str) -> Result<Self> {
        let agent = Self {
            directory: directory.to_owned(),
            environment: Vec::new(),
        };
        let init = ["init", "--node", node, "--trusted", address];
        agent.run(init)?.success("nodeseal init")?;
        Ok(agent)
    }

    /// `nodeseal` without a configuration, to be completed and run.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn bare() -> Result<Command> {
        Ok(Command::new(program("nodeseal")?))
    }

    /// Gives every later command these environment variables besides its own.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// The node's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
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

    /// Puts `new` in the place of `old` in the configuration.
    ///
    /// # Errors
    /// When `old` is not in it exactly once.
    pub fn replace(&self, old: &str, new: &str) -> Result<()> {
        let path = self.config();
        let text = fs::read_to_string(&path).context(path.display())?;
        match text.matches(old).count() {
            1 => fs::write(&path, text.replacen(old, new, 1)).context(path.display()),
            count => Err(Error::new(format!(
                "{old:?} is {count} times in {}",
                path.display()
            ))),
        }
    }

    /// `nodeseal --config FILE ARGUMENTS`, to be completed and run.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Command> {
        let mut command = Self::bare()?;
        command.arg("--config").arg(self.config()).args(arguments);
        command.envs(self.environment.iter().cloned());
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

    /// Expects that opening `key` ends with exit code `code` for the reason named `reason`; a line that says so.
    ///
    /// # Errors
    /// When it opens, or fails otherwise.
    pub fn refused(&self, key: &str, code: i32, reason: &str) -> Result<((), String)> {
        let (ended, report) = self.json(["open", "--check", key])?;
        let found = report.pointer("/error/code").and_then(Value::as_str);
        if (ended, found) != (code, Some(reason)) {
            return Err(Error::new(format!(
                "expected a refusal with exit code {code} for {reason}, found {ended}: {report:#}"
            )));
        }
        Ok(((), format!("refused: {reason}")))
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
        // What the node leaves in its working directory stays in its own.
        let mut command = self.command(arguments)?;
        Running::start("nodeseal", command.current_dir(&self.directory), log)
    }
}
