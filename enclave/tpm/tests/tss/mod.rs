//! The TPM by other people's code: tss-esapi, and through it tpm2-tss with its own sessions and cryptography.
#![allow(dead_code, unreachable_pub)]

mod commands;
mod pcrs;
mod sealing;

use std::str::FromStr;

use nodeseal_azure::guest::GuestEvidence;
use nodeseal_memory::{Secret, wipe_stack};
use tss_esapi::constants::PropertyTag;
use tss_esapi::handles::PersistentTpmHandle;
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::resource_handles::Provision;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::tcti_ldr::{DeviceConfig, NetworkTPMConfig, TctiNameConf};
use tss_esapi::{Context, Error};

use self::commands::{Commands, HandleKind};
use nodeseal_tpm::error::TpmError;
use nodeseal_tpm::structures::{Name, Template};
use nodeseal_tpm::tcti::Tcti;
use nodeseal_tpm::tpm::{
    Occupied, PcrSelection, SavedKey, SealPolicy, SealedObject, Srk, Tpm, UnsealPolicy,
};

/// A TPM behind tpm2-tss.
pub struct EsysTpm {
    tcti: Tcti,
    /// The same for the library, which compiles regular expressions to make it: milliseconds.
    address: Option<TctiNameConf>,
    context: Option<Context>,
}

impl EsysTpm {
    /// A TPM that will be connected to at first use.
    #[must_use]
    pub fn new(tcti: Tcti) -> Self {
        Self {
            tcti,
            address: None,
            context: None,
        }
    }

    /// The context and what names errors, connecting if need be.
    fn commands(&mut self) -> Result<Commands<'_>, TpmError> {
        let context = match self.context.take() {
            Some(context) => context,
            None => self.connect()?,
        };
        Ok(Commands {
            context: self.context.insert(context),
        })
    }

    fn connect(&mut self) -> Result<Context, TpmError> {
        let failed = |error| TpmError::Unreachable {
            tcti: self.tcti.clone(),
            command: "opening",
            reason: match response_code(error) {
                Some(code) => format!("TSS code {code:#x}"),
                None => error.to_string(),
            },
        };
        let address = match &self.address {
            Some(address) => address,
            None => self.address.insert(address(&self.tcti).map_err(failed)?),
        };
        Context::new(address.clone()).map_err(failed)
    }
}

impl Tpm for EsysTpm {
    fn name_at(&mut self, handle: u32) -> Result<Option<Name>, TpmError> {
        let mut tpm = self.commands()?;
        let Some(mut object) = tpm.persistent(handle)? else {
            return Ok(None);
        };
        let name = tpm.name_of(object);
        let closed = tpm.context.tr_close(&mut object);
        tpm.check("closing a handle", closed)?;
        name.map(Some)
    }

    fn primary(&mut self, template: Template) -> Result<Vec<u8>, TpmError> {
        let mut tpm = self.commands()?;
        let (key, public) = tpm.create_primary(template)?;
        tpm.flush(key.into())?;
        Ok(public)
    }

    fn persist_srk(&mut self, handle: u32) -> Result<(), TpmError> {
        const COMMAND: &str = "TPM2_EvictControl";
        let mut tpm = self.commands()?;
        let at = PersistentTpmHandle::new(handle);
        let at = Persistent::Persistent(tpm.check(COMMAND, at)?);
        let (key, _) = tpm.create_primary(Template::Srk)?;
        let kept = tpm
            .context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.evict_control(Provision::Owner, key.into(), at)
            });
        tpm.check(COMMAND, kept)?;
        tpm.flush(key.into())
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
        Err(TpmError::Stopped("the peer only seals and unseals"))
    }

    fn guest_decrypt(
        &mut self,
        _: &Srk,
        _: &SavedKey,
        _: nodeseal_azure::Padding,
        _: &[u8],
    ) -> Result<Secret, TpmError> {
        Err(TpmError::Stopped("the peer only seals and unseals"))
    }

    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<Vec<Vec<u8>>, TpmError> {
        self.commands()?.read_pcrs(selection)
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
                let found = tpm.context.tr_from_tpm_public(handle);
                let object = tpm.check("TPM2_ReadPublic", found)?;
                tpm.flush(object)?;
            }
        }
        Ok(())
    }

    fn about(&mut self) -> Result<String, TpmError> {
        let tpm = self.commands()?;
        let mut property = |tag| {
            let value = tpm.context.get_tpm_property(tag);
            tpm.check("TPM2_GetCapability", value)
                .map(Option::unwrap_or_default)
        };
        let maker = property(PropertyTag::Manufacturer)?;
        let version = property(PropertyTag::FirmwareVersion1)?;
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
        self.context = None;
    }
}

fn address(tcti: &Tcti) -> Result<TctiNameConf, Error> {
    match tcti {
        Tcti::Device(path) => {
            DeviceConfig::from_str(&path.to_string_lossy()).map(TctiNameConf::Device)
        }
        Tcti::Swtpm(at) => NetworkTPMConfig::from_str(&at.to_string()).map(TctiNameConf::Swtpm),
    }
}

/// The number in an error of the library. It keeps it private but prints it.
fn response_code(error: Error) -> Option<u32> {
    use tss_esapi::constants::response_code::Tss2ResponseCode;
    let text = match error {
        Error::Tss2Error(Tss2ResponseCode::FormatZero(code)) => code.to_string(),
        Error::Tss2Error(Tss2ResponseCode::FormatOne(code)) => code.to_string(),
        Error::Tss2Error(Tss2ResponseCode::Success) | Error::WrapperError(_) => return None,
    };
    u32::from_str_radix(text.rsplit_once("0x")?.1, 16).ok()
}
