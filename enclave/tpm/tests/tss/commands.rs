//! Single commands, each with its error named.

use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::{CapabilityType, SessionType};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, SessionHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, Public, SymmetricDefinition};
use tss_esapi::traits::{Marshall, UnMarshall};
use tss_esapi::{Context, Error};

use super::response_code;
use nodeseal_tpm::error::TpmError;
use nodeseal_tpm::structures::{Name, Template};
use nodeseal_tpm::tpm::Srk;

#[derive(Clone, Copy)]
pub(super) enum HandleKind {
    Transient,
    LoadedSession,
    SavedSession,
}

/// One use of a connected TPM.
pub(super) struct Commands<'a> {
    pub(super) context: &'a mut Context,
}

impl Commands<'_> {
    pub(super) fn check<T>(
        &self,
        command: &'static str,
        result: Result<T, Error>,
    ) -> Result<T, TpmError> {
        result.map_err(|error| match response_code(error) {
            Some(code) => TpmError::from_code(code, command),
            None => TpmError::BadAnswer {
                command,
                problem: error.to_string(),
            },
        })
    }

    /// The key at a persistent handle, with the public area the TPM says it has.
    pub(super) fn persistent(&mut self, handle: u32) -> Result<Option<ObjectHandle>, TpmError> {
        const COMMAND: &str = "TPM2_ReadPublic";
        const NO_SUCH_HANDLE: u32 = 0x18B;
        let handle = PersistentTpmHandle::new(handle);
        let handle = TpmHandle::Persistent(self.check(COMMAND, handle)?);
        let found = self
            .context
            .execute_without_session(|c| c.tr_from_tpm_public(handle));
        match self.check(COMMAND, found) {
            Ok(object) => Ok(Some(object)),
            Err(TpmError::Refused {
                code: NO_SUCH_HANDLE,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The Name of the public area ESYS keeps for a handle.
    pub(super) fn name_of(&mut self, object: ObjectHandle) -> Result<Name, TpmError> {
        let name = self.context.tr_get_name(object);
        let name = self.check("TPM2_ReadPublic", name)?;
        name.value()
            .try_into()
            .map(Name)
            .map_err(|_| TpmError::BadAnswer {
                command: "TPM2_ReadPublic",
                problem: format!("a Name of {} bytes, not 34", name.value().len()),
            })
    }

    pub(super) fn create_primary(
        &mut self,
        template: Template,
    ) -> Result<(KeyHandle, Vec<u8>), TpmError> {
        const COMMAND: &str = "TPM2_CreatePrimary";
        let hierarchy = match template {
            Template::Srk => Hierarchy::Owner,
            Template::Ek => Hierarchy::Endorsement,
        };
        let public = Public::unmarshall(&template.public());
        let public = self.check(COMMAND, public)?;
        let made = self
            .context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(hierarchy, public, None, None, None, None)
            });
        let made = self.check(COMMAND, made)?;
        let public = made.out_public.marshall();
        let public = self.check(COMMAND, public)?;
        if template.describes(&public) {
            return Ok((made.key_handle, public));
        }
        Err(TpmError::BadAnswer {
            command: COMMAND,
            problem: "a key of another template".to_owned(),
        })
    }

    /// The storage root key, its Name compared with the pinned one.
    pub(super) fn srk(&mut self, srk: &Srk) -> Result<KeyHandle, TpmError> {
        use nodeseal_tpm::enrolment::Mismatch::SrkName;
        let object = match srk.handle {
            Some(handle) => self
                .persistent(handle)?
                .ok_or(TpmError::Enrolment(SrkName {
                    pinned: srk.name,
                    found: None,
                }))?,
            None => self.create_primary(Template::Srk)?.0.into(),
        };
        let found = self.name_of(object)?;
        if found.is(&srk.name) {
            return Ok(object.into());
        }
        Err(TpmError::Enrolment(SrkName {
            pinned: srk.name,
            found: Some(found),
        }))
    }

    /// A session salted to a key whose Name was checked, with AES-128-CFB for parameters.
    pub(super) fn session(
        &mut self,
        key: KeyHandle,
        kind: SessionType,
    ) -> Result<AuthSession, TpmError> {
        const COMMAND: &str = "TPM2_StartAuthSession";
        let started = self.context.execute_without_session(|context| {
            context.start_auth_session(
                Some(key),
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        });
        self.check(COMMAND, started)?
            .ok_or_else(|| TpmError::BadAnswer {
                command: COMMAND,
                problem: "no session".to_owned(),
            })
    }

    pub(super) fn attributes(
        &mut self,
        session: AuthSession,
        attributes: SessionAttributesBuilder,
    ) -> Result<(), TpmError> {
        let (flags, mask) = attributes.build();
        let set = self.context.tr_sess_set_attributes(session, flags, mask);
        self.check("setting session attributes", set)
    }

    pub(super) fn flush(&mut self, object: ObjectHandle) -> Result<(), TpmError> {
        let flushed = self.context.flush_context(object);
        self.check("TPM2_FlushContext", flushed)
    }

    /// Forgets a session the TPM has ended by itself, so that dropping the context does not flush it once more.
    pub(super) fn forget(&mut self, session: AuthSession) {
        // The library removes the handle, then says it should have been flushed instead.
        let _ = self
            .context
            .tr_close(&mut SessionHandle::from(session).into());
    }

    pub(super) fn handles(&mut self, kind: HandleKind) -> Result<Vec<TpmHandle>, TpmError> {
        const COMMAND: &str = "TPM2_GetCapability";
        let first = match kind {
            HandleKind::Transient => 0x8000_0000,
            HandleKind::LoadedSession => 0x0200_0000,
            HandleKind::SavedSession => 0x0300_0000,
        };
        let answer = self.context.execute_without_session(|context| {
            context.get_capability(CapabilityType::Handles, first, 254)
        });
        match self.check(COMMAND, answer)? {
            (CapabilityData::Handles(list), _) => Ok(list.into_inner()),
            _ => Err(TpmError::BadAnswer {
                command: COMMAND,
                problem: "another capability".to_owned(),
            }),
        }
    }
}
