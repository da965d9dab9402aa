//! `policy aws`: release policies written out as key policies of AWS KMS, and key policies examined.

use std::path::Path;

use nodeseal_attestation::nitro::Measurements;
use nodeseal_attestation::policy::aws::{
    Policy, diff, identity_policy, is_clean, key_policy, lint, parse,
};
use nodeseal_attestation::policy::{Generation, ReleasePolicy};
use nodeseal_wire::message::Class;

use super::App;
use super::policy::{compared, examined, shown};
use super::verify::{read_text, unusable};
use crate::aws::live_key_policy;
use crate::cli::{PolicyAwsCommand, PolicyDiffArgs, PolicyLintArgs, PolicyShowArgs};
use crate::failure::Failure;
use crate::report::Report;

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
    let more = args.measurements.iter().map(|path| image(args, path));
    let release = read_text(&args.policy)?;
    let release = ReleasePolicy::parse_with(&release, more.collect::<Result<_, _>>()?)
        .map_err(|error| unusable(&args.policy, &error))?;
    let policy = if args.iam.is_empty() {
        key_policy(&release).map_err(|error| unusable(&args.policy, &error))?
    } else {
        let keys: Vec<&str> = args.iam.iter().map(String::as_str).collect();
        identity_policy(&release, &keys)
    };
    shown(&policy.to_json())
}

/// The generation of one image, called by its file.
fn image(args: &PolicyShowArgs, path: &Path) -> Result<Generation, Failure> {
    let measurements =
        Measurements::of_build(&read_text(path)?).map_err(|error| unusable(path, &error))?;
    Ok(Generation {
        name: path.display().to_string(),
        measurements: measurements
            .with_parent(args.parent_role.as_deref(), args.parent_id.as_deref()),
    })
}

fn examine(app: &App, args: &PolicyLintArgs) -> Result<(Report, u8), Failure> {
    let findings = lint(&key_policy_at(app, &args.policy)?);
    let nothing = "no way around attestation was found";
    Ok(examined(is_clean(&findings), &findings, nothing))
}

fn compare(app: &App, args: &PolicyDiffArgs) -> Result<(Report, u8), Failure> {
    let release = release_policy(&args.written)?;
    let written = key_policy(&release).map_err(|error| unusable(&args.written, &error))?;
    let live = key_policy_at(app, &args.live)?;
    Ok(compared(&diff(&written, &live)))
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
