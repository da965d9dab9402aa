//! What a live policy says otherwise than the one that was to be written.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::caller::whole_account;
use super::statement::{Patterns, Policy, PrincipalElement, Statement, Who};

/// One difference between two policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "difference")]
pub enum Difference {
    /// A statement of the written policy is not in the live one.
    Missing {
        /// The statement.
        statement: String,
    },
    /// A statement of the live policy is not in the written one.
    Added {
        /// The statement.
        statement: String,
    },
    /// Statements of one name differ.
    Changed {
        /// The statement.
        statement: String,
        /// Which element.
        element: &'static str,
        /// As it was to be.
        written: String,
        /// As it is.
        live: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { statement } => write!(f, "- statement {statement}"),
            Self::Added { statement } => write!(f, "+ statement {statement}"),
            Self::Changed {
                statement,
                element,
                written,
                live,
            } => write!(
                f,
                "! statement {statement}: {element}: expected {written}, found {live}"
            ),
        }
    }
}

/// Every difference in meaning: order of statements, of values and of keys, and the spelling of one value or account,
/// are none. Statements belong together that are equal, or else have one Sid.
#[must_use]
pub fn diff(written: &Policy, live: &Policy) -> Vec<Difference> {
    let mut differences = Vec::new();
    if written.version != live.version {
        differences.push(Difference::Changed {
            statement: "(policy)".to_owned(),
            element: "Version",
            written: written.version.name().to_owned(),
            live: live.version.name().to_owned(),
        });
    }
    let mut left: Vec<(usize, &Statement, [String; 5])> = live
        .statements
        .iter()
        .enumerate()
        .map(|(index, statement)| (index, statement, elements(statement)))
        .collect();
    let mut changed: Vec<(usize, &Statement, [String; 5])> = Vec::new();
    for (index, statement) in written.statements.iter().enumerate() {
        let normal = elements(statement);
        // An equal one of the same name first: the name of a statement does not change what it says.
        let equal = |other: &(usize, &Statement, [String; 5])| other.2 == normal;
        let same_name = |other: &(usize, &Statement, _)| other.1.sid == statement.sid;
        let found = left
            .iter()
            .position(|other| equal(other) && same_name(other))
            .or_else(|| left.iter().position(equal));
        match found {
            Some(found) => drop(left.swap_remove(found)),
            None => changed.push((index, statement, normal)),
        }
    }
    for (index, statement, normal) in changed {
        let label = statement.label(index);
        let same_name = |other: &(usize, &Statement, [String; 5])| {
            statement.sid.is_some() && other.1.sid == statement.sid
        };
        let Some(found) = left.iter().position(same_name) else {
            differences.push(Difference::Missing { statement: label });
            continue;
        };
        let (_, _, live) = left.swap_remove(found);
        let names = ["Effect", "Principal", "Action", "Resource", "Condition"];
        for ((element, written), live) in names.into_iter().zip(normal).zip(live) {
            if written != live {
                differences.push(Difference::Changed {
                    statement: label.clone(),
                    element,
                    written,
                    live,
                });
            }
        }
    }
    left.sort_by_key(|(index, ..)| *index);
    differences.extend(
        left.into_iter()
            .map(|(index, statement, _)| Difference::Added {
                statement: statement.label(index),
            }),
    );
    differences
}

/// Effect, principal, action, resource and conditions in one spelling.
fn elements(statement: &Statement) -> [String; 5] {
    let conditions: BTreeSet<String> = statement
        .conditions
        .iter()
        .map(|condition| {
            let values: BTreeSet<String> = if condition.operator.to_string().contains("IgnoreCase")
            {
                condition.values.iter().map(|v| v.to_lowercase()).collect()
            } else {
                condition.values.iter().cloned().collect()
            };
            let key = condition.key.to_ascii_lowercase();
            format!("{} {key} {}", condition.operator, list(values))
        })
        .collect();
    [
        statement.effect.name().to_owned(),
        statement.principal.as_ref().map_or_else(none, principal),
        patterns(&statement.action, str::to_ascii_lowercase),
        statement
            .resource
            .as_ref()
            .map_or_else(none, |resource| patterns(resource, str::to_owned)),
        list(conditions),
    ]
}

fn none() -> String {
    "none".to_owned()
}

fn principal(element: &PrincipalElement) -> String {
    let not = if element.negated { "not " } else { "" };
    let Who::Listed {
        aws,
        service,
        federated,
        canonical,
    } = &element.who
    else {
        return format!("{not}everyone");
    };
    let account = |name: &String| match whole_account(name) {
        Some(account) => format!("account {account}"),
        None => name.clone(),
    };
    let names: BTreeSet<String> = aws
        .iter()
        .map(account)
        .chain(service.iter().map(|name| format!("service {name}")))
        .chain(federated.iter().map(|name| format!("federated {name}")))
        .chain(
            canonical
                .iter()
                .map(|name| format!("canonical user {name}")),
        )
        .collect();
    format!("{not}{}", list(names))
}

fn patterns(patterns: &Patterns, spelling: fn(&str) -> String) -> String {
    let not = if patterns.negated { "not " } else { "" };
    let all: BTreeSet<String> = patterns.patterns.iter().map(|p| spelling(p)).collect();
    format!("{not}{}", list(all))
}

fn list(values: BTreeSet<String>) -> String {
    let values: Vec<String> = values.into_iter().collect();
    format!("[{}]", values.join(", "))
}
