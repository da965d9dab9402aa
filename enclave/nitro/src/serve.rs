//! The service: the security module asked for randomness, time and measurements, then clients served.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use nodeseal_attestation::hex;
use nodeseal_core::aws::{AwsKms, AwsKmsConfigError};
use nodeseal_core::evidence::AttestError;
use nodeseal_core::keyring::Keyring;
use nodeseal_core::service::{About, TrustedSide, accept_clients};
use nodeseal_memory::HardenError;
use nodeseal_wire::message::Fact;
use tokio_vsock::VsockStream;

use crate::clock::{self, ClockError};
use crate::config::{Config, PARENT_CID};
use crate::log::Log;
use crate::nsm::{self, Device, Nsm, NsmAttester};
use crate::vsock::{self, Parent};
use crate::{entropy, heartbeat};

/// PCRs shown in the status.
const SHOWN: [u16; 6] = [0, 1, 2, 3, 4, 8];
/// The runtime's threads; what computes for long has its own.
const WORKERS: usize = 2;

/// The enclave cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No security module.
    #[error("cannot open {device}: {0}", device = nsm::DEVICE)]
    Device(io::Error),
    /// The security module refuses.
    #[error(transparent)]
    Nsm(#[from] AttestError),
    /// The kernel takes no entropy.
    #[error("cannot feed the kernel's random pool: {0}")]
    Entropy(io::Error),
    /// No time.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A protection is missing.
    #[error(transparent)]
    Harden(#[from] HardenError),
    /// The settings of AWS KMS.
    #[error("aws_kms: {0}")]
    AwsKms(#[from] AwsKmsConfigError),
    /// No vsock.
    #[error("cannot listen on vsock port {port}: {source}")]
    Listen {
        /// The port.
        port: u32,
        /// Why not.
        source: io::Error,
    },
    /// The runtime.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

/// Serves for ever. `started` is when the process started, since the kernel did.
///
/// # Errors
/// When it cannot, with the reason.
pub fn serve(config: Config, log: Arc<Log>, started: Duration) -> Result<(), ServeError> {
    let nsm: Arc<dyn Nsm> = Arc::new(Device::open().map_err(ServeError::Device)?);
    let random = nsm::random(nsm.as_ref())?;
    entropy::feed(&random).map_err(ServeError::Entropy)?;
    drop(random);
    phase("entropy", started);
    clock::anchor(nsm.as_ref())?;
    phase("time", started);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    runtime.block_on(run(config, log, nsm, started))
}

/// For whoever looks into where a start's time goes.
fn phase(name: &str, started: Duration) {
    let after = clock::since_boot().saturating_sub(started);
    tracing::debug!(after_ms = after.as_millis(), "{name}");
}

async fn run(
    mut config: Config,
    log: Arc<Log>,
    nsm: Arc<dyn Nsm>,
    started: Duration,
) -> Result<(), ServeError> {
    phase("runtime", started);
    let mut facts = facts(nsm.as_ref())?;
    phase("measurements", started);
    let listen = |source| ServeError::Listen {
        port: config.port,
        source,
    };
    let listener = vsock::listen(config.port).map_err(listen)?;
    let parent = config.parent_cid;
    config.aws_kms.dial = Arc::new(Parent { cid: parent });
    let attester = Arc::new(NsmAttester(Arc::clone(&nsm)));
    // Makes recipient keys from now on, in the background.
    let services = AwsKms::new(config.aws_kms, Some(attester.clone()))?;
    // Clients wait in the socket's queue for what little remains.
    let ready = clock::since_boot();
    facts.push(milliseconds("boot-ms", ready));
    facts.push(milliseconds("ours-ms", ready.saturating_sub(started)));
    for Fact { name, value } in facts.iter().chain(&live()) {
        tracing::info!("{name}: {value}");
    }
    tracing::info!(port = config.port, "ready");
    let about = About {
        provider: "nitro-enclave",
        software: concat!("nodeseal-nitro ", env!("CARGO_PKG_VERSION")).to_owned(),
        facts,
        live,
        attester: Some(attester),
    };
    let side = TrustedSide::new(Keyring::new(vec![Arc::new(services)]), about, config.limits);
    tokio::spawn(async {
        match heartbeat::send(vsock::connect(PARENT_CID, heartbeat::PORT)).await {
            Ok(()) => tracing::info!("the parent knows that the enclave is up"),
            Err(reason) => tracing::info!(%reason, "nobody took the heartbeat"),
        }
    });
    tokio::spawn(clock::keep(nsm));
    if let Some(port) = config.log_port {
        tokio::spawn(async move { log.forward(|| vsock::connect(parent, port)).await });
    }
    let accept = async || Ok(listener.accept().await?.0);
    accept_clients(config.connections, accept, |stream| {
        client(Arc::clone(&side), stream)
    })
    .await
}

async fn client(side: Arc<TrustedSide>, stream: VsockStream) {
    if let Err(error) = side.serve(stream).await {
        tracing::info!(%error, "a connection ended early");
    }
}

fn facts(nsm: &dyn Nsm) -> Result<Vec<Fact>, AttestError> {
    let mut facts = vec![Fact {
        name: "nsm-module".to_owned(),
        value: nsm::module_id(nsm)?,
    }];
    for index in SHOWN {
        facts.push(Fact {
            name: format!("pcr{index}"),
            value: hex::encode(&nsm::pcr(nsm, index)?),
        });
    }
    Ok(facts)
}

fn milliseconds(name: &str, time: Duration) -> Fact {
    Fact {
        name: name.to_owned(),
        value: time.as_millis().to_string(),
    }
}

/// Memory the process has in use, now and at most so far (proc(5): `VmRSS`, `VmHWM`), and processor time it has taken.
fn live() -> Vec<Fact> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str, line: &str| {
        let kib = status.lines().find_map(|text| text.strip_prefix(line))?;
        Some(Fact {
            name: name.to_owned(),
            value: kib.trim().trim_end_matches(" kB").to_owned(),
        })
    };
    let memory = [
        field("resident-kib", "VmRSS:"),
        field("resident-peak-kib", "VmHWM:"),
    ];
    let taken = milliseconds("cpu-ms", clock::processor());
    memory.into_iter().flatten().chain([taken]).collect()
}
