//! The log beside CloudTrail: who asked for the keys' secrets that the log does not know, and what the log claims that
//! CloudTrail does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use nodeseal_wire::message::Class;
use serde::Serialize;
use serde_json::{Deserializer, Value};

use super::log::{AuditError, failed};
use super::record::{DataKeyRecord, Record, RefusalRecord};

/// Requests whose answer lets the data keys of blobs be had, or be had elsewhere.
const SECRETS: [&str; 7] = [
    "Decrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncrypt",
    "CreateGrant",
];
/// What stands before a request id in the message of a refusal.
const MARK: &str = "request id ";

/// CloudTrail's records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// A file given as a log is none. If it were passed over, everything would seem to fit.
    #[error("{}: no line of it is a record of an audit log; CloudTrail's records come after --cloudtrail", path.display())]
    NoLog {
        /// The file.
        path: PathBuf,
    },
    /// A file holds something else than records.
    #[error("{}: not CloudTrail's records (a file of a trail, unpacked; the answer of lookup-events; or one record a line): {problem}", path.display())]
    Trail {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// What does not fit together.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reconciled {
    /// Requests that both have.
    pub known: u64,
    /// Requests for secrets of the log's KMS keys that the log does not know.
    pub unknown: Vec<Request>,
    /// Requests the log has and CloudTrail does not, of the time CloudTrail's records are about.
    pub missing: Vec<Claim>,
}

/// A request as CloudTrail has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    /// When, RFC 3339.
    pub time: String,
    /// What was asked.
    pub operation: String,
    /// ARN of the KMS key.
    pub key: String,
    /// Who asked.
    pub principal: String,
    /// From where.
    pub address: String,
    /// The node in the encryption context, where there is one.
    pub node: Option<String>,
    /// Why it was refused; none if it was granted.
    pub refused: Option<String>,
    /// Under which KMS remembers it.
    pub request_id: String,
}

/// A request as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claim {
    /// Number of the record.
    pub record: u64,
    /// When it was written, RFC 3339.
    pub time: String,
    /// Under which KMS should remember it.
    pub request_id: String,
}

/// Compares the logs in `files` with CloudTrail's records in `trail`. The KMS keys in the log are those it is about.
///
/// # Errors
/// When a file cannot be read. Lines of the log that are no record are for `audit verify`.
pub fn reconcile(files: &[&Path], trail: &[PathBuf]) -> Result<Reconciled, ReconcileError> {
    let mut log = Log::default();
    for path in files {
        let reader = BufReader::new(File::open(path).map_err(failed("open", path))?);
        let (mut lines, mut records) = (0_u64, 0_u64);
        for line in reader.split(b'\n') {
            lines = lines.saturating_add(1);
            if let Ok((record, _)) = Record::parse(&line.map_err(failed("read", path))?) {
                records = records.saturating_add(1);
                log.add(&record);
            }
        }
        if lines > 0 && records == 0 {
            let path = (*path).to_owned();
            return Err(ReconcileError::NoLog { path });
        }
    }
    let mut requests = Vec::new();
    for path in trail {
        requests.extend(read_trail(path)?);
    }
    Ok(log.compare(requests))
}

/// What the logs know.
#[derive(Default)]
struct Log {
    keys: BTreeSet<String>,
    /// By request id; whether CloudTrail must have it.
    claims: BTreeMap<String, (Claim, bool)>,
}

impl Log {
    fn add(&mut self, record: &Record) {
        for data_key in &record.event.data_keys {
            self.add_data_key(record, data_key);
        }
        let keys = record.event.keys.iter();
        let refusals = keys.filter_map(|key| key.refusal.as_ref());
        for refusal in refusals.chain(&record.event.refusal) {
            self.add_refusal(record, refusal);
        }
    }

    fn add_data_key(&mut self, record: &Record, data_key: &DataKeyRecord) {
        for fact in &data_key.facts {
            match fact.name.as_str() {
                "kms-key" => drop(self.keys.insert(fact.value.clone())),
                "kms-request-id" => self.claim(record, &fact.value, true),
                // Throttled, or failed inside KMS: CloudTrail may have it.
                "kms-earlier-request-id" => self.claim(record, &fact.value, false),
                _ => {}
            }
        }
        for failed in &data_key.failed {
            self.add_refusal(record, &failed.refusal);
        }
    }

    /// A refusal names each request it is about in its message. What KMS could not answer need not be in CloudTrail.
    fn add_refusal(&mut self, record: &Record, refusal: &RefusalRecord) {
        let answered = refusal.class != Class::Unavailable.name();
        for rest in refusal.message.split(MARK).skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            self.claim(
                record,
                rest.get(..end.unwrap_or(rest.len())).unwrap_or_default(),
                answered,
            );
        }
    }

    fn claim(&mut self, record: &Record, request_id: &str, certain: bool) {
        if request_id != "none" {
            let claim = Claim {
                record: record.seq,
                time: record.time.clone(),
                request_id: request_id.to_owned(),
            };
            let known = self.claims.entry(request_id.to_owned());
            known.or_insert((claim, false)).1 |= certain;
        }
    }

    fn compare(mut self, requests: Vec<Request>) -> Reconciled {
        // In UTC and of one form, so that they compare as text.
        let times = requests.iter().map(|request| request.time.clone());
        let span = times.clone().min().zip(times.max());
        let mut found = Reconciled::default();
        for request in requests {
            if self.claims.remove(&request.request_id).is_some() {
                found.known += 1;
            } else if self.keys.contains(&request.key) {
                found.unknown.push(request);
            }
        }
        let within = |claim: &Claim| {
            let second = claim.time.get(..19).unwrap_or_default();
            span.as_ref().is_some_and(|(first, last)| {
                first.get(..19).is_some_and(|first| first <= second)
                    && last.get(..19).is_some_and(|last| second < last)
            })
        };
        let certain = self.claims.into_values().filter(|(_, certain)| *certain);
        found.missing = certain.map(|(claim, _)| claim).filter(within).collect();
        found.missing.sort_by_key(|claim| claim.record);
        found
    }
}

/// The requests for secrets in a file.
fn read_trail(path: &Path) -> Result<Vec<Request>, ReconcileError> {
    let wrong = |problem: String| ReconcileError::Trail {
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut requests = Vec::new();
    for value in Deserializer::from_reader(BufReader::new(file)).into_iter::<Value>() {
        let value = value.map_err(|error| wrong(error.to_string()))?;
        let records: Vec<Value> = match (&value["Records"], &value["Events"]) {
            (Value::Array(records), _) => records.clone(),
            (_, Value::Array(events)) => {
                let record = |event: &Value| {
                    let text = event["CloudTrailEvent"].as_str().unwrap_or_default();
                    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))
                };
                events.iter().map(record).collect::<Result<_, _>>()?
            }
            _ => vec![value],
        };
        for record in &records {
            let about = |name: &str| record[name].as_str();
            let (Some(source), Some(operation)) = (about("eventSource"), about("eventName")) else {
                return Err(wrong(
                    "a record without eventSource and eventName".to_owned(),
                ));
            };
            if source == "kms.amazonaws.com" && SECRETS.contains(&operation) {
                requests.extend(requests_of(record, operation));
            }
        }
    }
    Ok(requests)
}

/// One request for each KMS key a record is about (ReEncrypt is about two), and one for a record that names none: KMS had
/// not got as far as the key.
fn requests_of(record: &Value, operation: &str) -> Vec<Request> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resources = record["resources"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let context = &record["requestParameters"]["encryptionContext"];
    let request = |resource: &Value| Request {
        time: text(&record["eventTime"]),
        operation: operation.to_owned(),
        key: text(&resource["ARN"]),
        principal: text(&record["userIdentity"]["arn"]),
        address: text(&record["sourceIPAddress"]),
        node: context["nodeseal:node"].as_str().map(str::to_owned),
        refused: record["errorCode"].as_str().map(str::to_owned),
        request_id: text(&record["requestID"]),
    };
    match resources {
        [] => vec![request(&Value::Null)],
        resources => resources.iter().map(request).collect(),
    }
}

#[cfg(test)]
mod tests;
