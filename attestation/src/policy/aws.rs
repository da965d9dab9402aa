//! AWS policies of a KMS key: parsed, written from a release policy, evaluated, linted, compared.

mod caller;
mod compose;
mod condition;
mod diff;
mod evaluate;
pub(crate) mod known;
mod lint;
mod pattern;
mod read;
mod request;
mod statement;
mod write;

pub use super::Severity;
pub use caller::{Caller, CallerError};
pub use compose::{ComposeError, identity_policy, key_policy};
pub use condition::{Condition, Kind, Operator, Quantifier};
pub use diff::{Difference, diff};
pub use evaluate::{Decision, Miss, NearMiss, evaluate};
pub use lint::{Code, Finding, is_clean, lint};
pub use read::{MAX_POLICY, PolicyError, parse};
pub use request::Request;
pub use statement::{Effect, Patterns, Policy, PrincipalElement, Statement, Version, Who};
