//! Single commands (part 3), each with its error named.

use super::Line;
use super::command::{Answer, Authorization, Code, command};
use super::session::{Attributes, Beginning, Kind, Session};
use crate::enrolment::Mismatch::SrkName;
use crate::error::TpmError;
use crate::structures::{Fields, MAX_PUBLIC, Name, Template, push_sized};
use crate::tcti::Tcti;
use crate::tpm::Srk;

/// TPM_RH_OWNER, TPM_RH_NULL, TPM_RH_ENDORSEMENT (part 2, 7.4).
pub(super) const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
const ENDORSEMENT: u32 = 0x4000_000B;
/// TPM_CAP_HANDLES, TPM_CAP_TPM_PROPERTIES (part 2, 6.12).
const CAP_HANDLES: u32 = 1;
const CAP_PROPERTIES: u32 = 6;
/// Handles asked for at once; no TPM has that many of one kind loaded.
const MAX_HANDLES: u32 = 254;

/// Kinds of handle, by the first of each (part 2, 7.2).
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum HandleKind {
    Transient = 0x8000_0000,
    LoadedSession = 0x0200_0000,
    SavedSession = 0x0300_0000,
}

/// TPM_PT (part 2, 6.13).
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Property {
    Manufacturer = 0x105,
    FirmwareVersion1 = 0x10B,
}

/// A key in the TPM, with the public area the TPM says it has.
pub(super) struct Key {
    pub(super) handle: u32,
    pub(super) public: Vec<u8>,
}

/// One use of a connected TPM.
pub(super) struct Commands<'a> {
    pub(super) tcti: &'a Tcti,
    pub(super) line: &'a mut Line,
}

impl Commands<'_> {
    /// Runs a command, and notes what it loads.
    pub(super) fn run(
        &mut self,
        code: Code,
        handles: &[u32],
        authorization: &Authorization<'_>,
        parameters: &[u8],
    ) -> Result<Answer, TpmError> {
        let sent = command(code, handles, authorization, parameters);
        let answer =
            self.line
                .transport
                .exchange(&sent)
                .map_err(|error| TpmError::Unreachable {
                    tcti: self.tcti.clone(),
                    command: code.name,
                    reason: error.to_string(),
                })?;
        let with_sessions = !matches!(authorization, Authorization::None);
        let answer = Answer::read(&answer, code, with_sessions)?;
        self.line.loaded.extend(answer.handle);
        Ok(answer)
    }

    /// Runs a command under a session; the answer is the TPM's.
    pub(super) fn run_in(
        &mut self,
        session: &mut Session,
        attributes: Attributes,
        code: Code,
        object: Option<(u32, Name)>,
        mut parameters: Vec<u8>,
    ) -> Result<Answer, TpmError> {
        let (handle, name) = object.unzip();
        let proof = session.authorize(code, name.as_slice(), &mut parameters, attributes)?;
        let authorization = Authorization::Session(&proof);
        let answer = self.run(code, handle.as_slice(), &authorization, &parameters)?;
        session.verify(code, &answer)?;
        Ok(answer)
    }

    /// The public area of the key at a persistent handle, or none if nothing is there.
    pub(super) fn read_public(&mut self, handle: u32) -> Result<Option<Vec<u8>>, TpmError> {
        const NO_SUCH_HANDLE: u32 = 0x18B;
        let code = Code::READ_PUBLIC;
        match self.run(code, &[handle], &Authorization::None, &[]) {
            Ok(answer) => public_of(code, &answer).map(Some),
            Err(TpmError::Refused {
                code: NO_SUCH_HANDLE,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn create_primary(&mut self, template: Template) -> Result<Key, TpmError> {
        let code = Code::CREATE_PRIMARY;
        let hierarchy = match template {
            Template::Srk => OWNER,
            Template::Ek => ENDORSEMENT,
        };
        // TPM2B_SENSITIVE_CREATE with neither authValue nor data.
        let mut parameters = vec![0, 4, 0, 0, 0, 0];
        push_sized(&mut parameters, &template.public());
        // No outsideInfo, no creationPCR.
        parameters.extend([0; 6]);
        let answer = self.run(code, &[hierarchy], &Authorization::Password, &parameters)?;
        let public = public_of(code, &answer)?;
        if !template.describes(&public) {
            return Err(code.bad("a key of another template"));
        }
        Ok(Key {
            handle: loaded(code, &answer)?,
            public,
        })
    }

    /// Keeps a loaded key at a persistent handle.
    pub(super) fn persist(&mut self, key: u32, at: u32) -> Result<(), TpmError> {
        let (handles, at) = ([OWNER, key], at.to_be_bytes());
        self.run(Code::EVICT_CONTROL, &handles, &Authorization::Password, &at)
            .map(drop)
    }

    /// The storage root key, its Name compared with the pinned one.
    pub(super) fn srk(&mut self, srk: &Srk) -> Result<Key, TpmError> {
        let pinned = srk.name;
        let key = match srk.handle {
            Some(handle) => {
                let found = self.read_public(handle)?;
                let nothing = TpmError::Enrolment(SrkName {
                    pinned,
                    found: None,
                });
                let public = found.ok_or(nothing)?;
                Key { handle, public }
            }
            None => self.create_primary(Template::Srk)?,
        };
        let found = Name::of(&key.public);
        if found.is(&pinned) {
            return Ok(key);
        }
        Err(TpmError::Enrolment(SrkName {
            pinned,
            found: Some(found),
        }))
    }

    /// A session salted to a key whose Name was compared.
    pub(super) fn session(&mut self, key: &Key, kind: Kind) -> Result<Session, TpmError> {
        let beginning = Beginning::salted_to(&key.public)?;
        let answer = self.run(
            Code::START_AUTH_SESSION,
            &[key.handle, NULL],
            &Authorization::None,
            &beginning.parameters(kind),
        )?;
        beginning.started(&answer)
    }

    pub(super) fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        self.forget(handle);
        self.run(Code::FLUSH_CONTEXT, &[handle], &Authorization::None, &[])
            .map(drop)
    }

    /// The TPM has ended or flushed it by itself.
    pub(super) fn forget(&mut self, handle: u32) {
        self.line.loaded.retain(|loaded| *loaded != handle);
    }

    /// Flushes what a command that failed has left behind, as far as the connection allows.
    pub(super) fn flush_loaded(&mut self) {
        while let Some(handle) = self.line.loaded.pop() {
            if let Err(TpmError::Unreachable { .. }) = self.flush(handle) {
                return;
            }
        }
    }

    pub(super) fn handles(&mut self, kind: HandleKind) -> Result<Vec<u32>, TpmError> {
        let found = self.capability(CAP_HANDLES, kind as u32, MAX_HANDLES)?;
        let mut fields = Fields(&found);
        let count = fields.u32().unwrap_or_default();
        let mut handles = Vec::new();
        while let Some(handle) = fields.u32() {
            handles.push(handle);
        }
        match u32::try_from(handles.len()) {
            Ok(found) if found == count && fields.0.is_empty() => Ok(handles),
            _ => Err(Code::GET_CAPABILITY.bad("not as many handles as it says")),
        }
    }

    /// A fixed property; 0 where the TPM does not have it.
    pub(super) fn property(&mut self, property: Property) -> Result<u32, TpmError> {
        let found = self.capability(CAP_PROPERTIES, property as u32, 1)?;
        let mut fields = Fields(&found);
        match (fields.u32(), fields.u32(), fields.u32()) {
            (Some(1), Some(tag), Some(value)) if tag == property as u32 => Ok(value),
            _ => Ok(0),
        }
    }

    /// TPMU_CAPABILITIES of one capability.
    fn capability(&mut self, capability: u32, first: u32, count: u32) -> Result<Vec<u8>, TpmError> {
        let code = Code::GET_CAPABILITY;
        let parameters = [capability, first, count].map(u32::to_be_bytes).concat();
        let answer = self.run(code, &[], &Authorization::None, &parameters)?;
        let mut fields = Fields(&answer.parameters);
        match (fields.u8(), fields.u32()) {
            (Some(_more), Some(found)) if found == capability => Ok(fields.rest().to_vec()),
            _ => Err(code.bad("another capability")),
        }
    }
}

/// The TPM2B_PUBLIC at the front of an answer.
fn public_of(code: Code, answer: &Answer) -> Result<Vec<u8>, TpmError> {
    match Fields(&answer.parameters).sized() {
        Some(public) if public.len() <= MAX_PUBLIC => Ok(public.to_vec()),
        _ => Err(code.bad("no public area")),
    }
}

/// The handle in the answer to a command that loads something.
pub(super) fn loaded(code: Code, answer: &Answer) -> Result<u32, TpmError> {
    answer.handle.ok_or_else(|| code.bad("it has no handle"))
}
