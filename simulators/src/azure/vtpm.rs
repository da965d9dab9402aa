//! A virtual machine's TPM as Azure provisions it, in front of a software TPM: attestation key, its certificate, and the
//! paravisor's report.
//!
//! It stands where the host's or paravisor's vTPM stands, as libtpms cannot hold the NV indices (at most 2048 bytes
//! there; Azure's have 2600 and 4096). Everything else is the software TPM's own.

mod commands;
mod front;
mod index;
mod report;

pub use front::Front;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nodeseal_attestation::azure::tpm::RsaPublic;
use nodeseal_attestation::azure::{RsaKey, tpm};

use super::attestation::EventLog;
use crate::files::{self, FileError};
use crate::pki::{AttestationKeyRoot, ChipRoot, PkiError};
use crate::time::Timestamp;
use commands::Tpm;
use index::Indices;
use report::Paravisor;

/// Handle of the attestation key.
const AK: u32 = 0x8100_0003;
/// Handle of the endorsement key.
const EK: u32 = 0x8101_0001;

/// What machine it is.
pub struct VtpmConfig {
    /// Directory for the event log and the chip's certificate.
    pub directory: PathBuf,
    /// Directory of the roots the attestation service trusts.
    pub roots: PathBuf,
    /// Data port of the software TPM; control is the next.
    pub tpm: SocketAddr,
    /// A confidential VM has the paravisor's report; Trusted Launch has none.
    pub confidential: bool,
    /// Whether the processor lets the host read its memory.
    pub debug: bool,
    /// Whether it boots with Secure Boot.
    pub secure_boot: bool,
    /// What it boots: measured into PCR 4.
    pub boots: String,
    /// Unique id.
    pub vm_id: String,
    /// Whether the attestation key has its certificate already; for a while after creation a machine has not.
    pub certified: bool,
    /// When it is provisioned.
    pub now: Timestamp,
}

/// A machine could not be provisioned.
#[derive(Debug, thiserror::Error)]
pub enum VtpmError {
    /// The software TPM failed.
    #[error("the TPM: {0}")]
    Io(#[from] io::Error),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key of the TPM cannot be read.
    #[error("the TPM's key: {0}")]
    Key(#[from] tpm::TpmError),
}

/// A machine's TPM, provisioned.
pub struct Vtpm {
    config: VtpmConfig,
    indices: Indices,
}

impl Vtpm {
    /// Provisions the software TPM, and measures a boot into it if nothing was measured yet.
    ///
    /// # Errors
    /// [`VtpmError`].
    pub fn provision(config: VtpmConfig) -> Result<Self, VtpmError> {
        files::make_directory(&config.directory)?;
        let mut tpm = Tpm::connect(config.tpm)?;
        let ak = attestation_key(&mut tpm)?;
        let root = AttestationKeyRoot::in_directory(&config.roots, config.now)?;
        let certificate = root.certify(&ak, &config.vm_id, config.now)?;
        let chip = ChipRoot::in_directory(&config.roots, config.now)?.chip(config.now)?;
        let certification = chip.certification().to_string();
        files::replace(
            &config.directory.join("amd-certification.json"),
            certification.as_bytes(),
        )?;
        let paravisor = if config.confidential {
            let ek = tpm.read_public(EK)?;
            let ek = ek.map(|area| RsaPublic::parse(&area).map(|public| public.key));
            Some(Paravisor {
                chip,
                ak,
                ek: ek.transpose().unwrap_or_default(),
                vm_id: config.vm_id.clone(),
                secure_boot: config.secure_boot,
                debug: config.debug,
            })
        } else {
            None
        };
        let certificate = config.certified.then_some(certificate);
        let vtpm = Self {
            indices: Indices::new(certificate, paravisor)?,
            config,
        };
        vtpm.boot(&mut tpm)?;
        Ok(vtpm)
    }

    /// The firmware's log, as the kernel shows it.
    #[must_use]
    pub fn event_log(&self) -> PathBuf {
        self.config.directory.join("binary_bios_measurements")
    }

    /// The chip's certificates, as the metadata service answers them.
    #[must_use]
    pub fn certification(&self) -> PathBuf {
        self.config.directory.join("amd-certification.json")
    }

    /// Measures a boot, unless one was since the TPM's last reset.
    fn boot(&self, tpm: &mut Tpm) -> Result<(), VtpmError> {
        if tpm.read_pcr(0)? != [0; 32] {
            return Ok(());
        }
        let log = EventLog::of_boot(self.config.secure_boot, &self.config.boots);
        for (pcr, measured) in log.measurements() {
            tpm.extend(pcr, &measured)?;
        }
        files::replace(&self.event_log(), log.bytes())?;
        tracing::info!(secure_boot = self.config.secure_boot, "booted");
        Ok(())
    }
}

/// The attestation key's public half; made and kept in the TPM the first time.
fn attestation_key(tpm: &mut Tpm) -> Result<RsaKey, VtpmError> {
    let area = match tpm.read_public(AK)? {
        Some(area) => area,
        None => tpm.make_attestation_key(AK)?,
    };
    Ok(RsaPublic::parse(&area)?.key)
}

/// A machine id in the spelling tokens have, kept in `path` from the first time on.
///
/// # Errors
/// [`VtpmError`].
pub fn kept_vm_id(path: &Path, given: Option<String>) -> Result<String, VtpmError> {
    if let Some(directory) = path.parent() {
        files::make_directory(directory)?;
    }
    let kept = files::read_if_there(path)?;
    let kept = kept.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let id = match given.or(kept) {
        Some(id) => id,
        None => crate::text::uuid().map_err(PkiError::from)?.to_uppercase(),
    };
    files::replace(path, id.as_bytes())?;
    Ok(id)
}
