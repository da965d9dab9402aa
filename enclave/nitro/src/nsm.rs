//! The Nitro Security Module: evidence, measurements, randomness.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use nodeseal_core::evidence::{AttestError, AttestationRequest, Attester};
use nodeseal_core::lock::BoxFuture;
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

/// The device of the kernel's driver (drivers/misc/nsm.c).
pub const DEVICE: &str = "/dev/nsm";

/// Whoever answers requests to the module.
pub trait Nsm: Send + Sync {
    /// Asks, and waits for the answer: a millisecond, or some for a document.
    fn call(&self, request: Request) -> Response;
}

/// The device.
pub struct Device(File);

impl Device {
    /// Opens [`DEVICE`].
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> io::Result<Self> {
        let options = File::options().read(true).write(true).open(DEVICE);
        options.map(Self)
    }
}

impl Nsm for Device {
    fn call(&self, request: Request) -> Response {
        nsm_process_request(self.0.as_raw_fd(), request)
    }
}

/// A document that carries what `request` says.
///
/// # Errors
/// When the module refuses, or answers something else.
pub fn document(nsm: &dyn Nsm, request: AttestationRequest<'_>) -> Result<Vec<u8>, AttestError> {
    let field = |bytes: Option<&[u8]>| bytes.map(|bytes| ByteBuf::from(bytes.to_vec()));
    let request = Request::Attestation {
        user_data: field(request.user_data),
        nonce: field(request.nonce),
        public_key: field(request.public_key),
    };
    match nsm.call(request) {
        Response::Attestation { document } => Ok(document),
        other => Err(unexpected(other, "a document")),
    }
}

/// Random bytes of the hypervisor, 256 at the most.
///
/// # Errors
/// When the module gives none.
pub fn random(nsm: &dyn Nsm) -> Result<Zeroizing<Vec<u8>>, AttestError> {
    match nsm.call(Request::GetRandom) {
        Response::GetRandom { random } if !random.is_empty() => Ok(Zeroizing::new(random)),
        other => Err(unexpected(other, "random bytes")),
    }
}

/// Id of the module: `i-…-enc…`.
///
/// # Errors
/// When the module does not tell.
pub fn module_id(nsm: &dyn Nsm) -> Result<String, AttestError> {
    match nsm.call(Request::DescribeNSM) {
        Response::DescribeNSM { module_id, .. } => Ok(module_id),
        other => Err(unexpected(other, "its description")),
    }
}

/// Value of a PCR, 48 bytes.
///
/// # Errors
/// When the module does not tell.
pub fn pcr(nsm: &dyn Nsm, index: u16) -> Result<Vec<u8>, AttestError> {
    match nsm.call(Request::DescribePCR { index }) {
        Response::DescribePCR { data, .. } => Ok(data),
        other => Err(unexpected(other, "a PCR")),
    }
}

fn unexpected(response: Response, expected: &str) -> AttestError {
    let device = DEVICE.to_owned();
    match response {
        Response::Error(code) => AttestError::Refused {
            device,
            reason: format!("{code:?}"),
        },
        // What it is instead may be random bytes, which are nobody's business.
        _ => AttestError::Malformed {
            device,
            reason: format!("{expected} was expected, something else found"),
        },
    }
}

/// Evidence of the enclave, by its module.
pub struct NsmAttester(pub Arc<dyn Nsm>);

impl Attester for NsmAttester {
    fn kind(&self) -> &'static str {
        "nitro-enclave"
    }

    fn attest<'a>(
        &'a self,
        request: AttestationRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, AttestError>> {
        let nsm = Arc::clone(&self.0);
        let own = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
        let (nonce, user_data, public_key) = (
            own(request.nonce),
            own(request.user_data),
            own(request.public_key),
        );
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || {
                let request = AttestationRequest {
                    nonce: nonce.as_deref(),
                    user_data: user_data.as_deref(),
                    public_key: public_key.as_deref(),
                };
                document(nsm.as_ref(), request)
            });
            asked.await.unwrap_or_else(|error| {
                Err(AttestError::Device {
                    device: DEVICE.to_owned(),
                    reason: error.to_string(),
                })
            })
        })
    }
}

#[cfg(test)]
mod tests;
