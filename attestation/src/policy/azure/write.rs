//! A release policy as JSON, members in the order of the documents.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::grammar::{Authority, ClaimCondition, Condition, Policy, Rule};
use crate::azure::Value;

impl Policy {
    /// The policy as indented JSON, with a line break at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and maps with string keys only: there is nothing that cannot be written.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &self.version)?;
        map.serialize_entry("anyOf", &self.any_of)?;
        map.end()
    }
}

impl Rule {
    fn entry<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let name = match self {
            Self::AllOf(_) => "allOf",
            Self::AnyOf(_) => "anyOf",
        };
        map.serialize_entry(name, self.conditions())
    }
}

impl Serialize for Authority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("authority", &self.authority)?;
        self.rule.entry(&mut map)?;
        map.end()
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Claim(claim) => claim.serialize(serializer),
            Self::Rule(rule) => {
                let mut map = serializer.serialize_map(None)?;
                rule.entry(&mut map)?;
                map.end()
            }
        }
    }
}

impl Serialize for ClaimCondition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("claim", &self.claim)?;
        if self.legacy {
            map.serialize_entry("condition", self.operator.name())?;
            map.serialize_entry("value", &self.value)?;
        } else {
            map.serialize_entry(self.operator.name(), &self.value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::String(text) => serializer.serialize_str(text),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            // As it was read, it is a number.
            Self::Number(number) => match serde_json::from_str::<serde_json::Number>(number) {
                Ok(number) => number.serialize(serializer),
                Err(_) => serializer.serialize_str(number),
            },
        }
    }
}
