//! nodeseal-tpm: the process that owns the TPM and opens a node's keys under its policy.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use nodeseal_memory::{WipingAllocator, harden_process};
use nodeseal_tpm::config::Config;
use nodeseal_tpm::enrolment::{Keep, enroll};
use nodeseal_tpm::error::TpmError;
use nodeseal_tpm::record;
use nodeseal_tpm::serve::{ServeError, serve};
use nodeseal_tpm::tpm2::Tpm2;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

/// Any failure that starting again may cure.
const FAILED: u8 = 1;
/// The TPM is not the one enrolled: starting again does not help (RestartPreventExitStatus= in the unit).
const WRONG_TPM: u8 = 3;

/// Opens a blockchain node's sealed keys inside a confined process that owns the TPM.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pin this machine's TPM: record its storage root key and endorsement key
    Enroll(Enroll),
    /// Serve clients on the configured unix socket
    Serve(Common),
}

#[derive(Args)]
struct Common {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
struct Enroll {
    #[command(flatten)]
    common: Common,
    /// Write over an existing enrolment record
    #[arg(long)]
    replace: bool,
    /// Do not keep the storage root key in the TPM: make it anew for each use, which takes a discrete chip a quarter of a second
    #[arg(long)]
    transient: bool,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let hardened = harden_process().map_err(Failure::from);
    let done = hardened.and_then(|()| match Cli::parse().command {
        Command::Enroll(enroll) => enroll.run(),
        Command::Serve(common) => common.serve(),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nodeseal-tpm: {error}");
            ExitCode::from(exit_code(error.as_ref()))
        }
    }
}

fn exit_code(error: &(dyn std::error::Error + 'static)) -> u8 {
    let tpm = match error.downcast_ref::<ServeError>() {
        Some(ServeError::Tpm(tpm)) => Some(tpm),
        _ => error.downcast_ref::<TpmError>(),
    };
    match tpm {
        Some(TpmError::Enrolment(_)) => WRONG_TPM,
        _ => FAILED,
    }
}

impl Common {
    fn serve(&self) -> Result<(), Failure> {
        let config = Config::read(&self.config)?;
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(&config.log)?)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
        Ok(serve(&config)?)
    }
}

impl Enroll {
    fn run(&self) -> Result<(), Failure> {
        let config = Config::read(&self.common.config)?;
        let keep = match self.transient {
            true => Keep::Transient,
            false => Keep::Persistent,
        };
        if config.enrolment.exists() && !self.replace {
            // Before the TPM is changed; writing checks it once more.
            let path = config.enrolment;
            return Err(record::RecordError::Exists { path }.into());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let record = enroll(&mut Tpm2::new(config.tcti.clone()), keep, now)?;
        record::write(
            &config.enrolment,
            &record,
            self.replace,
            config.account.as_ref(),
        )?;
        println!("TPM                {} ({})", record.tpm, config.tcti);
        match record.srk.handle {
            Some(handle) => println!("storage root key   {} at {handle:#010x}", record.srk.name),
            None => println!("storage root key   {}, made for each use", record.srk.name),
        }
        println!("endorsement key    {}", record.ek.name);
        println!("enrolment record   {}", config.enrolment.display());
        println!(
            "These keys are trusted from now on because they were found now (docs/tpm.md, \"Enrolment\")."
        );
        Ok(())
    }
}
