//! What a release policy says (azure-docs, key-vault/includes/key-management-policy-grammar, 2026-03-26).

use crate::azure::Value;

/// The one version of the grammar.
pub const VERSION: &str = "1.0.0";

/// A release policy: met where one of its authorities is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Version of the grammar.
    pub version: String,
    /// Whose tokens are taken, and what they must claim.
    pub any_of: Vec<Authority>,
}

/// An attestation service, and what its tokens must claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The token's issuer.
    pub authority: String,
    /// Its conditions.
    pub rule: Rule,
}

/// Conditions put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All must be met.
    AllOf(Vec<Condition>),
    /// One must be met.
    AnyOf(Vec<Condition>),
}

impl Rule {
    /// The conditions.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::AllOf(conditions) | Self::AnyOf(conditions) => conditions,
        }
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// About a claim.
    Claim(ClaimCondition),
    /// Conditions within.
    Rule(Rule),
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimCondition {
    /// Path of the claim: names divided by dots.
    pub claim: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: Value,
    /// Whether it is written as before 2021: `"condition": "equals", "value": …`.
    pub legacy: bool,
}

/// How a claim is compared. Whether a vault knows more than `equals` is not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The claim is this value.
    Equals,
    /// It is another.
    NotEquals,
    /// It is less.
    Less,
    /// It is less, or this.
    LessOrEquals,
    /// It is greater.
    Greater,
    /// It is greater, or this.
    GreaterOrEquals,
    /// It is there, or is not.
    Exists,
}

impl Operator {
    const ALL: [(Self, &str); 7] = [
        (Self::Equals, "equals"),
        (Self::NotEquals, "notEquals"),
        (Self::Less, "less"),
        (Self::LessOrEquals, "lessOrEquals"),
        (Self::Greater, "greater"),
        (Self::GreaterOrEquals, "greaterOrEquals"),
        (Self::Exists, "exists"),
    ];

    /// Its name in a policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL
            .into_iter()
            .find(|(operator, _)| *operator == self);
        found.map_or("", |(_, name)| name)
    }

    /// The one with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, other)| *other == name);
        found.map(|(operator, _)| operator)
    }
}
