//! `audit`: checks the audit log, and tells what is in it.

use std::path::{Path, PathBuf};

use nodeseal_wire::message::Class;
use serde_json::json;

use super::App;
use crate::audit::{
    AuditError, Finding, ReconcileError, Report as Counted, Verified, head_path, read_settled_head,
};
use crate::cli::{AuditCommand, AuditReconcileArgs, AuditReportArgs, AuditVerifyArgs};
use crate::failure::Failure;
use crate::report::{Report, table};

/// Does what is asked of the log.
///
/// # Errors
/// When it cannot be read. Faults found in it are in the report.
pub fn run(app: &App, command: &AuditCommand) -> Result<Report, Failure> {
    match command {
        AuditCommand::Verify(args) => verify(app, args),
        AuditCommand::Report(args) => report(app, args),
        AuditCommand::Reconcile(args) => reconcile(app, args),
    }
}

fn verify(app: &App, args: &AuditVerifyArgs) -> Result<Report, Failure> {
    let files = files(app, &args.files)?;
    let head_file = match (&args.head, files.last()) {
        (Some(head), _) => head.clone(),
        (None, Some(last)) => head_path(last),
        (None, None) => PathBuf::new(),
    };
    let head = match files.last() {
        Some(last) => read_settled_head(&head_file, last)?,
        None => None,
    };
    let paths: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let Verified {
        records,
        last,
        findings,
        notes,
    } = crate::audit::verify(&paths, head.as_ref())?;

    let mut text: String = findings
        .iter()
        .map(|finding| format!("{}: {}\n", finding.fault.name(), finding.message))
        .collect();
    for note in &notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if findings.is_empty() {
        let hash = last.as_ref().map_or("none", |last| &last.hash);
        text.push_str(&format!(
            "{records} records, whole; hash of the last: {hash}\n"
        ));
    }
    let failed = findings.first().map(|first| {
        Failure::new(
            Class::Damaged,
            "audit-log",
            format!("audit log: {}", first.message),
        )
    });
    Ok(Report {
        json: json!({
            "records": records,
            "last": last,
            "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
            "notes": notes,
        }),
        text,
        failed,
    })
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    json!({
        "fault": finding.fault.name(),
        "record": finding.record,
        "line": finding.line,
        "message": finding.message,
    })
}

fn report(app: &App, args: &AuditReportArgs) -> Result<Report, Failure> {
    let files = files(app, &args.files)?;
    let paths: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let counted = crate::audit::report(&paths)?;
    let json = serde_json::to_value(&counted).map_err(AuditError::from)?;
    Ok(Report::new(json, text_of(&counted)))
}

fn text_of(counted: &Counted) -> String {
    let mut lines = vec![
        ("records", counted.records.to_string()),
        ("first", counted.first.clone().unwrap_or_default()),
        ("last", counted.last.clone().unwrap_or_default()),
    ];
    if counted.unreadable > 0 {
        let unreadable = format!("{} lines (see `nodeseal audit verify`)", counted.unreadable);
        lines.push(("unreadable", unreadable));
    }
    for (what, counts) in [
        ("event", &counted.events),
        ("node", &counted.nodes),
        ("keys", &counted.keys),
        ("way", &counted.ways),
        ("way failed", &counted.failed_ways),
        ("refusal", &counted.refusals),
    ] {
        lines.extend(
            counts
                .iter()
                .map(|(name, count)| (what, format!("{name}: {count}"))),
        );
    }
    let mut text = table(&lines);
    for refused in &counted.last_refusals {
        let key = refused.key.as_deref().unwrap_or("all keys");
        let message = &refused.refusal.message;
        text.push_str(&format!(
            "refused in record {} at {}: {key}: {message}\n",
            refused.record, refused.time
        ));
    }
    text
}

fn reconcile(app: &App, args: &AuditReconcileArgs) -> Result<Report, Failure> {
    let files = files(app, &args.files)?;
    let paths: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let found = crate::audit::reconcile(&paths, &args.cloudtrail)?;
    let mut text = String::new();
    for request in &found.unknown {
        let outcome = match &request.refused {
            Some(code) => format!("refused ({code})"),
            None => "GRANTED".to_owned(),
        };
        text.push_str(&format!(
            "not in the log: {} {} by {} from {} with {}: {outcome}, request id {}\n",
            request.time,
            request.operation,
            request.principal,
            request.address,
            request.key,
            request.request_id
        ));
    }
    for claim in &found.missing {
        text.push_str(&format!(
            "not in CloudTrail: record {} at {}, request id {}\n",
            claim.record, claim.time, claim.request_id
        ));
    }
    text.push_str(&format!("{} requests in both\n", found.known));
    let failed = (!found.unknown.is_empty() || !found.missing.is_empty()).then(|| {
        let message = format!(
            "log and CloudTrail differ: {} requests only in CloudTrail, {} only in the log",
            found.unknown.len(),
            found.missing.len()
        );
        Failure::new(Class::Damaged, "audit-differs", message)
    });
    let json = serde_json::to_value(&found).map_err(AuditError::from)?;
    Ok(Report { json, text, failed })
}

/// The files named, or the configured log.
fn files(app: &App, named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if named.is_empty() {
        return Ok(vec![app.config()?.audit.file]);
    }
    Ok(named.to_vec())
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        let (class, code) = match &error {
            AuditError::Locked { .. } => (Class::Unavailable, "audit-log-locked"),
            AuditError::Damaged { .. } | AuditError::Head { .. } => (Class::Damaged, "audit-log"),
            AuditError::Io { .. } | AuditError::Encode(_) => (Class::Internal, "audit-log-write"),
        };
        Self::new(class, code, error.to_string())
    }
}

impl From<ReconcileError> for Failure {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::Log(error) => error.into(),
            ReconcileError::NoLog { .. } => {
                Self::new(Class::Misuse, "unreadable", error.to_string())
            }
            ReconcileError::Trail { .. } => {
                Self::new(Class::Misuse, "cloudtrail-file", error.to_string())
            }
        }
    }
}
