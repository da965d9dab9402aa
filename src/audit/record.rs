//! One record of the audit log: its fields, its one encoding, its hash.
//!
//! A line is the JSON object of [`Record`] with its hash as last member. The hash is over the very bytes before that
//! member, so nothing is encoded again to check it, and no JSON canonicalisation is needed.

use aws_lc_rs::digest::{self, SHA256};
use nodeseal_attestation::hex;
use nodeseal_wire::message::{DataKeyReport, Fact, Outcome, Refusal};
use serde::{Deserialize, Serialize};

/// Keeps these hashes apart from any other SHA-256 of ours.
const DOMAIN: &[u8] = b"nodeseal/v1/audit\0";
/// What stands between the hashed bytes and the hash, and what follows it.
const HASH_MEMBER: &str = ",\"hash\":\"";
const LINE_END: &str = "\"}";
/// `prev` of the first record.
pub const NO_RECORD: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Blobs were opened, or refused.
    Open,
    /// Given keys were sealed.
    Seal,
    /// Keys were made and sealed.
    Generate,
    /// Keys were sealed again under another data key, or replaced.
    Rotate,
    /// What a crash left of a record was found at the end of the log.
    Repair,
}

impl Kind {
    /// Name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Seal => "seal",
            Self::Generate => "generate",
            Self::Rotate => "rotate",
            Self::Repair => "repair",
        }
    }
}

/// What happened, to be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// What was done.
    pub event: Kind,
    /// For which node.
    pub node: String,
    /// The keys concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyRecord>,
    /// How many keys were opened only to see whether they would; they are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checked: u64,
    /// How each data key came to be open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_keys: Vec<DataKeyRecord>,
    /// Why all of it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalRecord>,
    /// What a crash left at the end of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn: Option<Torn>,
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 of the blob, hexadecimal.
    pub blob: String,
    /// "delivered", "sealed", "held" or "refused".
    pub outcome: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalRecord>,
}

/// How one data key was made or opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataKeyRecord {
    /// Its id, hexadecimal.
    pub id: String,
    /// Label of the way that opened.
    pub way: String,
    /// Kinds of that way's locks, in order.
    pub locks: Vec<String>,
    /// What the locks told: KMS key, request id, evidence digest, PCRs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<FactRecord>,
    /// The ways tried before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedWay>,
}

/// One named value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactRecord {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A way that did not open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedWay {
    /// Its label.
    pub way: String,
    /// Why.
    pub refusal: RefusalRecord,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusalRecord {
    /// Sort of refusal.
    pub class: String,
    /// Stable name of the reason.
    pub code: String,
    /// The same for a person.
    pub message: String,
}

/// Bytes at the end of the log that are no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Torn {
    /// How many, without a line end.
    pub bytes: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
}

impl Event {
    /// An event about nothing yet.
    #[must_use]
    pub fn new(event: Kind, node: &str) -> Self {
        Self {
            event,
            node: node.to_owned(),
            keys: Vec::new(),
            checked: 0,
            data_keys: Vec::new(),
            refusal: None,
            torn: None,
        }
    }

    /// Adds what became of the key `name`; `blob` is the sealed blob, given or made.
    pub fn key(&mut self, name: &str, blob: &[u8], outcome: &Outcome) {
        let (word, refusal) = match outcome {
            Outcome::Delivered(_) if self.event == Kind::Open => ("delivered", None),
            Outcome::Delivered(_) => ("sealed", None),
            Outcome::Held => ("held", None),
            Outcome::Refused(refusal) => ("refused", Some(refusal.into())),
        };
        self.keys.push(KeyRecord {
            name: name.to_owned(),
            blob: sha256(blob),
            outcome: word.to_owned(),
            refusal,
        });
    }

    /// Adds how a data key came to be open; `locks` are the kinds of the locks of the way that opened.
    pub fn data_key(&mut self, report: &DataKeyReport, locks: &[&str]) {
        let fact = |fact: &Fact| FactRecord {
            name: fact.name.clone(),
            value: fact.value.clone(),
        };
        let failed = |(way, refusal): &(String, Refusal)| FailedWay {
            way: way.clone(),
            refusal: refusal.into(),
        };
        self.data_keys.push(DataKeyRecord {
            id: hex::encode(&report.id),
            way: report.way.clone(),
            locks: locks.iter().map(|kind| (*kind).to_owned()).collect(),
            facts: report.facts.iter().map(fact).collect(),
            failed: report.failed.iter().map(failed).collect(),
        });
    }

    /// Says that the whole request was refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.refusal = Some(refusal.into());
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<&Refusal> for RefusalRecord {
    fn from(refusal: &Refusal) -> Self {
        Self {
            class: refusal.class.name().to_owned(),
            code: refusal.code.clone(),
            message: refusal.message.clone(),
        }
    }
}

/// An event in its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Number, from 1.
    pub seq: u64,
    /// Hash of the record before, hexadecimal; zeros before the first.
    pub prev: String,
    /// When, by this machine's clock: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// User id of the agent.
    pub uid: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why a line is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The hash does not fit the bytes: the line was changed.
    #[error("its hash is {stated}, its bytes hash to {found}")]
    Hash {
        /// What the line states.
        stated: String,
        /// SHA-256 of its bytes.
        found: String,
    },
    /// It is not a record at all.
    #[error("it is not a record: {0}")]
    Form(String),
}

impl Record {
    /// The line, with its line end, and the hash in it.
    ///
    /// # Errors
    /// When a value cannot be written as JSON, which no value of these types can cause.
    pub fn line(&self) -> Result<(String, String), serde_json::Error> {
        let mut line = serde_json::to_string(self)?;
        line.pop();
        let hash = line_hash(line.as_bytes());
        line.push_str(HASH_MEMBER);
        line.push_str(&hash);
        line.push_str(LINE_END);
        line.push('\n');
        Ok((line, hash))
    }

    /// Reads a line without its line end: the record and its hash.
    ///
    /// # Errors
    /// See [`LineError`].
    pub fn parse(line: &[u8]) -> Result<(Self, String), LineError> {
        let form = |what: &str| LineError::Form(what.to_owned());
        let text = std::str::from_utf8(line).map_err(|error| LineError::Form(error.to_string()))?;
        let (body, tail) = text
            .rsplit_once(HASH_MEMBER)
            .ok_or_else(|| form("it has no hash"))?;
        let stated = tail
            .strip_suffix(LINE_END)
            .ok_or_else(|| form("it does not end with its hash"))?;
        let found = line_hash(body.as_bytes());
        if stated != found {
            return Err(LineError::Hash {
                stated: stated.to_owned(),
                found,
            });
        }
        let record = serde_json::from_str(&format!("{body}}}"))
            .map_err(|error| LineError::Form(error.to_string()))?;
        Ok((record, found))
    }
}

fn line_hash(body: &[u8]) -> String {
    let mut context = digest::Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(body);
    hex::encode(context.finish().as_ref())
}

/// SHA-256, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&SHA256, bytes).as_ref())
}
