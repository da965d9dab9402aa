//! `completions`: completion scripts from the definitions of the command line.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};
use crate::failure::Failure;
use crate::report::Report;

/// The script of one shell.
///
/// # Errors
/// None.
pub fn run(args: &CompletionsArgs) -> Result<Report, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nodeseal", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    Ok(Report::new(serde_json::json!({ "script": script }), script))
}
