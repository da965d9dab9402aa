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
    /// Ways of each data key seen, with its id.
    ways: Vec<([u8; 16], Arc<[Way]>)>,
}

impl Trail {
    /// Of a batch of this kind for this node.
    #[must_use]
    pub fn new(kind: Kind, node: &str) -> Self {
        Self {
            event: Event::new(kind, node),
            ways: Vec::new(),
        }
    }

    /// A blob was opened, or made. Without a name, that in its header is taken.
    pub fn done(&mut self, name: Option<&str>, blob: &[u8]) {
        // A blob of a data key already seen is not read again: ten thousand of them would be felt.
        let seen = |(id, _): &([u8; 16], Arc<[Way]>)| memmem::find(blob, id).is_some();
        let delivered = Outcome::Delivered(0);
        match name {
            Some(name) if self.ways.iter().any(seen) => self.event.key(name, blob, &delivered),
            _ => match Blob::parse(blob) {
                Ok(Blob { header, .. }) => {
                    self.event
                        .key(name.unwrap_or(&header.name), blob, &delivered);
                    if !self.ways.iter().any(|(id, _)| *id == header.data_key_id) {
                        self.ways.push((header.data_key_id, header.ways));
                    }
                }
                Err(_) => self.event.key(name.unwrap_or_default(), blob, &delivered),
            },
        }
    }

    /// A blob was opened only to see whether it would: it is counted, not listed.
    pub fn checked(&mut self, blob: &[u8]) {
        self.event.checked += 1;
        let seen = |(id, _): &([u8; 16], Arc<[Way]>)| memmem::find(blob, id).is_some();
        if !self.ways.iter().any(seen)
            && let Ok(Blob { header, .. }) = Blob::parse(blob)
        {
            self.ways.push((header.data_key_id, header.ways));
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
            let ways = self.ways.iter().find(|(id, _)| *id == report.id);
            let way = ways.and_then(|(_, ways)| ways.iter().find(|way| way.label == report.way));
            let locks = way.map_or(&[][..], |way| &way.locks);
            let kinds: Vec<&str> = locks.iter().map(|lock| lock.kind()).collect();
            self.event.data_key(report, &kinds);
        }
        record(settings, &self.event)
    }
}
