//! A policy from its JSON, strictly: no unknown element, no element twice, every operator one that IAM has.

use super::condition::{Condition, Operator};
use super::statement::{Effect, Patterns, Policy, PrincipalElement, Statement, Version, Who};
use crate::json::Json;

/// Longest key policy, in bytes (KMS developer guide, "resource quotas": 32 KB).
pub const MAX_POLICY: usize = 32_768;

/// Why a text is no policy. KMS answers such a one with MalformedPolicyDocumentException.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is longer than a key policy may be.
    #[error("policy: expected at most {max} bytes, found {found}")]
    Size {
        /// Longest policy taken.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// Not JSON, or a member stands twice.
    #[error("policy: {0}")]
    Json(String),
    /// Another value stands there.
    #[error("{place}: expected {expected}, found {found}")]
    Expected {
        /// Where.
        place: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// An element that policies do not have.
    #[error("{place}: there is no element {name:?}")]
    Unknown {
        /// Where.
        place: String,
        /// The element found.
        name: String,
    },
    /// An element is missing.
    #[error("{place}: {name} is missing")]
    Missing {
        /// Where.
        place: String,
        /// Which element.
        name: &'static str,
    },
    /// An element and its opposite stand in one statement.
    #[error("{place}: {name} and Not{name} exclude each other")]
    Both {
        /// Where.
        place: String,
        /// Which element.
        name: &'static str,
    },
    /// An operator that IAM does not have.
    #[error("{place}: there is no condition operator {name:?}")]
    Operator {
        /// Where.
        place: String,
        /// The operator found.
        name: String,
    },
    /// Two statements have one Sid.
    #[error("statement: the Sid {0:?} stands twice")]
    DuplicateSid(String),
}

/// Reads a policy.
///
/// # Errors
/// Says where what was expected.
pub fn parse(text: &str) -> Result<Policy, PolicyError> {
    if text.len() > MAX_POLICY {
        return Err(PolicyError::Size {
            max: MAX_POLICY,
            found: text.len(),
        });
    }
    let json: Json =
        serde_json::from_str(text).map_err(|error| PolicyError::Json(error.to_string()))?;
    let place = "policy".to_owned();
    let (mut version, mut id, mut statements) = (Version::V2008, None, None);
    for (name, value) in object(&place, json)? {
        match name.as_str() {
            "Version" => version = read_version(&place, &string(&place, value)?)?,
            "Id" => id = Some(string(&place, value)?),
            "Statement" => statements = Some(value),
            _ => return Err(PolicyError::Unknown { place, name }),
        }
    }
    let statements = statements.ok_or(PolicyError::Missing {
        place,
        name: "Statement",
    })?;
    let statements = match statements {
        Json::Array(statements) => statements,
        one => vec![one],
    };
    let statements = statements
        .into_iter()
        .enumerate()
        .map(|(index, json)| statement(index, json))
        .collect::<Result<Vec<_>, _>>()?;
    let mut sids = std::collections::HashSet::new();
    for sid in statements.iter().filter_map(|s| s.sid.as_ref()) {
        if !sid.is_empty() && !sids.insert(sid) {
            return Err(PolicyError::DuplicateSid(sid.clone()));
        }
    }
    Ok(Policy {
        version,
        id,
        statements,
    })
}

fn read_version(place: &str, text: &str) -> Result<Version, PolicyError> {
    [Version::V2008, Version::V2012]
        .into_iter()
        .find(|version| version.name() == text)
        .ok_or_else(|| PolicyError::Expected {
            place: place.to_owned(),
            expected: "the Version 2012-10-17 or 2008-10-17",
            found: format!("{text:?}"),
        })
}

fn statement(index: usize, json: Json) -> Result<Statement, PolicyError> {
    let place = format!("statement number {}", index + 1);
    let (mut sid, mut effect, mut conditions) = (None, None, Vec::new());
    let (mut principal, mut action, mut resource) = (None, None, None);
    for (name, value) in object(&place, json)? {
        let negated = name.starts_with("Not");
        match name.as_str() {
            "Sid" => sid = Some(string(&place, value)?),
            "Effect" => effect = Some(read_effect(&place, &string(&place, value)?)?),
            "Principal" | "NotPrincipal" => {
                let who = who(&place, value)?;
                let element = PrincipalElement { negated, who };
                once(&place, "Principal", &mut principal, element)?;
            }
            "Action" | "NotAction" => {
                let patterns = Patterns {
                    negated,
                    patterns: strings(&place, value)?,
                };
                once(&place, "Action", &mut action, patterns)?;
            }
            "Resource" | "NotResource" => {
                let patterns = Patterns {
                    negated,
                    patterns: strings(&place, value)?,
                };
                once(&place, "Resource", &mut resource, patterns)?;
            }
            "Condition" => conditions = read_conditions(&place, value)?,
            _ => return Err(PolicyError::Unknown { place, name }),
        }
    }
    let missing = |name| PolicyError::Missing {
        place: place.clone(),
        name,
    };
    Ok(Statement {
        effect: effect.ok_or_else(|| missing("Effect"))?,
        action: action.ok_or_else(|| missing("Action"))?,
        sid,
        principal,
        resource,
        conditions,
    })
}

fn once<T>(
    place: &str,
    name: &'static str,
    slot: &mut Option<T>,
    value: T,
) -> Result<(), PolicyError> {
    if slot.replace(value).is_some() {
        return Err(PolicyError::Both {
            place: place.to_owned(),
            name,
        });
    }
    Ok(())
}

fn read_effect(place: &str, text: &str) -> Result<Effect, PolicyError> {
    [Effect::Allow, Effect::Deny]
        .into_iter()
        .find(|effect| effect.name() == text)
        .ok_or_else(|| PolicyError::Expected {
            place: place.to_owned(),
            expected: "the Effect Allow or Deny",
            found: format!("{text:?}"),
        })
}

fn who(place: &str, json: Json) -> Result<Who, PolicyError> {
    if let Json::String(text) = &json
        && text == "*"
    {
        return Ok(Who::Anyone);
    }
    let Json::Object(kinds) = json else {
        return Err(expected(place, "\"*\" or an object as principal", &json));
    };
    let (mut aws, mut service) = (Vec::new(), Vec::new());
    let (mut federated, mut canonical) = (Vec::new(), Vec::new());
    for (name, value) in kinds {
        let list = match name.as_str() {
            "AWS" => &mut aws,
            "Service" => &mut service,
            "Federated" => &mut federated,
            "CanonicalUser" => &mut canonical,
            _ => {
                return Err(PolicyError::Unknown {
                    place: format!("{place}: principal"),
                    name,
                });
            }
        };
        *list = strings(place, value)?;
    }
    if aws.iter().any(|arn| arn == "*") {
        return Ok(Who::Anyone);
    }
    Ok(Who::Listed {
        aws,
        service,
        federated,
        canonical,
    })
}

fn read_conditions(place: &str, json: Json) -> Result<Vec<Condition>, PolicyError> {
    let mut conditions = Vec::new();
    for (name, keys) in object(place, json)? {
        let operator = Operator::parse(&name).ok_or_else(|| PolicyError::Operator {
            place: place.to_owned(),
            name: name.clone(),
        })?;
        for (key, values) in object(place, keys)? {
            conditions.push(Condition {
                operator,
                values: condition_values(place, values)?,
                key,
            });
        }
    }
    Ok(conditions)
}

/// Strings, or booleans and numbers, which IAM takes as their text.
fn condition_values(place: &str, json: Json) -> Result<Vec<String>, PolicyError> {
    let values = match json {
        Json::Array(values) => values,
        one => vec![one],
    };
    let values = values
        .into_iter()
        .map(|value| match value {
            Json::String(text) | Json::Number(text) => Ok(text),
            Json::Bool(value) => Ok(value.to_string()),
            other => Err(expected(place, "a string as condition value", &other)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    not_empty(place, values)
}

fn strings(place: &str, json: Json) -> Result<Vec<String>, PolicyError> {
    let values = match json {
        Json::Array(values) => values,
        one => vec![one],
    };
    let values = values
        .into_iter()
        .map(|value| string(place, value))
        .collect::<Result<Vec<_>, _>>()?;
    not_empty(place, values)
}

fn not_empty(place: &str, values: Vec<String>) -> Result<Vec<String>, PolicyError> {
    if values.is_empty() {
        return Err(PolicyError::Expected {
            place: place.to_owned(),
            expected: "at least one value",
            found: "an empty array".to_owned(),
        });
    }
    Ok(values)
}

fn string(place: &str, json: Json) -> Result<String, PolicyError> {
    match json {
        Json::String(text) => Ok(text),
        other => Err(expected(place, "a string", &other)),
    }
}

fn object(place: &str, json: Json) -> Result<Vec<(String, Json)>, PolicyError> {
    match json {
        Json::Object(members) => Ok(members),
        other => Err(expected(place, "an object", &other)),
    }
}

fn expected(place: &str, expected: &'static str, found: &Json) -> PolicyError {
    PolicyError::Expected {
        place: place.to_owned(),
        expected,
        found: found.kind().to_owned(),
    }
}
