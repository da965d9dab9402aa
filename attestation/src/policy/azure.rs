//! Azure Key Vault's release policies: parsed, written from a release policy, evaluated, linted, compared.

mod branches;
mod compose;
mod diff;
mod evaluate;
mod grammar;
mod lint;
mod read;
mod section;
mod write;

pub use compose::release_policy;
pub use diff::{Difference, diff};
pub use evaluate::{Decision, Miss, Operators, evaluate};
pub use grammar::{Authority, ClaimCondition, Condition, Operator, Policy, Rule, VERSION};
pub use lint::{Code, Finding, is_clean, lint};
pub use read::{KeyPolicy, MAX_POLICY, PolicyError, parse, parse_key};
pub(in crate::policy) use section::Table;
pub use section::{AzureError, AzureSection, Machine, MachineKind, Tee};

/// An authority without what is no difference: a slash at its end, the case of scheme and host.
#[must_use]
pub fn normal_authority(authority: &str) -> String {
    authority.trim_end_matches('/').to_ascii_lowercase()
}
