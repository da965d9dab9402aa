//! What a log says, counted: for a glance, and for a monitoring job.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Serialize;

use super::log::{AuditError, failed};
use super::record::{Record, RefusalRecord};

/// A log, counted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Readable records.
    pub records: u64,
    /// Lines that are none; `audit verify` says why.
    pub unreadable: u64,
    /// Time of the first record.
    pub first: Option<String>,
    /// Time of the last.
    pub last: Option<String>,
    /// Records by kind of event.
    pub events: BTreeMap<String, u64>,
    /// Keys by outcome.
    pub keys: BTreeMap<String, u64>,
    /// Keys and requests refused, by the code of the reason.
    pub refusals: BTreeMap<String, u64>,
    /// Data keys opened or made, by way.
    pub ways: BTreeMap<String, u64>,
    /// Ways that were tried and did not open, with the code of the reason.
    pub failed_ways: BTreeMap<String, u64>,
    /// Times by node.
    pub nodes: BTreeMap<String, u64>,
    /// The last refusals, the latest last.
    pub last_refusals: Vec<Refused>,
}

/// One refusal.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Number of the record.
    pub record: u64,
    /// When.
    pub time: String,
    /// The key, where it was one key.
    pub key: Option<String>,
    /// Why.
    pub refusal: RefusalRecord,
}

/// How many refusals are listed.
const LISTED: usize = 10;

/// Counts the records of `files`.
///
/// # Errors
/// When a file cannot be read.
pub fn report(files: &[&Path]) -> Result<Report, AuditError> {
    let mut report = Report::default();
    for path in files {
        let reader = BufReader::new(File::open(path).map_err(failed("open", path))?);
        for line in reader.split(b'\n') {
            match Record::parse(&line.map_err(failed("read", path))?) {
                Ok((record, _)) => report.count(record),
                Err(_) => report.unreadable += 1,
            }
        }
    }
    Ok(report)
}

impl Report {
    fn count(&mut self, record: Record) {
        self.records += 1;
        self.first.get_or_insert_with(|| record.time.clone());
        add(&mut self.events, record.event.event.name());
        add(&mut self.nodes, &record.event.node);
        for key in record.event.keys {
            add(&mut self.keys, &key.outcome);
            if let Some(refusal) = key.refusal {
                self.refused(record.seq, &record.time, Some(key.name), refusal);
            }
        }
        if record.event.checked > 0 {
            *self.keys.entry("checked".to_owned()).or_default() += record.event.checked;
        }
        for data_key in &record.event.data_keys {
            add(&mut self.ways, &data_key.way);
            for failed in &data_key.failed {
                let name = format!("{}: {}", failed.way, failed.refusal.code);
                add(&mut self.failed_ways, &name);
            }
        }
        if let Some(refusal) = record.event.refusal {
            self.refused(record.seq, &record.time, None, refusal);
        }
        self.last = Some(record.time);
    }

    fn refused(&mut self, record: u64, time: &str, key: Option<String>, refusal: RefusalRecord) {
        add(&mut self.refusals, &refusal.code);
        if self.last_refusals.len() == LISTED {
            self.last_refusals.remove(0);
        }
        self.last_refusals.push(Refused {
            record,
            time: time.to_owned(),
            key,
            refusal,
        });
    }
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str) {
    *counts.entry(name.to_owned()).or_default() += 1;
}
