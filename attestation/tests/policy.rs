//! Release policies, the AWS policies written from them, and policies as text.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use nodeseal_attestation::nitro::{
    DebugEnclaves, Document, Expectations, MeasurementsError, report,
};
use nodeseal_attestation::policy::aws::{
    Caller, Code, Decision, Difference, PolicyError, Request, Severity, diff, evaluate,
    identity_policy, is_clean, key_policy, lint, parse,
};
use nodeseal_attestation::policy::{ReleasePolicy, ReleasePolicyError};
use proptest::prelude::*;
use support::{Forge, made};

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234";
const VALIDATOR: &str = "arn:aws:iam::111122223333:role/validator";
const ADMINISTRATOR: &str = "arn:aws:iam::111122223333:role/kms-admin";

fn release(generations: &str) -> String {
    format!(
        "version = 1\n\
         [principals]\nruntime = [\"{VALIDATOR}\"]\nadministrators = [\"{ADMINISTRATOR}\"]\n\
         [encryption_context]\n\"nodeseal:node\" = \"validator-1\"\n{generations}"
    )
}

fn generation(name: &str, provider: &str, pcrs: &[(u8, u8)]) -> String {
    let pcrs: Vec<String> = pcrs
        .iter()
        .map(|(index, byte)| format!("{index} = \"{}\"", format!("{byte:02x}").repeat(48)))
        .collect();
    let pcrs = pcrs.join(", ");
    format!("[[generation]]\nname = \"{name}\"\nprovider = \"{provider}\"\npcrs = {{ {pcrs} }}\n")
}

fn enclave(name: &str, pcrs: &[(u8, u8)]) -> String {
    generation(name, "nitro-enclave", pcrs)
}

fn refusal(text: &str) -> ReleasePolicyError {
    ReleasePolicy::parse(text).unwrap_err()
}

/// Whether a caller may decrypt under the written policy, with the document of such an enclave or NitroTPM.
fn decision(release_text: &str, key: &'static str, pcrs: &[(u64, u8)], node: &str) -> Decision {
    let release = ReleasePolicy::parse(release_text).unwrap();
    let policy = key_policy(&release).unwrap();
    let (bytes, anchor) = Forge::default()
        .payload(|payload| {
            payload.key = key;
            for (index, byte) in pcrs {
                payload.pcrs[usize::try_from(*index).unwrap()].1 = vec![*byte; 48];
            }
        })
        .document();
    let document = Document::parse(&bytes).unwrap();
    let verified = document
        .verify(made(), &anchor, DebugEnclaves::DangerAccept)
        .unwrap();
    let caller = Caller::role(VALIDATOR, "i-0").unwrap();
    let request = Request::new(caller, "kms:Decrypt", KEY)
        .encryption_context([("nodeseal:node", node)])
        .attested(&verified);
    evaluate(&policy, &request)
}

#[test]
fn the_written_policy_is_clean_for_every_mix_of_generations() {
    for generations in [
        enclave("a", &[(0, 1)]),
        enclave("a", &[(0, 1), (1, 2), (2, 3)]) + &enclave("b", &[(0, 4), (1, 5), (2, 6)]),
        enclave("a", &[(0, 1)]) + &enclave("signed", &[(8, 9)]),
        enclave("unsigned", &[(0, 1), (8, 0)]),
        generation("t", "nitro-tpm", &[(4, 1), (12, 0)]),
        enclave("a", &[(0, 1), (8, 9)]) + &generation("t", "nitro-tpm", &[(4, 1), (7, 2), (12, 0)]),
        (0..16_u8)
            .map(|i| enclave(&format!("g{i}"), &[(0, i + 1), (1, i + 1), (2, i + 1)]))
            .collect(),
    ] {
        let release = ReleasePolicy::parse(&release(&generations)).unwrap();
        let policy = key_policy(&release).unwrap();
        let findings = lint(&policy);
        assert!(is_clean(&findings), "{findings:?}");
        let codes: Vec<Code> = findings.iter().map(|f| f.code).collect();
        assert_eq!(codes, [Code::PolicyWriter], "{generations}");
        assert_eq!(findings[0].severity, Severity::Notice);
        let again = parse(&policy.to_json()).unwrap();
        assert_eq!(diff(&policy, &again), []);
        assert_eq!(
            parse(&policy.to_compact_json()).unwrap().to_json(),
            policy.to_json()
        );
    }
}

#[test]
fn only_allowed_generations_decrypt_and_only_in_their_context() {
    let text = release(&(enclave("a", &[(0, 1), (1, 2)]) + &enclave("b", &[(0, 9), (1, 9)])));
    let ask = |pcrs: &[(u64, u8)], node: &str| decision(&text, "pcrs", pcrs, node).is_allowed();
    assert!(ask(&[], "validator-1"));
    assert!(ask(&[(0, 9), (1, 9)], "validator-1"));
    assert!(
        !ask(&[(0, 9)], "validator-1"),
        "PCR0 of one generation and PCR1 of another"
    );
    assert!(!ask(&[(0, 7)], "validator-1"));
    assert!(!ask(&[(0, 0), (1, 0), (2, 0)], "validator-1"));
    assert!(!ask(&[], "validator-2"));
    assert!(!decision(&text, "nitrotpm_pcrs", &[], "validator-1").is_allowed());
}

#[test]
fn enclaves_and_nitrotpms_may_be_allowed_side_by_side() {
    let text = release(
        &(enclave("a", &[(0, 1), (2, 3)]) + &generation("t", "nitro-tpm", &[(4, 5), (12, 0)])),
    );
    let ask = |key, pcrs: &[(u64, u8)]| decision(&text, key, pcrs, "validator-1").is_allowed();
    assert!(ask("pcrs", &[]));
    assert!(ask("nitrotpm_pcrs", &[(12, 0)]));
    assert!(!ask("nitrotpm_pcrs", &[]));
    assert!(!ask("nitrotpm_pcrs", &[(4, 6), (12, 0)]));
    assert!(!ask("pcrs", &[(2, 9)]));
    assert!(!ask("pcrs", &[(4, 5), (12, 0), (0, 7)]));
}

#[test]
fn administrators_manage_and_never_use_the_key() {
    let text = release(&enclave("a", &[(0, 1)]));
    let policy = key_policy(&ReleasePolicy::parse(&text).unwrap()).unwrap();
    let ask = |role: &str, action: &str| {
        let caller = Caller::role(role, "s").unwrap();
        let request = Request::new(caller, action, KEY);
        let request = request.encryption_context([("nodeseal:node", "validator-1")]);
        evaluate(&policy, &request).is_allowed()
    };
    for action in [
        "kms:PutKeyPolicy",
        "kms:DisableKey",
        "kms:ScheduleKeyDeletion",
        "kms:GetKeyPolicy",
    ] {
        assert!(ask(ADMINISTRATOR, action), "{action}");
    }
    for action in ["kms:DescribeKey", "kms:GetKeyPolicy"] {
        assert!(ask(VALIDATOR, action), "{action}");
    }
    for role in [
        ADMINISTRATOR,
        VALIDATOR,
        "arn:aws:iam::111122223333:role/other",
    ] {
        for action in [
            "kms:Decrypt",
            "kms:GenerateDataKey",
            "kms:ReEncryptFrom",
            "kms:CreateGrant",
            "kms:ReplicateKey",
        ] {
            assert!(!ask(role, action), "{role} {action}");
        }
    }
    assert!(!ask(VALIDATOR, "kms:PutKeyPolicy"));
    let root = Caller::account_root("111122223333").unwrap();
    assert!(!evaluate(&policy, &Request::new(root, "kms:PutKeyPolicy", KEY)).is_allowed());
}

#[test]
fn the_iam_policy_has_the_same_conditions_and_no_principal() {
    let text = release(&enclave("a", &[(0, 1)]));
    let release = ReleasePolicy::parse(&text).unwrap();
    let policy = identity_policy(&release, &[KEY]);
    let own = key_policy(&release).unwrap();
    assert_eq!(policy.statements.len(), 1);
    assert_eq!(policy.statements[0].principal, None);
    assert_eq!(
        policy.statements[0].conditions,
        own.statements[2].conditions
    );
    parse(&policy.to_json()).unwrap();
}

#[test]
fn a_release_policy_that_lets_other_software_in_is_refused() {
    let secure_boot_off = "98441c7f7625d10058c47683aec486ce311c633235eb555593a7ee791121e3578ae72d04ecef661f272d59058b77af35";
    let off = format!(
        "[[generation]]\nname = \"t\"\nprovider = \"nitro-tpm\"\npcrs = {{ 7 = \"{secure_boot_off}\", 12 = \"{}\" }}\n",
        "00".repeat(48)
    );
    for (generations, expected) in [
        (
            enclave("a", &[(0, 0)]),
            "this zero PCR is that of every enclave in debug mode",
        ),
        (
            enclave("a", &[(8, 0)]),
            "this zero PCR is that of every enclave in debug mode",
        ),
        (
            enclave("a", &[(3, 1), (4, 1)]),
            "PCR0 or PCR8 must be among the PCRs: others do not say which image runs",
        ),
        (
            generation("a", "nitro-tpm", &[(4, 1)]),
            "PCR12 must be among the PCRs: without it any kernel command line passes",
        ),
        (
            generation("a", "nitro-tpm", &[(9, 1), (12, 0)]),
            "PCR4 or PCR7 must be among the PCRs: others do not say what was booted",
        ),
        (
            generation("a", "nitro-tpm", &[(4, 0), (12, 0)]),
            "this PCR4 is that of a firmware that has loaded nothing",
        ),
        (
            off,
            "this PCR7 is that of every instance without Secure Boot",
        ),
    ] {
        let ReleasePolicyError::Weak { why, .. } = refusal(&release(&generations)) else {
            panic!("{generations}");
        };
        assert_eq!(why, expected);
    }
}

#[test]
fn what_is_no_release_policy_is_refused_by_name() {
    let good = release(&enclave("a", &[(0, 1)]));
    ReleasePolicy::parse(&good).unwrap();
    assert_eq!(
        refusal(&good.replace("version = 1", "version = 2")),
        ReleasePolicyError::Version(2)
    );
    assert_eq!(
        refusal(&release("")),
        ReleasePolicyError::Generations { max: 16, found: 0 }
    );
    let two = enclave("a", &[(0, 1)]).repeat(2);
    assert_eq!(
        refusal(&release(&two)),
        ReleasePolicyError::Name("a".to_owned())
    );
    let error = |error| ReleasePolicyError::Measurements {
        name: "a".to_owned(),
        error,
    };
    let provider = MeasurementsError::Provider("sgx".to_owned());
    assert_eq!(
        refusal(&release(&generation("a", "sgx", &[(0, 1)]))),
        error(provider)
    );
    assert_eq!(
        refusal(&release(&enclave("a", &[]))),
        error(MeasurementsError::Empty)
    );
    let index = |max, found: &str| MeasurementsError::Index {
        max,
        found: found.to_owned(),
    };
    assert_eq!(
        refusal(&release(&enclave("a", &[(32, 1)]))),
        error(index(31, "32"))
    );
    let tpm = generation("a", "nitro-tpm", &[(24, 1)]);
    assert_eq!(refusal(&release(&tpm)), error(index(23, "24")));
    let zeros = good.replace("{ 0 =", "{ 00 =");
    assert_eq!(refusal(&zeros), error(index(31, "00")));
    let short = good.replace(&"01".repeat(48), &"01".repeat(32));
    let value = MeasurementsError::Value {
        index: 0,
        found: "01".repeat(32),
    };
    assert_eq!(refusal(&short), error(value));
    for principal in [
        "arn:aws:iam::111122223333:root",
        "arn:aws:iam::111122223333:role/*",
        "111122223333",
        "*",
        "arn:aws:sts::111122223333:assumed-role/validator/i-0",
    ] {
        let refused = ReleasePolicyError::Principal {
            list: "runtime",
            found: principal.to_owned(),
        };
        assert_eq!(refusal(&good.replace(VALIDATOR, principal)), refused);
    }
    let shared = good.replace(ADMINISTRATOR, VALIDATOR);
    assert_eq!(
        refusal(&shared),
        ReleasePolicyError::SharedPrincipal(VALIDATOR.to_owned())
    );
    let nobody = good.replace(&format!("[\"{ADMINISTRATOR}\"]"), "[]");
    assert_eq!(
        refusal(&nobody),
        ReleasePolicyError::NoPrincipal("administrators")
    );
    for (from, to, expected) in [
        (
            "\"nodeseal:node\"",
            "\"n*\"",
            "\"n*\" cannot be a key of a condition",
        ),
        ("\"validator-1\"", "[]", "\"nodeseal:node\" has no value"),
        (
            "\"validator-1\"",
            "\"${aws:username}\"",
            "\"nodeseal:node\" has the variable \"${aws:username}\" as value",
        ),
    ] {
        let refused = ReleasePolicyError::EncryptionContext(expected.to_owned());
        assert_eq!(refusal(&good.replace(from, to)), refused);
    }
    let unknown = format!("colour = 1\n{good}");
    assert!(
        matches!(refusal(&unknown), ReleasePolicyError::Toml(text) if text.contains("unknown field `colour`"))
    );
    let long = " ".repeat(300_000);
    assert_eq!(
        refusal(&long),
        ReleasePolicyError::Size {
            max: 262_144,
            found: 300_000
        }
    );
}

#[test]
fn a_release_policy_is_what_a_document_is_expected_to_meet() {
    let (bytes, anchor) = Forge::default().document();
    let holds = |generations: &str| {
        let release = ReleasePolicy::parse(&release(generations)).unwrap();
        report(&bytes, made(), &anchor, &Expectations::from(&release)).holds()
    };
    assert!(holds(&enclave("a", &[(0, 1), (8, 9)])));
    assert!(!holds(&enclave("a", &[(0, 1), (8, 8)])));
}

#[test]
fn a_live_policy_is_compared_in_meaning_and_not_in_spelling() {
    let text = release(&enclave("a", &[(0, 0xab)]));
    let written = key_policy(&ReleasePolicy::parse(&text).unwrap()).unwrap();
    let mut live = written.clone();
    live.statements.reverse();
    for statement in &mut live.statements {
        statement.action.patterns.reverse();
        for condition in &mut statement.conditions {
            condition.key = condition.key.to_uppercase();
            if condition.operator.to_string().contains("IgnoreCase") {
                condition.values = condition.values.iter().map(|v| v.to_uppercase()).collect();
            }
        }
    }
    assert_eq!(diff(&written, &live), []);
    let changed = written
        .to_json()
        .replace(&"ab".repeat(48), &"ac".repeat(48));
    let changed = diff(&written, &parse(&changed).unwrap());
    assert_eq!(changed.len(), 2, "{changed:?}");
    let Difference::Changed {
        statement,
        element,
        written: expected,
        ..
    } = &changed[0]
    else {
        panic!("{changed:?}");
    };
    assert_eq!(
        (statement.as_str(), *element),
        ("\"Generation1a\"", "Condition")
    );
    assert!(expected.contains(&"ab".repeat(48)));
    let mut live = written.clone();
    let removed = live.statements.remove(0);
    let mut added = removed.clone();
    added.sid = Some("Root".to_owned());
    added.action.patterns = vec!["kms:*".to_owned()];
    live.statements.push(added);
    let missing = Difference::Missing {
        statement: "\"AdministratorsManage\"".to_owned(),
    };
    let added = Difference::Added {
        statement: "\"Root\"".to_owned(),
    };
    assert_eq!(diff(&written, &live), [missing, added]);
}

#[test]
fn what_is_no_policy_is_refused_by_name() {
    let statement = |text: &str| parse(&format!("{{\"Statement\": [{text}]}}")).unwrap_err();
    let good = "\"Effect\": \"Allow\", \"Action\": \"kms:*\"";
    let place = || "statement number 1".to_owned();
    assert_eq!(
        parse(&" ".repeat(32_769)).unwrap_err(),
        PolicyError::Size {
            max: 32_768,
            found: 32_769
        }
    );
    assert!(matches!(parse("{").unwrap_err(), PolicyError::Json(_)));
    assert!(matches!(
        parse("{\"Statement\": [], \"Statement\": []}").unwrap_err(),
        PolicyError::Json(text) if text.contains("\"Statement\" stands twice")
    ));
    let missing = |name| PolicyError::Missing {
        place: place(),
        name,
    };
    assert_eq!(
        parse("{\"Version\": \"2012-10-17\"}").unwrap_err(),
        PolicyError::Missing {
            place: "policy".to_owned(),
            name: "Statement"
        }
    );
    assert_eq!(statement("{\"Effect\": \"Allow\"}"), missing("Action"));
    assert_eq!(statement("{\"Action\": \"kms:*\"}"), missing("Effect"));
    let both = |name| PolicyError::Both {
        place: place(),
        name,
    };
    assert_eq!(
        statement(&format!("{{{good}, \"NotAction\": \"x\"}}")),
        both("Action")
    );
    assert_eq!(
        statement(&format!(
            "{{{good}, \"Principal\": \"*\", \"NotPrincipal\": \"*\"}}"
        )),
        both("Principal")
    );
    let unknown = |place: &str, name: &str| PolicyError::Unknown {
        place: place.to_owned(),
        name: name.to_owned(),
    };
    assert_eq!(
        statement(&format!("{{{good}, \"Conditions\": {{}}}}")),
        unknown(&place(), "Conditions")
    );
    assert_eq!(
        statement(&format!("{{{good}, \"Principal\": {{\"aws\": \"*\"}}}}")),
        unknown("statement number 1: principal", "aws")
    );
    assert_eq!(
        parse("{\"Statement\": [], \"statement\": []}").unwrap_err(),
        unknown("policy", "statement")
    );
    for operator in [
        "StringEqual",
        "ForEach:StringEquals",
        "NullIfExists",
        "ForAllValues:Null",
        "stringequals",
    ] {
        let text = format!("{{{good}, \"Condition\": {{\"{operator}\": {{\"a\": \"b\"}}}}}}");
        let name = operator.to_owned();
        assert_eq!(
            statement(&text),
            PolicyError::Operator {
                place: place(),
                name
            }
        );
    }
    let expected = |expected, found: &str| PolicyError::Expected {
        place: place(),
        expected,
        found: found.to_owned(),
    };
    assert_eq!(
        statement("{\"Effect\": \"allow\", \"Action\": \"x\"}"),
        expected("the Effect Allow or Deny", "\"allow\"")
    );
    assert_eq!(
        statement(&format!("{{{good}, \"Sid\": 1}}")),
        expected("a string", "a number")
    );
    assert_eq!(statement("7"), expected("an object", "a number"));
    assert_eq!(
        statement("{\"Effect\": \"Allow\", \"Action\": []}"),
        expected("at least one value", "an empty array")
    );
    assert_eq!(
        statement(&format!(
            "{{{good}, \"Condition\": {{\"Bool\": {{\"a\": [null]}}}}}}"
        )),
        expected("a string as condition value", "null")
    );
    let twice = format!("{{{good}, \"Sid\": \"a\"}}, {{{good}, \"Sid\": \"a\"}}");
    assert_eq!(statement(&twice), PolicyError::DuplicateSid("a".to_owned()));
}

#[test]
fn one_statement_may_stand_without_an_array_and_without_a_version() {
    let policy = parse("{\"Statement\": {\"Effect\": \"Deny\", \"Action\": \"kms:*\"}}").unwrap();
    assert_eq!(policy.statements.len(), 1);
    assert_eq!(policy.version.name(), "2008-10-17");
}

/// Text near a policy: real words in real and unreal order.
fn near_policy() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("\"Statement\"".to_owned()),
        Just("\"Effect\":\"Allow\"".to_owned()),
        Just("\"Action\":[\"kms:*\"]".to_owned()),
        Just("\"Principal\":{\"AWS\":\"*\"}".to_owned()),
        Just("\"Condition\":{\"ForAllValues:StringLikeIfExists\":{\"kms:RecipientAttestation:PCR0\":\"${*}\"}}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        "\\PC{0,6}",
    ];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn texts_never_panic(text in near_policy()) {
        if let Ok(policy) = parse(&text) {
            let _ = lint(&policy);
            let _ = policy.to_json();
        }
        let _ = ReleasePolicy::parse(&text);
    }

    #[test]
    fn any_condition_is_written_read_linted_and_evaluated_without_panic(
        operator in "(ForAllValues:|ForAnyValue:)?(String(Not)?(Equals|Like)(IgnoreCase)?|Null|Bool|Numeric(Not)?Equals|Date(LessThan|Equals)|(Not)?IpAddress|Arn(Not)?(Like|Equals))(IfExists)?",
        key in "(kms:RecipientAttestation:(NitroTPM)?PCR[0-9]{1,3}|kms:EncryptionContext:x|kms:ViaService|aws:PrincipalArn)",
        values in proptest::collection::vec("[0-9a-fA-F*?${}:/.]{0,100}", 1..4),
        deny: bool,
    ) {
        let mut conditions = BTreeMap::new();
        conditions.insert(operator, BTreeMap::from([(key.clone(), values.clone())]));
        let text = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": {
                "Effect": if deny { "Deny" } else { "Allow" },
                "Principal": "*",
                "Action": "kms:Decrypt",
                "Resource": "*",
                "Condition": conditions,
            },
        });
        if let Ok(policy) = parse(&text.to_string()) {
            let _ = lint(&policy);
            let again = parse(&policy.to_json()).unwrap();
            prop_assert_eq!(&again, &policy);
            prop_assert_eq!(diff(&policy, &again), vec![]);
            let caller = Caller::role(VALIDATOR, "s").unwrap();
            let request = Request::new(caller, "kms:Decrypt", KEY).context_keys(&key, values);
            let _ = evaluate(&policy, &request).to_string();
        }
    }
}
