//! The audit log: one hash-chained JSON line per open, refusal, seal and generate.
//!
//! Commands tell a [`Trail`] what becomes of each key and have it recorded before a key is used.

mod log;
mod reconcile;
mod record;
mod report;
mod trail;
mod verify;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nodeseal_attestation::time::Timestamp;
use serde::Deserialize;

pub use log::{AuditError, head_path, read_settled_head};
pub use reconcile::{ReconcileError, reconcile};
pub use record::Kind;
pub use report::{Report, report};
pub use trail::Trail;
pub use verify::{Finding, Verified, verify};

use record::Event;

/// `[audit]` of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuditSettings {
    /// The log. Its head (number and hash of the last record) is kept beside it, in the same name with `.head` added.
    #[serde(default = "default_file")]
    pub file: PathBuf,
}

/// A point in time as the log writes it: RFC 3339, UTC.
#[must_use]
pub fn format_rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_milliseconds(milliseconds).to_string()
}

fn default_file() -> PathBuf {
    "audit.jsonl".into()
}

impl AuditSettings {
    /// Makes a relative path one that starts at `base`.
    pub fn resolve(&mut self, base: &Path) {
        self.file = base.join(&self.file);
    }
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            file: default_file(),
        }
    }
}

/// Appends `event` to the log and waits until it is on disk.
///
/// Several agents may share one log; a lock on the file puts them in order.
///
/// # Errors
/// When the log cannot be written. A key must not be handed over then.
fn record(settings: &AuditSettings, event: &Event) -> Result<(), AuditError> {
    log::append(&settings.file, event, SystemTime::now())
}
