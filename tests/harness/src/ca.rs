//! A private certificate authority for software TPMs, and the manufacture of TPMs under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::child::Finished;
use crate::places::built;
use crate::{Context, Result, short_dir, system_program};

/// The one file swtpm keeps a TPM 2.0's permanent state in.
pub(crate) const STATE: &str = "tpm2-00.permall";

/// Root and intermediate certificate that sign the endorsement key certificates of the TPMs made under it.
pub struct PrivateCa {
    directory: TempDir,
}

/// The state of a TPM as it left the factory: seeds, endorsement keys, their certificates.
#[derive(Clone)]
pub struct Manufactured {
    state: Vec<u8>,
    /// Certificate of the RSA-2048 endorsement key, DER.
    pub ek_certificate_rsa: Vec<u8>,
    /// Certificate of the P-384 endorsement key, DER.
    pub ek_certificate_p384: Vec<u8>,
}

impl PrivateCa {
    /// A new authority; its keys are made with the first TPM.
    ///
    /// # Errors
    /// When its directory cannot be written.
    pub fn new() -> Result<Self> {
        let directory = short_dir()?;
        let at = |name: &str| directory.path().join(name);
        let write = |name: &str, text: String| fs::write(at(name), text).context(name);
        write(
            "localca.conf",
            format!(
                "statedir = {0}\nsigningkey = {0}/signkey.pem\nissuercert = {0}/issuercert.pem\n\
                 certserial = {0}/certserial\n",
                directory.path().display()
            ),
        )?;
        write(
            "localca.options",
            "--platform-manufacturer nodeseal\n--platform-version 1\n--platform-model harness\n"
                .to_owned(),
        )?;
        write(
            "setup.conf",
            format!(
                "create_certs_tool = {}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n\
                 active_pcr_banks = sha256\n",
                system_program("swtpm_localca")?.display(),
                at("localca.conf").display(),
                at("localca.options").display(),
            ),
        )?;
        Ok(Self { directory })
    }

    /// The self-signed root, PEM; there once a TPM was made.
    #[must_use]
    pub fn root_certificate(&self) -> PathBuf {
        self.directory.path().join("swtpm-localca-rootca-cert.pem")
    }

    /// The certificate between root and endorsement keys, PEM; there once a TPM was made.
    #[must_use]
    pub fn issuer_certificate(&self) -> PathBuf {
        self.directory.path().join("issuercert.pem")
    }

    /// A TPM with seeds of its own, an RSA-2048 and a P-384 endorsement key certified by this authority,
    /// and the SHA-256 PCR bank only.
    ///
    /// # Errors
    /// When swtpm_setup fails, with what it said.
    pub fn manufacture(&self) -> Result<Manufactured> {
        let directory = short_dir()?;
        let log = directory.path().join("setup.log");
        let done = Finished::of(
            Command::new(system_program("swtpm_setup")?)
                .args([
                    "--tpm2",
                    "--create-ek-cert",
                    "--create-platform-cert",
                    "--lock-nvram",
                ])
                .args([
                    "--pcr-banks",
                    "sha256",
                    "--vmid",
                    "nodeseal-harness",
                    "--config",
                ])
                .arg(self.directory.path().join("setup.conf"))
                .arg("--tpmstate")
                .arg(directory.path())
                .arg("--write-ek-cert-files")
                .arg(directory.path())
                .arg("--logfile")
                .arg(&log),
        )?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        done.success("swtpm_setup").context(said)?;
        let read = |name: &str| fs::read(directory.path().join(name)).context(name);
        Ok(Manufactured {
            state: read(STATE)?,
            ek_certificate_rsa: read("ek-rsa2048.crt")?,
            ek_certificate_p384: read("ek-secp384r1.crt")?,
        })
    }
}

impl Manufactured {
    /// A TPM all test processes of this build directory share the state of, manufactured by the first of them.
    ///
    /// # Errors
    /// When it cannot be manufactured or kept.
    pub fn shared() -> Result<Self> {
        let kept = built()?.join("harness-tpm");
        let read = |name: &str| fs::read(kept.join(name));
        if let (Ok(state), Ok(rsa), Ok(p384)) = (read("state"), read("rsa"), read("p384")) {
            return Ok(Self {
                state,
                ek_certificate_rsa: rsa,
                ek_certificate_p384: p384,
            });
        }
        let made = PrivateCa::new()?.manufacture()?;
        let parent = kept.parent().unwrap_or(Path::new("."));
        let new = tempfile::tempdir_in(parent).context(parent.display())?;
        for (name, bytes) in [
            ("state", &made.state),
            ("rsa", &made.ek_certificate_rsa),
            ("p384", &made.ek_certificate_p384),
        ] {
            fs::write(new.path().join(name), bytes).context(name)?;
        }
        // Whole or not at all. Another process may have been quicker: then this one's TPM is used once.
        if fs::rename(new.path(), &kept).is_ok() {
            let _ = new.keep();
        }
        Ok(made)
    }

    /// Writes the TPM's state to `directory`.
    pub(crate) fn install(&self, directory: &Path) -> Result<()> {
        let path = directory.join(STATE);
        fs::write(&path, &self.state).context(path.display())
    }
}

/// Copies a TPM's permanent state from one swtpm directory to another.
pub(crate) fn copy_state(from: &Path, to: &Path) -> Result<()> {
    let from = from.join(STATE);
    fs::copy(&from, to.join(STATE)).context(from.display())?;
    Ok(())
}
