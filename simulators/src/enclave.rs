//! What a Nitro Enclave is to the agent: the trusted side's own core, with a simulated NSM beneath it.
//!
//! It runs as an ordinary process: its memory is not isolated from the host, nothing measured the code. What the NSM
//! attests is what it was told to.

mod attester;
mod listen;

pub use attester::NsmAttester;
pub use listen::{EnclaveAddress, EnclaveListener};

use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use nodeseal_core::aws::{AwsKms, AwsKmsConfig, AwsKmsConfigError};
use nodeseal_core::keyring::Keyring;
use nodeseal_core::service::{About, Limits, TrustedSide};
use nodeseal_core::tunnel::Clock;
use nodeseal_wire::message::Fact;
use tokio::task::JoinSet;

use crate::nsm::NsmSimulator;
use crate::text::hex;

/// PCRs shown in the status.
const SHOWN: [u16; 6] = [0, 1, 2, 3, 4, 8];

/// A trusted side that proves itself by `nsm`, whose clock it also goes by.
///
/// # Errors
/// When the settings of AWS KMS cannot be used.
pub fn trusted_side(
    nsm: Arc<NsmSimulator>,
    mut kms: AwsKmsConfig,
) -> Result<Arc<TrustedSide>, AwsKmsConfigError> {
    let clock = nsm.clone();
    kms.clock = Clock::new(move || UNIX_EPOCH + Duration::from_millis(clock.now().0));
    let attester = Arc::new(NsmAttester::new(nsm.clone()));
    let services = AwsKms::new(kms, Some(attester.clone()))?;
    let about = About {
        provider: "nitro-enclave",
        software: concat!("nodeseal-sim enclave ", env!("CARGO_PKG_VERSION")).to_owned(),
        facts: facts(&nsm),
        live: Vec::new,
        attester: Some(attester),
    };
    let keyring = Keyring::new(vec![Arc::new(services)]);
    Ok(TrustedSide::new(keyring, about, Limits::default()))
}

fn facts(nsm: &NsmSimulator) -> Vec<Fact> {
    let mut facts = vec![Fact {
        name: "nsm-module".to_owned(),
        value: format!("{} (simulated)", nsm.module_id()),
    }];
    for index in SHOWN {
        facts.push(Fact {
            name: format!("pcr{index}"),
            value: hex(&nsm.pcr(index).unwrap_or([0; 48])),
        });
    }
    facts
}

/// Serves every client of `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve_enclave(listener: EnclaveListener, side: Arc<TrustedSide>) -> io::Result<()> {
    let mut clients = JoinSet::new();
    loop {
        let stream = listener.accept().await?;
        let (side, port) = (side.clone(), listener.port());
        clients.spawn(async move {
            let Some(stream) = listen::connected(stream, port).await else {
                return;
            };
            if let Err(error) = side.serve(stream).await {
                tracing::info!(%error, "a client is gone");
            }
        });
        while clients.try_join_next().is_some() {}
    }
}
