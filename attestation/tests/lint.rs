//! Key policies of AWS KMS, good and bad: `policies/`, with the statement's Sid, `_` for space, as the place of a finding.
#![allow(clippy::unwrap_used)]

mod support;

use nodeseal_attestation::policy::aws::{Code, Severity, is_clean, lint, parse};
use support::lint::{Examined, Policies};

fn examine(json: &str) -> Examined {
    let findings = lint(&parse(json).unwrap());
    Examined {
        lines: findings
            .iter()
            .map(|finding| {
                let statement = finding.statement.as_deref().unwrap_or("-");
                let statement = statement.trim_matches('"').replace(' ', "_");
                format!("{statement} {}", finding.code.name())
            })
            .collect(),
        codes: findings.iter().map(|f| f.code.name()).collect(),
        notices_only: findings.iter().all(|f| f.severity == Severity::Notice),
        clean: is_clean(&findings),
    }
}

#[test]
fn every_policy_gives_just_the_expected_findings() {
    let clean = [
        "deny-of-the-debug-value-only",
        "deny-that-misses-unattested-calls",
        "no-encryption-context",
        "resource-of-another-key",
    ];
    Policies::of("policies").check(examine, &clean);
}

#[test]
fn every_code_is_given_by_some_policy_and_explained_in_the_documents() {
    let codes = Code::ALL
        .iter()
        .map(|code| (code.name(), code.severity().name()));
    Policies::of("policies").cover(examine, codes);
}

#[test]
fn a_finding_says_the_statement_why_and_what_to_do() {
    let (_, json, _) = Policies::of("policies")
        .all
        .into_iter()
        .find(|(name, ..)| name == "parent-role-only")
        .unwrap();
    let findings = lint(&parse(&json).unwrap());
    let finding = findings
        .iter()
        .find(|f| f.code == Code::ParentOnly)
        .unwrap();
    assert_eq!(
        finding.to_string(),
        "bypass parent-only: statement \"Use\": it asks for the parent's role or instance (PCR3, PCR4), not for the \
         image. Ask for PCR0 too: enclaves in debug mode keep PCR3 and PCR4"
    );
}
