//! The same unseal by tss-esapi: what the TPM's usual library takes for it, in a process that is there already.

use std::fmt::Display;
use std::time::Duration;

use nodeseal_harness::{Error, Result, Swtpm};
use nodeseal_memory::Secret;
use nodeseal_tpm::enrolment::{Keep, enroll, verify};
use nodeseal_tpm::tcti::Tcti;
use nodeseal_tpm::tpm::{PcrSelection, SealPolicy, SealedObject, Srk, Tpm, UnsealPolicy};
use nodeseal_wire::lock::PcrBank;

use crate::PCRS;
use crate::report::timed;
use crate::tss::EsysTpm;

/// A secret it sealed, to the same PCRs and by the same recipe: salted session, encrypted answer.
pub struct Library {
    tcti: Tcti,
    srk: Srk,
    pcrs: PcrSelection,
    object: SealedObject,
}

impl Library {
    /// Seals.
    pub fn seal(swtpm: &Swtpm) -> Result<Self> {
        let tcti: Tcti = swtpm.tcti().parse().map_err(failed)?;
        let mut tpm = EsysTpm::new(tcti.clone());
        let enrolment = enroll(&mut tpm, Keep::Persistent, 0).map_err(failed)?;
        let srk = verify(&mut tpm, &enrolment).map_err(failed)?;
        let pcrs = PcrSelection {
            bank: PcrBank::Sha256,
            pcrs: PCRS.to_vec(),
        };
        let secret = Secret::copy_of(&[7; 32]).map_err(failed)?;
        let object = tpm
            .seal(&srk, &SealPolicy::PcrsNow(&pcrs), &secret)
            .map_err(failed)?;
        Ok(Self {
            tcti,
            srk,
            pcrs,
            object,
        })
    }

    /// Unseals, with a context of its own, as each opening has.
    pub fn unseal(&self) -> Result<Duration> {
        let by = UnsealPolicy {
            pcrs: &self.pcrs,
            approval: None,
        };
        let mut tpm = EsysTpm::new(self.tcti.clone());
        // Connects, so that only the commands are timed.
        tpm.occupied().map_err(failed)?;
        let unseal = || tpm.unseal(&self.srk, &self.object, &by).map_err(failed);
        Ok(timed(unseal)?.0)
    }
}

fn failed(error: impl Display) -> Error {
    Error::new(error.to_string())
}
