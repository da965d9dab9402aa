//! `policy aws`: release policies written out as key policies of AWS KMS, and key policies examined.

use std::path::Path;

use nodeseal_attestation::policy::ReleasePolicy;
use nodeseal_attestation::policy::aws::{
    Policy, diff, identity_policy, is_clean, key_policy, lint, parse,
};
use nodeseal_wire::message::Class;
use serde_json::{Value, json};

use super::App;
use super::verify::{read_text, unusable};
use crate::aws::live_key_policy;
use crate::cli::{PolicyAwsCommand, PolicyDiffArgs, PolicyLintArgs, PolicyShowArgs};
use crate::failure::Failure;
use crate::report::Report;

/// Exit status where something was found.
const FOUND: u8 = 1;

/// Does what is asked: the report, and the exit status where nothing failed.
///
/// # Errors
/// When a policy cannot be read.
pub fn run(app: &App, command: &PolicyAwsCommand) -> Result<(Report, u8), Failure> {
    match command {
        PolicyAwsCommand::Show(args) => Ok((show(args)?, 0)),
        PolicyAwsCommand::Lint(args) => examine(app, args),
        PolicyAwsCommand::Diff(args) => compare(app, args),
    }
}

fn show(args: &PolicyShowArgs) -> Result<Report, Failure> {
    let release = release_policy(&args.policy)?;
    let policy = if args.iam.is_empty() {
        key_policy(&release).map_err(|error| unusable(&args.policy, &error))?
    } else {
        let keys: Vec<&str> = args.iam.iter().map(String::as_str).collect();
        identity_policy(&release, &keys)
    };
    let text = policy.to_json();
    let json = serde_json::from_str::<Value>(&text)
        .map_err(|error| Failure::new(Class::Internal, "report", error.to_string()))?;
    Ok(Report::new(json, text.trim_end().to_owned() + "\n"))
}

fn examine(app: &App, args: &PolicyLintArgs) -> Result<(Report, u8), Failure> {
    let policy = key_policy_at(app, &args.policy)?;
    let findings = lint(&policy);
    let clean = is_clean(&findings);
    let mut text: String = findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    if clean {
        text.push_str("clean: no way around attestation was found\n");
    }
    let report = Report::new(json!({ "clean": clean, "findings": findings }), text);
    Ok((report, if clean { 0 } else { FOUND }))
}

fn compare(app: &App, args: &PolicyDiffArgs) -> Result<(Report, u8), Failure> {
    let release = release_policy(&args.written)?;
    let written = key_policy(&release).map_err(|error| unusable(&args.written, &error))?;
    let live = key_policy_at(app, &args.live)?;
    let differences = diff(&written, &live);
    let same = differences.is_empty();
    let mut text: String = differences
        .iter()
        .map(|difference| format!("{difference}\n"))
        .collect();
    if same {
        text.push_str("the same\n");
    }
    let report = Report::new(json!({ "same": same, "differences": differences }), text);
    Ok((report, if same { 0 } else { FOUND }))
}

fn release_policy(path: &Path) -> Result<ReleasePolicy, Failure> {
    ReleasePolicy::parse(&read_text(path)?).map_err(|error| unusable(path, &error))
}

/// The key policy in a file, or the live one of a key.
fn key_policy_at(app: &App, at: &Path) -> Result<Policy, Failure> {
    let text = match at.to_str().filter(|text| text.starts_with("arn:")) {
        Some(key) => app.wait_for(async {
            live_key_policy(key)
                .await
                // Whatever the reason, the policy cannot be read.
                .map_err(|error| Failure::new(Class::Misuse, "live-policy", error.to_string()))
        })?,
        None => read_text(at)?,
    };
    parse(&text).map_err(|error| unusable(at, &error))
}
