//! The TPM of an Azure machine, as the lock `azure-release` uses it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nodeseal_azure::guest::{GuestEvidence, GuestTpm};
use nodeseal_azure::{NOT_OURS, Padding};
use nodeseal_core::lock::BoxFuture;
use nodeseal_memory::Secret;
use nodeseal_wire::message::{Class, Refusal};

use crate::error::TpmError;
use crate::lock::TpmLocks;
use crate::tpm::{SavedKey, is_policy_failure};

/// Most of an event log that is read, in bytes: genuine ones have some 50 KiB.
const MAX_EVENT_LOG: u64 = 512 << 10;

/// The TPM, with what of the machine goes along in its evidence.
pub struct AzureTpm {
    locks: Arc<TpmLocks>,
    event_log: Vec<u8>,
    system: (String, String),
    /// The ephemeral key of the last evidence.
    key: Mutex<Option<SavedKey>>,
}

/// What is read before the process gives up its access to files.
#[derive(Clone, Debug)]
pub struct MachineFiles {
    event_log: Vec<u8>,
    system: (String, String),
}

impl MachineFiles {
    /// Reads the boot's event log, and what system this is.
    ///
    /// # Errors
    /// When there is no event log, or one longer than any: the service replays it against the quote.
    pub fn read(event_log: &Path) -> std::io::Result<Self> {
        use std::io::{Error, ErrorKind, Read};
        let mut log = Vec::new();
        let read = std::fs::File::open(event_log)?
            .take(MAX_EVENT_LOG + 1)
            .read_to_end(&mut log)?;
        if read == 0 || log.len() as u64 > MAX_EVENT_LOG {
            let expected =
                format!("expected 1 to {MAX_EVENT_LOG} bytes of an event log, found {read}");
            return Err(Error::new(ErrorKind::InvalidData, expected));
        }
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let field = |name: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or("unknown").trim_matches('"').to_owned()
        };
        Ok(Self {
            event_log: log,
            system: (field("ID="), field("VERSION_ID=")),
        })
    }
}

impl AzureTpm {
    /// The TPM behind these locks.
    #[must_use]
    pub fn new(locks: Arc<TpmLocks>, files: MachineFiles) -> Self {
        Self {
            locks,
            event_log: files.event_log,
            system: files.system,
            key: Mutex::default(),
        }
    }
}

/// What each failure means for an attestation.
fn refusal(error: &TpmError) -> Refusal {
    let refused = |class, code: &str, what: &str| Refusal {
        class,
        code: code.to_owned(),
        message: format!("{what}: {error}"),
    };
    match error {
        TpmError::Refused {
            command: "TPM2_NV_Read",
            code: 0x14A,
        } => refused(
            Class::Unavailable,
            "azure-ak-certificate",
            "the attestation key's certificate (NV 0x01C101D0) is not written yet",
        ),
        TpmError::Refused {
            command: "TPM2_NV_Read",
            ..
        } => refused(
            Class::Misuse,
            "azure-ak-certificate",
            "the attestation key's certificate (NV 0x01C101D0) cannot be read",
        ),
        TpmError::Refused {
            command: "TPM2_ReadPublic",
            ..
        } => refused(
            Class::Misuse,
            "azure-no-vtpm",
            "there is no attestation key at 0x81000003, so this is no Azure machine with a vTPM",
        ),
        error if is_policy_failure(error) || matches!(error, TpmError::PcrChanged) => refused(
            Class::Denied,
            "azure-pcrs-changed",
            "PCRs 0 to 7 changed since the evidence was made; the ephemeral key is bound to their values",
        ),
        // libtpms answers TPM_RC_FAILURE to padding that is wrong, without failing; a TPM that has says so again.
        TpmError::FailureMode {
            command: "TPM2_RSA_Decrypt",
            ..
        }
        | TpmError::Refused {
            command: "TPM2_RSA_Decrypt" | "TPM2_ContextLoad",
            ..
        } => refused(Class::Damaged, NOT_OURS, "the TPM cannot decrypt it"),
        other => other.refusal(),
    }
}

impl GuestTpm for AzureTpm {
    fn evidence(&self) -> BoxFuture<'_, Result<GuestEvidence, Refusal>> {
        Box::pin(async move {
            let made = self.locks.owner().run(|tpm| tpm.guest_evidence()).await;
            let (evidence, key) = made.map_err(|error| refusal(&error))?;
            *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
            Ok(GuestEvidence {
                event_log: self.event_log.clone(),
                system: self.system.clone(),
                ..evidence
            })
        })
    }

    fn decrypt(
        &self,
        padding: Padding,
        ciphertext: Vec<u8>,
    ) -> BoxFuture<'_, Result<Secret, Refusal>> {
        Box::pin(async move {
            let key = self
                .key
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let key = key.ok_or_else(|| Refusal {
                class: Class::Internal,
                code: NOT_OURS.to_owned(),
                message: "no evidence was made yet".to_owned(),
            })?;
            let decrypted = self
                .locks
                .with_srk(move |tpm, srk| tpm.guest_decrypt(srk, &key, padding, &ciphertext));
            decrypted.await.map_err(|error| refusal(&error))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_log_is_read_whole_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let read = |length: usize| {
            std::fs::write(&path, vec![7; length]).unwrap();
            MachineFiles::read(&path).map(|files| files.event_log.len())
        };
        assert_eq!(read(512 << 10).unwrap(), 512 << 10);
        for length in [0, (512 << 10) + 1] {
            let expected = format!("expected 1 to 524288 bytes of an event log, found {length}");
            assert_eq!(read(length).unwrap_err().to_string(), expected);
        }
    }
}
