//! What in a release policy lets another machine in, or can never match.

mod codes;

use std::fmt;

use serde::Serialize;

pub use codes::Code;

use super::branches::{Branch, branches};
use super::compose::{COMPLIANCE, TEE_TYPE, TEE_VM_ID, TYPE, VM_ID};
use super::grammar::{Authority, ClaimCondition, Condition, Operator, Rule, VERSION};
use super::normal_authority;
use super::read::KeyPolicy;
use crate::azure::{Value, debug};
use crate::policy::Severity;

/// Something to know about a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is; stable.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// The entry it is about (`anyOf[0]`), none where it is about the whole policy.
    pub entry: Option<String>,
    /// Why.
    pub why: String,
    /// What to do.
    pub advice: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.severity.name(), self.code.name())?;
        if let Some(entry) = &self.entry {
            write!(f, "{entry}: ")?;
        }
        write!(f, "{}. {}", self.why, self.advice)
    }
}

/// Whether nothing but notices was found.
#[must_use]
pub fn is_clean(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.severity == Severity::Notice)
}

/// Everything to know about a release policy, entry by entry, then about the whole.
#[must_use]
pub fn lint(key: &KeyPolicy) -> Vec<Finding> {
    let mut findings = Findings::default();
    for (index, authority) in key.policy.any_of.iter().enumerate() {
        findings.entry = Some(format!("anyOf[{index}]"));
        lint_authority(authority, &mut findings);
    }
    findings.entry = None;
    if key.policy.version != VERSION {
        let why = format!(
            "the version is {:?}, and there is only {VERSION:?}",
            key.policy.version
        );
        findings.add(Code::UnknownVersion, why);
    }
    match key.immutable {
        Some(true) => {}
        Some(false) => findings.add(
            Code::NotImmutable,
            "whoever may update the key may put another policy in its place",
        ),
        None => findings.add(
            Code::NotImmutable,
            "a policy by itself does not say whether the key's is immutable",
        ),
    }
    findings.all
}

fn lint_authority(authority: &Authority, findings: &mut Findings) {
    let name = &authority.authority;
    let normal = normal_authority(name);
    let host = normal.strip_prefix("https://").unwrap_or_default();
    let azure = [".attest.azure.net", ".attest.azure.us", ".attest.azure.cn"];
    if !azure.iter().any(|domain| host.ends_with(domain)) || host.contains('/') {
        let why = format!("{name:?} is no address of Azure's attestation service");
        findings.add(Code::ForeignAuthority, why);
    } else if normal != *name {
        let why = format!("tokens spell their issuer {normal:?}, the policy {name:?}");
        findings.add(Code::AuthoritySpelling, why);
    }
    lint_rule(&authority.rule, findings);
    match branches(&authority.rule) {
        Some(ways) => ways.iter().for_each(|way| lint_branch(way, findings)),
        None => findings.add(
            Code::TooManyWays,
            "its conditions can be met in more than 4096 ways",
        ),
    }
}

fn lint_rule(rule: &Rule, findings: &mut Findings) {
    if rule.conditions().is_empty() {
        match rule {
            Rule::AllOf(_) => findings.add(
                Code::EmptyRule,
                "allOf without a condition fits every token",
            ),
            Rule::AnyOf(_) => {
                findings.add(Code::EmptyChoice, "anyOf without a condition fits no token")
            }
        }
    }
    for condition in rule.conditions() {
        match condition {
            Condition::Rule(inner) => lint_rule(inner, findings),
            Condition::Claim(claim) => lint_claim(claim, findings),
        }
    }
}

fn lint_claim(condition: &ClaimCondition, findings: &mut Findings) {
    let claim = condition.claim.as_str();
    if condition.legacy {
        let why = format!("{claim} is written with \"condition\" and \"value\"");
        findings.add(Code::LegacyForm, why);
    }
    if condition.operator != Operator::Equals {
        let why = format!("{claim} is compared by {}", condition.operator.name());
        findings.add(Code::UnconfirmedOperator, why);
    }
    if let Value::Boolean(value) = condition.value {
        let why = format!("{claim} is compared with the boolean {value}");
        findings.add(Code::BooleanValue, why);
    }
    let platform = claim.starts_with("x-ms-sevsnpvm-") || claim == "x-ms-compliance-status";
    let named_runtime = claim.starts_with("x-ms-runtime.vm-configuration");
    let type_of_platform = claim == TYPE
        && matches!(&condition.value, Value::String(v) if v == "sevsnpvm" || v == "tdxvm");
    if platform || named_runtime || type_of_platform {
        let why = format!("tokens of a guest have {claim} under x-ms-isolation-tee");
        findings.add(Code::WrongClaimPath, why);
    }
    if claim.ends_with("-launchmeasurement") || claim.ends_with("-microcode-svn") {
        findings.add(Code::UnstableClaim, format!("{claim} is asked for"));
    }
}

/// One way to meet an entry.
fn lint_branch(branch: &Branch<'_>, findings: &mut Findings) {
    for condition in &branch.0 {
        let others = branch.0.iter().filter(|other| {
            other.claim == condition.claim
                && other.operator == Operator::Equals
                && condition.operator == Operator::Equals
        });
        for other in others {
            if other.value != condition.value {
                let why = format!(
                    "{} shall be {} and {} at once",
                    condition.claim, condition.value, other.value
                );
                return findings.add(Code::Contradiction, why);
            }
        }
    }
    let values = branch.values();
    let is = |claim: &str, value: &str| values.get(claim).is_some_and(|found| found == value);
    let has = |claim: &str| values.contains_key(claim);
    let confidential = is(COMPLIANCE, "azure-compliant-cvm");
    if !confidential {
        if has(COMPLIANCE) || has(TEE_TYPE) || has(debug::SNP) || has(TEE_VM_ID) {
            let why = format!("{COMPLIANCE} is not asked to be \"azure-compliant-cvm\"");
            findings.add(Code::NotCompliant, why);
        } else if is(TYPE, "azurevm") {
            findings.add(
                Code::TrustedLaunch,
                "it fits Trusted Launch VMs, whose memory and TPM are open to the host",
            );
        } else {
            let why = format!("neither {TYPE} nor {COMPLIANCE} is asked for");
            findings.add(Code::AnyKind, why);
        }
    }
    if !has(TEE_VM_ID) && !has(VM_ID) {
        let why = format!(
            "neither {TEE_VM_ID} nor {VM_ID} is asked for, so any machine of that kind fits, in any subscription"
        );
        findings.add(Code::AnyMachine, why);
    }
    let tdx = is(TEE_TYPE, "tdxvm");
    if (confidential || has(TEE_TYPE)) && !tdx && !is(debug::SNP, "false") {
        let why = format!("{} is not asked to be \"false\"", debug::SNP);
        findings.add(Code::DebugAllowed, why);
    }
    for (claim, value) in debug::BOOT {
        if !is(claim, if value { "true" } else { "false" }) {
            let why = format!("{claim} is not asked to be \"{value}\"");
            findings.add(Code::BootDebugAllowed, why);
        }
    }
    if !is(debug::SECURE_BOOT, "true") {
        let why = format!("{} is not asked to be \"true\"", debug::SECURE_BOOT);
        findings.add(Code::NoSecureBoot, why);
    }
}

/// Findings as they come.
#[derive(Default)]
struct Findings {
    all: Vec<Finding>,
    entry: Option<String>,
}

impl Findings {
    fn add(&mut self, code: Code, why: impl Into<String>) {
        let why = why.into();
        // A code says one thing about one entry; details follow each other.
        let same = self
            .all
            .iter_mut()
            .find(|f| f.code == code && f.entry == self.entry);
        match same {
            Some(same) if same.why.contains(&why) => {}
            Some(same) => {
                same.why.push_str("; ");
                same.why.push_str(&why);
            }
            None => self.all.push(Finding {
                code,
                severity: code.severity(),
                entry: self.entry.clone(),
                why,
                advice: code.advice(),
            }),
        }
    }
}
