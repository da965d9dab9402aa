//! Whom an Allow reaches.

use super::{Code, Findings};
use crate::policy::aws::caller::whole_account;
use crate::policy::aws::condition::{Condition, Kind, Quantifier};
use crate::policy::aws::pattern::is_wild;
use crate::policy::aws::statement::{Statement, Who};

/// Whom a statement reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everyone, in any account.
    Open,
    /// All of an account.
    Account,
    /// Those listed.
    Named,
}

/// Whom a statement reaches, with what is wrong in how it says so.
pub(super) fn lint(statement: &Statement, findings: &mut Findings) -> Reach {
    let Some(principal) = &statement.principal else {
        return Reach::Named;
    };
    if principal.negated {
        let why = "NotPrincipal with Allow reaches everyone who is not listed";
        findings.add(Code::NotPrincipal, why);
        return narrowed(statement);
    }
    let Who::Listed { aws, .. } = &principal.who else {
        return narrowed(statement);
    };
    for arn in aws.iter().filter(|arn| is_wild(arn)) {
        findings.add(
            Code::WildcardPrincipal,
            format!("the principal {arn} names nobody"),
        );
    }
    if aws.iter().any(|arn| whole_account(arn).is_some()) {
        return match narrowed(statement) {
            Reach::Named => Reach::Named,
            _ => Reach::Account,
        };
    }
    Reach::Named
}

/// Whom a statement about everyone reaches once its conditions on the caller are looked at.
fn narrowed(statement: &Statement) -> Reach {
    let mut reach = Reach::Open;
    for condition in statement.conditions.iter().filter(|c| is_positive(c)) {
        match condition.key.to_ascii_lowercase().as_str() {
            "aws:principalarn" | "aws:userid" => return Reach::Named,
            "aws:principalaccount" | "kms:calleraccount" | "aws:principalorgid" => {
                reach = Reach::Account;
            }
            _ => {}
        }
    }
    reach
}

/// Whether a condition asks for values written out.
fn is_positive(condition: &Condition) -> bool {
    let operator = condition.operator;
    let exact = match operator.kind {
        Kind::StringEquals | Kind::StringEqualsIgnoreCase => true,
        Kind::StringLike | Kind::ArnLike | Kind::ArnEquals => {
            !condition.values.iter().any(|value| is_wild(value))
        }
        _ => false,
    };
    let variable = condition.values.iter().any(|value| value.contains("${"));
    exact
        && !variable
        && !operator.if_exists
        && operator.quantifier != Some(Quantifier::ForAllValues)
}

/// Names that a statement lists, for comparison with those of another.
pub(super) fn names(statement: &Statement) -> Vec<&str> {
    let principal = statement.principal.as_ref().filter(|p| !p.negated);
    let listed = match principal.map(|p| &p.who) {
        Some(Who::Listed { aws, .. }) => aws.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let asked = statement
        .conditions
        .iter()
        .filter(|c| is_positive(c) && c.key.eq_ignore_ascii_case("aws:PrincipalArn"));
    let asked = asked.flat_map(|c| c.values.iter().map(String::as_str));
    listed.into_iter().chain(asked).collect()
}
