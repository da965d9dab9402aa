//! Azure's release policies: read, written, evaluated, compared; and, in `azure_policies/`, each with the findings it
//! must give, with the entry as their place.
#![allow(clippy::unwrap_used)]

mod support;

use nodeseal_attestation::azure::Claims;
use nodeseal_attestation::policy::azure::{
    AzureSection, Code, Decision, Operators, Policy, diff, evaluate, is_clean, lint, parse,
    parse_key, release_policy,
};
use nodeseal_attestation::policy::{ReleasePolicy, Severity};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::lint::{Examined, Policies};

const RELEASE: &str = r#"
version = 1
[azure]
attestation = ["https://sharedweu.weu.attest.azure.net"]
[[azure.machine]]
name = "validator-1"
kind = "confidential-vm"
vm_ids = ["8A1B0C2D-0000-4000-8000-000000000001"]
"#;

fn section() -> AzureSection {
    AzureSection::parse(RELEASE).unwrap()
}

fn changed(from: &str, to: &str) -> String {
    assert!(RELEASE.contains(from), "{from}");
    let text = RELEASE.replacen(from, to, 1);
    AzureSection::parse(&text).unwrap_err().to_string()
}

/// What a good machine's token claims.
fn claims() -> Value {
    json!({
        "iss": "https://sharedweu.weu.attest.azure.net",
        "secureboot": true,
        "x-ms-attestation-type": "azurevm",
        "x-ms-azurevm-bootdebug-enabled": false,
        "x-ms-azurevm-debuggersdisabled": true,
        "x-ms-azurevm-hypervisordebug-enabled": false,
        "x-ms-azurevm-kerneldebug-enabled": false,
        "x-ms-azurevm-testsigning-enabled": false,
        "x-ms-isolation-tee": {
            "x-ms-attestation-type": "sevsnpvm",
            "x-ms-compliance-status": "azure-compliant-cvm",
            "x-ms-sevsnpvm-is-debuggable": false,
            "x-ms-sevsnpvm-guestsvn": 3,
            "x-ms-runtime": {"vm-configuration": {"vmUniqueId": "8A1B0C2D-0000-4000-8000-000000000001"}},
        },
    })
}

fn decide(policy: &Policy, claims: &Value, operators: Operators) -> Result<usize, Vec<String>> {
    let claims = Claims::parse(&claims.to_string()).unwrap();
    match evaluate(policy, &claims, operators) {
        Decision::Met(index) => Ok(index),
        Decision::NotMet(misses) => Err(misses.iter().map(ToString::to_string).collect()),
    }
}

fn policy(condition: Value) -> Policy {
    let authority = "https://sharedweu.weu.attest.azure.net/";
    let policy =
        json!({"version": "1.0.0", "anyOf": [{"authority": authority, "allOf": [condition]}]});
    parse(&policy.to_string()).unwrap()
}

fn examine(json: &str) -> Examined {
    let findings = lint(&parse_key(json).unwrap());
    Examined {
        lines: findings
            .iter()
            .map(|f| format!("{} {}", f.entry.as_deref().unwrap_or("-"), f.code.name()))
            .collect(),
        codes: findings.iter().map(|f| f.code.name()).collect(),
        notices_only: findings.iter().all(|f| f.severity == Severity::Notice),
        clean: is_clean(&findings),
    }
}

#[test]
fn every_policy_gives_just_the_expected_findings() {
    Policies::of("azure_policies").check(examine, &["authority-in-upper-case"]);
}

#[test]
fn every_code_is_given_by_some_policy_and_explained_in_the_documents() {
    let codes = Code::ALL
        .iter()
        .map(|code| (code.name(), code.severity().name()));
    Policies::of("azure_policies").cover(examine, codes);
}

#[test]
fn what_is_written_is_clean_reads_back_and_releases_to_the_machine_only() {
    let written = release_policy(&section());
    let text = written.to_json();
    let key = parse_key(&text).unwrap();
    assert_eq!(key.policy, written);
    assert!(is_clean(&lint(&key)), "{:?}", lint(&key));
    let claims = claims();
    assert_eq!(decide(&written, &claims, Operators::EqualsOnly), Ok(0));
    for (path, bad, said) in [
        (
            "/secureboot",
            json!(false),
            "secureboot: expected \"true\", found false",
        ),
        (
            "/x-ms-isolation-tee/x-ms-sevsnpvm-is-debuggable",
            json!(true),
            "x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable: expected \"false\", found true",
        ),
        (
            "/x-ms-isolation-tee/x-ms-runtime/vm-configuration/vmUniqueId",
            json!("8A1B0C2D-0000-4000-8000-000000000002"),
            "x-ms-isolation-tee.x-ms-runtime.vm-configuration.vmUniqueId: expected \"8A1B0C2D-0000-4000-8000-000000000001\", \
             found \"8A1B0C2D-0000-4000-8000-000000000002\"",
        ),
        (
            "/iss",
            json!("https://sharedeus.eus.attest.azure.net"),
            "iss: expected https://sharedweu.weu.attest.azure.net, found https://sharedeus.eus.attest.azure.net",
        ),
        (
            "/x-ms-azurevm-kerneldebug-enabled",
            json!(null),
            "x-ms-azurevm-kerneldebug-enabled: expected \"false\", found nothing",
        ),
    ] {
        let mut other = claims.clone();
        *other.pointer_mut(path).unwrap() = bad;
        assert_eq!(
            decide(&written, &other, Operators::EqualsOnly),
            Err(vec![said.to_owned()])
        );
    }
}

#[test]
fn the_policy_in_the_documents_is_the_one_that_is_written_for_the_machine_in_them() {
    let documents = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/azure.md");
    let documents = std::fs::read_to_string(documents).unwrap();
    let block = |from: &str| {
        let (_, rest) = documents.split_once(from).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let release = block("release.toml says which machines ([policy.md](policy.md)):\n\n```toml\n");
    let written = release_policy(&AzureSection::parse(&release).unwrap());
    assert_eq!(parse(&block("```json\n")).unwrap(), written);
}

#[test]
fn each_machine_service_and_kind_has_an_entry_of_its_own_without_nesting() {
    let text = RELEASE.replace(
        "[[azure.machine]]",
        "[[azure.machine]]\nname = \"old\"\nkind = \"trusted-launch\"\nvm_ids = [\"8a1b0c2d-0000-4000-8000-000000000009\"]\n[[azure.machine]]",
    ) + "tee = [\"sev-snp\", \"tdx\"]\nclaims = { \"x-ms-isolation-tee.x-ms-sevsnpvm-idkeydigest\" = \"00\" }\n";
    let policy = release_policy(&AzureSection::parse(&text).unwrap());
    assert_eq!(policy.any_of.len(), 3);
    let claims: Vec<usize> = policy
        .any_of
        .iter()
        .map(|a| a.rule.conditions().len())
        .collect();
    assert_eq!(claims, [8, 12, 11]);
    assert!(policy.to_json().contains("\"claim\": \"x-ms-azurevm-vmid\",\n          \"equals\": \"8a1b0c2d-0000-4000-8000-000000000009\""));
    assert!(is_clean(&lint(&parse_key(&policy.to_json()).unwrap())));
}

#[test]
fn a_section_that_would_let_others_in_is_refused() {
    assert_eq!(
        changed(
            "vm_ids = [\"8A1B0C2D-0000-4000-8000-000000000001\"]",
            "vm_ids = []"
        ),
        "release policy: azure.machine \"validator-1\": vm_ids: expected at least one: without, any machine in Azure fits"
    );
    assert_eq!(
        changed("000000000001\"]", "1\"]"),
        "release policy: azure.machine \"validator-1\": vm_ids: expected ids as tokens spell them (8-4-4-4-12 hexadecimal digits), \
         found \"8A1B0C2D-0000-4000-8000-1\""
    );
    let spelled = |found: &str| {
        format!(
            "release policy: azure.attestation: expected addresses as tokens spell their issuer \
             (https://sharedweu.weu.attest.azure.net, no slash at the end), each once, found {found}"
        )
    };
    assert_eq!(
        changed("azure.net\"]", "azure.net/\"]"),
        spelled("\"https://sharedweu.weu.attest.azure.net/\"")
    );
    assert_eq!(
        changed("https://", "http://"),
        spelled("\"http://sharedweu.weu.attest.azure.net\"")
    );
    assert_eq!(
        changed("[\"https://sharedweu.weu.attest.azure.net\"]", "[]"),
        spelled("none")
    );
    assert_eq!(
        changed(
            "kind = \"confidential-vm\"",
            "kind = \"confidential-vm\"\nclaims = { secureboot = \"false\" }"
        ),
        "release policy: azure.machine \"validator-1\": claims: \"secureboot\" is asked for anyway, or cannot be"
    );
    assert_eq!(
        changed(
            "kind = \"confidential-vm\"",
            "kind = \"trusted-launch\"\ntee = [\"tdx\"]"
        ),
        "release policy: azure.machine \"validator-1\": tee: expected none: a Trusted Launch VM has none"
    );
    assert_eq!(
        changed("version = 1", "version = 2"),
        "release policy: version: expected 1, found 2"
    );
    assert!(changed("kind =", "sort =").contains("unknown field `sort`"));
    assert_eq!(
        AzureSection::parse("version = 1").unwrap_err().to_string(),
        "release policy: azure: expected a section [azure] (docs/policy.md), found none"
    );
    // A policy for AWS with a wrong section for Azure is wrong.
    let both = "version = 1\nprincipals = { runtime = [], administrators = [] }\n[azure]\nattestation = []\n";
    assert_eq!(
        ReleasePolicy::parse(both).unwrap_err().to_string(),
        spelled("none")
    );
}

#[test]
fn comparisons_are_those_of_the_grammar_or_equals_only() {
    let svn = "x-ms-isolation-tee.x-ms-sevsnpvm-guestsvn";
    for (condition, met, equals_only) in [
        (json!({"claim": svn, "equals": 3}), true, true),
        (json!({"claim": svn, "equals": "3"}), false, false),
        (json!({"claim": "secureboot", "equals": "true"}), true, true),
        (
            json!({"claim": "secureboot", "equals": "True"}),
            false,
            false,
        ),
        (
            json!({"claim": "secureboot", "condition": "equals", "value": "true"}),
            true,
            true,
        ),
        (json!({"claim": svn, "greater": 2}), true, false),
        (json!({"claim": svn, "greater": 3}), false, false),
        (json!({"claim": svn, "greaterOrEquals": 3}), true, false),
        (json!({"claim": svn, "less": 4}), true, false),
        (json!({"claim": svn, "lessOrEquals": 2}), false, false),
        (json!({"claim": svn, "notEquals": 4}), true, false),
        (json!({"claim": svn, "exists": "true"}), true, false),
        (json!({"claim": "missing", "exists": "false"}), true, false),
        (json!({"claim": "missing", "notEquals": 4}), false, false),
        (
            json!({"claim": "x-ms-isolation-tee", "equals": "x"}),
            false,
            false,
        ),
        (json!({"anyOf": []}), false, false),
        (json!({"allOf": []}), true, true),
        (
            json!({"anyOf": [{"claim": "missing", "equals": 1}, {"allOf": [{"claim": svn, "equals": 3}]}]}),
            true,
            true,
        ),
    ] {
        let policy = policy(condition.clone());
        let all = decide(&policy, &claims(), Operators::All);
        assert_eq!(all.is_ok(), met, "{condition}: {all:?}");
        let equals = decide(&policy, &claims(), Operators::EqualsOnly);
        assert_eq!(equals.is_ok(), equals_only, "{condition}: {equals:?}");
    }
}

#[test]
fn a_difference_in_order_nesting_or_a_slash_is_none() {
    let written = release_policy(&section());
    let mut other: Value = serde_json::from_str(&written.to_json()).unwrap();
    let entry = &mut other["anyOf"][0];
    entry["authority"] = json!("https://sharedweu.weu.attest.azure.net/");
    let mut conditions = entry["allOf"].as_array().unwrap().clone();
    conditions.reverse();
    let tail = conditions.split_off(3);
    conditions.push(json!({"allOf": tail}));
    entry["allOf"] = json!(conditions);
    let live = parse(&other.to_string()).unwrap();
    assert_eq!(diff(&written, &live), []);
    other["anyOf"][0]["allOf"].as_array_mut().unwrap().remove(0);
    let live = parse(&other.to_string()).unwrap();
    let found: Vec<String> = diff(&written, &live)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found.len(), 2);
    assert!(
        found[0]
            .starts_with("- https://sharedweu.weu.attest.azure.net: secureboot equals \"true\""),
        "{found:?}"
    );
    assert!(found[0].contains("vmUniqueId"), "{found:?}");
    assert!(
        found[1].starts_with("+ https://") && !found[1].contains("vmUniqueId"),
        "{found:?}"
    );
}

#[test]
fn what_is_no_policy_is_refused_by_place() {
    let error = |value: Value| parse(&value.to_string()).unwrap_err().to_string();
    let entry = |condition: Value| json!({"version": "1.0.0", "anyOf": [{"authority": "a", "allOf": [condition]}]});
    assert_eq!(
        error(json!([])),
        "release policy: policy: expected an object, found an array"
    );
    assert_eq!(
        error(json!({"version": "1.0.0"})),
        "release policy: anyOf: expected an array of authorities, found nothing"
    );
    assert_eq!(
        error(json!({"anyOf": [], "allOf": []})),
        "release policy: policy: there is no member \"allOf\""
    );
    assert_eq!(
        error(json!({"version": "1.0.0", "anyOf": [{"authority": "a", "allOf": [], "anyOf": []}]})),
        "release policy: anyOf[0]: expected one of allOf and anyOf, found both"
    );
    assert_eq!(
        error(entry(json!({"claim": "a", "matches": "b"}))),
        "release policy: anyOf[0].allOf[0]: expected claim and one operator, found \"matches\""
    );
    assert_eq!(
        error(entry(json!({"claim": "a"}))),
        "release policy: anyOf[0].allOf[0]: expected claim and one operator, found none or several"
    );
    assert_eq!(
        error(entry(json!({"claim": "a", "equals": []}))),
        "release policy: anyOf[0].allOf[0]: expected a string or a number, found an array"
    );
    let mut deep = json!({"claim": "a", "equals": "b"});
    for _ in 0..9 {
        deep = json!({"allOf": [deep]});
    }
    assert!(error(entry(deep)).ends_with("conditions nest deeper than 8"));
    assert!(
        parse(&"x".repeat(65_537))
            .unwrap_err()
            .to_string()
            .contains("expected at most 65536 bytes")
    );
    assert_eq!(
        parse_key(r#"{"release_policy": {"data": "?"}}"#)
            .unwrap_err()
            .to_string(),
        "release policy: release_policy.data: expected base64url of JSON, found another text"
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,200}") {
        let _ = parse_key(&text);
        let _ = AzureSection::parse(&text);
        let _ = Claims::parse(&text);
    }

    #[test]
    fn whatever_reads_is_written_and_read_again(
        claim in "[a-z.-]{1,12}", value in "[a-z0-9]{0,8}", number: i64, operator in 0..7_usize, any: bool,
    ) {
        let operators = ["equals", "notEquals", "less", "lessOrEquals", "greater", "greaterOrEquals", "exists"];
        let name = if any { "anyOf" } else { "allOf" };
        let condition = json!({"claim": claim, operators[operator]: value});
        let policy = policy(json!({name: [condition, {"claim": claim, "equals": number}]}));
        prop_assert_eq!(parse(&policy.to_json()).unwrap(), policy.clone());
        prop_assert_eq!(diff(&policy, &policy), []);
        let _ = decide(&policy, &claims(), Operators::All);
    }
}
