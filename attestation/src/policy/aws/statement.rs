//! A policy as data: statements of effect, principal, action, resource and conditions.

use super::condition::Condition;

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Version of the policy language.
    pub version: Version,
    /// Name of the policy.
    pub id: Option<String>,
    /// What it says; a request is allowed by one statement and denied by any.
    pub statements: Vec<Statement>,
}

/// Version of the policy language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2008-10-17: without variables. Also where no version is given.
    V2008,
    /// 2012-10-17.
    V2012,
}

impl Version {
    /// As policies spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2008 => "2008-10-17",
            Self::V2012 => "2012-10-17",
        }
    }
}

/// What a statement does to the requests it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allows them.
    Allow,
    /// Denies them, whatever else allows them.
    Deny,
}

impl Effect {
    /// As policies spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        }
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its name.
    pub sid: Option<String>,
    /// What it does.
    pub effect: Effect,
    /// Whom it is about; none in IAM policies, which are about whom they are attached to.
    pub principal: Option<PrincipalElement>,
    /// Actions it is about (`Action`, `NotAction`).
    pub action: Patterns,
    /// Resources it is about (`Resource`, `NotResource`); `*` in a key policy is the key.
    pub resource: Option<Patterns>,
    /// What must hold of a request, all of it.
    pub conditions: Vec<Condition>,
}

/// Patterns of which one must fit, or, negated, none may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    /// Whether the element is `NotAction` or `NotResource`.
    pub negated: bool,
    /// The patterns, never none.
    pub patterns: Vec<String>,
}

impl Patterns {
    /// Patterns of which one must fit.
    pub fn any<T: Into<String>>(patterns: impl IntoIterator<Item = T>) -> Self {
        Self {
            negated: false,
            patterns: patterns.into_iter().map(Into::into).collect(),
        }
    }
}

/// `Principal` or `NotPrincipal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalElement {
    /// Whether the element is `NotPrincipal`.
    pub negated: bool,
    /// Whom it names.
    pub who: Who,
}

/// Whom a principal element names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `"*"` or `{"AWS": "*"}`: everyone, in any account.
    Anyone,
    /// By kind.
    Listed {
        /// ARNs of roles, users, sessions and accounts, or account numbers.
        aws: Vec<String>,
        /// Services of AWS.
        service: Vec<String>,
        /// Federated identities.
        federated: Vec<String>,
        /// Canonical user ids.
        canonical: Vec<String>,
    },
}

impl Who {
    /// Roles, users, sessions and accounts.
    pub fn aws<T: Into<String>>(arns: impl IntoIterator<Item = T>) -> Self {
        Self::Listed {
            aws: arns.into_iter().map(Into::into).collect(),
            service: Vec::new(),
            federated: Vec::new(),
            canonical: Vec::new(),
        }
    }
}

impl Statement {
    /// How people find it: its Sid, or its place in the policy, counted from 1.
    #[must_use]
    pub fn label(&self, index: usize) -> String {
        match &self.sid {
            Some(sid) if !sid.is_empty() => format!("{sid:?}"),
            _ => format!("number {}", index + 1),
        }
    }
}
