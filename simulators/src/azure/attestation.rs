//! The attestation service over HTTPS: what a virtual machine's TPM says of it, checked, and turned into a token.

mod envelope;
mod event_log;
mod evidence;
mod faults;
mod policy;
mod request;
mod server;

pub use event_log::{EventLog, EventLogError};
pub use faults::AttestationFault;
pub use server::{serve, serve_admin};

use std::sync::Mutex;

use crate::pki::{PkiError, TokenSigner};
use crate::time::Clock;

use super::faults::FaultQueue;

/// What a simulated service is started with.
pub struct AttestationConfig {
    /// Its address, as tokens name it.
    pub issuer: String,
    /// Signs tokens.
    pub signer: TokenSigner,
    /// Another, whose key is not published, for faults.
    pub stranger: TokenSigner,
    /// Root of attestation key certificates (DER).
    pub ak_root: Vec<u8>,
    /// Root of chips' certificates (DER).
    pub chip_root: Vec<u8>,
    /// Life of a token, in seconds.
    pub lifetime: u64,
    /// The present.
    pub clock: Clock,
}

/// A service.
pub struct Attestation {
    config: AttestationConfig,
    faults: FaultQueue<AttestationFault>,
    /// The last envelope answered, for a replay.
    last: Mutex<Option<String>>,
}

impl Attestation {
    /// A service of these keys.
    #[must_use]
    pub fn new(config: AttestationConfig) -> Self {
        Self {
            config,
            faults: FaultQueue::default(),
            last: Mutex::default(),
        }
    }

    /// Faults to come.
    #[must_use]
    pub fn faults(&self) -> &FaultQueue<AttestationFault> {
        &self.faults
    }

    /// The clock tokens and certificates are judged by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.config.clock
    }
}

impl From<PkiError> for super::error::AzureError {
    fn from(error: PkiError) -> Self {
        Self::internal(error)
    }
}
