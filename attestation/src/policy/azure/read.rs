//! A release policy from its JSON, strictly; and out of what describes a key.

use super::grammar::{Authority, ClaimCondition, Condition, Operator, Policy, Rule};
use crate::azure::Value;
use crate::base64;
use crate::json::Json;

/// Longest policy taken, in bytes.
pub const MAX_POLICY: usize = 64 * 1024;
/// Deepest nesting of conditions taken.
const MAX_DEPTH: usize = 8;

/// Why a text is no release policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is too long (bytes).
    #[error("release policy: expected at most {max} bytes, found {found}")]
    Size {
        /// Longest taken.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// Not JSON, or a member stands twice.
    #[error("release policy: {0}")]
    Json(String),
    /// Another value stands there.
    #[error("release policy: {place}: expected {expected}, found {found}")]
    Expected {
        /// Where.
        place: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A member that policies do not have.
    #[error("release policy: {place}: there is no member {name:?}")]
    Unknown {
        /// Where.
        place: String,
        /// The member found.
        name: String,
    },
    /// Conditions nest too deep.
    #[error("release policy: {place}: conditions nest deeper than {MAX_DEPTH}")]
    Depth {
        /// Where.
        place: String,
    },
}

/// A policy, and what is known of the key that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The policy.
    pub policy: Policy,
    /// Whether it can never be changed; none where only the policy is known.
    pub immutable: Option<bool>,
}

/// Reads a release policy.
///
/// # Errors
/// [`PolicyError`].
pub fn parse(text: &str) -> Result<Policy, PolicyError> {
    policy(&json(text)?)
}

/// Reads a release policy out of what describes a key: an answer of Key Vault (`release_policy.data` in base64url), what
/// `az keyvault key show` prints (`releasePolicy.encodedPolicy`), or the bare policy.
///
/// # Errors
/// [`PolicyError`].
pub fn parse_key(text: &str) -> Result<KeyPolicy, PolicyError> {
    let key = json(text)?;
    let holders = [
        ("release_policy", "data"),
        ("releasePolicy", "encodedPolicy"),
    ];
    for (holder, member) in holders {
        let Some(found) = key.get(holder) else {
            continue;
        };
        let place = format!("{holder}.{member}");
        let encoded = found.get(member);
        let policy = match encoded {
            Some(object @ Json::Object(_)) => policy(object)?,
            Some(Json::String(encoded)) if encoded.trim_start().starts_with('{') => parse(encoded)?,
            Some(Json::String(encoded)) => {
                let bytes = base64::url(encoded.trim_end_matches('='));
                let text = bytes
                    .or_else(|| base64::standard(encoded))
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                let text =
                    text.ok_or_else(|| expected(&place, "base64url of JSON", encoded_kind()))?;
                parse(&text)?
            }
            other => return Err(expected(&place, "the policy in base64url", kind(other))),
        };
        return Ok(KeyPolicy {
            policy,
            immutable: Some(found.get("immutable").and_then(Json::boolean) == Some(true)),
        });
    }
    Ok(KeyPolicy {
        policy: policy(&key)?,
        immutable: None,
    })
}

fn json(text: &str) -> Result<Json, PolicyError> {
    if text.len() > MAX_POLICY {
        return Err(PolicyError::Size {
            max: MAX_POLICY,
            found: text.len(),
        });
    }
    serde_json::from_str(text).map_err(|error| PolicyError::Json(error.to_string()))
}

fn kind(found: Option<&Json>) -> &'static str {
    found.map_or("nothing", Json::kind)
}

fn encoded_kind() -> &'static str {
    "another text"
}

fn expected(place: &str, expected: &'static str, found: impl Into<String>) -> PolicyError {
    PolicyError::Expected {
        place: place.to_owned(),
        expected,
        found: found.into(),
    }
}

/// The members of an object, each of which must be among `known`.
fn members<'j>(
    place: &str,
    json: &'j Json,
    known: &[&str],
) -> Result<&'j [(String, Json)], PolicyError> {
    let Json::Object(members) = json else {
        return Err(expected(place, "an object", json.kind()));
    };
    match members
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    {
        Some((name, _)) => Err(PolicyError::Unknown {
            place: place.to_owned(),
            name: name.clone(),
        }),
        None => Ok(members),
    }
}

fn text(place: &str, found: Option<&Json>) -> Result<String, PolicyError> {
    let text = found.and_then(Json::string);
    let text = text.ok_or_else(|| expected(place, "a string", kind(found)))?;
    Ok(text.to_owned())
}

fn policy(json: &Json) -> Result<Policy, PolicyError> {
    members("policy", json, &["version", "anyOf"])?;
    let list = json.get("anyOf");
    let list = list
        .and_then(Json::items)
        .filter(|list| !list.is_empty())
        .ok_or_else(|| expected("anyOf", "an array of authorities", kind(list)))?;
    let authority = |(index, json): (usize, &Json)| {
        let place = format!("anyOf[{index}]");
        members(&place, json, &["authority", "allOf", "anyOf"])?;
        Ok(Authority {
            authority: text(&format!("{place}.authority"), json.get("authority"))?,
            rule: rule(&place, json, 0)?,
        })
    };
    Ok(Policy {
        version: text("version", json.get("version"))?,
        any_of: list
            .iter()
            .enumerate()
            .map(authority)
            .collect::<Result<_, _>>()?,
    })
}

/// The one of `allOf` and `anyOf` that is there.
fn rule(place: &str, json: &Json, depth: usize) -> Result<Rule, PolicyError> {
    if depth >= MAX_DEPTH {
        return Err(PolicyError::Depth {
            place: place.to_owned(),
        });
    }
    let conditions = |name: &str, list: &Json| {
        let place = format!("{place}.{name}");
        let items = list
            .items()
            .ok_or_else(|| expected(&place, "an array of conditions", list.kind()))?;
        items
            .iter()
            .enumerate()
            .map(|(index, json)| condition(&format!("{place}[{index}]"), json, depth))
            .collect::<Result<Vec<_>, _>>()
    };
    match (json.get("allOf"), json.get("anyOf")) {
        (Some(list), None) => Ok(Rule::AllOf(conditions("allOf", list)?)),
        (None, Some(list)) => Ok(Rule::AnyOf(conditions("anyOf", list)?)),
        (Some(_), Some(_)) => Err(expected(place, "one of allOf and anyOf", "both")),
        (None, None) => Err(expected(place, "one of allOf and anyOf", "neither")),
    }
}

fn condition(place: &str, json: &Json, depth: usize) -> Result<Condition, PolicyError> {
    if json.get("claim").is_none() {
        members(place, json, &["allOf", "anyOf"])?;
        return rule(place, json, depth + 1).map(Condition::Rule);
    }
    let claim = text(&format!("{place}.claim"), json.get("claim"))?;
    let wrong = |found: &str| expected(place, "claim and one operator", found);
    let (operator, value, legacy) = if json.get("condition").is_some() {
        members(place, json, &["claim", "condition", "value"])?;
        let name = text(&format!("{place}.condition"), json.get("condition"))?;
        let operator = Operator::from_name(&name).ok_or_else(|| wrong(&format!("{name:?}")))?;
        let value = json.get("value").ok_or_else(|| wrong("no value"))?;
        (operator, value, true)
    } else {
        let Json::Object(all) = json else {
            return Err(expected(place, "an object", json.kind()));
        };
        let mut others = all.iter().filter(|(name, _)| name != "claim");
        let (Some((name, value)), None) = (others.next(), others.next()) else {
            return Err(wrong("none or several"));
        };
        let operator = Operator::from_name(name).ok_or_else(|| wrong(&format!("{name:?}")))?;
        (operator, value, false)
    };
    let value = match value {
        Json::String(text) => Value::String(text.clone()),
        Json::Number(number) => Value::Number(number.clone()),
        Json::Bool(value) => Value::Boolean(*value),
        other => return Err(expected(place, "a string or a number", other.kind())),
    };
    Ok(Condition::Claim(ClaimCondition {
        claim,
        operator,
        value,
        legacy,
    }))
}
