//! What the Deny statements of a policy rule out for everyone.

use super::facts::covers;
use super::measured::is_decisive;
use crate::policy::aws::condition::{Kind, Quantifier};
use crate::policy::aws::statement::{Effect, Policy, Statement, Who};

/// The Deny statements about everyone and the key.
pub(super) struct Guards<'p> {
    total: Vec<&'p Statement>,
    measuring: Vec<&'p Statement>,
}

impl<'p> Guards<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        let denials: Vec<&Statement> = policy
            .statements
            .iter()
            .filter(|s| s.effect == Effect::Deny && is_about_everyone(s) && is_about_the_key(s))
            .collect();
        let (total, conditional): (Vec<_>, Vec<_>) =
            denials.into_iter().partition(|s| s.conditions.is_empty());
        Self {
            total,
            measuring: conditional
                .into_iter()
                .filter(|statement| denies_other_software(statement))
                .collect(),
        }
    }

    /// Whether nobody may do it at all.
    pub(super) fn rules_out(&self, action: &str) -> bool {
        self.total.iter().any(|statement| covers(statement, action))
    }

    /// Whether nobody may do it without a document of known software.
    pub(super) fn measures(&self, action: &str) -> bool {
        self.rules_out(action) || self.measuring.iter().any(|s| covers(s, action))
    }
}

fn is_about_everyone(statement: &Statement) -> bool {
    let principal = statement.principal.as_ref();
    principal.is_some_and(|p| !p.negated && p.who == Who::Anyone)
}

fn is_about_the_key(statement: &Statement) -> bool {
    let resource = statement.resource.as_ref();
    resource.is_some_and(|r| !r.negated && r.patterns.iter().any(|p| p == "*"))
}

/// All conditions must hold for a Deny to apply, so each alone must be one that only known software escapes.
fn denies_other_software(statement: &Statement) -> bool {
    statement.conditions.iter().all(|condition| {
        let operator = condition.operator;
        let negated = matches!(
            operator.kind,
            Kind::StringNotEquals | Kind::StringNotEqualsIgnoreCase
        );
        negated
            && operator.quantifier != Some(Quantifier::ForAnyValue)
            && is_decisive(&condition.key, &condition.values)
    })
}
