//! A rule as the list of ways to meet it.

use std::collections::BTreeMap;

use super::grammar::{ClaimCondition, Condition, Operator, Rule};
use crate::azure::Value;

/// Most ways of one authority that are looked at one by one.
pub(super) const MAX_BRANCHES: usize = 4096;

/// Conditions that together meet a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Branch<'p>(pub(super) Vec<&'p ClaimCondition>);

impl<'p> Branch<'p> {
    /// The values asked for by `equals`, as text, by claim.
    pub(super) fn values(&self) -> BTreeMap<&'p str, String> {
        self.0
            .iter()
            .filter(|condition| condition.operator == Operator::Equals)
            .map(|condition| {
                let value = match &condition.value {
                    Value::String(text) | Value::Number(text) => text.clone(),
                    Value::Boolean(value) => value.to_string(),
                };
                (condition.claim.as_str(), value)
            })
            .collect()
    }

    /// In one spelling.
    pub(super) fn normal(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .0
            .iter()
            .map(|c| format!("{} {} {}", c.claim, c.operator.name(), c.value))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Every way to meet `rule`, none where there are too many.
pub(super) fn branches(rule: &Rule) -> Option<Vec<Branch<'_>>> {
    let inner = rule.conditions().iter().map(|condition| match condition {
        Condition::Claim(claim) => Some(vec![Branch(vec![claim])]),
        Condition::Rule(rule) => branches(rule),
    });
    match rule {
        Rule::AnyOf(_) => {
            let mut all = Vec::new();
            for ways in inner {
                all.extend(ways?);
                if all.len() > MAX_BRANCHES {
                    return None;
                }
            }
            Some(all)
        }
        Rule::AllOf(_) => {
            let mut all = vec![Branch::default()];
            for ways in inner {
                let ways = ways?;
                if all.len().saturating_mul(ways.len()) > MAX_BRANCHES {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|before| {
                        ways.iter()
                            .map(|way| Branch([before.0.as_slice(), way.0.as_slice()].concat()))
                    })
                    .collect();
            }
            Some(all)
        }
    }
}
