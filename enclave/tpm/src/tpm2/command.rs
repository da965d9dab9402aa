//! Commands put together, answers taken apart (part 1, clause 18).

use crate::error::TpmError;
use crate::structures::Fields;

/// TPM_ST_NO_SESSIONS, TPM_ST_SESSIONS (part 2, 6.9).
const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// TPM_RS_PW: an authorization by password, which is empty here; continueSession as for any session.
const PASSWORD: [u8; 9] = [0x40, 0, 0, 0x09, 0, 0, 1, 0, 0];

/// A command: its name in errors, its code (part 2, 6.5.2), and whether its answer begins with a handle.
#[derive(Clone, Copy)]
pub(super) struct Code {
    pub(super) name: &'static str,
    pub(super) number: u32,
    loads: bool,
}

impl Code {
    const fn new(name: &'static str, number: u32) -> Self {
        Self {
            name,
            number,
            loads: false,
        }
    }

    const fn loading(name: &'static str, number: u32) -> Self {
        Self {
            name,
            number,
            loads: true,
        }
    }

    pub(super) const CERTIFY: Self = Self::new("TPM2_Certify", 0x148);
    pub(super) const NV_READ: Self = Self::new("TPM2_NV_Read", 0x14E);
    pub(super) const QUOTE: Self = Self::new("TPM2_Quote", 0x158);
    pub(super) const RSA_DECRYPT: Self = Self::new("TPM2_RSA_Decrypt", 0x159);
    pub(super) const CONTEXT_LOAD: Self = Self::loading("TPM2_ContextLoad", 0x161);
    pub(super) const CONTEXT_SAVE: Self = Self::new("TPM2_ContextSave", 0x162);
    pub(super) const NV_READ_PUBLIC: Self = Self::new("TPM2_NV_ReadPublic", 0x169);
    pub(super) const EVICT_CONTROL: Self = Self::new("TPM2_EvictControl", 0x120);
    pub(super) const CREATE_PRIMARY: Self = Self::loading("TPM2_CreatePrimary", 0x131);
    pub(super) const CREATE: Self = Self::new("TPM2_Create", 0x153);
    pub(super) const LOAD: Self = Self::loading("TPM2_Load", 0x157);
    pub(super) const UNSEAL: Self = Self::new("TPM2_Unseal", 0x15E);
    pub(super) const FLUSH_CONTEXT: Self = Self::new("TPM2_FlushContext", 0x165);
    pub(super) const LOAD_EXTERNAL: Self = Self::loading("TPM2_LoadExternal", 0x167);
    pub(super) const POLICY_AUTHORIZE: Self = Self::new("TPM2_PolicyAuthorize", 0x16A);
    pub(super) const READ_PUBLIC: Self = Self::new("TPM2_ReadPublic", 0x173);
    pub(super) const START_AUTH_SESSION: Self = Self::loading("TPM2_StartAuthSession", 0x176);
    pub(super) const VERIFY_SIGNATURE: Self = Self::new("TPM2_VerifySignature", 0x177);
    pub(super) const GET_CAPABILITY: Self = Self::new("TPM2_GetCapability", 0x17A);
    pub(super) const PCR_READ: Self = Self::new("TPM2_PCR_Read", 0x17E);
    pub(super) const POLICY_PCR: Self = Self::new("TPM2_PolicyPCR", 0x17F);

    /// The answer does not fit the command.
    pub(super) fn bad(self, problem: impl Into<String>) -> TpmError {
        TpmError::BadAnswer {
            command: self.name,
            problem: problem.into(),
        }
    }
}

/// What stands for the right to use a command's objects.
pub(super) enum Authorization<'a> {
    None,
    /// The empty password.
    Password,
    /// A session's part of the command, as [`super::session::Session::authorize`] made it.
    Session(&'a [u8]),
}

/// The bytes of a command, written without growing, so that no copy of a parameter stays behind.
pub(super) fn command(
    code: Code,
    handles: &[u32],
    authorization: &Authorization<'_>,
    parameters: &[u8],
) -> Vec<u8> {
    let (tag, sessions): (_, &[u8]) = match authorization {
        Authorization::None => (NO_SESSIONS, &[]),
        Authorization::Password => (SESSIONS, &PASSWORD),
        Authorization::Session(bytes) => (SESSIONS, bytes),
    };
    // Parameters are at most a few hundred bytes: no sum here comes near 2^32.
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let prefix = usize::from(tag == SESSIONS).saturating_mul(4);
    let size = [
        10,
        handles.len().saturating_mul(4),
        prefix,
        sessions.len(),
        parameters.len(),
    ]
    .iter()
    .fold(0usize, |sum, part| sum.saturating_add(*part));
    let mut out = Vec::with_capacity(size);
    out.extend(tag.to_be_bytes());
    out.extend(length(size).to_be_bytes());
    out.extend(code.number.to_be_bytes());
    for handle in handles {
        out.extend(handle.to_be_bytes());
    }
    if tag == SESSIONS {
        out.extend(length(sessions.len()).to_be_bytes());
        out.extend(sessions);
    }
    out.extend(parameters);
    out
}

/// A successful answer. Nothing in it is to be believed but under a session's HMAC.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Of what was loaded, for commands that load something.
    pub(super) handle: Option<u32>,
    pub(super) parameters: Vec<u8>,
    /// The session's part.
    pub(super) session: Vec<u8>,
}

impl Answer {
    /// Takes the answer to `code` apart; `with_sessions` says whether the command was sent with an authorization.
    ///
    /// # Errors
    /// The TPM's error by name, or that this is no answer to that command.
    pub(super) fn read(bytes: &[u8], code: Code, with_sessions: bool) -> Result<Self, TpmError> {
        let cut = || code.bad("it ends within its header");
        let mut fields = Fields(bytes);
        let tag = fields.u16().ok_or_else(cut)?;
        let size = fields.u32().ok_or_else(cut)?;
        let response = fields.u32().ok_or_else(cut)?;
        if usize::try_from(size).ok() != Some(bytes.len()) {
            let length = bytes.len();
            return Err(code.bad(format!("it says {size} bytes and has {length}")));
        }
        if response != 0 {
            return Err(TpmError::from_code(response, code.name));
        }
        let expected = if with_sessions { SESSIONS } else { NO_SESSIONS };
        if tag != expected {
            return Err(code.bad(format!("its tag is {tag:#06x}, not {expected:#06x}")));
        }
        let handle = match code.loads {
            true => Some(fields.u32().ok_or_else(|| code.bad("it has no handle"))?),
            false => None,
        };
        let parameters = match with_sessions {
            true => fields
                .u32()
                .and_then(|length| fields.take(usize::try_from(length).ok()?))
                .ok_or_else(|| code.bad("its parameters are cut short"))?,
            false => fields.rest(),
        };
        Ok(Self {
            handle,
            parameters: parameters.to_vec(),
            session: fields.rest().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_is_laid_out_as_the_specification_has_it() {
        // reference: part 1, 18.5 and 18.6; TPM2_FlushContext of 0x80000001, then the same under the empty password.
        let plain = command(
            Code::FLUSH_CONTEXT,
            &[0x8000_0001],
            &Authorization::None,
            &[],
        );
        assert_eq!(plain, [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65, 0x80, 0, 0, 1]);
        let authorized = command(Code::UNSEAL, &[7], &Authorization::Password, &[9]);
        let expected = [
            &[0x80, 2, 0, 0, 0, 28, 0, 0, 1, 0x5E, 0, 0, 0, 7, 0, 0, 0, 9][..],
            &PASSWORD,
            &[9],
        ];
        assert_eq!(authorized, expected.concat());
        assert_eq!(authorized.capacity(), authorized.len());
    }

    #[test]
    fn an_answer_of_another_shape_than_its_command_has_is_refused() {
        let whole = [
            &[0x80, 2, 0, 0, 0, 22, 0, 0, 0, 0, 0x80, 0, 0, 5, 0, 0, 0, 2][..],
            &[1, 2, 3, 4],
        ]
        .concat();
        let answer = Answer::read(&whole, Code::LOAD, true).unwrap();
        let expected = Answer {
            handle: Some(0x8000_0005),
            parameters: vec![1, 2],
            session: vec![3, 4],
        };
        assert_eq!(answer, expected);
        let refused = |bytes: &[u8], with_sessions| {
            let error = Answer::read(bytes, Code::LOAD, with_sessions).unwrap_err();
            assert_eq!(error.code(), "tpm-bad-answer", "{error}");
        };
        refused(&whole, false);
        for end in 0..whole.len() {
            refused(&whole[..end], true);
        }
        let mut long = whole.clone();
        long[17] = 5;
        refused(&long, true);
        long.push(0);
        refused(&long, true);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0u8.., 0..80)) {
            for with_sessions in [true, false] {
                let _ = Answer::read(&bytes, Code::LOAD, with_sessions);
            }
        }
    }
}
