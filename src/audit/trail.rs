//! Gathering what becomes of a batch, key by key, into one record.

use std::path::Path;
use std::sync::Arc;

use memchr::memmem;
use nodeseal_wire::blob::Blob;
use nodeseal_wire::header::Way;
use nodeseal_wire::message::{DataKeyReport, Outcome, Refusal};

use super::record::{Event, Kind};
use super::{AuditError, AuditSettings, record};

/// A record in the making.
pub struct Trail {
    event: Event,
    seen: Vec<SeenDataKey>,
}

/// A data key that some blob of the batch has.
struct SeenDataKey {
    id: [u8; 16],
    ways: Arc<[Way]>,
    /// Where in the last such blob the id stands. In that of a key whose name is as long, it stands there too.
    at: usize,
}

impl SeenDataKey {
    /// Whether the blob is of this data key.
    fn is_of(&mut self, blob: &[u8]) -> bool {
        let there = blob.get(self.at..).unwrap_or_default();
        if there.starts_with(&self.id) {
            return true;
        }
        let found = memmem::find(blob, &self.id);
        self.at = found.unwrap_or(self.at);
        found.is_some()
    }
}

impl Trail {
    /// Of a batch of this kind for this node.
    #[must_use]
    pub fn new(kind: Kind, node: &str) -> Self {
        Self {
            event: Event::new(kind, node),
            seen: Vec::new(),
        }
    }

    /// A blob of the key `name` was opened, or made.
    pub fn done(&mut self, name: &str, blob: &[u8]) {
        self.learn(blob);
        self.event.key(name, blob, &Outcome::Delivered(0));
    }

    /// A blob was opened only to see whether it would: it is counted, not listed.
    pub fn checked(&mut self, blob: &[u8]) {
        self.learn(blob);
        self.event.checked += 1;
    }

    /// Notes the ways of the blob's data key. A blob of one already seen is not read again: ten thousand would be felt.
    fn learn(&mut self, blob: &[u8]) {
        if self.seen.iter_mut().any(|seen| seen.is_of(blob)) {
            return;
        }
        if let Ok(Blob { header, .. }) = Blob::parse(blob) {
            self.seen.push(SeenDataKey {
                id: header.data_key_id,
                ways: header.ways,
                at: 0,
            });
        }
    }

    /// A key was refused; `file` is its blob, where there is one.
    pub fn refused(&mut self, name: &str, file: Option<&Path>, refusal: &Refusal) {
        let blob = file.and_then(|file| std::fs::read(file).ok());
        let outcome = Outcome::Refused(refusal.clone());
        self.event
            .key(name, blob.as_deref().unwrap_or_default(), &outcome);
    }

    /// The whole batch failed.
    pub fn failed(&mut self, refusal: &Refusal) {
        self.event.refused(refusal);
    }

    /// Writes the record, with how each data key came to be open, and waits until it is on disk.
    ///
    /// # Errors
    /// When it cannot be written; no key must be used then.
    pub fn record(
        mut self,
        settings: &AuditSettings,
        reports: &[DataKeyReport],
    ) -> Result<(), AuditError> {
        for report in reports {
            let seen = self.seen.iter().find(|seen| seen.id == report.id);
            let way = seen.and_then(|seen| seen.ways.iter().find(|way| way.label == report.way));
            let locks = way.map_or(&[][..], |way| &way.locks);
            let kinds: Vec<&str> = locks.iter().map(|lock| lock.kind()).collect();
            self.event.data_key(report, &kinds);
        }
        record(settings, &self.event)
    }
}
