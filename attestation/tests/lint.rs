//! Key policies, good and bad, each with the findings it must give: `policies/NAME.json` and `policies/NAME.findings`.
//!
//! A line of findings is the statement's Sid, `_` for space, or `-` for the whole policy; and the code.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use nodeseal_attestation::policy::aws::{Code, Severity, is_clean, lint, parse};

fn policies() -> Vec<(String, String, String)> {
    support::policies(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/policies"))
}

#[test]
fn every_policy_gives_just_the_expected_findings() {
    let policies = policies();
    assert!(policies.len() >= 25);
    let mut wrong = Vec::new();
    for (name, json, expected) in &policies {
        let mut found: Vec<String> = lint(&parse(json).unwrap())
            .iter()
            .map(|finding| {
                let statement = finding.statement.as_deref().unwrap_or("-");
                let statement = statement.trim_matches('"').replace(' ', "_");
                format!("{statement} {}", finding.code.name())
            })
            .collect();
        found.sort();
        let mut expected: Vec<&str> = expected.lines().collect();
        expected.sort_unstable();
        if found != expected {
            wrong.push(format!(
                "{name}\n  found    {found:?}\n  expected {expected:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn good_policies_are_clean_and_all_others_with_a_bypass_or_a_break_are_not() {
    for (name, json, _) in policies() {
        let findings = lint(&parse(&json).unwrap());
        let notices_only = findings.iter().all(|f| f.severity == Severity::Notice);
        assert_eq!(is_clean(&findings), notices_only, "{name}");
        if name.starts_with("good-") {
            assert!(is_clean(&findings), "{name}: {findings:?}");
        }
    }
}

#[test]
fn every_code_is_given_by_some_policy_and_explained_in_the_documents() {
    let given: BTreeSet<Code> = policies()
        .iter()
        .flat_map(|(_, json, _)| lint(&parse(json).unwrap()))
        .map(|finding| finding.code)
        .collect();
    let documents = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    let documents = std::fs::read_to_string(documents).unwrap();
    for code in Code::ALL {
        assert!(given.contains(code), "no policy gives {}", code.name());
        let row = format!("| `{}` | {} |", code.name(), code.severity().name());
        assert!(documents.contains(&row), "docs/policy.md lacks {row}");
    }
}

#[test]
fn a_finding_says_the_statement_why_and_what_to_do() {
    let (_, json, _) = policies()
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
