//! `policy`: whose policies, and what the reports of all kinds have in common.

use std::fmt::Display;

use nodeseal_wire::message::Class;
use serde::Serialize;
use serde_json::{Value, json};

use super::{App, policy_aws, policy_azure};
use crate::cli::PolicyCommand;
use crate::failure::Failure;
use crate::report::Report;

/// Exit status where something was found.
const FOUND: u8 = 1;

/// Does what is asked: the report, and the exit status where nothing failed.
///
/// # Errors
/// When a policy cannot be read.
pub fn run(app: &App, command: &PolicyCommand) -> Result<(Report, u8), Failure> {
    match command {
        PolicyCommand::Aws(command) => policy_aws::run(app, command),
        PolicyCommand::Azure(command) => policy_azure::run(command),
    }
}

/// A policy written out, JSON.
///
/// # Errors
/// When it is none.
pub fn shown(text: &str) -> Result<Report, Failure> {
    let json = serde_json::from_str::<Value>(text)
        .map_err(|error| Failure::new(Class::Internal, "report", error.to_string()))?;
    Ok(Report::new(json, text.trim_end().to_owned() + "\n"))
}

/// What a linter found, and the exit status; `nothing` says what was not found where it is clean.
pub fn examined<F: Display + Serialize>(
    clean: bool,
    findings: &[F],
    nothing: &str,
) -> (Report, u8) {
    let mut text = lines(findings);
    if clean {
        text.push_str(&format!("clean: {nothing}\n"));
    }
    let report = Report::new(json!({ "clean": clean, "findings": findings }), text);
    (report, if clean { 0 } else { FOUND })
}

/// How two policies differ, and the exit status.
pub fn compared<D: Display + Serialize>(differences: &[D]) -> (Report, u8) {
    let same = differences.is_empty();
    let mut text = lines(differences);
    if same {
        text.push_str("the same\n");
    }
    let report = Report::new(json!({ "same": same, "differences": differences }), text);
    (report, if same { 0 } else { FOUND })
}

fn lines<T: Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}
