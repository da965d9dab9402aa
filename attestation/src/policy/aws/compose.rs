//! A release policy written out as AWS policies: the key's own, and an IAM policy for callers of other accounts.
//!
//! The key policy names no account as a whole, so that no IAM policy can add to it. What it allows it allows under
//! attestation; what must never be, it denies besides, since conditions of an Allow do not bind grants.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Condition, Kind};
use super::known::ATTESTABLE;
use super::read::MAX_POLICY;
use super::statement::{Effect, Patterns, Policy, PrincipalElement, Statement, Version, Who};
use crate::hex;
use crate::nitro::Form;
use crate::policy::{Generation, ReleasePolicy};

/// What the trusted side asks of KMS.
const RUNTIME: [&str; 2] = ["kms:Decrypt", "kms:GenerateDataKey"];
/// What shows nothing but state.
const READ: [&str; 6] = [
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
];
/// What manages a key without using it.
const MANAGE: [&str; 15] = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
];
/// Ways to the key material, or to data under it, that no attestation document can be asked on.
const WAYS_AROUND: [&str; 4] = [
    "kms:CreateGrant",
    "kms:Encrypt",
    "kms:ReEncrypt*",
    "kms:ReplicateKey",
];
/// PCRs that by themselves say what runs, the strictest first.
const DECISIVE: [(Form, u8); 4] = [
    (Form::NitroEnclave, 0),
    (Form::NitroEnclave, 8),
    (Form::NitroTpm, 4),
    (Form::NitroTpm, 7),
];
/// Most statements that deny other measurements. Where there would be more, the decisive PCRs alone are denied.
const MAX_DENIALS: usize = 12;

/// Why a release policy cannot be written out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// Longer than KMS takes.
    #[error(
        "the key policy would have {found} bytes, of which KMS takes {max}: retire generations"
    )]
    Size {
        /// Longest key policy.
        max: usize,
        /// Length it would have.
        found: usize,
    },
}

/// The key policy for a release policy. The same goes on every key, and on every replica of a multi-Region key.
///
/// # Errors
/// It would be longer than KMS takes.
pub fn key_policy(release: &ReleasePolicy) -> Result<Policy, ComposeError> {
    let principals = release.principals();
    let mut statements = vec![allow(
        "AdministratorsManage",
        &principals.administrators,
        READ.into_iter().chain(MANAGE),
    )];
    let readers: Vec<String> = [&principals.runtime[..], &principals.auditors[..]].concat();
    statements.push(allow("OthersRead", &readers, READ));
    for (index, generation) in release.generations().iter().enumerate() {
        let mut statement = allow(&sid(index, generation), &principals.runtime, RUNTIME);
        statement.conditions = conditions(release, generation);
        statements.push(statement);
    }
    for (index, conditions) in unmeasured(release.generations()).into_iter().enumerate() {
        let sid = format!("DenyOtherMeasurements{}", index + 1);
        statements.push(deny(sid, ATTESTABLE, conditions));
    }
    for (index, (key, values)) in release.encryption_context().iter().enumerate() {
        let condition = Condition::new(Kind::StringNotEquals, context_key(key), values);
        let sid = format!("DenyOtherContext{}", index + 1);
        // A shared secret is derived without an encryption context.
        let actions = ATTESTABLE
            .into_iter()
            .filter(|action| *action != "kms:DeriveSharedSecret");
        statements.push(deny(sid, actions, vec![condition]));
    }
    statements.push(deny("DenyWaysAround".to_owned(), WAYS_AROUND, Vec::new()));
    let policy = Policy {
        version: Version::V2012,
        id: Some("nodeseal-key-policy-1".to_owned()),
        statements,
    };
    let found = policy.to_compact_json().len();
    if found > MAX_POLICY {
        return Err(ComposeError::Size {
            max: MAX_POLICY,
            found,
        });
    }
    Ok(policy)
}

/// The IAM policy for a release policy and these keys: callers of other accounts than the key's need it, others do not.
#[must_use]
pub fn identity_policy(release: &ReleasePolicy, key_arns: &[&str]) -> Policy {
    let resource = Patterns::any(key_arns.iter().copied());
    let statements = release
        .generations()
        .iter()
        .enumerate()
        .map(|(index, generation)| Statement {
            sid: Some(sid(index, generation)),
            effect: Effect::Allow,
            principal: None,
            action: Patterns::any(RUNTIME),
            resource: Some(resource.clone()),
            conditions: conditions(release, generation),
        })
        .collect();
    Policy {
        version: Version::V2012,
        id: None,
        statements,
    }
}

fn allow<'a>(
    sid: &str,
    principals: &[String],
    actions: impl IntoIterator<Item = &'a str>,
) -> Statement {
    Statement {
        sid: Some(sid.to_owned()),
        effect: Effect::Allow,
        principal: Some(PrincipalElement {
            negated: false,
            who: Who::aws(principals),
        }),
        action: Patterns::any(actions),
        resource: Some(Patterns::any(["*"])),
        conditions: Vec::new(),
    }
}

fn deny<'a>(
    sid: String,
    actions: impl IntoIterator<Item = &'a str>,
    conditions: Vec<Condition>,
) -> Statement {
    Statement {
        sid: Some(sid),
        effect: Effect::Deny,
        principal: Some(PrincipalElement {
            negated: false,
            who: Who::Anyone,
        }),
        action: Patterns::any(actions),
        resource: Some(Patterns::any(["*"])),
        conditions,
    }
}

/// Letters and digits only: an IAM policy takes no others.
fn sid(index: usize, generation: &Generation) -> String {
    let name: String = generation
        .name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    format!("Generation{}{name}", index + 1)
}

fn conditions(release: &ReleasePolicy, generation: &Generation) -> Vec<Condition> {
    let form = generation.measurements.form();
    let measured = generation.measurements.pcrs().iter().map(|(pcr, value)| {
        let key = measurement_key(form, *pcr);
        Condition::new(Kind::StringEqualsIgnoreCase, key, [hex::encode(value)])
    });
    let context = release
        .encryption_context()
        .iter()
        .map(|(key, values)| Condition::new(Kind::StringEquals, context_key(key), values));
    measured.chain(context).collect()
}

fn measurement_key(form: Form, pcr: u8) -> String {
    match form {
        Form::NitroEnclave => format!("kms:RecipientAttestation:PCR{pcr}"),
        Form::NitroTpm => format!("kms:RecipientAttestation:NitroTPMPCR{pcr}"),
    }
}

fn context_key(key: &str) -> String {
    format!("kms:EncryptionContext:{key}")
}

/// Values a PCR may have, by form and index.
type Allowed = BTreeMap<(Form, u8), BTreeSet<String>>;

/// Conditions under each of which a request comes from software of no generation.
///
/// Generations that pin the same PCRs form a group, which allows a document if each of those PCRs has a value of the
/// group. A document is of no group if, for some choice of one PCR in each group, all the chosen have other values:
/// so each choice is one statement. Values of different generations of a group may mix here; the Allow statements,
/// one for each generation, do not let them.
fn unmeasured(generations: &[Generation]) -> Vec<Vec<Condition>> {
    let mut groups: BTreeMap<Vec<(Form, u8)>, Allowed> = BTreeMap::new();
    for generation in generations {
        let form = generation.measurements.form();
        let pcrs = generation.measurements.pcrs();
        let keys = pcrs.keys().map(|pcr| (form, *pcr)).collect();
        let group = groups.entry(keys).or_default();
        for (pcr, value) in pcrs {
            group
                .entry((form, *pcr))
                .or_default()
                .insert(hex::encode(value));
        }
    }
    let choices = groups.keys().map(Vec::len).product::<usize>();
    if choices > MAX_DENIALS {
        for group in groups.values_mut() {
            let decisive = DECISIVE.into_iter().find(|key| group.contains_key(key));
            group.retain(|key, _| Some(*key) == decisive);
        }
    }
    let mut denials: BTreeSet<Allowed> = BTreeSet::from([Allowed::new()]);
    for group in groups.values() {
        denials = denials
            .iter()
            .flat_map(|denial| {
                group.iter().map(|(key, values)| {
                    let mut denial = denial.clone();
                    denial
                        .entry(*key)
                        .or_default()
                        .extend(values.iter().cloned());
                    denial
                })
            })
            .collect();
    }
    let statement = |denial: Allowed| {
        denial
            .into_iter()
            .map(|((form, pcr), values)| {
                let key = measurement_key(form, pcr);
                Condition::new(Kind::StringNotEqualsIgnoreCase, key, values)
            })
            .collect()
    };
    denials.into_iter().map(statement).collect()
}
