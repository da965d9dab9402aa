//! Whether a token's claims meet a release policy, and what they lack.

use std::fmt;

use serde::Serialize;

use super::grammar::{ClaimCondition, Condition, Operator, Policy, Rule};
use super::normal_authority;
use crate::azure::{Claims, Value};

/// Which operators are taken to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// `equals` only, as the prose of the documents says: conditions by others are not met.
    EqualsOnly,
    /// All of the grammar.
    All,
}

/// A condition that is not met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    /// Path of the claim, or "iss".
    pub claim: String,
    /// What is asked for.
    pub expected: String,
    /// What the token claims.
    pub found: String,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            claim,
            expected,
            found,
        } = self;
        write!(f, "{claim}: expected {expected}, found {found}")
    }
}

/// What a vault would decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Met, by the authority of this index.
    Met(usize),
    /// Not met. For the authority that lacks least: what it lacks.
    NotMet(Vec<Miss>),
}

impl Decision {
    /// Whether the key is released.
    #[must_use]
    pub fn is_met(&self) -> bool {
        matches!(self, Self::Met(_))
    }
}

/// Whether `claims` meet `policy`.
#[must_use]
pub fn evaluate(policy: &Policy, claims: &Claims, operators: Operators) -> Decision {
    let issuer = match claims.value("iss") {
        Some(Value::String(issuer)) => issuer,
        _ => String::new(),
    };
    let mut nearest: Option<Vec<Miss>> = None;
    for (index, authority) in policy.any_of.iter().enumerate() {
        if normal_authority(&authority.authority) != normal_authority(&issuer) {
            continue;
        }
        let misses = rule(&authority.rule, claims, operators);
        if misses.is_empty() {
            return Decision::Met(index);
        }
        if nearest.as_ref().is_none_or(|n| misses.len() < n.len()) {
            nearest = Some(misses);
        }
    }
    Decision::NotMet(nearest.unwrap_or_else(|| {
        let authorities: Vec<&str> = policy.any_of.iter().map(|a| a.authority.as_str()).collect();
        vec![Miss {
            claim: "iss".to_owned(),
            expected: authorities.join(" or "),
            found: issuer,
        }]
    }))
}

/// What a rule lacks; nothing where it is met.
fn rule(rule: &Rule, claims: &Claims, operators: Operators) -> Vec<Miss> {
    let lacks = rule.conditions().iter().map(|condition| match condition {
        Condition::Claim(condition) => claim(condition, claims, operators).into_iter().collect(),
        Condition::Rule(inner) => self::rule(inner, claims, operators),
    });
    match rule {
        Rule::AllOf(_) => lacks.flatten().collect(),
        // Nothing to choose from is not met.
        Rule::AnyOf(_) => lacks.min_by_key(Vec::len).unwrap_or_else(|| {
            vec![Miss {
                claim: "anyOf".to_owned(),
                expected: "a condition".to_owned(),
                found: "none".to_owned(),
            }]
        }),
    }
}

fn claim(condition: &ClaimCondition, claims: &Claims, operators: Operators) -> Option<Miss> {
    let found = claims.value(&condition.claim);
    let usable = operators == Operators::All || condition.operator == Operator::Equals;
    let met = usable && compare(condition.operator, found.as_ref(), &condition.value);
    (!met).then(|| Miss {
        claim: condition.claim.clone(),
        expected: match condition.operator {
            Operator::Equals => condition.value.to_string(),
            operator => format!("{} {}", operator.name(), condition.value),
        },
        found: found.map_or_else(|| "nothing".to_owned(), |value| value.to_string()),
    })
}

/// A missing claim meets nothing but `exists` with "false".
fn compare(operator: Operator, found: Option<&Value>, wanted: &Value) -> bool {
    let Some(found) = found else {
        return operator == Operator::Exists && text(wanted) == "false";
    };
    let number = |value: &Value| match value {
        Value::Number(number) => number.parse::<f64>().ok(),
        Value::String(_) | Value::Boolean(_) => None,
    };
    let order = || number(found)?.partial_cmp(&number(wanted)?);
    match operator {
        Operator::Equals => equal(found, wanted),
        Operator::NotEquals => !equal(found, wanted),
        Operator::Exists => text(wanted) == "true",
        Operator::Less => order().is_some_and(|o| o.is_lt()),
        Operator::LessOrEquals => order().is_some_and(|o| o.is_le()),
        Operator::Greater => order().is_some_and(|o| o.is_gt()),
        Operator::GreaterOrEquals => order().is_some_and(|o| o.is_ge()),
    }
}

/// A boolean claim is compared with the strings "true" and "false".
fn equal(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Boolean(found), Value::String(wanted)) => found.to_string() == *wanted,
        (found, wanted) => found == wanted,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Number(text) => text.clone(),
        Value::Boolean(value) => value.to_string(),
    }
}
