//! The TPM's own language (TCG TPM 2.0 Library, parts 1 to 3): the dozen commands nodeseal needs, and sessions salted
//! to a key whose Name was compared.
//!
//! Why not the TPM software stack, which the tests hold this against (`tests/peer.rs`): with OpenSSL 3, tpm2-tss makes a
//! new library context for every digest, eleven for one unseal, 0.7 ms each; it keeps the last answer in clear until it
//! is finalized; and it would be the second cryptographic provider in the one process that sees keys.
//!
//! What holds here:
//! - A session's salt is encrypted to the very public area whose Name was compared with the pinned one, and an object's
//!   Name under a session's HMAC is computed from the public area sent, never taken from an answer.
//! - Every object and session the TPM says it has loaded is flushed: at the latest when the connection is dropped.

mod command;
mod commands;
mod guest;
mod pcrs;
mod sealing;
mod session;

use nodeseal_azure::Padding;
use nodeseal_azure::guest::GuestEvidence;
use nodeseal_memory::{Secret, wipe_stack};

use self::commands::{Commands, HandleKind, Property};
use crate::error::TpmError;
use crate::structures::{Name, Template};
use crate::tcti::Tcti;
use crate::tpm::{
    Occupied, PcrSelection, SavedKey, SealPolicy, SealedObject, Srk, Tpm, UnsealPolicy,
};
use crate::transport::Transport;

/// A TPM, connected to when it is first used.
pub struct Tpm2 {
    tcti: Tcti,
    line: Option<Line>,
}

/// A connection, and what was loaded over it and not flushed yet.
struct Line {
    transport: Transport,
    loaded: Vec<u32>,
}

impl Tpm2 {
    /// A TPM that will be connected to at first use.
    #[must_use]
    pub fn new(tcti: Tcti) -> Self {
        Self { tcti, line: None }
    }

    fn commands(&mut self) -> Result<Commands<'_>, TpmError> {
        let line = match self.line.take() {
            Some(line) => line,
            None => Line {
                transport: Transport::open(&self.tcti).map_err(|error| TpmError::Unreachable {
                    tcti: self.tcti.clone(),
                    command: "opening",
                    reason: error.to_string(),
                })?,
                loaded: Vec::new(),
            },
        };
        Ok(Commands {
            tcti: &self.tcti,
            line: self.line.insert(line),
        })
    }
}

impl Tpm for Tpm2 {
    fn name_at(&mut self, handle: u32) -> Result<Option<Name>, TpmError> {
        let public = self.commands()?.read_public(handle)?;
        Ok(public.map(|public| Name::of(&public)))
    }

    fn primary(&mut self, template: Template) -> Result<Vec<u8>, TpmError> {
        let mut tpm = self.commands()?;
        let key = tpm.create_primary(template)?;
        tpm.flush(key.handle)?;
        Ok(key.public)
    }

    fn persist_srk(&mut self, handle: u32) -> Result<(), TpmError> {
        let mut tpm = self.commands()?;
        let key = tpm.create_primary(Template::Srk)?;
        tpm.persist(key.handle, handle)?;
        tpm.flush(key.handle)
    }

    fn seal(
        &mut self,
        srk: &Srk,
        policy: &SealPolicy<'_>,
        secret: &Secret,
    ) -> Result<SealedObject, TpmError> {
        let made = self.commands()?.seal(srk, policy, secret);
        wipe_stack();
        made
    }

    fn unseal(
        &mut self,
        srk: &Srk,
        object: &SealedObject,
        policy: &UnsealPolicy<'_>,
    ) -> Result<Secret, TpmError> {
        let secret = self.commands()?.unseal(srk, object, policy);
        wipe_stack();
        secret
    }

    fn guest_evidence(&mut self) -> Result<(GuestEvidence, SavedKey), TpmError> {
        self.commands()?.guest_evidence()
    }

    fn guest_decrypt(
        &mut self,
        srk: &Srk,
        key: &SavedKey,
        padding: Padding,
        ciphertext: &[u8],
    ) -> Result<Secret, TpmError> {
        let secret = self
            .commands()?
            .guest_decrypt(srk, key, padding, ciphertext);
        wipe_stack();
        secret
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<Vec<Vec<u8>>, TpmError> {
        self.commands()?.read_pcrs(selection, None)
    }

    fn occupied(&mut self) -> Result<Occupied, TpmError> {
        let mut tpm = self.commands()?;
        Ok(Occupied {
            objects: tpm.handles(HandleKind::Transient)?.len(),
            sessions: tpm.handles(HandleKind::LoadedSession)?.len(),
        })
    }

    fn flush_all(&mut self) -> Result<(), TpmError> {
        let mut tpm = self.commands()?;
        for kind in [
            HandleKind::Transient,
            HandleKind::LoadedSession,
            HandleKind::SavedSession,
        ] {
            for handle in tpm.handles(kind)? {
                tpm.flush(handle)?;
            }
        }
        Ok(())
    }

    fn about(&mut self) -> Result<String, TpmError> {
        let mut tpm = self.commands()?;
        let maker = tpm.property(Property::Manufacturer)?;
        let version = tpm.property(Property::FirmwareVersion1)?;
        let maker: String = maker
            .to_be_bytes()
            .iter()
            .filter(|byte| byte.is_ascii_graphic())
            .map(|byte| char::from(*byte))
            .collect();
        Ok(format!(
            "{maker} firmware {}.{}",
            version >> 16,
            version & 0xFFFF
        ))
    }

    fn refresh(&mut self) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        let mut commands = Commands {
            tcti: &self.tcti,
            line: &mut line,
        };
        // Where the connection is broken, flushing is up to the next one.
        commands.flush_loaded();
    }
}

impl Drop for Tpm2 {
    fn drop(&mut self) {
        self.refresh();
    }
}
