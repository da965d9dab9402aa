//! What in a key policy lets someone around attestation, or can never match.

mod actions;
mod codes;
mod facts;
mod guard;
mod measured;
mod principals;

use std::fmt;

use serde::Serialize;

pub use codes::Code;

use super::known::ATTESTABLE;
use super::statement::{Effect, Policy, Statement};
use crate::policy::Severity;
use facts::covers;
use guard::Guards;
use principals::Reach;

/// Something to know about a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is; stable.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// The statement it is about, none where it is about the whole policy.
    pub statement: Option<String>,
    /// Why.
    pub why: String,
    /// What to do.
    pub advice: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.severity.name(), self.code.name())?;
        if let Some(statement) = &self.statement {
            write!(f, "statement {statement}: ")?;
        }
        write!(f, "{}. {}", self.why, self.advice)
    }
}

/// Whether nothing but notices was found.
#[must_use]
pub fn is_clean(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.severity == Severity::Notice)
}

/// Everything to know about a key policy, statement by statement, then about the whole.
#[must_use]
pub fn lint(policy: &Policy) -> Vec<Finding> {
    let mut findings = Findings::default();
    let guards = Guards::of(policy);
    for (index, statement) in policy.statements.iter().enumerate() {
        findings.statement = Some(statement.label(index));
        lint_statement(policy, statement, &guards, &mut findings);
    }
    findings.statement = None;
    lint_whole(policy, &guards, &mut findings);
    findings.all
}

fn lint_statement(
    policy: &Policy,
    statement: &Statement,
    guards: &Guards,
    findings: &mut Findings,
) {
    let measured = measured::read(statement, findings);
    if statement.effect == Effect::Deny {
        return;
    }
    if statement.principal.is_none() {
        let why = "there is no Principal, which every statement of a key policy needs";
        return findings.add(Code::MissingPrincipal, why);
    }
    let resources = statement.resource.as_ref();
    if !resources.is_some_and(|r| !r.negated && r.patterns.iter().any(|p| p == "*")) {
        let why = "its Resource is not \"*\", which in a key policy is the key";
        findings.add(Code::ResourceNotStar, why);
    }
    let reach = principals::lint(statement, findings);
    actions::lint(policy, statement, reach, &measured, guards, findings);
    let releases = ATTESTABLE.iter().any(|action| covers(statement, action));
    if !releases {
        return;
    }
    let guarded = ATTESTABLE
        .iter()
        .filter(|action| covers(statement, action))
        .all(|action| guards.measures(action));
    measured.lint(guarded, findings);
    if reach == Reach::Open {
        let why =
            "everyone may call it, in any account: measurements say which software runs, not whose";
        findings.add(Code::OpenPrincipal, why);
    }
    if measured.is_pinned() && !facts::binds_context(statement) {
        let why = "it does not ask for an encryption context, so one node's keys open for another";
        findings.add(Code::NoEncryptionContext, why);
    }
}

fn lint_whole(policy: &Policy, guards: &Guards, findings: &mut Findings) {
    let allowed = |action| {
        policy
            .statements
            .iter()
            .any(|s| s.effect == Effect::Allow && s.principal.is_some() && covers(s, action))
    };
    if !allowed("kms:PutKeyPolicy") {
        let why = "nobody may change the policy, and KMS takes such a one only if its safety check is bypassed";
        findings.add(Code::Unmanageable, why);
    }
    if allowed("kms:Decrypt") && !guards.measures("kms:Decrypt") {
        let why = "no statement denies kms:Decrypt to other measurements, and grants that exist are bound by no Allow";
        findings.add(Code::NoDeny, why);
    }
}

/// Findings as they come.
#[derive(Default)]
struct Findings {
    all: Vec<Finding>,
    statement: Option<String>,
}

impl Findings {
    fn add(&mut self, code: Code, why: impl Into<String>) {
        let finding = Finding {
            code,
            severity: code.severity(),
            statement: self.statement.clone(),
            why: why.into(),
            advice: code.advice(),
        };
        // A code says one thing about one statement; details follow each other.
        let same = self
            .all
            .iter_mut()
            .find(|f| f.code == finding.code && f.statement == finding.statement);
        match same {
            None => self.all.push(finding),
            Some(same) if !same.why.contains(&finding.why) => {
                same.why.push_str("; ");
                same.why.push_str(&finding.why);
            }
            Some(_) => {}
        }
    }
}
