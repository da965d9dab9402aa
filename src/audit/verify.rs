//! Checking a log: every record in its place, unchanged, none missing up to the head.
//!
//! The chain has no key. Who can write log and head can write both anew; only a signature by somebody else over the
//! head would show that.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::log::{AuditError, Head, failed};
use super::record::{Kind, LineError, NO_RECORD, Record, Torn, sha256};

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was changed.
    Edited,
    /// It is not there, though later ones are.
    Removed,
    /// It stands after one that was written later.
    Reordered,
    /// It was written by nobody of ours, or stands there twice.
    Inserted,
    /// It and all after it are not there, though the head knows them.
    Truncated,
    /// There is no head, so nothing says how many records there should be.
    NoHead,
}

impl Fault {
    /// Name in JSON output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Removed => "removed",
            Self::Reordered => "reordered",
            Self::Inserted => "inserted",
            Self::Truncated => "truncated",
            Self::NoHead => "no-head",
        }
    }
}

/// One fault found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub fault: Fault,
    /// Number of the record concerned, the first of several.
    pub record: u64,
    /// Line in the log, from 1, where something stands there.
    pub line: Option<u64>,
    /// The same for a person.
    pub message: String,
}

/// What was found in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of good records.
    pub records: u64,
    /// Number and hash of the last.
    pub last: Option<Head>,
    /// What is wrong, in the order of the log.
    pub findings: Vec<Finding>,
    /// What is remarkable and has an innocent reason: crashes.
    pub notes: Vec<String>,
}

/// One line as far as it can be read.
struct Line {
    number: u64,
    content: Result<Place, Unreadable>,
}

/// Where a good record says it belongs.
struct Place {
    seq: u64,
    prev: String,
    hash: String,
    torn: Option<Torn>,
}

/// A line that is no good record.
struct Unreadable {
    why: LineError,
    bytes: Torn,
    /// Whether its line end is there.
    finished: bool,
}

/// Checks the logs `files`, which follow each other (a log that was moved away, and its successor), against `head`.
///
/// # Errors
/// When a file cannot be read. What is wrong with the records is in the result.
pub fn verify(files: &[&Path], head: Option<&Head>) -> Result<Verified, AuditError> {
    let mut lines = Vec::new();
    for file in files {
        read_lines(file, &mut lines)?;
    }
    Ok(check(&lines, head))
}

fn read_lines(path: &Path, lines: &mut Vec<Line>) -> Result<(), AuditError> {
    let mut reader = BufReader::new(File::open(path).map_err(failed("open", path))?);
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        bytes.clear();
        let length = reader.read_until(b'\n', &mut bytes);
        if length.map_err(failed("read", path))? == 0 {
            return Ok(());
        }
        number += 1;
        let finished = bytes.pop_if(|byte| *byte == b'\n').is_some();
        lines.push(Line {
            number,
            content: read_line(&bytes, finished),
        });
    }
}

fn read_line(bytes: &[u8], finished: bool) -> Result<Place, Unreadable> {
    match Record::parse(bytes) {
        Ok((record, hash)) => Ok(Place {
            seq: record.seq,
            prev: record.prev,
            hash,
            torn: record
                .event
                .torn
                .filter(|_| record.event.event == Kind::Repair),
        }),
        Err(why) => Err(Unreadable {
            why,
            bytes: Torn {
                bytes: bytes.len() as u64,
                sha256: sha256(bytes),
            },
            finished,
        }),
    }
}

fn check(lines: &[Line], head: Option<&Head>) -> Verified {
    let present: HashSet<u64> = lines
        .iter()
        .filter_map(|line| line.content.as_ref().ok().map(|place| place.seq))
        .collect();
    let mut checker = Checker {
        present,
        seen: HashSet::new(),
        next: 1,
        prev: Some(NO_RECORD.to_owned()),
        head,
        head_met: false,
        verified: Verified {
            records: 0,
            last: None,
            findings: Vec::new(),
            notes: Vec::new(),
        },
    };
    for (index, line) in lines.iter().enumerate() {
        match &line.content {
            Ok(place) => checker.record(line.number, place),
            Err(unreadable) => {
                let after = lines.get(index + 1).map(|line| &line.content);
                let repair = after.and_then(|content| content.as_ref().ok());
                checker.unreadable(line.number, unreadable, repair, after.is_none());
            }
        }
    }
    checker.end();
    checker.verified
}

struct Checker<'h> {
    /// Numbers of all good records in the log.
    present: HashSet<u64>,
    /// Those passed already.
    seen: HashSet<u64>,
    /// Number the next record should have.
    next: u64,
    /// Hash it should name; none after a record that was changed.
    prev: Option<String>,
    head: Option<&'h Head>,
    /// Whether the record the head names was found as the head names it.
    head_met: bool,
    verified: Verified,
}

impl Checker<'_> {
    fn find(&mut self, fault: Fault, record: u64, line: Option<u64>, message: String) {
        self.verified.findings.push(Finding {
            fault,
            record,
            line,
            message,
        });
    }

    fn record(&mut self, line: u64, place: &Place) {
        let Place {
            seq, prev, hash, ..
        } = place;
        if !self.seen.insert(*seq) {
            let message = format!("record {seq} stands there again on line {line}");
            self.find(Fault::Inserted, *seq, Some(line), message);
            return;
        }
        if *seq < self.next {
            let message = format!("record {seq} stands on line {line}, after a later one");
            self.find(Fault::Reordered, *seq, Some(line), message);
            return;
        }
        if *seq > self.next {
            self.gap(*seq, line);
        } else if self.prev.as_ref().is_some_and(|expected| expected != prev) {
            // Its own hash is right, so the record before was written anew, or this one never followed it.
            let (record, message) = match seq.checked_sub(1) {
                Some(before @ 1..) => (
                    before,
                    format!("record {before} is not the one that record {seq} follows"),
                ),
                _ => (*seq, format!("record {seq} follows one before the first")),
            };
            self.find(Fault::Edited, record, Some(line), message);
        }
        self.next = seq.saturating_add(1);
        self.prev = Some(hash.clone());
        self.verified.records += 1;
        let here = Head {
            seq: *seq,
            hash: hash.clone(),
        };
        if let Some(head) = self.head.filter(|head| head.seq == *seq) {
            self.head_met = *head == here;
            if !self.head_met {
                let message = format!("record {seq} is not the one the head names");
                self.find(Fault::Edited, *seq, Some(line), message);
            }
        }
        self.verified.last = Some(here);
    }

    /// Records up to `found` are not where they should be.
    fn gap(&mut self, found: u64, line: u64) {
        let first = self.next;
        if let Some(elsewhere) = (first..found).find(|seq| self.present.contains(seq)) {
            let message = format!("record {found} on line {line} stands before record {elsewhere}");
            self.find(Fault::Reordered, elsewhere, Some(line), message);
            return;
        }
        let message = match found.saturating_sub(1) {
            last if last == first => format!("record {first} is missing before line {line}"),
            last => format!("records {first} to {last} are missing before line {line}"),
        };
        self.find(Fault::Removed, first, Some(line), message);
    }

    fn unreadable(&mut self, line: u64, bad: &Unreadable, after: Option<&Place>, is_last: bool) {
        let next = self.next;
        let repaired = after
            .is_some_and(|repair| repair.torn.as_ref() == Some(&bad.bytes) && repair.seq == next);
        if repaired {
            self.verified.notes.push(format!(
                "line {line} is what a crash left of a record; record {next} says so"
            ));
            return;
        }
        // The head would know a record that had been finished.
        let counted = self.head.is_none_or(|head| head.seq >= next);
        if is_last && !bad.finished && !counted {
            self.verified.notes.push(format!(
                "line {line} is what a crash left of a record; the next record will say so"
            ));
            return;
        }
        let message = format!("record {next} on line {line} was changed: {}", bad.why);
        self.find(Fault::Edited, next, Some(line), message);
        self.seen.insert(next);
        self.next = next.saturating_add(1);
        self.prev = None;
    }

    fn end(&mut self) {
        let last = self.next.saturating_sub(1);
        let Some(head) = self.head else {
            if last > 0 {
                let message =
                    "there is no head, so nothing says whether later records were cut off";
                self.find(Fault::NoHead, self.next, None, message.to_owned());
            }
            return;
        };
        if head.seq > last {
            let first = self.next;
            let message = format!(
                "records {first} to {} are missing: the head knows of {}",
                head.seq, head.seq
            );
            self.find(Fault::Truncated, first, None, message);
        } else if !self.head_met && self.verified.findings.is_empty() {
            let message = format!("record {} is not the one the head names", head.seq);
            self.find(Fault::Edited, head.seq, None, message);
        } else if head.seq < last {
            self.verified.notes.push(format!(
                "{} records are newer than the head: a crash came between the two",
                last - head.seq
            ));
        }
    }
}

#[cfg(test)]
mod tests;
