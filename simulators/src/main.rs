//! `nodeseal-sim`: one subcommand a simulator, each in its file under commands/.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::run(commands::Cli::parse())
}
