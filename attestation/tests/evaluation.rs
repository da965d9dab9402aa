//! Requests against key policies, by the rules AWS documents.
#![allow(clippy::unwrap_used)]

mod support;

use nodeseal_attestation::nitro::{DebugEnclaves, Document};
use nodeseal_attestation::policy::aws::{Caller, Decision, Miss, Policy, Request, evaluate, parse};
use proptest::prelude::*;
use support::{Forge, made};

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234";
const ROLE: &str = "arn:aws:iam::111122223333:role/nodes/validator";

fn caller() -> Caller {
    Caller::role(ROLE, "i-0").unwrap()
}

fn decrypt() -> Request {
    Request::new(caller(), "kms:Decrypt", KEY)
}

/// A policy of one statement with these elements besides its Resource.
fn statement(elements: &str) -> String {
    format!("{{{elements}, \"Resource\": \"*\"}}")
}

fn policy(statements: &[String]) -> Policy {
    let statements = statements.join(",");
    parse(&format!(
        "{{\"Version\": \"2012-10-17\", \"Statement\": [{statements}]}}"
    ))
    .unwrap()
}

fn allow(rest: &str) -> String {
    statement(&format!(
        "\"Sid\": \"Use\", \"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \"{ROLE}\"}}, \"Action\": \"kms:Decrypt\"{rest}"
    ))
}

fn deny(rest: &str) -> String {
    statement(&format!(
        "\"Sid\": \"No\", \"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:Decrypt\"{rest}"
    ))
}

fn condition(operator: &str, key: &str, values: &str) -> String {
    format!(", \"Condition\": {{\"{operator}\": {{\"{key}\": {values}}}}}")
}

fn allowed(statements: &[String], request: &Request) -> bool {
    evaluate(&policy(statements), request).is_allowed()
}

#[test]
fn nothing_is_allowed_that_no_statement_allows() {
    let decision = evaluate(&policy(&[]), &decrypt());
    assert_eq!(decision, Decision::NotAllowed { nearest: vec![] });
    assert_eq!(decision.to_string(), "no statement allows the action");
}

#[test]
fn a_deny_wins_over_every_allow() {
    let by = "\"Use\"".to_owned();
    assert_eq!(
        evaluate(&policy(&[allow("")]), &decrypt()),
        Decision::Allowed { by }
    );
    let decision = evaluate(&policy(&[allow(""), deny("")]), &decrypt());
    assert_eq!(
        decision,
        Decision::Denied {
            by: "\"No\"".to_owned()
        }
    );
}

#[test]
fn actions_fit_in_any_case_by_patterns_and_by_their_opposite() {
    let with = |action: &str| {
        let text =
            format!("\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \"{ROLE}\"}}, {action}");
        allowed(&[statement(&text)], &decrypt())
    };
    assert!(with("\"Action\": \"KMS:decrypt\""));
    assert!(with("\"Action\": [\"kms:Encrypt\", \"kms:De*\"]"));
    assert!(with("\"Action\": \"*\""));
    assert!(with("\"Action\": \"kms:Decryp?\""));
    assert!(!with("\"Action\": \"kms:Encrypt\""));
    assert!(with("\"NotAction\": \"kms:Encrypt\""));
    assert!(!with("\"NotAction\": \"kms:*\""));
}

#[test]
fn resources_fit_the_key_by_patterns() {
    let with = |resource: &str| {
        let text = allow("").replace("\"Resource\": \"*\"", resource);
        allowed(&[text], &decrypt())
    };
    assert!(with("\"Resource\": \"arn:aws:kms:*:111122223333:key/*\""));
    assert!(with(
        "\"NotResource\": \"arn:aws:kms:*:111122223333:key/9*\""
    ));
    assert!(!with("\"Resource\": \"arn:aws:kms:*:111122223333:key/9*\""));
    assert!(!with("\"NotResource\": \"*\""));
}

#[test]
fn principals_are_roles_sessions_users_accounts_and_everyone() {
    let with = |principal: &str, caller: Caller| {
        let text = allow("").replace(&format!("{{\"AWS\": \"{ROLE}\"}}"), principal);
        allowed(&[text], &Request::new(caller, "kms:Decrypt", KEY))
    };
    let session = "{\"AWS\": \"arn:aws:sts::111122223333:assumed-role/validator/i-0\"}";
    let user = "arn:aws:iam::111122223333:user/ann";
    assert!(with(session, caller()));
    assert!(!with(session, Caller::role(ROLE, "i-1").unwrap()));
    assert!(with(
        &format!("{{\"AWS\": [\"{user}\"]}}"),
        Caller::user(user).unwrap()
    ));
    assert!(!with(&format!("{{\"AWS\": [\"{user}\"]}}"), caller()));
    assert!(with("\"*\"", caller()));
    assert!(with("{\"AWS\": \"*\"}", caller()));
    assert!(!with("{\"Service\": \"ec2.amazonaws.com\"}", caller()));
    assert!(!with(
        "{\"AWS\": \"arn:aws:iam::111122223333:role/*\"}",
        caller()
    ));
    let root = Caller::account_root("111122223333").unwrap();
    assert!(with("{\"AWS\": \"111122223333\"}", root.clone()));
    assert!(with("{\"AWS\": \"arn:aws:iam::111122223333:root\"}", root));
}

#[test]
fn an_account_as_principal_leaves_it_to_iam_policies() {
    let delegate = allow("").replace(ROLE, "arn:aws:iam::111122223333:root");
    let decision = evaluate(&policy(std::slice::from_ref(&delegate)), &decrypt());
    let Decision::NotAllowed { nearest } = decision else {
        panic!("{decision}");
    };
    assert_eq!(nearest[0].miss, Miss::IdentityPolicy);
    let iam = |effect: &str| {
        let text = format!(
            "{{\"Version\": \"2012-10-17\", \"Statement\": {{\"Effect\": \"{effect}\", \
             \"Action\": \"kms:Decrypt\", \"Resource\": \"{KEY}\"}}}}"
        );
        decrypt().identity_policy(parse(&text).unwrap())
    };
    assert!(allowed(&[delegate], &iam("Allow")));
    // What names the role itself needs no IAM policy, but one that denies wins.
    assert!(allowed(&[allow("")], &decrypt()));
    assert!(!allowed(&[allow("")], &iam("Deny")));
}

#[test]
fn callers_of_other_accounts_need_the_key_policy_and_an_iam_policy() {
    let role = "arn:aws:iam::444455556666:role/other";
    let request = Request::new(Caller::role(role, "s").unwrap(), "kms:Decrypt", KEY);
    let statement = allow("").replace(ROLE, role);
    assert!(!allowed(std::slice::from_ref(&statement), &request));
    let iam = parse(
        "{\"Version\": \"2012-10-17\", \"Statement\": [{\"Effect\": \"Allow\", \"Action\": \"kms:*\", \
         \"Resource\": \"*\"}]}",
    );
    let request = request.identity_policy(iam.unwrap());
    assert!(allowed(&[statement], &request));
    assert!(!allowed(&[allow("")], &request));
}

#[test]
fn a_deny_of_all_but_some_spares_them_only_by_account_role_and_session() {
    let not = |names: &str| {
        let text = deny("").replace(
            "\"Principal\": \"*\"",
            &format!("\"NotPrincipal\": {{\"AWS\": {names}}}"),
        );
        allowed(&[allow(""), text], &decrypt())
    };
    let session = "arn:aws:sts::111122223333:assumed-role/validator/i-0";
    assert!(!not(&format!("[\"{ROLE}\"]")));
    assert!(!not(&format!("[\"{ROLE}\", \"111122223333\"]")));
    assert!(not(&format!(
        "[\"{ROLE}\", \"111122223333\", \"{session}\"]"
    )));
}

#[test]
fn a_deny_of_an_account_reaches_all_in_it() {
    let text = deny("").replace(
        "\"*\", \"Action\"",
        "{\"AWS\": \"111122223333\"}, \"Action\"",
    );
    assert!(!allowed(&[allow(""), text], &decrypt()));
}

#[test]
fn operators_compare_as_iam_says() {
    let with = |operator: &str, values: &str, found: &[&str]| {
        let request = decrypt().context_keys("x:k", found.iter().copied());
        allowed(&[allow(&condition(operator, "X:K", values))], &request)
    };
    for (operator, values, found, expected) in [
        ("StringEquals", "\"a\"", "a", true),
        ("StringEquals", "[\"b\", \"a\"]", "a", true),
        ("StringEquals", "\"a\"", "A", false),
        ("StringEquals", "\"*\"", "a", false),
        ("StringNotEquals", "[\"b\", \"a\"]", "a", false),
        ("StringNotEquals", "[\"b\", \"c\"]", "a", true),
        ("StringEqualsIgnoreCase", "\"A\"", "a", true),
        ("StringNotEqualsIgnoreCase", "\"A\"", "a", false),
        ("StringLike", "\"a*c?\"", "abbcd", true),
        ("StringNotLike", "\"a*\"", "abbcd", false),
        ("ArnLike", "\"arn:aws:iam::*:role/*\"", ROLE, true),
        ("ArnEquals", "\"arn:aws:iam::*:role/*\"", ROLE, true),
        ("ArnNotLike", "\"arn:aws:iam::*:role/*\"", ROLE, false),
        ("ArnLike", "\"arn:*\"", ROLE, false),
        ("Bool", "true", "true", true),
        ("Bool", "\"false\"", "true", false),
        ("NumericEquals", "5", "5.0", true),
        ("NumericLessThan", "5", "4", true),
        ("NumericLessThan", "5", "5", false),
        ("NumericLessThanEquals", "5", "5", true),
        ("NumericGreaterThan", "5", "6", true),
        ("NumericGreaterThanEquals", "5", "4", false),
        ("NumericNotEquals", "5", "5", false),
        ("NumericEquals", "\"five\"", "5", false),
        (
            "DateLessThan",
            "\"2026-01-01T00:00:00Z\"",
            "2025-12-31T23:59:59Z",
            true,
        ),
        (
            "DateGreaterThan",
            "\"2026-01-01\"",
            "2025-12-31T23:59:59Z",
            false,
        ),
        ("DateEquals", "\"1970-01-02\"", "86400", true),
        ("DateNotEquals", "\"1970-01-02\"", "86400", false),
        ("IpAddress", "\"10.0.0.0/8\"", "10.200.3.4", true),
        ("IpAddress", "\"10.0.0.0/8\"", "11.0.0.1", false),
        ("IpAddress", "\"0.0.0.0/0\"", "11.0.0.1", true),
        ("IpAddress", "\"2001:db8::/32\"", "2001:db8:1::1", true),
        ("NotIpAddress", "\"10.0.0.0/8\"", "10.200.3.4", false),
        ("IpAddress", "\"10.0.0.0/99\"", "10.0.0.0", false),
        ("BinaryEquals", "\"AAE=\"", "AAE=", true),
        ("Null", "false", "a", true),
        ("Null", "true", "a", false),
    ] {
        assert_eq!(
            with(operator, values, &[found]),
            expected,
            "{operator} {values} {found}"
        );
    }
}

#[test]
fn an_absent_key_fits_negated_operators_if_exists_and_for_all_values() {
    let with = |operator: &str, values: &str| {
        allowed(&[allow(&condition(operator, "x:k", values))], &decrypt())
    };
    for (operator, expected) in [
        ("StringEquals", false),
        ("StringEqualsIfExists", true),
        ("StringNotEquals", true),
        ("StringNotEqualsIfExists", true),
        ("StringLike", false),
        ("ArnNotEquals", true),
        ("NotIpAddress", true),
        ("NumericNotEquals", true),
        ("Bool", false),
        ("ForAllValues:StringEquals", true),
        ("ForAnyValue:StringEquals", false),
        ("ForAnyValue:StringNotEquals", false),
    ] {
        assert_eq!(with(operator, "\"1\""), expected, "{operator}");
    }
    assert!(with("Null", "true"));
    assert!(!with("Null", "false"));
}

#[test]
fn keys_of_several_values_are_quantified() {
    let with = |operator: &str, values: &str, found: &[&str]| {
        let request = decrypt().context_keys("x:k", found.iter().copied());
        allowed(&[allow(&condition(operator, "x:k", values))], &request)
    };
    let of = "[\"a\", \"b\"]";
    for (operator, found, expected) in [
        ("ForAllValues:StringEquals", &["a", "b"][..], true),
        ("ForAllValues:StringEquals", &["a", "c"], false),
        ("ForAllValues:StringEquals", &[], true),
        ("ForAnyValue:StringEquals", &["a", "c"], true),
        ("ForAnyValue:StringEquals", &["c"], false),
        ("ForAnyValue:StringEquals", &[], false),
        ("ForAllValues:StringNotEquals", &["c", "d"], true),
        ("ForAllValues:StringNotEquals", &["a", "d"], false),
        ("ForAnyValue:StringNotEquals", &["a", "d"], true),
        ("ForAnyValue:StringNotEquals", &["a", "b"], false),
    ] {
        assert_eq!(with(operator, of, found), expected, "{operator} {found:?}");
    }
}

#[test]
fn all_conditions_must_hold_and_any_value_of_one() {
    let both = ", \"Condition\": {\"StringEquals\": {\"x:a\": [\"1\", \"2\"], \"x:b\": \"3\"}}";
    let request = |a: &str, b: &str| decrypt().context_key("x:a", a).context_key("x:b", b);
    assert!(allowed(&[allow(both)], &request("2", "3")));
    assert!(!allowed(&[allow(both)], &request("2", "4")));
    assert!(!allowed(&[allow(both)], &request("5", "3")));
}

#[test]
fn variables_are_filled_in_the_language_of_2012_only() {
    let own = allow(&condition(
        "StringEquals",
        "kms:EncryptionContext:who",
        "\"${aws:PrincipalAccount}\"",
    ));
    let request = decrypt().encryption_context([("who", "111122223333")]);
    assert!(allowed(std::slice::from_ref(&own), &request));
    let text = format!("{{\"Version\": \"2008-10-17\", \"Statement\": [{own}]}}");
    assert!(!evaluate(&parse(&text).unwrap(), &request).is_allowed());
    let unset = allow(&condition(
        "StringEquals",
        "kms:EncryptionContext:who",
        "\"${aws:username}\"",
    ));
    assert!(!allowed(&[unset], &request));
}

#[test]
fn encryption_contexts_set_their_keys() {
    let request = decrypt().encryption_context([("Node", "v1"), ("chain", "1")]);
    let with = |operator: &str, key: &str, values: &str| {
        allowed(&[allow(&condition(operator, key, values))], &request)
    };
    assert!(with("StringEquals", "kms:EncryptionContext:node", "\"v1\""));
    assert!(!with(
        "StringEquals",
        "kms:EncryptionContext:node",
        "\"V1\""
    ));
    assert!(with(
        "ForAllValues:StringEquals",
        "kms:EncryptionContextKeys",
        "[\"Node\", \"chain\"]"
    ));
    assert!(!with(
        "ForAllValues:StringEquals",
        "kms:EncryptionContextKeys",
        "[\"Node\"]"
    ));
    assert!(with("Bool", "kms:ViaService", "\"x\"") == allowed(&[], &request));
}

#[test]
fn only_a_document_of_the_measured_software_satisfies_conditions_on_attestation() {
    let pcr0 = "01".repeat(48);
    let attested = condition(
        "StringEqualsIgnoreCase",
        "kms:RecipientAttestation:PCR0",
        &format!("\"{}\"", pcr0.to_uppercase()),
    );
    let image = attested.replace("PCR0", "ImageSha384");
    let nitrotpm = attested.replace("PCR0", "NitroTPMPCR0");
    let otherwise = attested.replace("StringEquals", "StringNotEquals");
    let ask = |forge: Forge, statements: &[String]| {
        let (bytes, anchor) = forge.document();
        let document = Document::parse(&bytes).unwrap();
        let verified = document.verify(made(), &anchor, DebugEnclaves::DangerAccept);
        allowed(statements, &decrypt().attested(&verified.unwrap()))
    };
    let tpm = || Forge::default().payload(|payload| payload.key = "nitrotpm_pcrs");
    let debug = || Forge::default().payload(|payload| payload.pcrs[0].1 = vec![0; 48]);
    for pinned in [&attested, &image] {
        let pinned = [allow(pinned)];
        assert!(ask(Forge::default(), &pinned));
        assert!(!ask(tpm(), &pinned));
        assert!(!ask(debug(), &pinned));
        assert!(!allowed(&pinned, &decrypt()));
    }
    assert!(ask(tpm(), &[allow(&nitrotpm)]));
    assert!(!ask(Forge::default(), &[allow(&nitrotpm)]));
    // A Deny of all others reaches calls without a document too.
    let guarded = [allow(""), deny(&otherwise)];
    assert!(ask(Forge::default(), &guarded));
    assert!(!ask(debug(), &guarded));
    assert!(!ask(tpm(), &guarded));
    assert!(!allowed(&guarded, &decrypt()));
}

#[test]
fn a_refusal_says_what_the_nearest_statement_lacked() {
    let attested = condition("StringEquals", "kms:RecipientAttestation:PCR0", "\"ab\"");
    let other = allow("").replace(ROLE, "arn:aws:iam::111122223333:role/other");
    let other = other.replace("Use", "Others");
    let unrelated = allow("")
        .replace("kms:Decrypt", "kms:Encrypt")
        .replace("Use", "Unrelated");
    let decision = evaluate(&policy(&[allow(&attested), other, unrelated]), &decrypt());
    assert_eq!(
        decision.to_string(),
        "no statement allows it: \"Use\": StringEquals kms:RecipientAttestation:PCR0: expected ab, found no such key; \
         \"Others\": is about other principals"
    );
}

#[test]
fn callers_are_roles_users_and_accounts() {
    for arn in [
        "",
        ROLE,
        "arn:aws:iam::1:user/a",
        "arn:aws:iam::111122223333:user/",
    ] {
        assert!(
            matches!(Caller::user(arn), Err(error) if error.to_string().contains("IAM user")),
            "{arn}"
        );
    }
    assert_eq!(
        caller().arn(),
        "arn:aws:sts::111122223333:assumed-role/validator/i-0"
    );
    assert_eq!(caller().principal_arn(), ROLE);
    assert!(
        Caller::account_root("11112222333").is_err_and(|e| e.to_string().contains("twelve digits"))
    );
}

proptest! {
    #[test]
    fn a_policy_without_a_matching_allow_allows_nothing(
        operator in "(ForAllValues:|ForAnyValue:)?(StringEquals|StringLike|Bool|NumericEquals|IpAddress|ArnLike)",
        value in "[a-z*?$.{}/0-9:]{0,12}",
        found in "[a-z*?$.{}/0-9:]{0,12}",
    ) {
        let value = serde_json::to_string(&value).unwrap();
        let request = decrypt().context_key("x:k", found);
        let statement = deny(&condition(&operator, "x:k", &value));
        prop_assert!(!allowed(&[statement], &request));
    }
}
