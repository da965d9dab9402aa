//! A policy as JSON, elements in the order in which AWS documents them.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::condition::Condition;
use super::statement::{Patterns, Policy, PrincipalElement, Statement, Who};

impl Policy {
    /// The policy as indented JSON, with a line break at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and maps with string keys only: there is nothing that cannot be written.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The policy as JSON without white space, as it is sent to KMS.
    #[must_use]
    pub fn to_compact_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("Version", self.version.name())?;
        if let Some(id) = &self.id {
            map.serialize_entry("Id", id)?;
        }
        map.serialize_entry("Statement", &self.statements)?;
        map.end()
    }
}

impl Serialize for Statement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(sid) = &self.sid {
            map.serialize_entry("Sid", sid)?;
        }
        map.serialize_entry("Effect", self.effect.name())?;
        if let Some(principal) = &self.principal {
            let name = ["Principal", "NotPrincipal"][usize::from(principal.negated)];
            map.serialize_entry(name, &principal)?;
        }
        let name = ["Action", "NotAction"][usize::from(self.action.negated)];
        map.serialize_entry(name, &self.action)?;
        if let Some(resource) = &self.resource {
            let name = ["Resource", "NotResource"][usize::from(resource.negated)];
            map.serialize_entry(name, &resource)?;
        }
        if !self.conditions.is_empty() {
            map.serialize_entry("Condition", &Conditions(&self.conditions))?;
        }
        map.end()
    }
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        one_or_many(&self.patterns).serialize(serializer)
    }
}

impl Serialize for PrincipalElement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Who::Listed {
            aws,
            service,
            federated,
            canonical,
        } = &self.who
        else {
            return serializer.serialize_str("*");
        };
        let mut map = serializer.serialize_map(None)?;
        for (name, list) in [
            ("AWS", aws),
            ("Service", service),
            ("Federated", federated),
            ("CanonicalUser", canonical),
        ] {
            if !list.is_empty() {
                map.serialize_entry(name, &one_or_many(list))?;
            }
        }
        map.end()
    }
}

struct Conditions<'c>(&'c [Condition]);

impl Serialize for Conditions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut operators: BTreeMap<String, BTreeMap<&str, OneOrMany<'_>>> = BTreeMap::new();
        for condition in self.0 {
            operators
                .entry(condition.operator.to_string())
                .or_default()
                .insert(&condition.key, one_or_many(&condition.values));
        }
        operators.serialize(serializer)
    }
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum OneOrMany<'v> {
    One(&'v str),
    Many(&'v [String]),
}

fn one_or_many(values: &[String]) -> OneOrMany<'_> {
    match values {
        [one] => OneOrMany::One(one),
        many => OneOrMany::Many(many),
    }
}
