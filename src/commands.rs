//! One file per command; this one picks it.

mod attest;
mod audit;
mod completions;
mod enclave_log;
mod generate;
mod init;
mod inspect;
mod lock;
mod man;
mod open;
mod policy;
mod policy_aws;
mod policy_azure;
mod rotate;
mod run;
mod seal;
mod status;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use nodeseal_wire::message::{Class, DataKeyReport};

use crate::audit::Trail;
use crate::cli::{Cli, Command};
use crate::client::Connection;
use crate::config::Config;
use crate::failure::Failure;
use crate::report::conclude;
use crate::run::launch;

/// What every command may need.
pub struct App {
    cli_config: Option<std::path::PathBuf>,
    /// Whether a program reads the report.
    pub json: bool,
}

/// Reads the command line, does what it says, reports.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, a mistake to standard error; nobody is left to tell where that fails.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * 2);
        }
    };
    let app = App {
        cli_config: cli.config,
        json: cli.json,
    };
    match nodeseal_memory::harden_process() {
        Ok(()) => dispatch(&app, cli.command),
        Err(error) => {
            let failure = Failure::new(Class::Internal, "hardening", error.to_string());
            conclude(Err(failure), app.json)
        }
    }
}

fn dispatch(app: &App, command: Command) -> ExitCode {
    let result = match command {
        Command::Attest(args) => attest::run(app, &args),
        Command::Audit(command) => audit::run(app, &command),
        Command::Init(args) => init::run(app, &args),
        Command::Seal(args) => seal::run(app, &args),
        Command::Generate(args) => generate::run(app, &args),
        Command::Open(args) => open::run(app, &args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Status => status::run(app),
        Command::EnclaveLog(args) => enclave_log::run(app, &args),
        Command::Lock => lock::run(app),
        Command::Rotate(args) => rotate::run(app, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Policy(command) => match policy::run(app, &command) {
            Ok((report, status)) => {
                let concluded = conclude(Ok(report), app.json);
                return if status == 0 {
                    concluded
                } else {
                    ExitCode::from(status)
                };
            }
            Err(failure) => Err(failure),
        },
        Command::Verify(args) => verify::run(&args),
        Command::Run(args) => match run::run(app, &args) {
            Ok(status) => return ExitCode::from(status),
            Err(failure) => Err(failure),
        },
        Command::Launch(arguments) => return ExitCode::from(launch(&arguments)),
    };
    conclude(result, app.json)
}

impl App {
    /// The configuration.
    ///
    /// # Errors
    /// When there is none, or it is not valid.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(Config::load(self.cli_config.as_deref())?)
    }

    /// Does work that waits for the trusted side, on this thread.
    ///
    /// # Errors
    /// Those of the work, or when the system gives no event loop.
    pub fn wait_for<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Class::Internal, "runtime", error.to_string()))?
            .block_on(work)
    }
}

/// Connects to the configured trusted side.
///
/// # Errors
/// When it cannot be reached.
pub async fn connect(config: &Config) -> Result<Connection, Failure> {
    Ok(Connection::open(&config.trusted).await?)
}

/// Writes the audit record of a batch: its data keys, or why it failed as a whole.
///
/// # Errors
/// That failure, or that the log cannot be written: no key must be used then.
pub fn recorded(
    mut trail: Trail,
    config: &Config,
    outcome: Result<Vec<DataKeyReport>, Failure>,
) -> Result<Vec<DataKeyReport>, Failure> {
    if let Err(failure) = &outcome {
        trail.failed(&failure.refusal());
    }
    trail.record(&config.audit, outcome.as_deref().unwrap_or_default())?;
    outcome
}
