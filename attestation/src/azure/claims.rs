//! The claims of a token, by the paths at which release policies name them.

use std::fmt;

use crate::json::Json;

/// What a token claims: whatever is in its payload. Where it comes from says how far it is to be believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    json: Json,
    text: String,
}

/// A value that a release policy can compare. Arrays and objects cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string.
    String(String),
    /// A number, as written.
    Number(String),
    /// A boolean, which policies write as the strings "true" and "false".
    Boolean(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(f, "{text:?}"),
            Self::Number(number) => f.write_str(number),
            Self::Boolean(value) => write!(f, "{value}"),
        }
    }
}

impl Claims {
    /// Reads a payload.
    ///
    /// # Errors
    /// It is no JSON object, or a member stands twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        match serde_json::from_str(text).map_err(|error| error.to_string())? {
            json @ Json::Object(_) => Ok(Self::new(json, text.to_owned())),
            other => Err(format!("expected an object, found {}", other.kind())),
        }
    }

    pub(super) fn new(json: Json, text: String) -> Self {
        Self { json, text }
    }

    /// The claim at a path of names divided by dots (`x-ms-isolation-tee.x-ms-compliance-status`), none where there
    /// is none or it is an array, an object or null.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<Value> {
        match self.json.at(path)? {
            Json::String(text) => Some(Value::String(text.clone())),
            Json::Number(number) => Some(Value::Number(number.clone())),
            Json::Bool(value) => Some(Value::Boolean(*value)),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        }
    }

    /// The payload as it came, JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn json(&self) -> &Json {
        &self.json
    }
}
