//! Condition operators of IAM, and when they hold (IAM user guide, "IAM JSON policy elements: Condition operators").

use std::fmt;
use std::net::IpAddr;

use super::pattern::{arn_fits, fill, fits};
use super::statement::Version;
use crate::time::Timestamp;

/// One key of a condition: operator, key, values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How values are compared.
    pub operator: Operator,
    /// The key, in any case.
    pub key: String,
    /// The values, any of which may fit, and, negated, none may; never none.
    pub values: Vec<String>,
}

/// An operator with what stands around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// `ForAllValues:` or `ForAnyValue:`.
    pub quantifier: Option<Quantifier>,
    /// How two values are compared.
    pub kind: Kind,
    /// Whether it ends in `IfExists`: an absent key fits.
    pub if_exists: bool,
}

/// For keys of several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantifier {
    /// Each value of the request must fit; also where there is none.
    ForAllValues,
    /// One value of the request must fit.
    ForAnyValue,
}

macro_rules! kinds {
    ($($name:ident),* $(,)?) => {
        /// How two values are compared, by IAM's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Kind { $($name),* }

        impl Kind {
            const ALL: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }
    };
}

kinds! {
    StringEquals, StringNotEquals, StringEqualsIgnoreCase, StringNotEqualsIgnoreCase, StringLike, StringNotLike,
    NumericEquals, NumericNotEquals, NumericLessThan, NumericLessThanEquals, NumericGreaterThan,
    NumericGreaterThanEquals,
    DateEquals, DateNotEquals, DateLessThan, DateLessThanEquals, DateGreaterThan, DateGreaterThanEquals,
    Bool, BinaryEquals, IpAddress, NotIpAddress, ArnEquals, ArnLike, ArnNotEquals, ArnNotLike, Null,
}

impl Kind {
    /// Whether it holds where the values differ, and so also where the key is absent.
    #[must_use]
    pub fn is_negated(self) -> bool {
        matches!(
            self,
            Self::StringNotEquals
                | Self::StringNotEqualsIgnoreCase
                | Self::StringNotLike
                | Self::NumericNotEquals
                | Self::DateNotEquals
                | Self::NotIpAddress
                | Self::ArnNotEquals
                | Self::ArnNotLike
        )
    }

    /// Whether it compares text, so that variables stand for values.
    fn takes_variables(self) -> bool {
        matches!(
            self,
            Self::StringEquals
                | Self::StringNotEquals
                | Self::StringEqualsIgnoreCase
                | Self::StringNotEqualsIgnoreCase
                | Self::StringLike
                | Self::StringNotLike
                | Self::ArnEquals
                | Self::ArnLike
                | Self::ArnNotEquals
                | Self::ArnNotLike
        )
    }

    /// Whether a value of a request is what a value of a policy says, before any negation.
    fn compares(self, policy: &str, request: &str) -> bool {
        match self {
            Self::StringEquals | Self::StringNotEquals | Self::BinaryEquals | Self::Null => {
                policy == request
            }
            Self::StringEqualsIgnoreCase | Self::StringNotEqualsIgnoreCase => {
                policy.to_lowercase() == request.to_lowercase()
            }
            Self::StringLike | Self::StringNotLike => fits(policy, request),
            Self::ArnEquals | Self::ArnLike | Self::ArnNotEquals | Self::ArnNotLike => {
                arn_fits(policy, request)
            }
            Self::Bool => policy.eq_ignore_ascii_case(request),
            Self::NumericEquals | Self::NumericNotEquals => {
                ordered(policy, request, number, |p, r| r == p)
            }
            Self::NumericLessThan => ordered(policy, request, number, |p, r| r < p),
            Self::NumericLessThanEquals => ordered(policy, request, number, |p, r| r <= p),
            Self::NumericGreaterThan => ordered(policy, request, number, |p, r| r > p),
            Self::NumericGreaterThanEquals => ordered(policy, request, number, |p, r| r >= p),
            Self::DateEquals | Self::DateNotEquals => ordered(policy, request, date, |p, r| r == p),
            Self::DateLessThan => ordered(policy, request, date, |p, r| r < p),
            Self::DateLessThanEquals => ordered(policy, request, date, |p, r| r <= p),
            Self::DateGreaterThan => ordered(policy, request, date, |p, r| r > p),
            Self::DateGreaterThanEquals => ordered(policy, request, date, |p, r| r >= p),
            Self::IpAddress | Self::NotIpAddress => in_network(policy, request),
        }
    }
}

fn ordered<T>(
    policy: &str,
    request: &str,
    read: fn(&str) -> Option<T>,
    holds: fn(&T, &T) -> bool,
) -> bool {
    matches!((read(policy), read(request)), (Some(p), Some(r)) if holds(&p, &r))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A date, a time, or seconds since 1970.
fn date(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .or_else(|| text.parse().ok().map(Timestamp::from_seconds))
}

fn in_network(network: &str, address: &str) -> bool {
    let (network, bits) = match network.split_once('/') {
        Some((network, bits)) => match bits.parse::<u32>() {
            Ok(bits) => (network, Some(bits)),
            Err(_) => return false,
        },
        None => (network, None),
    };
    let same = |a: u128, b: u128, width: u32| {
        let bits = bits.unwrap_or(width);
        bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0)
    };
    match (network.parse(), address.parse()) {
        (Ok(IpAddr::V4(a)), Ok(IpAddr::V4(b))) => {
            same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
        }
        (Ok(IpAddr::V6(a)), Ok(IpAddr::V6(b))) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

impl Operator {
    /// The operator of that kind alone.
    #[must_use]
    pub const fn plain(kind: Kind) -> Self {
        Self {
            quantifier: None,
            kind,
            if_exists: false,
        }
    }

    /// Reads an operator by IAM's name; none where IAM has none of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (quantifier, rest) = match name.split_once(':') {
            Some(("ForAllValues", rest)) => (Some(Quantifier::ForAllValues), rest),
            Some(("ForAnyValue", rest)) => (Some(Quantifier::ForAnyValue), rest),
            Some(_) => return None,
            None => (None, name),
        };
        let (rest, if_exists) = match rest.strip_suffix("IfExists") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (_, kind) = *Kind::ALL.iter().find(|(name, _)| *name == rest)?;
        // "You can add IfExists to the end of any condition operator name except the Null condition."
        let allowed = kind != Kind::Null || (!if_exists && quantifier.is_none());
        allowed.then_some(Self {
            quantifier,
            kind,
            if_exists,
        })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quantifier {
            Some(Quantifier::ForAllValues) => f.write_str("ForAllValues:")?,
            Some(Quantifier::ForAnyValue) => f.write_str("ForAnyValue:")?,
            None => {}
        }
        write!(f, "{:?}", self.kind)?;
        f.write_str(if self.if_exists { "IfExists" } else { "" })
    }
}

impl Condition {
    /// A condition of that kind on a key.
    pub fn new<T: Into<String>>(
        kind: Kind,
        key: impl Into<String>,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            operator: Operator::plain(kind),
            key: key.into(),
            values: values.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether it holds of a request that has these values at the key, none where the key is absent. `lookup` gives
    /// the values of variables.
    pub(super) fn holds<'v>(
        &self,
        found: Option<&[String]>,
        version: Version,
        lookup: impl Fn(&str) -> Option<&'v str>,
    ) -> bool {
        let Operator {
            quantifier,
            kind,
            if_exists,
        } = self.operator;
        if kind == Kind::Null {
            let absent = if found.is_none() { "true" } else { "false" };
            return self.values.iter().any(|v| v.eq_ignore_ascii_case(absent));
        }
        let found = match found {
            Some([]) | None => {
                return match quantifier {
                    Some(Quantifier::ForAllValues) => true,
                    Some(Quantifier::ForAnyValue) => if_exists,
                    None => if_exists || kind.is_negated(),
                };
            }
            Some(found) => found,
        };
        let fits = |request: &String| {
            self.values.iter().any(|policy| {
                if version == Version::V2012 && kind.takes_variables() && policy.contains("${") {
                    // A variable without a value fits nothing.
                    return fill(policy, &lookup)
                        .is_some_and(|policy| kind.compares(&policy, request));
                }
                kind.compares(policy, request)
            })
        };
        match (quantifier, kind.is_negated()) {
            (Some(Quantifier::ForAllValues), false) => found.iter().all(fits),
            (Some(Quantifier::ForAnyValue), true) => !found.iter().all(fits),
            (Some(Quantifier::ForAnyValue) | None, false) => found.iter().any(fits),
            (Some(Quantifier::ForAllValues) | None, true) => !found.iter().any(fits),
        }
    }
}
