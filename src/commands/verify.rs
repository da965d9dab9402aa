//! `verify`: every check of an attestation document, with its outcome.

use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nodeseal_attestation::nitro::{Anchor, Expectations, Outcome, Report as Checked, report};
use nodeseal_attestation::time::Timestamp;
use nodeseal_wire::message::Class;

use crate::cli::{JudgeArgs, VerifyArgs};
use crate::failure::Failure;
use crate::report::{Report, table};

/// Longest document or policy read, in bytes: several times what AWS makes or takes.
const MAX_INPUT: u64 = 1 << 20;

/// Verifies the document.
///
/// # Errors
/// When a file cannot be read. That a check does not hold is in the report.
pub fn run(args: &VerifyArgs) -> Result<Report, Failure> {
    let document = read(&args.document)?;
    judge(&document, &args.judge, |expectations| expectations)
}

/// Every check of `document`, with what `more` expects of it.
///
/// # Errors
/// When a file cannot be read.
pub fn judge(
    document: &[u8],
    args: &JudgeArgs,
    more: impl FnOnce(Expectations) -> Expectations,
) -> Result<Report, Failure> {
    let anchor = match &args.root {
        Some(path) => {
            let pem = read_text(path)?;
            Anchor::from_pem(&pem).map_err(|error| unusable(path, &error))?
        }
        None => Anchor::AWS_NITRO_G1,
    };
    let expectations = match &args.expect {
        Some(path) => {
            Expectations::parse(&read_text(path)?).map_err(|error| unusable(path, &error))?
        }
        None => Expectations::default(),
    };
    let mut expectations = more(expectations);
    if args.danger_accept_debug_enclaves {
        expectations = expectations.danger_accept_debug_enclaves();
    }
    let at = args.at.unwrap_or_else(now);
    let checked = report(document, at, &anchor, &expectations);
    let json = serde_json::to_value(&checked)
        .map_err(|error| Failure::new(Class::Internal, "report", error.to_string()))?;
    Ok(Report {
        json,
        text: text_of(&checked),
        failed: failure(&checked),
    })
}

fn text_of(checked: &Checked) -> String {
    let mut lines = vec![
        ("at", checked.at.to_string()),
        ("root", checked.root.clone()),
    ];
    if let Some(document) = &checked.document {
        lines.push(("form", document.form.name().to_owned()));
        lines.push(("module", document.module_id.clone()));
        lines.push(("made", document.timestamp.to_string()));
        if let Some(expires) = document.expires {
            lines.push(("expires", expires.to_string()));
        }
        for (index, value) in &document.pcrs {
            // Most are never extended; those say nothing.
            if value.bytes().any(|digit| digit != b'0') {
                lines.push(("PCR", format!("{index}: {value}")));
            }
        }
    }
    let mut text = table(&lines);
    for result in &checked.checks {
        let (mark, detail) = match &result.outcome {
            Outcome::Held(detail) => ("ok", detail.as_str()),
            Outcome::Failed(why) => ("FAILED", why.as_str()),
            Outcome::NotReached => ("-", "not reached"),
        };
        let separator = if detail.is_empty() { "" } else { ": " };
        let description = result.check.description();
        text.push_str(&format!("{mark:<7}{description}{separator}{detail}\n"));
    }
    text
}

fn failure(checked: &Checked) -> Option<Failure> {
    if checked.holds() {
        return None;
    }
    let failed = checked
        .checks
        .iter()
        .find_map(|result| match &result.outcome {
            Outcome::Failed(why) => Some(format!("{}: {why}", result.check.description())),
            _ => None,
        });
    let message = format!(
        "the attestation document does not hold: {}",
        failed.unwrap_or_default()
    );
    Some(Failure::new(Class::Denied, "attestation", message))
}

/// The time now, for whoever gave none.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_milliseconds(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// When it cannot be read or is too long.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let length = match path.as_os_str() == "-" {
        true => std::io::stdin().take(MAX_INPUT + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_INPUT + 1).read_to_end(&mut bytes)),
    };
    match length {
        Ok(length) if length as u64 <= MAX_INPUT => Ok(bytes),
        Ok(_) => Err(unusable(path, &format!("more than {MAX_INPUT} bytes"))),
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Reads a text, as [`read`].
///
/// # Errors
/// When it cannot be read or is none.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| unusable(path, &"not a text"))
}

/// A file that is not what it should be.
pub fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Class::Misuse,
        "unusable-file",
        format!("{}: {why}", path.display()),
    )
}
