//! What an Allow gives beyond attested use: ways to move the key's data elsewhere or to change the policy.

use super::facts::{covers, covers_all};
use super::guard::Guards;
use super::measured::Measurement;
use super::principals::{Reach, names};
use super::{Code, Findings};
use crate::policy::aws::known::ATTESTABLE;
use crate::policy::aws::pattern::{fits_any_case, is_wild};
use crate::policy::aws::statement::{Effect, Policy, Statement};

/// Actions that lead around attestation, without those of the policy itself.
const WAYS_AROUND: [(&str, Code, &str); 2] = [
    (
        "kms:ReEncryptFrom",
        Code::ReEncrypt,
        "kms:ReEncryptFrom moves data under another key",
    ),
    (
        "kms:CreateGrant",
        Code::CreateGrant,
        "kms:CreateGrant passes use on without conditions on attestation",
    ),
];
/// Actions that write a policy: this one, or that of a replica.
const WRITERS: [(&str, Code); 2] = [
    ("kms:PutKeyPolicy", Code::PutKeyPolicy),
    ("kms:ReplicateKey", Code::ReplicateKey),
];

pub(super) fn lint(
    policy: &Policy,
    statement: &Statement,
    reach: Reach,
    measured: &Measurement,
    guards: &Guards<'_>,
    findings: &mut Findings,
) {
    let gives = |action: &str| covers(statement, action) && !guards.rules_out(action);
    let ways = WAYS_AROUND.map(|(action, ..)| action);
    let writers = WRITERS.map(|(action, _)| action);
    let all = || ATTESTABLE.into_iter().chain(ways).chain(writers);
    let sensitive: Vec<&str> = all().filter(|action| gives(action)).collect();
    if sensitive.is_empty() {
        return;
    }
    if reach == Reach::Account {
        let why = format!("it allows an account as a whole {}", sensitive.join(", "));
        findings.add(Code::AccountRoot, why);
    }
    if statement.action.negated {
        let why = format!("NotAction allows {}", sensitive.join(", "));
        findings.add(Code::NotAction, why);
        return;
    }
    for pattern in statement.action.patterns.iter().filter(|p| is_wild(p)) {
        // kms:ReEncrypt* and kms:GenerateDataKey* are how AWS spells one thing, and told by their own codes.
        let several = [
            "kms:Decrypt",
            "kms:CreateGrant",
            "kms:PutKeyPolicy",
            "kms:ReplicateKey",
        ];
        let given: Vec<&str> = several
            .into_iter()
            .filter(|action| fits_any_case(pattern, action) && gives(action))
            .collect();
        if !given.is_empty() {
            let why = format!("{pattern} allows {}", given.join(", "));
            findings.add(Code::WildcardAction, why);
        }
    }
    if measured.is_pinned() {
        // None of the others carries a document, so none of them is ever allowed here.
        let never: Vec<&str> = statement
            .action
            .patterns
            .iter()
            .map(String::as_str)
            .filter(|pattern| {
                !pattern.contains('*')
                    && !pattern.eq_ignore_ascii_case("kms:GenerateRandom")
                    && !ATTESTABLE
                        .iter()
                        .any(|action| fits_any_case(pattern, action))
            })
            .collect();
        if !never.is_empty() {
            findings.add(Code::UnattestableAction, never.join(", "));
        }
        let via = |c: &&_| is_via_service(c);
        if statement.conditions.iter().any(|c| via(&c)) {
            let why = "kms:ViaService asks for a call made by another service of AWS";
            findings.add(Code::ViaService, why);
        }
        return;
    }
    let everything = covers_all(statement);
    for (action, code, why) in WAYS_AROUND {
        // One finding for `kms:*`, which says all.
        if gives(action) && !everything {
            findings.add(code, why);
        }
    }
    for (action, code) in WRITERS {
        if !gives(action) {
            continue;
        }
        let user = uses(policy, statement);
        if reach == Reach::Named && user.is_none() {
            let why = format!(
                "{action} lets {} write a policy without attestation",
                names(statement).join(", ")
            );
            findings.add(Code::PolicyWriter, why);
        } else if !everything {
            let who = match (reach, user) {
                (Reach::Open, _) => "everyone".to_owned(),
                (Reach::Account, _) => "a whole account".to_owned(),
                (Reach::Named, user) => {
                    format!("{}, who may use the key", user.unwrap_or_default())
                }
            };
            findings.add(code, format!("{action} is given to {who}"));
        }
    }
}

fn is_via_service(condition: &crate::policy::aws::condition::Condition) -> bool {
    let operator = condition.operator;
    condition.key.eq_ignore_ascii_case("kms:ViaService")
        && !operator.kind.is_negated()
        && !operator.if_exists
}

/// Who of those whom a statement names may also use the key, by any Allow.
fn uses(policy: &Policy, statement: &Statement) -> Option<String> {
    let named = names(statement);
    policy
        .statements
        .iter()
        .filter(|s| s.effect == Effect::Allow && ATTESTABLE.iter().any(|a| covers(s, a)))
        .flat_map(names)
        .find(|name| named.contains(name))
        .map(str::to_owned)
}
