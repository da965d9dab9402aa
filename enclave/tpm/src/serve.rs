//! The service: clients accepted, checked, and handed to the request handler every trusted side shares.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nodeseal_azure::{AzureConfigError, AzureRelease, AzureUnwrap, Vaults};
use nodeseal_core::aws::{AwsKms, AwsKmsConfigError};
use nodeseal_core::keyring::Keyring;
use nodeseal_core::lock::KeyService;
use nodeseal_core::service::{About, Limits, TrustedSide, accept_clients};
use nodeseal_wire::frame::write_frame;
use nodeseal_wire::message::{Class, Fact, Refusal, Reply};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::azure::{AzureTpm, MachineFiles};
use crate::config::Config;
use crate::enrolment::{Enrolment, verify};
use crate::error::TpmError;
use crate::listener::{ListenError, Listener};
use crate::lock::TpmLocks;
use crate::owner::TpmOwner;
use crate::record::{self, RecordError};
use crate::sandbox::{self, Needs, SandboxError};
use crate::tpm2::Tpm2;

/// A client that may not connect gets this long to read why.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// Requests under way at the end get this long.
const END_WAIT: Duration = Duration::from_secs(5);
/// The service's own threads; TPM commands and sealing have theirs.
const WORKERS: usize = 2;

/// The service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No enrolment.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A protection is missing.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The TPM does not answer, or is not the one enrolled.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The settings of AWS KMS.
    #[error("aws_kms: {0}")]
    AwsKms(#[from] AwsKmsConfigError),
    /// The settings of Azure Key Vault.
    #[error("azure: {0}")]
    Azure(#[from] AzureConfigError),
    /// The event log that goes along with an attestation.
    #[error("azure.release.event_log: cannot read {path}: {source}", path = path.display())]
    EventLog {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The runtime.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

/// Runs the service until SIGTERM or SIGINT. Call it from `main`, before there is any other thread.
///
/// # Errors
/// When it cannot start, with the reason.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    let enrolment = record::read(&config.enrolment, config.account.as_ref())?;
    let listener = Listener::open(config)?;
    let machine = machine_files(config)?;
    let facts = sandbox::enter(&Needs {
        tcti: &config.tcti,
        account: config.account.as_ref(),
        lock_memory: config.lock_memory,
        socket: listener.ours.as_deref(),
    })?;
    let tcti = config.tcti.clone();
    let owner = TpmOwner::start(
        tcti.clone(),
        Arc::new(move || Box::new(Tpm2::new(tcti.clone()))),
        config.tpm_timeout,
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let served = runtime.block_on(run(config, owner, enrolment, facts, listener, machine));
    runtime.shutdown_timeout(END_WAIT);
    served
}

async fn run(
    config: &Config,
    owner: TpmOwner,
    enrolment: Enrolment,
    mut facts: Vec<Fact>,
    listener: Listener,
    machine: Option<MachineFiles>,
) -> Result<(), ServeError> {
    let (record, selection) = (enrolment.clone(), config.seal_to.pcrs.clone());
    let (srk, values) = owner
        .run(move |tpm| Ok((verify(tpm, &record)?, tpm.read_pcrs(&selection)?)))
        .await?;
    if srk.handle.is_none() && enrolment.srk.handle.is_some() {
        tracing::warn!(
            "the storage root key is no longer at its persistent handle: it is made anew for each use"
        );
    }
    for (pcr, value) in config.seal_to.pcrs.pcrs.iter().zip(&values) {
        if value.iter().all(|byte| *byte == 0) {
            tracing::warn!(
                pcr,
                "this PCR of the configured policy is zero: nothing was measured into it"
            );
        }
    }
    facts.extend(tpm_facts(config, &enrolment));
    for Fact { name, value } in &facts {
        tracing::info!("{name}: {value}");
    }
    let locks = TpmLocks::new(owner, enrolment, srk, config.seal_to.clone(), &values);
    let locks = Arc::new(locks);
    let mut services: Vec<Arc<dyn KeyService>> = vec![locks.clone()];
    if let Some(kms) = &config.aws_kms {
        // A TPM alone makes no document KMS takes, so its locks stand beside a `tpm` lock, without attestation.
        services.push(Arc::new(AwsKms::new(kms.clone(), None)?));
    }
    if let Some(azure) = &config.azure {
        let vaults = Vaults::new(azure.vaults.clone())?;
        services.push(Arc::new(AzureUnwrap(vaults.clone())));
        if let (Some((release, _)), Some(machine)) = (&azure.release, machine) {
            let tpm = Arc::new(AzureTpm::new(locks, machine));
            services.push(Arc::new(AzureRelease::new(vaults, release.clone(), tpm)));
        }
    }
    let side = TrustedSide::new(
        Keyring::new(services),
        About {
            provider: "tpm",
            software: concat!("nodeseal-tpm ", env!("CARGO_PKG_VERSION")).to_owned(),
            facts,
            live: Vec::new,
            attester: None,
        },
        Limits::default(),
    );
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let socket = UnixListener::from_std(listener.socket)?;
    tell_systemd(&[sd_notify::NotifyState::Ready]);
    tracing::info!(socket = %config.socket.display(), "ready");
    let allowed: Arc<[u32]> = config.allowed_uids.clone().into();
    let accept = async || Ok(socket.accept().await?.0);
    let serve = |stream| client(stream, side.clone(), allowed.clone());
    tokio::select! {
        _ = accept_clients(config.connections, accept, serve) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    side.lock();
    tell_systemd(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping: every data key is wiped");
    remove(listener.ours);
    Ok(())
}

/// What an attestation needs of the machine's files, read while the process may still read them.
fn machine_files(config: &Config) -> Result<Option<MachineFiles>, ServeError> {
    let release = config
        .azure
        .as_ref()
        .and_then(|azure| azure.release.as_ref());
    let Some((_, event_log)) = release else {
        return Ok(None);
    };
    let files = MachineFiles::read(event_log).map_err(|source| ServeError::EventLog {
        path: event_log.clone(),
        source,
    })?;
    Ok(Some(files))
}

fn tpm_facts(config: &Config, enrolment: &Enrolment) -> Vec<Fact> {
    let fact = |name: &str, value: String| Fact {
        name: name.to_owned(),
        value,
    };
    let mut facts = vec![
        fact("tpm", format!("{} ({})", config.tcti, enrolment.tpm)),
        fact("tpm-srk", enrolment.srk.name.to_string()),
        fact("tpm-pcrs", config.seal_to.pcrs.to_string()),
    ];
    if let Some(signer) = &config.seal_to.signer {
        let name = crate::structures::Name::of(&signer.public);
        facts.push(fact("tpm-signer", name.to_string()));
    }
    facts
}

/// Readiness is told where somebody listens for it.
fn tell_systemd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

fn remove(socket: Option<PathBuf>) {
    if let Some(path) = socket
        && let Err(error) = std::fs::remove_file(&path)
    {
        tracing::debug!(%error, path = %path.display(), "socket left behind");
    }
}

async fn client(mut stream: UnixStream, side: Arc<TrustedSide>, allowed: Arc<[u32]>) {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            tracing::warn!(%error, "a client without credentials was turned away");
            return;
        }
    };
    if !allowed.contains(&uid) {
        tracing::warn!(
            uid,
            "a client was turned away: its uid is not in allowed_uids"
        );
        let reply = Reply::Refused(Refusal {
            class: Class::Denied,
            code: "uid-not-allowed".to_owned(),
            message: format!("uid {uid} may not use this TPM: it is not in allowed_uids"),
        });
        let _ = timeout(REFUSAL_WAIT, write_frame(&mut stream, &reply.encode(), &[])).await;
        return;
    }
    if let Err(error) = side.serve(stream).await {
        tracing::info!(uid, %error, "a connection ended early");
    }
}
