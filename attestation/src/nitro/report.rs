//! Every check of a document with its outcome, for people and programs to read.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::anchor::Anchor;
use super::chain::{Chain, check_anchor};
use super::cose::Envelope;
use super::document::{Document, Form};
use super::expectations::Expectations;
use super::verify::{CHAIN_CHECKS, check_debug};
use crate::hex;
use crate::time::Timestamp;

/// What is asked of a document, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The bytes are a COSE_Sign1 of the one shape AWS uses.
    Envelope,
    /// The payload is the map of an attestation document.
    Payload,
    /// The first certificate is the pinned root.
    Anchor,
    /// Every certificate can be read.
    Certificates,
    /// Every certificate is in its window.
    Validity,
    /// Certificate authorities, path lengths and key usages are as they must be.
    Constraints,
    /// Each certificate names the one before it as its issuer.
    Names,
    /// Each certificate is signed by the one before it.
    Path,
    /// The document is signed by the last certificate's key.
    Signature,
    /// The enclave does not run in debug mode.
    NotDebug,
    /// The measurements are those of an allowed generation.
    Measurements,
    /// The module id is the expected one.
    ModuleId,
    /// The public key is the expected one.
    PublicKey,
    /// The user data are the expected ones.
    UserData,
    /// The nonce is the expected one.
    Nonce,
    /// The document is young enough.
    Age,
}

impl Check {
    /// What holds where the check does, in words.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Envelope => "COSE_Sign1 with ES384, nothing unprotected, nothing after it",
            Self::Payload => "the payload is an attestation document",
            Self::Anchor => "the chain begins with the pinned root",
            Self::Certificates => "every certificate is X.509 with P-384 and SHA-384",
            Self::Validity => "every certificate is valid at the time of verification",
            Self::Constraints => "basic constraints, path lengths and key usages",
            Self::Names => "each certificate names the one before it as issuer",
            Self::Path => "each certificate is signed by the one before it",
            Self::Signature => "the document is signed by its certificate's key",
            Self::NotDebug => "not from an enclave in debug mode",
            Self::Measurements => "the measurements are those of an allowed generation",
            Self::ModuleId => "the module id is the expected one",
            Self::PublicKey => "the public key is the expected one",
            Self::UserData => "the user data are the expected ones",
            Self::Nonce => "the nonce is the expected one",
            Self::Age => "the document is young enough",
        }
    }
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "detail")]
pub enum Outcome {
    /// It holds; with what was found, where that says more.
    Held(String),
    /// It does not hold, and why.
    Failed(String),
    /// It could not be asked, since an earlier one failed.
    NotReached,
}

/// One check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// What was asked.
    pub check: Check,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a document says. Only as true as the report's checks hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Whose document it is.
    pub form: Form,
    /// Id of the enclave or NitroTPM.
    pub module_id: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// When its signing certificate ends, none where that cannot be read.
    pub expires: Option<Timestamp>,
    /// PCRs, in hexadecimal.
    pub pcrs: BTreeMap<u8, String>,
    /// Public key, in hexadecimal.
    #[serde(serialize_with = "hexadecimal")]
    pub public_key: Option<Vec<u8>>,
    /// User data, in hexadecimal.
    #[serde(serialize_with = "hexadecimal")]
    pub user_data: Option<Vec<u8>>,
    /// Nonce, in hexadecimal.
    #[serde(serialize_with = "hexadecimal")]
    pub nonce: Option<Vec<u8>>,
}

/// Every check of a document with its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The time of verification.
    pub at: Timestamp,
    /// SHA-256 of the pinned root, in hexadecimal.
    pub root: String,
    /// What the document says, none where it cannot be read.
    pub document: Option<Summary>,
    /// The checks, in the order in which they were asked.
    pub checks: Vec<CheckResult>,
}

impl Report {
    /// Whether every check holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        let held = |result: &CheckResult| matches!(result.outcome, Outcome::Held(_));
        !self.checks.is_empty() && self.checks.iter().all(held)
    }

    fn ask<T>(&mut self, check: Check, outcome: Result<String, T>)
    where
        T: ToString,
    {
        let outcome = match outcome {
            Ok(detail) => Outcome::Held(detail),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.checks.push(CheckResult { check, outcome });
    }

    fn not_reached(&mut self, checks: impl IntoIterator<Item = Check>) {
        let skipped = checks.into_iter().map(|check| CheckResult {
            check,
            outcome: Outcome::NotReached,
        });
        self.checks.extend(skipped);
    }
}

/// Asks everything of a document that [`Document::verify`] asks, and what `expectations` say, without ending at the
/// first failure. All checks hold exactly if verification does and every expectation is met.
#[must_use]
pub fn report(bytes: &[u8], at: Timestamp, anchor: &Anchor, expectations: &Expectations) -> Report {
    let mut report = Report {
        at,
        root: hex::encode(anchor.sha256()),
        document: None,
        checks: Vec::new(),
    };
    let chain_checks = CHAIN_CHECKS.map(|(check, _)| check);
    if let Err(error) = Envelope::parse(bytes) {
        report.ask(Check::Envelope, Err(error));
        report.not_reached([Check::Payload, Check::Anchor, Check::Certificates]);
        report.not_reached(chain_checks);
        report.not_reached([Check::NotDebug]);
        return report;
    }
    report.ask::<String>(Check::Envelope, Ok(format!("{} bytes", bytes.len())));
    let document = match Document::parse(bytes) {
        Ok(document) => document,
        Err(error) => {
            report.ask(Check::Payload, Err(error));
            report.not_reached([Check::Anchor, Check::Certificates]);
            report.not_reached(chain_checks);
            report.not_reached([Check::NotDebug]);
            return report;
        }
    };
    let summary = summary(&document);
    report.ask::<String>(Check::Payload, Ok(summary.module_id.clone()));
    report.document = Some(summary);
    let anchored = check_anchor(&document, anchor).map(|()| hex::encode(anchor.sha256()));
    report.ask(Check::Anchor, anchored);
    match Chain::parse(&document) {
        Ok(chain) => {
            let count = document.cabundle().len() + 1;
            report.ask::<String>(Check::Certificates, Ok(count.to_string()));
            for (check, ask) in CHAIN_CHECKS {
                let outcome = ask(&document, &chain, at, anchor);
                let detail = match check {
                    Check::Validity => format!("the last ends {}", chain.leaf().not_after),
                    _ => String::new(),
                };
                report.ask(check, outcome.map(|()| detail));
            }
        }
        Err(error) => {
            report.ask(Check::Certificates, Err(error));
            report.not_reached(chain_checks);
        }
    }
    let not_debug = check_debug(&document, expectations.debug());
    report.ask(Check::NotDebug, not_debug.map(|()| String::new()));
    for (check, outcome) in expectations.outcomes(&document, at) {
        report.ask(check, outcome);
    }
    report
}

fn summary(document: &Document<'_>) -> Summary {
    Summary {
        form: document.form(),
        module_id: document.module_id().to_owned(),
        timestamp: document.timestamp(),
        expires: document.expires().ok(),
        pcrs: document
            .pcrs()
            .map(|(index, value)| (index, hex::encode(value)))
            .collect(),
        public_key: document.public_key().map(<[u8]>::to_vec),
        user_data: document.user_data().map(<[u8]>::to_vec),
        nonce: document.nonce().map(<[u8]>::to_vec),
    }
}

fn hexadecimal<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_some(&hex::encode(bytes)),
        None => serializer.serialize_none(),
    }
}
