//! `init`: writes a configuration with comments.

use std::path::Path;

use nodeseal_wire::header::check_name;
use serde_json::json;

use super::App;
use crate::cli::InitArgs;
use crate::config::DEFAULT_PATHS;
use crate::failure::Failure;
use crate::files::{BLOB_MODE, create_all};
use crate::report::Report;

const TEMPLATE: &str = include_str!("init.toml");

/// Writes the file; an existing one is not touched.
///
/// # Errors
/// When there is one, it cannot be written, or the node id is none.
pub fn run(app: &App, args: &InitArgs) -> Result<Report, Failure> {
    let host = rustix::system::uname();
    let node = match &args.node {
        Some(node) => node,
        None => &*host.nodename().to_string_lossy(),
    };
    check_name("node", node).map_err(|error| Failure::usage(error.to_string()))?;
    let address = args.trusted.to_string();
    if address.contains(['"', '\\']) || address.chars().any(char::is_control) {
        return Err(Failure::usage(format!(
            "{address:?} cannot stand in a configuration file"
        )));
    }
    let path = app
        .cli_config
        .as_deref()
        .unwrap_or(Path::new(DEFAULT_PATHS[0]));
    let text = TEMPLATE
        .replace("@NODE@", node)
        .replace("@ADDRESS@", &address);
    for result in create_all([(path.to_owned(), text.into_bytes())], BLOB_MODE) {
        result?;
    }
    let path = path.display().to_string();
    let text = format!("wrote {path} for node {node}\n");
    Ok(Report::new(
        json!({ "config": path, "node": node, "address": address }),
        text,
    ))
}
