//! A running program: its output goes to a file, and it does not outlive its value.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Context, Error, Result, wait_for};

/// A child process that is killed when dropped.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with standard output and error appended to the file `log`, and no standard input
    /// unless the command already has one.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context(log.display())?;
        let second = file.try_clone().context(log.display())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(second)
            .spawn()
            .context(format_args!("starting {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The exit status, once it has one.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .context(format_args!("waiting for {}", self.name))
    }

    /// Waits until `ready` is true.
    ///
    /// # Errors
    /// When the program ends first (with what it said), or `deadline` passes.
    pub fn wait_until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut ready: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let awaited = format!("{} to {what}", self.name);
        wait_for(&awaited, deadline, || {
            if ready(self) {
                return Ok(Some(()));
            }
            match self.ended()? {
                Some(status) => Err(Error::new(format!(
                    "{} ended ({status}) before it could {what}:\n{}",
                    self.name,
                    self.output()
                ))),
                None => Ok(None),
            }
        })
        .map_err(|error| Error::new(format!("{error}\n{}", self.output())))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When `deadline` passes first.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let awaited = format!("{} to end", self.name);
        wait_for(&awaited, deadline, || self.ended())
            .map_err(|error| Error::new(format!("{error}\n{}", self.output())))
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::new("a process id out of range"))?;
        kill_process(pid, signal).context(format_args!("signalling {}", self.name))
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not end before `deadline`.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        self.wait(deadline)
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a finished program said and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; 128 + signal number when a signal ended it, as in a shell.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// Runs `command` to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command.output().context(format_args!("running {name}"))?;
        let signal = output.status.signal().unwrap_or(0);
        Ok(Self {
            code: output.status.code().unwrap_or(128 + signal),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, if it succeeded.
    ///
    /// # Errors
    /// When the exit code is not 0, with what the program said.
    pub fn success(self, what: &str) -> Result<Self> {
        if self.code == 0 {
            return Ok(self);
        }
        Err(Error::new(format!(
            "{what} ended with code {}:\n{}{}",
            self.code,
            self.text(),
            self.stderr
        )))
    }
}
