//! The Nitro Security Module: request bytes in, response bytes out, as the ioctl of /dev/nsm passes them.
//!
//! Semantics follow aws-nitro-enclaves-nsm-api (docs/attestation_process.md, src/api/mod.rs) and, where that is
//! silent (errors of lock and extend), QEMU's virtio-nsm. Documents have the key order and the null members of
//! genuine ones and are signed under a [`NitroRoot`].

mod document;
mod measurements;
mod pcrs;
mod request;
mod response;
mod serve;

pub use document::{DocumentForm, MapEncoding};
pub use measurements::{Measurements, MeasurementsError};
pub use pcrs::{PCR_COUNT, PcrBank, PcrError, PcrValue};
pub use serve::{MAX_REQUEST, MAX_RESPONSE, ServeError, serve};

use std::sync::{Mutex, PoisonError};

use crate::pki::{NitroIdentity, NitroRoot};
use crate::text::{hex, random};
use crate::time::{Clock, Timestamp};
use document::Attested;
use request::Request;
use response::ErrorCode;

/// Bytes GetRandom gives.
const RANDOM_BYTES: usize = 256;

/// What the simulated hypervisor knows when it boots an enclave.
pub struct NsmConfig {
    /// The root to sign under.
    pub root: NitroRoot,
    /// Region in certificate names.
    pub region: String,
    /// Parent instance, `i-` and 17 hexadecimal digits; measured into PCR4.
    pub instance_id: String,
    /// Measurements of the image and its surroundings.
    pub measurements: Measurements,
    /// Debug mode: PCR0, 1, 2 and 8 read as zero.
    pub debug: bool,
    /// How document maps are written.
    pub map_encoding: MapEncoding,
    /// The present.
    pub clock: Clock,
}

/// A simulated Nitro Security Module.
pub struct NsmSimulator {
    clock: Clock,
    map_encoding: MapEncoding,
    root: Vec<u8>,
    module_id: String,
    state: Mutex<State>,
}

struct State {
    pcrs: PcrBank,
    identity: NitroIdentity,
}

impl NsmSimulator {
    /// Boots: measures, and locks PCR0 to PCR15.
    ///
    /// # Errors
    /// When no random module id can be made.
    pub fn boot(config: NsmConfig) -> Result<Self, crate::text::NoRandomness> {
        let module_id = format!("{}-enc{}", config.instance_id, hex(&random::<8>()?));
        let root = config.root.certificate().to_vec();
        let pcrs = config.measurements.bank(&config.instance_id, config.debug);
        let identity =
            NitroIdentity::new(config.root, &config.region, &config.instance_id, &module_id);
        Ok(Self {
            clock: config.clock,
            map_encoding: config.map_encoding,
            root,
            module_id,
            state: Mutex::new(State { pcrs, identity }),
        })
    }

    /// The root certificate (DER) its documents verify under.
    #[must_use]
    pub fn root_certificate(&self) -> &[u8] {
        &self.root
    }

    /// SHA-256 of it.
    #[must_use]
    pub fn root_sha256(&self) -> Vec<u8> {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.root);
        hash.as_ref().to_vec()
    }

    /// What it takes for the present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Module id in its documents.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// The value of a PCR, 48 bytes; none past PCR31.
    #[must_use]
    pub fn pcr(&self, index: u16) -> Option<PcrValue> {
        self.state().pcrs.read(index).ok().map(|(value, _)| value)
    }

    /// Answers one request: CBOR in, CBOR out. What is no request is answered with an error, as the device does.
    #[must_use]
    pub fn call(&self, request: &[u8]) -> Vec<u8> {
        if request.len() > MAX_REQUEST {
            return response::error(ErrorCode::InputTooLarge);
        }
        let Ok(request) = request::decode(request) else {
            return response::error(ErrorCode::InvalidOperation);
        };
        self.answer(request).unwrap_or_else(response::error)
    }

    fn answer(&self, request: Request<'_>) -> Result<Vec<u8>, ErrorCode> {
        let mut state = self.state();
        match request {
            Request::DescribePcr { index } => {
                let (value, locked) = state.pcrs.read(index)?;
                Ok(response::describe_pcr(&value, locked))
            }
            Request::ExtendPcr { index, data } => {
                Ok(response::extend_pcr(&state.pcrs.extend(index, data)?))
            }
            Request::LockPcr { index } => {
                state.pcrs.lock(index)?;
                Ok(response::bare("LockPCR"))
            }
            Request::LockPcrs { range } => {
                state.pcrs.lock_below(range)?;
                Ok(response::bare("LockPCRs"))
            }
            Request::DescribeNsm => Ok(response::describe_nsm(
                &self.module_id,
                &state.pcrs.locked(),
            )),
            Request::GetRandom => {
                let bytes = random::<RANDOM_BYTES>().map_err(|_| ErrorCode::InternalError)?;
                Ok(response::get_random(&bytes))
            }
            Request::Attestation(claims) => {
                let now = self.clock.now();
                let attested = Attested {
                    form: DocumentForm::Enclave,
                    encoding: self.map_encoding,
                    pcrs: &state.pcrs.attested(),
                    claims,
                };
                let document = attested.document(&mut state.identity, now)?;
                Ok(response::attestation(&document))
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // No method leaves the state half changed, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
