//! The seam to evidence, over NSM bytes.

use std::sync::Arc;

use minicbor::Decoder;
use nodeseal_core::evidence::{AttestError, AttestationRequest, Attester};
use nodeseal_core::lock::BoxFuture;
use nodeseal_wire::cbor::Writer;

use crate::nsm::NsmSimulator;

/// Asks a simulated NSM for documents, in the bytes the device takes.
pub struct NsmAttester {
    nsm: Arc<NsmSimulator>,
}

impl NsmAttester {
    /// An attester before `nsm`.
    #[must_use]
    pub fn new(nsm: Arc<NsmSimulator>) -> Self {
        Self { nsm }
    }
}

/// A request for a document, as the device takes it.
fn question(request: AttestationRequest<'_>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(1).text("Attestation").map(3);
    for (name, value) in [
        ("user_data", request.user_data),
        ("nonce", request.nonce),
        ("public_key", request.public_key),
    ] {
        writer.text(name).optional(value, |w, bytes| w.bytes(bytes));
    }
    writer.finish()
}

impl Attester for NsmAttester {
    fn kind(&self) -> &'static str {
        "nitro-enclave"
    }

    fn attest<'a>(
        &'a self,
        request: AttestationRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, AttestError>> {
        let (nsm, question) = (Arc::clone(&self.nsm), question(request));
        Box::pin(async move {
            // As with the device: a thread waits for it, and the rest goes on.
            let asked = tokio::task::spawn_blocking(move || document(&nsm.call(&question)));
            asked.await.unwrap_or_else(|error| {
                Err(AttestError::Device {
                    device: device(),
                    reason: error.to_string(),
                })
            })
        })
    }
}

fn device() -> String {
    "the simulated NSM".to_owned()
}

/// The document in a response, or the error's name.
fn document(answer: &[u8]) -> Result<Vec<u8>, AttestError> {
    let malformed = |reason: minicbor::decode::Error| AttestError::Malformed {
        device: device(),
        reason: reason.to_string(),
    };
    let mut decoder = Decoder::new(answer);
    decoder.map().map_err(malformed)?;
    if decoder.str().map_err(malformed)? == "Error" {
        return Err(AttestError::Refused {
            device: device(),
            reason: decoder.str().map_err(malformed)?.to_owned(),
        });
    }
    decoder.map().map_err(malformed)?;
    decoder.str().map_err(malformed)?;
    Ok(decoder.bytes().map_err(malformed)?.to_vec())
}
