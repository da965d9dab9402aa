//! What a command has to say, and how: as text for a person, as one JSON document for a program.

use std::io::Write;
use std::process::ExitCode;

use nodeseal_wire::message::Class;
use serde_json::{Value, json};

use crate::failure::Failure;

/// What a command found out or did.
pub struct Report {
    /// The same for programs: an object.
    pub json: Value,
    /// For a person, lines.
    pub text: String,
    /// What of it failed, where only some did.
    pub failed: Option<Failure>,
}

impl Report {
    /// A report in which nothing failed.
    #[must_use]
    pub fn new(json: Value, text: impl Into<String>) -> Self {
        Self {
            json,
            text: text.into(),
            failed: None,
        }
    }

    /// A command that has written to standard output already, or has nothing to say.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(Value::Null, "")
    }
}

/// Prints what a command returned and gives its exit status.
pub fn conclude(result: Result<Report, Failure>, as_json: bool) -> ExitCode {
    let (mut report, failure) = match result {
        Ok(mut report) => {
            let failed = report.failed.take();
            (report, failed)
        }
        Err(failure) => (Report::silent(), Some(failure)),
    };
    if as_json {
        if let Some(failure) = &failure {
            if !report.json.is_object() {
                report.json = json!({});
            }
            report.json["error"] = failure.json();
        }
        report.text = match &report.json {
            Value::Null => String::new(),
            document => format!("{document:#}\n"),
        };
    }
    let mut status = failure
        .as_ref()
        .map_or(0, |failure| exit_status(failure.class));
    if let Err(error) = print(&report.text)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        warn(&format!("error: cannot write to standard output: {error}"));
        status = status.max(1);
    }
    if let Some(failure) = failure.filter(|_| !as_json) {
        warn(&failure.to_string());
    }
    ExitCode::from(status)
}

/// Exit status of a failure of this class; docs/cli.md lists them.
#[must_use]
pub fn exit_status(class: Class) -> u8 {
    match class {
        Class::Internal => 1,
        Class::Misuse => 2,
        Class::Denied => 3,
        Class::Damaged => 4,
        Class::Unavailable => 5,
    }
}

/// Lines of a name and a value, the values below each other.
#[must_use]
pub fn table(lines: &[(impl AsRef<str>, String)]) -> String {
    let widest = lines
        .iter()
        .map(|(name, _)| name.as_ref().len())
        .max()
        .unwrap_or(0);
    let line = |(name, value): &(_, String)| format!("{:widest$}  {value}\n", AsRef::as_ref(name));
    lines.iter().map(line).collect()
}

/// Writes a line to standard error. Nobody is left to be told where that fails.
pub fn warn(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
