//! `nodeseal-sim`: each simulator as a program, for a look by hand and for tests that start processes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nodeseal_sim::interposer;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    simulator: Simulator,
}

#[derive(Subcommand)]
enum Simulator {
    TpmInterposer(interposer::command::Arguments),
}

fn main() -> ExitCode {
    let done = match Cli::parse().simulator {
        Simulator::TpmInterposer(arguments) => interposer::command::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nodeseal-sim: {error}");
            ExitCode::FAILURE
        }
    }
}
