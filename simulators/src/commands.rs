//! The command line: one file a subcommand.

mod attestation;
mod aws_kms;
mod azure_vtpm;
mod credential;
mod enclave;
mod entra;
mod imds;
mod key_vault;
mod nsm;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nodeseal_sim::interposer;
use tokio::signal::unix::{SignalKind, signal};

/// Simulators of the services nodeseal talks to, for tests and CI. Nothing real trusts what they sign.
///
/// Each prints one line of JSON when it is ready (where it listens, what it made) and runs until SIGTERM or SIGINT.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Azure's attestation service over HTTPS, for virtual machines with a vTPM
    Attestation(attestation::Arguments),
    /// AWS KMS over HTTPS, with policies, attestation and faults on demand
    AwsKms(aws_kms::Arguments),
    /// A software TPM as Azure provisions it: attestation key, certificate, report of the paravisor
    AzureVtpm(azure_vtpm::Arguments),
    /// Make an access key the simulated services know
    Credential(credential::Arguments),
    /// A Nitro Enclave to the agent: the trusted side on a simulated NSM
    Enclave(enclave::Arguments),
    /// Entra's token endpoint, and a machine's endpoint for managed identities
    Entra(entra::Arguments),
    /// The instance metadata service, with expiring credentials
    Imds(imds::Arguments),
    /// Azure Key Vault over HTTPS, with roles, secure key release and faults on demand
    KeyVault(key_vault::Arguments),
    /// A Nitro Security Module behind a unix socket
    Nsm(nsm::Arguments),
    TpmInterposer(interposer::command::Arguments),
}

/// What a subcommand ends with when it fails: a sentence for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the subcommand until it ends or is asked to.
pub fn run(cli: Cli) -> ExitCode {
    let log = tracing_subscriber::EnvFilter::try_from_env("NODESEAL_SIM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nodeseal-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Attestation(arguments) => in_runtime(attestation::run(arguments)),
        Command::AzureVtpm(arguments) => in_runtime(azure_vtpm::run(arguments)),
        Command::Entra(arguments) => in_runtime(entra::run(arguments)),
        Command::KeyVault(arguments) => in_runtime(key_vault::run(arguments)),
        Command::AwsKms(arguments) => in_runtime(aws_kms::run(arguments)),
        Command::Credential(arguments) => credential::run(&arguments),
        Command::Enclave(arguments) => in_runtime(enclave::run(arguments)),
        Command::Imds(arguments) => in_runtime(imds::run(arguments)),
        Command::Nsm(arguments) => in_runtime(nsm::run(arguments)),
        Command::TpmInterposer(arguments) => Ok(interposer::command::run(arguments)?),
    }
}

fn in_runtime(simulator: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(simulator)
}

/// Says on standard output that the simulator is ready, and how it is reached.
fn ready(details: &serde_json::Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{details}")?;
    out.flush()?;
    Ok(())
}

/// Returns when SIGTERM or SIGINT arrives.
async fn until_asked_to_stop() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
