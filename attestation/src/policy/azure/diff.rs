//! What a live policy says otherwise than the one that was to be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::branches::branches;
use super::grammar::Policy;
use super::normal_authority;

/// One difference between two policies: a way to meet one that does not meet the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "difference")]
pub enum Difference {
    /// The version.
    Version {
        /// As it was to be.
        written: String,
        /// As it is.
        live: String,
    },
    /// The written policy is met this way, and the live one is not.
    Missing {
        /// Whose tokens.
        authority: String,
        /// The conditions.
        conditions: Vec<String>,
    },
    /// The live policy is met this way, and the written one is not.
    Added {
        /// Whose tokens.
        authority: String,
        /// The conditions.
        conditions: Vec<String>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, authority, conditions) = match self {
            Self::Version { written, live } => {
                return write!(f, "! version: expected {written:?}, found {live:?}");
            }
            Self::Missing {
                authority,
                conditions,
            } => ('-', authority, conditions),
            Self::Added {
                authority,
                conditions,
            } => ('+', authority, conditions),
        };
        write!(f, "{sign} {authority}: {}", conditions.join(", "))
    }
}

/// Every difference in meaning: order, nesting and the spelling of an authority are none. A policy with more ways than
/// can be listed differs from every other.
#[must_use]
pub fn diff(written: &Policy, live: &Policy) -> Vec<Difference> {
    let mut differences = Vec::new();
    if written.version != live.version {
        differences.push(Difference::Version {
            written: written.version.clone(),
            live: live.version.clone(),
        });
    }
    let (written, live) = (ways(written), ways(live));
    for ((authority, conditions), _) in written.iter().filter(|(way, _)| !live.contains_key(*way)) {
        differences.push(Difference::Missing {
            authority: authority.clone(),
            conditions: conditions.iter().cloned().collect(),
        });
    }
    for ((authority, conditions), _) in live.iter().filter(|(way, _)| !written.contains_key(*way)) {
        differences.push(Difference::Added {
            authority: authority.clone(),
            conditions: conditions.iter().cloned().collect(),
        });
    }
    differences
}

type Way = (String, BTreeSet<String>);

fn ways(policy: &Policy) -> BTreeMap<Way, ()> {
    let mut ways = BTreeMap::new();
    for (index, authority) in policy.any_of.iter().enumerate() {
        let name = normal_authority(&authority.authority);
        match branches(&authority.rule) {
            Some(all) => {
                for branch in all {
                    ways.insert((name.clone(), branch.normal().into_iter().collect()), ());
                }
            }
            None => {
                let uncounted = format!("too many ways to list (anyOf[{index}])");
                ways.insert((name, BTreeSet::from([uncounted])), ());
            }
        }
    }
    ways
}
