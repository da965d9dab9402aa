//! `policy azure`: release policies written out for Key Vault, and release policies of keys examined.

use std::path::Path;

use nodeseal_attestation::policy::azure::{
    AzureSection, KeyPolicy, Policy, diff, is_clean, lint, parse_key, release_policy,
};

use super::policy::{compared, examined, shown};
use super::verify::{read_text, unusable};
use crate::cli::PolicyAzureCommand;
use crate::failure::Failure;
use crate::report::Report;

/// Does what is asked: the report, and the exit status where nothing failed.
///
/// # Errors
/// When a policy cannot be read.
pub fn run(command: &PolicyAzureCommand) -> Result<(Report, u8), Failure> {
    match command {
        PolicyAzureCommand::Show(args) => Ok((shown(&written(&args.policy)?.to_json())?, 0)),
        PolicyAzureCommand::Lint(args) => {
            let findings = lint(&live(&args.policy)?);
            let clean = is_clean(&findings);
            Ok(examined(
                clean,
                &findings,
                "no way for another machine was found",
            ))
        }
        PolicyAzureCommand::Diff(args) => {
            let differences = diff(&written(&args.written)?, &live(&args.live)?.policy);
            Ok(compared(&differences))
        }
    }
}

fn written(path: &Path) -> Result<Policy, Failure> {
    let section = AzureSection::parse(&read_text(path)?).map_err(|error| unusable(path, &error))?;
    Ok(release_policy(&section))
}

fn live(path: &Path) -> Result<KeyPolicy, Failure> {
    parse_key(&read_text(path)?).map_err(|error| unusable(path, &error))
}
