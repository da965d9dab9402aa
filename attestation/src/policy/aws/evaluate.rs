//! Whether a key policy lets a request pass, by the rules AWS documents.
//!
//! IAM user guide, "Policy evaluation logic"; KMS developer guide, "Key policies in AWS KMS": a key policy must allow
//! the caller, or its whole account, which then may allow it by IAM policies. An explicit Deny always wins. Grants,
//! session policies, permission boundaries and organisation policies are not part of this.

use std::fmt;

use super::caller::whole_account;
use super::condition::Condition;
use super::pattern::{fill, fits, fits_any_case};
use super::request::Request;
use super::statement::{Effect, Patterns, Policy, PrincipalElement, Statement, Version, Who};

/// What a policy says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed.
    Allowed {
        /// The statement that allows it.
        by: String,
    },
    /// Denied by a statement that says so.
    Denied {
        /// The statement that denies it.
        by: String,
    },
    /// Nothing allows it.
    NotAllowed {
        /// The statements that would allow such an action, and what each lacked.
        nearest: Vec<NearMiss>,
    },
}

/// A statement that would have allowed a request but for what it lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// The statement.
    pub statement: String,
    /// What was lacking.
    pub miss: Miss,
}

/// Why a statement is not about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// About other principals.
    Principal,
    /// About other actions.
    Action,
    /// About other resources.
    Resource,
    /// A condition does not hold.
    Condition {
        /// Its operator.
        operator: String,
        /// Its key.
        key: String,
        /// The values that fit.
        expected: Vec<String>,
        /// The request's, none where the key is absent.
        found: Option<Vec<String>>,
    },
    /// It allows the account, but no IAM policy of the caller allows the action.
    IdentityPolicy,
}

impl Decision {
    /// Whether the request may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

/// Whether a caller is whom a principal element names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    /// By its account: IAM policies decide.
    Account,
    /// By itself.
    Direct,
}

/// What the key policy, and the caller's IAM policies where they count, say to a request.
#[must_use]
pub fn evaluate(policy: &Policy, request: &Request) -> Decision {
    let statements = || policy.statements.iter().enumerate();
    for (index, statement) in statements() {
        if statement.effect == Effect::Deny && applies(statement, policy.version, request).is_ok() {
            let by = statement.label(index);
            return Decision::Denied { by };
        }
    }
    let identity = match identity_says(request) {
        Identity::Denies(by) => return Decision::Denied { by },
        Identity::Allows => true,
        Identity::IsSilent => request.caller.is_root(),
    };
    let same_account = request.key_account() == Some(request.caller.account());
    let mut nearest = Vec::new();
    for (index, statement) in statements() {
        if statement.effect == Effect::Deny {
            continue;
        }
        let label = statement.label(index);
        let miss = match applies(statement, policy.version, request) {
            Ok(Match::Direct) if same_account => None,
            Ok(_) if identity => None,
            Ok(_) => Some(Miss::IdentityPolicy),
            Err(miss) => Some(miss),
        };
        match miss {
            None => return Decision::Allowed { by: label },
            Some(Miss::Action) => {}
            Some(miss) => nearest.push(NearMiss {
                statement: label,
                miss,
            }),
        }
    }
    Decision::NotAllowed { nearest }
}

enum Identity {
    Denies(String),
    Allows,
    IsSilent,
}

fn identity_says(request: &Request) -> Identity {
    let mut allows = false;
    for policy in &request.identity_policies {
        for (index, statement) in policy.statements.iter().enumerate() {
            if about(statement, policy.version, request).is_ok() {
                match statement.effect {
                    Effect::Deny => {
                        return Identity::Denies(format!("{} (IAM)", statement.label(index)));
                    }
                    Effect::Allow => allows = true,
                }
            }
        }
    }
    if allows {
        return Identity::Allows;
    }
    Identity::IsSilent
}

/// Whether a statement of a key policy applies to a request, and how its principal does.
fn applies(statement: &Statement, version: Version, request: &Request) -> Result<Match, Miss> {
    let matched = match &statement.principal {
        Some(element) => principal_matches(element, statement.effect, request),
        None => Match::No,
    };
    // First what a statement is about, so that near misses are those about the action.
    action_fits(statement, request)?;
    if matched == Match::No {
        return Err(Miss::Principal);
    }
    about(statement, version, request)?;
    Ok(matched)
}

fn action_fits(statement: &Statement, request: &Request) -> Result<(), Miss> {
    let Patterns { negated, patterns } = &statement.action;
    let fits = patterns
        .iter()
        .any(|pattern| fits_any_case(pattern, &request.action));
    if fits == *negated {
        return Err(Miss::Action);
    }
    Ok(())
}

/// Whether action, resource and conditions fit.
fn about(statement: &Statement, version: Version, request: &Request) -> Result<(), Miss> {
    action_fits(statement, request)?;
    // KMS takes no statement without a resource; where there is one all the same, it must not open anything.
    let resource_fits = match &statement.resource {
        None => statement.effect == Effect::Deny,
        Some(Patterns { negated, patterns }) => {
            let fits = patterns.iter().any(|pattern| {
                if version == Version::V2012 {
                    let filled = fill(pattern, |key| request.variable(key));
                    return filled.is_some_and(|pattern| fits(&pattern, &request.resource));
                }
                fits(pattern, &request.resource)
            });
            fits != *negated
        }
    };
    if !resource_fits {
        return Err(Miss::Resource);
    }
    match statement
        .conditions
        .iter()
        .find(|condition| !holds(condition, version, request))
    {
        None => Ok(()),
        Some(condition) => Err(Miss::Condition {
            operator: condition.operator.to_string(),
            key: condition.key.clone(),
            expected: condition.values.clone(),
            found: request.values(&condition.key).map(<[String]>::to_vec),
        }),
    }
}

fn holds(condition: &Condition, version: Version, request: &Request) -> bool {
    condition.holds(request.values(&condition.key), version, |key| {
        request.variable(key)
    })
}

fn principal_matches(element: &PrincipalElement, effect: Effect, request: &Request) -> Match {
    let caller = &request.caller;
    let Who::Listed { aws, .. } = &element.who else {
        return if element.negated {
            Match::No
        } else {
            Match::Direct
        };
    };
    let listed = |name: &str| aws.iter().any(|principal| principal == name);
    let account_listed = aws
        .iter()
        .any(|principal| whole_account(principal) == Some(caller.account()));
    if element.negated {
        // A Deny spares a caller only if its account, its role and its session are all listed (IAM user guide,
        // "NotPrincipal"). With Allow the element is not supported; it is read as what it says.
        let spared = match effect {
            Effect::Deny => account_listed && caller.names().all(listed),
            Effect::Allow => account_listed || caller.names().any(listed),
        };
        return if spared { Match::No } else { Match::Direct };
    }
    if caller.names().any(listed) || (effect == Effect::Deny && account_listed) {
        return Match::Direct;
    }
    if account_listed {
        return Match::Account;
    }
    Match::No
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { by } => write!(f, "allowed by statement {by}"),
            Self::Denied { by } => write!(f, "denied by statement {by}"),
            Self::NotAllowed { nearest } if nearest.is_empty() => {
                f.write_str("no statement allows the action")
            }
            Self::NotAllowed { nearest } => {
                f.write_str("no statement allows it:")?;
                for (index, near) in nearest.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ";" };
                    write!(f, "{separator} {}: {}", near.statement, near.miss)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal => f.write_str("is about other principals"),
            Self::Action => f.write_str("is about other actions"),
            Self::Resource => f.write_str("is about other resources"),
            Self::IdentityPolicy => {
                f.write_str("allows the account, and no IAM policy of the caller allows the action")
            }
            Self::Condition {
                operator,
                key,
                expected,
                found,
            } => {
                write!(
                    f,
                    "{operator} {key}: expected {}, found ",
                    expected.join(" or ")
                )?;
                match found {
                    Some(found) => f.write_str(&found.join(", ")),
                    None => f.write_str("no such key"),
                }
            }
        }
    }
}
