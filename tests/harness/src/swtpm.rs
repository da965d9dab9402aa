//! A software TPM of one's own: started, rebooted, cleared, killed, cloned.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::ca::{Manufactured, PrivateCa, copy_state};
use crate::child::{Finished, Running};
use crate::tpm_commands::{self, Handles};
use crate::{Context, Error, Result, free_ports, listens, ports, short_dir, system_program};

/// Until a started swtpm must listen. It takes milliseconds; this is for a machine under load.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// How often another pair of ports is tried, when somebody was quicker.
const ATTEMPTS: usize = 10;

/// A running software TPM on two successive loopback ports, data and control; ended and removed on drop.
pub struct Swtpm {
    directory: TempDir,
    port: u16,
    running: Option<Running>,
}

impl Swtpm {
    /// A TPM manufactured once per build directory and copied: quick, but all of them have the same seeds.
    ///
    /// # Errors
    /// When it cannot be manufactured or started.
    pub fn new() -> Result<Self> {
        Self::from_factory(&Manufactured::shared()?)
    }

    /// A TPM unlike all others, under an authority of its own.
    ///
    /// # Errors
    /// When it cannot be manufactured or started.
    pub fn distinct() -> Result<Self> {
        Self::from_factory(&PrivateCa::new()?.manufacture()?)
    }

    /// The TPM `manufactured`, switched on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn from_factory(manufactured: &Manufactured) -> Result<Self> {
        let directory = short_dir()?;
        manufactured.install(directory.path())?;
        Self::start_in(directory)
    }

    /// A second TPM with this one's present permanent state, as in a copied virtual machine.
    ///
    /// # Errors
    /// When it cannot be copied or started.
    pub fn clone_machine(&self) -> Result<Self> {
        let directory = short_dir()?;
        copy_state(self.directory.path(), directory.path())?;
        Self::start_in(directory)
    }

    fn start_in(directory: TempDir) -> Result<Self> {
        let mut swtpm = Self {
            directory,
            port: 0,
            running: None,
        };
        let mut last = Error::new("not tried");
        for _ in 0..ATTEMPTS {
            swtpm.port = free_ports(2)?;
            match swtpm.start() {
                Ok(()) => return Ok(swtpm),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Switches it on again after [`Swtpm::kill`], on the same ports; PCRs start anew.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn start(&mut self) -> Result<()> {
        let directory = self.directory.path();
        let server = |port: u16| format!("type=tcp,port={port},bindaddr=127.0.0.1");
        let mut command = Command::new(system_program("swtpm")?);
        command
            .args(["socket", "--tpm2", "--flags", "startup-clear"])
            .args([
                "--server",
                &server(self.port),
                "--ctrl",
                &server(self.port + 1),
            ])
            .arg("--tpmstate")
            .arg(format!("dir={}", directory.display()))
            .arg("--log")
            .arg(format!("file={},level=1", directory.join("log").display()));
        let mut running = Running::start("swtpm", &mut command, &directory.join("output"))?;
        let port = self.port;
        running.wait_until("listen", STARTS_WITHIN, |running| {
            listens(running.pid(), port) && listens(running.pid(), port + 1)
        })?;
        self.running = Some(running);
        Ok(())
    }

    /// Ends it at once, as a power cut does.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Reboots the machine in an orderly way: PCRs start anew, sessions and loaded keys are gone.
    ///
    /// # Errors
    /// When the TPM or its control channel does not answer.
    pub fn reboot(&self) -> Result<()> {
        tpm_commands::shutdown(self.port)?;
        let control = format!("127.0.0.1:{}", self.port + 1);
        Finished::of(Command::new(system_program("swtpm_ioctl")?).args(["--tcp", &control, "-i"]))?
            .success("swtpm_ioctl -i")?;
        tpm_commands::startup(self.port)
    }

    /// TPM2_Clear: what an owner does in the firmware's menu; every sealed object is lost.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn clear(&self) -> Result<()> {
        tpm_commands::clear(self.port)
    }

    /// Extends PCR `pcr` of the SHA-256 bank with a fixed digest, as changed firmware or software would.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn extend_pcr(&self, pcr: u8) -> Result<()> {
        tpm_commands::extend_pcr(self.port, pcr, &[0x5A; 32])
    }

    /// Value of PCR `pcr` of the SHA-256 bank.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn read_pcr(&self, pcr: u8) -> Result<[u8; 32]> {
        tpm_commands::read_pcr(self.port, pcr)
    }

    /// How many handles of `kind` exist.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn count_handles(&self, kind: Handles) -> Result<u32> {
        tpm_commands::count_handles(self.port, kind)
    }

    /// TCP port of the data channel; control is the next one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TCTI string that names it.
    #[must_use]
    pub fn tcti(&self) -> String {
        ports::tcti(self.port)
    }

    /// Process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// The directory with its state and log.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Keeps a copy of its permanent state, to be put back by [`Swtpm::restore`].
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn snapshot(&self) -> Result<PathBuf> {
        let copy = self.directory.path().join("snapshot");
        fs::create_dir_all(&copy).context(copy.display())?;
        copy_state(self.directory.path(), &copy)?;
        Ok(copy)
    }

    /// Rolls the TPM back to a snapshot: off, state replaced, on again.
    ///
    /// # Errors
    /// When it cannot be copied or started.
    pub fn restore(&mut self, snapshot: &Path) -> Result<()> {
        self.kill();
        copy_state(snapshot, self.directory.path())?;
        self.start()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reboot_returns_an_extended_pcr_to_zero() {
        let tpm = Swtpm::new().unwrap();
        assert_eq!(tpm.read_pcr(7).unwrap(), [0; 32]);
        tpm.extend_pcr(7).unwrap();
        assert_ne!(tpm.read_pcr(7).unwrap(), [0; 32]);
        tpm.reboot().unwrap();
        assert_eq!(tpm.read_pcr(7).unwrap(), [0; 32]);
    }

    #[test]
    fn many_tpms_start_at_once_each_on_ports_of_its_own() {
        let made: Vec<_> = std::thread::scope(|scope| {
            let start = || Swtpm::new().map_err(|e| e.to_string());
            let all: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            all.into_iter()
                .map(|one| one.join().unwrap().unwrap())
                .collect()
        });
        for (index, tpm) in made.iter().enumerate() {
            let alike = made
                .iter()
                .filter(|other| other.port().abs_diff(tpm.port()) < 2);
            assert_eq!(alike.count(), 1);
            assert_eq!(tpm.read_pcr(0).unwrap(), [0; 32], "TPM {index}");
        }
    }

    #[test]
    fn a_killed_tpm_comes_back_with_its_keys_and_a_cleared_one_answers() {
        let mut tpm = Swtpm::new().unwrap();
        let persistent = tpm.count_handles(Handles::Persistent).unwrap();
        assert_eq!(persistent, 2, "the two endorsement keys");
        tpm.kill();
        tpm.start().unwrap();
        assert_eq!(tpm.count_handles(Handles::Persistent).unwrap(), persistent);
        tpm.clear().unwrap();
        assert_eq!(tpm.count_handles(Handles::Transient).unwrap(), 0);
    }
}
