//! Logs that were written by `append`, and what was done to them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use nodeseal_wire::message::{Class, DataKeyReport, Fact, Outcome, Refusal};
use proptest::prelude::*;

use super::*;
use crate::audit::log::{append, head_path, read_head};
use crate::audit::record::Event;

const RECORDS: usize = 12;

struct Log {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            path: directory.path().join("audit.jsonl"),
            _directory: directory,
        }
    }

    fn with(records: usize) -> Self {
        let log = Self::empty();
        for number in 0..records {
            log.append(number);
        }
        log
    }

    fn append(&self, number: usize) {
        let refusal = Refusal {
            class: Class::Denied,
            code: "tpm-policy".into(),
            message: "PCR 7 is \"other\"".into(),
        };
        let kinds = [Kind::Open, Kind::Seal, Kind::Generate];
        let mut event = Event::new(kinds[number % 3], "validator-1");
        let outcome = match number % 4 {
            3 => Outcome::Refused(refusal.clone()),
            _ => Outcome::Delivered(32),
        };
        event.key(&format!("key-{number}"), &[7; 100], &outcome);
        let report = DataKeyReport {
            id: [1; 16],
            way: "kms".into(),
            facts: vec![Fact {
                name: "kms-request-id".into(),
                value: format!("request-{number}"),
            }],
            failed: vec![("tpm".into(), refusal)],
        };
        event.data_key(&report, &["aws-kms"]);
        let time = UNIX_EPOCH + Duration::from_secs(1_795_000_000 + number as u64);
        append(&self.path, &event, time).unwrap();
    }

    fn verify(&self) -> Verified {
        let head = read_head(&head_path(&self.path)).unwrap();
        verify(&[&self.path], head.as_ref()).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&self.path, text).unwrap();
    }

    fn first(&self) -> (Fault, u64) {
        let verified = self.verify();
        let finding = verified.findings.first().unwrap();
        (finding.fault, finding.record)
    }
}

/// A line with something in it replaced and its hash made right again.
fn forged(line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from));
    let (record, _) = Record::parse(line.as_bytes()).unwrap();
    let text = serde_json::to_string(&record)
        .unwrap()
        .replacen(from, to, 1);
    let record: Record = serde_json::from_str(&text).unwrap();
    record.line().unwrap().0.trim_end().to_owned()
}

#[test]
fn an_untouched_log_is_whole() {
    let verified = Log::with(RECORDS).verify();
    assert_eq!((verified.records, verified.last.unwrap().seq), (12, 12));
    assert_eq!((verified.findings, verified.notes), (vec![], vec![]));
}

#[test]
fn a_record_says_what_happened_in_fields_that_are_documented() {
    let log = Log::with(4);
    let value: serde_json::Value = serde_json::from_str(&log.lines()[3]).unwrap();
    assert_eq!(value["seq"], 4);
    assert_eq!(value["event"], "open");
    assert_eq!(value["node"], "validator-1");
    assert_eq!(value["time"], "2026-11-18T11:06:43Z");
    assert_eq!(value["keys"][0]["name"], "key-3");
    assert_eq!(value["keys"][0]["blob"], sha256(&[7; 100]));
    assert_eq!(value["keys"][0]["outcome"], "refused");
    assert_eq!(value["keys"][0]["refusal"]["code"], "tpm-policy");
    let data_key = &value["data-keys"][0];
    assert_eq!(data_key["locks"][0], "aws-kms");
    assert_eq!(data_key["facts"][0]["value"], "request-3");
    assert_eq!(data_key["failed"][0]["way"], "tpm");
    assert_eq!(value["hash"].as_str().unwrap().len(), 64);
}

#[test]
fn an_edited_record_is_named() {
    let log = Log::with(RECORDS);
    let mut lines = log.lines();
    lines[4] = lines[4].replacen("key-4", "key-X", 1);
    log.write(&lines);
    assert_eq!(log.first(), (Fault::Edited, 5));
}

#[test]
fn an_edited_record_with_a_new_hash_is_named_wherever_it_stands() {
    for index in 0..RECORDS {
        let log = Log::with(RECORDS);
        let mut lines = log.lines();
        lines[index] = forged(&lines[index], "validator-1", "validator-2");
        log.write(&lines);
        assert_eq!(log.first(), (Fault::Edited, index as u64 + 1));
    }
}

#[test]
fn removed_reordered_and_repeated_records_are_named() {
    let log = Log::with(RECORDS);
    let whole = log.lines();
    let mut lines = whole.clone();
    lines.drain(3..6);
    log.write(&lines);
    assert_eq!(log.first(), (Fault::Removed, 4));
    assert_eq!(
        log.verify().findings[0].message,
        "records 4 to 6 are missing before line 4"
    );
    let mut lines = whole.clone();
    lines.swap(2, 8);
    log.write(&lines);
    assert_eq!(log.first(), (Fault::Reordered, 3));
    let mut lines = whole.clone();
    lines.insert(6, whole[1].clone());
    log.write(&lines);
    assert_eq!(log.first(), (Fault::Inserted, 2));
}

#[test]
fn a_log_cut_short_is_noticed_by_its_head_even_when_it_is_written_on() {
    let log = Log::with(RECORDS);
    let lines = log.lines();
    log.write(&lines[..9]);
    assert_eq!(log.first(), (Fault::Truncated, 10));
    assert_eq!(
        log.verify().findings[0].message,
        "records 10 to 12 are missing: the head knows of 12"
    );
    log.append(12);
    assert_eq!(log.first(), (Fault::Removed, 10));
    log.write(&[]);
    assert_eq!(log.first(), (Fault::Truncated, 1));
}

#[test]
fn a_log_whose_chain_was_written_anew_does_not_fit_its_head() {
    let (log, other) = (Log::with(RECORDS), Log::with(0));
    for number in 0..RECORDS {
        other.append(number + 100);
    }
    fs::copy(&other.path, &log.path).unwrap();
    assert_eq!(log.first(), (Fault::Edited, 12));
}

#[test]
fn a_missing_head_is_a_finding() {
    let log = Log::with(3);
    fs::remove_file(head_path(&log.path)).unwrap();
    assert_eq!(log.first(), (Fault::NoHead, 4));
}

#[test]
fn what_a_crash_left_of_a_record_is_recognised_and_the_chain_goes_on() {
    let log = Log::with(5);
    let torn = &log.lines()[4][..80];
    let mut text = fs::read_to_string(&log.path).unwrap();
    text.push_str(torn);
    fs::write(&log.path, &text).unwrap();
    let verified = log.verify();
    assert_eq!(verified.findings, vec![]);
    assert_eq!(
        verified.notes,
        ["line 6 is what a crash left of a record; the next record will say so"]
    );
    log.append(5);
    let verified = log.verify();
    assert_eq!((verified.records, verified.findings), (7, vec![]));
    assert_eq!(
        verified.notes,
        ["line 6 is what a crash left of a record; record 6 says so"]
    );
}

#[test]
fn a_crash_between_log_and_head_or_before_the_line_end_loses_nothing() {
    let log = Log::with(5);
    let head = fs::read(head_path(&log.path)).unwrap();
    log.append(5);
    fs::write(head_path(&log.path), head).unwrap();
    let text = fs::read_to_string(&log.path).unwrap();
    fs::write(&log.path, text.trim_end()).unwrap();
    let verified = log.verify();
    assert_eq!((verified.records, verified.findings), (6, vec![]));
    assert_eq!(
        verified.notes,
        ["1 records are newer than the head: a crash came between the two"]
    );
    log.append(6);
    let verified = log.verify();
    assert_eq!((verified.records, verified.findings), (7, vec![]));
    assert_eq!(verified.notes, Vec::<String>::new());
}

#[test]
fn a_log_that_was_moved_away_and_its_successor_are_one_chain() {
    let log = Log::with(4);
    let old = log.path.with_extension("1");
    fs::rename(&log.path, &old).unwrap();
    log.append(4);
    assert_eq!(log.first(), (Fault::Removed, 1));
    let head = read_head(&head_path(&log.path)).unwrap();
    let verified = verify(&[&old, &log.path], head.as_ref()).unwrap();
    assert_eq!((verified.records, verified.findings), (5, vec![]));
}

#[test]
fn several_agents_share_one_log() {
    let log = Log::empty();
    std::thread::scope(|scope| {
        for agent in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..10 {
                    log.append(agent * 10 + number);
                }
            });
        }
    });
    let verified = log.verify();
    assert_eq!((verified.records, verified.findings), (80, vec![]));
}

#[test]
fn records_longer_than_one_step_back_are_found_again() {
    let log = Log::empty();
    let mut event = Event::new(Kind::Open, "validator-1");
    for number in 0..2000 {
        event.key(&format!("key-{number}"), b"blob", &Outcome::Delivered(32));
    }
    for _ in 0..3 {
        append(&log.path, &event, UNIX_EPOCH).unwrap();
    }
    let verified = log.verify();
    assert_eq!((verified.records, verified.findings), (3, vec![]));
}

/// What somebody may do to a log.
#[derive(Clone, Debug)]
enum Manipulation {
    FlipByte(usize, u8),
    Remove(usize, usize),
    Swap(usize, usize),
    Truncate(usize),
    CutBytes(usize),
    Repeat(usize, usize),
    Forge(usize),
    InsertLine(usize, String),
}

fn manipulation() -> impl Strategy<Value = Manipulation> {
    let place = 0..RECORDS;
    prop_oneof![
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Manipulation::FlipByte(at, bits)),
        (place.clone(), 1usize..4).prop_map(|(at, count)| Manipulation::Remove(at, count)),
        (place.clone(), place.clone())
            .prop_filter("two places", |(a, b)| a != b)
            .prop_map(|(a, b)| Manipulation::Swap(a, b)),
        place.clone().prop_map(Manipulation::Truncate),
        any::<usize>().prop_map(Manipulation::CutBytes),
        (place.clone(), place.clone()).prop_map(|(from, to)| Manipulation::Repeat(from, to)),
        place.clone().prop_map(Manipulation::Forge),
        (place, "[ -~]{0,80}").prop_map(|(at, line)| Manipulation::InsertLine(at, line)),
    ]
}

impl Manipulation {
    /// Does it; the number of the first record it concerns.
    fn apply(&self, log: &Log) -> u64 {
        let mut lines = log.lines();
        let record = match self {
            Self::FlipByte(at, bits) => {
                let mut bytes = fs::read(&log.path).unwrap();
                let at = at % bytes.len();
                let record = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                bytes[at] ^= bits;
                fs::write(&log.path, bytes).unwrap();
                return record as u64;
            }
            Self::CutBytes(count) => {
                let text = fs::read_to_string(&log.path).unwrap();
                // Cutting only the last line end takes nothing away.
                let kept = text.len() - 2 - count % (text.len() - 2);
                fs::write(&log.path, &text[..kept]).unwrap();
                return text[..kept].lines().count().max(1) as u64
                    + u64::from(text[..kept].ends_with('\n') && kept > 0);
            }
            Self::Remove(at, count) => {
                lines.drain(*at..(at + count).min(lines.len()));
                at + 1
            }
            Self::Swap(a, b) => {
                lines.swap(*a, *b);
                a.min(b) + 1
            }
            Self::Truncate(length) => {
                lines.truncate(*length);
                length + 1
            }
            Self::Repeat(from, to) => {
                lines.insert(*to, lines[*from].clone());
                from.min(to) + 1
            }
            Self::Forge(at) => {
                lines[*at] = forged(&lines[*at], "validator-1", "validator-9");
                at + 1
            }
            Self::InsertLine(at, line) => {
                lines.insert(*at, line.clone());
                at + 1
            }
        };
        log.write(&lines);
        record as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn a_hundred_of_a_hundred_manipulations_are_found_and_placed(manipulation in manipulation()) {
        let log = Log::with(RECORDS);
        let record = manipulation.apply(&log);
        let verified = log.verify();
        prop_assert!(!verified.findings.is_empty(), "{manipulation:?} was not noticed");
        let named = verified.findings[0].record;
        // A line end that is flipped joins two records, and a repeated line may be called by either number.
        prop_assert!(named.abs_diff(record) <= 1 || matches!(manipulation, Manipulation::Repeat(..)),
            "{manipulation:?} on record {record}: {verified:?}");
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Record::parse(&bytes);
    }
}
