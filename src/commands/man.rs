//! `man`: man pages from the definitions of the command line, one per command.

use clap::CommandFactory;
use nodeseal_wire::message::Class;

use crate::cli::{Cli, ManArgs};
use crate::failure::Failure;
use crate::report::Report;

/// Writes the pages.
///
/// # Errors
/// When the directory cannot be written to.
pub fn run(args: &ManArgs) -> Result<Report, Failure> {
    let written = std::fs::create_dir_all(&args.directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.directory));
    written.map_err(|error| {
        let message = format!(
            "{}: cannot write man pages: {error}",
            args.directory.display()
        );
        Failure::new(Class::Internal, "file", message)
    })?;
    let directory = args.directory.display().to_string();
    let text = format!("man pages are in {directory}\n");
    Ok(Report::new(
        serde_json::json!({ "directory": directory }),
        text,
    ))
}
