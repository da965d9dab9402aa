//! `nodeseal-sim azure-vtpm`: a software TPM as Azure provisions it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nodeseal_sim::azure::vtpm::{Front, Vtpm, VtpmConfig, kept_vm_id};
use nodeseal_sim::time::Clock;

use super::{Failure, ready, until_asked_to_stop};

/// Arguments of `azure-vtpm`.
#[derive(Args)]
pub struct Arguments {
    /// Directory of the machine's state: its id, event log, chip certificate; made if missing
    #[arg(long, value_name = "DIRECTORY")]
    state: PathBuf,
    /// State directory of `attestation`, with the roots it trusts [default: STATE]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// Data port of the software TPM (swtpm); control is the next
    #[arg(long, value_name = "ADDRESS:PORT")]
    tpm: SocketAddr,
    /// Port to listen on; control is the next
    #[arg(long, default_value_t = 2323)]
    port: u16,
    /// What kind of machine
    #[arg(long, value_enum, default_value_t = Kind::Confidential)]
    kind: Kind,
    /// Boot with Secure Boot on or off
    #[arg(long, value_enum, default_value_t = Switch::On)]
    secure_boot: Switch,
    /// A machine whose memory the host may read
    #[arg(long)]
    debug: bool,
    /// What is booted: measured into PCR 4
    #[arg(long, default_value = "linux")]
    boots: String,
    /// Unique id of the machine [default: as before, or a new one]
    #[arg(long, value_name = "UUID")]
    vm_id: Option<String>,
    /// The certificate of the attestation key is not there yet, as on a new machine
    #[arg(long)]
    no_ak_certificate: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Confidential,
    TrustedLaunch,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let state = arguments.state;
    let vm_id = kept_vm_id(&state.join("vm-id"), arguments.vm_id)?;
    let vtpm = Vtpm::provision(VtpmConfig {
        roots: arguments.root.unwrap_or_else(|| state.clone()),
        directory: state,
        tpm: arguments.tpm,
        confidential: arguments.kind == Kind::Confidential,
        debug: arguments.debug,
        secure_boot: arguments.secure_boot == Switch::On,
        boots: arguments.boots,
        vm_id: vm_id.clone(),
        certified: !arguments.no_ak_certificate,
        now: Clock::system().now(),
    })?;
    let details = serde_json::json!({
        "port": arguments.port,
        "tcti": format!("swtpm:host=127.0.0.1,port={}", arguments.port),
        "event_log": vtpm.event_log(),
        "amd_certification": vtpm.certification(),
        "vm_id": vm_id,
    });
    Front::bind(vtpm, arguments.port)?.serve();
    ready(&details)?;
    until_asked_to_stop().await
}
