//! How much a vault does in a time (Key Vault service limits, "Key transactions"): 10 creations of HSM keys in 10 s,
//! among which releases count, and 2000 other operations with HSM keys of RSA-2048; software keys cost half as much,
//! longer keys more, and what counts is the sum.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Vault;
use super::key::Wanted;
use super::names::Operation;
use super::server::Call;
use crate::time::Timestamp;

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Releases, creations and imports of HSM keys.
    pub count: usize,
    /// Other operations with HSM keys of RSA-2048.
    #[serde(default = "others")]
    pub others: usize,
    /// In how many milliseconds.
    pub milliseconds: u64,
}

fn others() -> usize {
    2000
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            count: 10,
            others: others(),
            milliseconds: 10_000,
        }
    }
}

/// What a call costs, in halves of what one with an HSM key of RSA-2048 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Of creations.
    Creation(usize),
    /// Of other operations.
    Other(usize),
}

impl Cost {
    /// By the key's place and the length of its modulus, in bytes. RSA-3072: 500, RSA-4096: 250 in the time of 2000.
    fn of(creation: bool, hsm: bool, modulus: usize) -> Self {
        let place = if hsm { 2 } else { 1 };
        let length = match modulus {
            ..=256 => 1,
            257..=384 => 4,
            _ => 8,
        };
        match creation {
            // All lengths cost the same.
            true => Self::Creation(place),
            false => Self::Other(place * length),
        }
    }
}

impl Vault {
    /// What a call costs: by the key it uses or makes. Calls about nothing cost as little as any.
    pub(super) fn cost(&self, call: &Call<'_>) -> Cost {
        let target = call.target;
        let creation = match target.operation {
            Operation::Create | Operation::Import => {
                let wanted: Wanted = call.body().unwrap_or_default();
                let imported = wanted.key.as_ref().and_then(|key| key.get("kty")?.as_str());
                let kty = wanted.kty.as_deref().or(imported);
                let by_type = kty.is_some_and(|kty| kty.ends_with("-HSM"));
                return Cost::of(true, wanted.hsm.unwrap_or(by_type), 0);
            }
            operation => operation == Operation::Release,
        };
        match self.store.version(&target.name, target.version.as_deref()) {
            Ok((_, version)) => {
                let modulus = version.public().map_or(0, |key| key.modulus.len());
                Cost::of(creation, version.is_hsm(), modulus)
            }
            Err(_) => Cost::of(creation, false, 0),
        }
    }
}

/// The calls of the last while.
pub(super) struct Window(Mutex<Calls>);

struct Calls {
    limit: Limit,
    creations: Sum,
    others: Sum,
}

/// When what was spent, oldest first.
#[derive(Default)]
struct Sum {
    calls: VecDeque<(u64, usize)>,
    spent: usize,
}

impl Sum {
    /// Spends `cost` of `budget`, or says in how many milliseconds there will be enough.
    fn take(&mut self, now: u64, milliseconds: u64, cost: usize, budget: usize) -> Result<(), u64> {
        let start = now.saturating_sub(milliseconds);
        while let Some((at, cost)) = self.calls.front().copied()
            && at <= start
        {
            self.spent = self.spent.saturating_sub(cost);
            self.calls.pop_front();
        }
        if self.spent.saturating_add(cost) <= budget {
            self.spent = self.spent.saturating_add(cost);
            self.calls.push_back((now, cost));
            return Ok(());
        }
        let mut left = self.spent;
        let enough = self.calls.iter().find(|(_, other)| {
            left = left.saturating_sub(*other);
            left.saturating_add(cost) <= budget
        });
        Err(enough.map_or(milliseconds, |(at, _)| at.saturating_sub(start)))
    }
}

impl Window {
    pub(super) fn new(limit: Limit) -> Self {
        Self(Mutex::new(Calls {
            limit,
            creations: Sum::default(),
            others: Sum::default(),
        }))
    }

    pub(super) fn set(&self, limit: Limit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).limit = limit;
    }

    /// Counts a call, or says in how many milliseconds one will be taken. Refused calls are not counted.
    pub(super) fn take(&self, now: Timestamp, cost: Cost) -> Result<(), u64> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Limit {
            count,
            others,
            milliseconds,
        } = calls.limit;
        let (sum, cost, budget) = match cost {
            Cost::Creation(cost) => (&mut calls.creations, cost, count),
            Cost::Other(cost) => (&mut calls.others, cost, others),
        };
        sum.take(now.0, milliseconds, cost, budget.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_000_000);

    #[test]
    fn the_eleventh_call_in_ten_seconds_waits_for_the_first_to_leave() {
        let window = Window::new(Limit::default());
        let release = Cost::of(true, true, 256);
        for call in 0..10 {
            let at = Timestamp(1_000_000 + call * 100);
            assert_eq!(window.take(at, release), Ok(()));
        }
        assert_eq!(window.take(Timestamp(1_005_000), release), Err(5_000));
        assert_eq!(window.take(Timestamp(1_010_000), release), Ok(()));
        assert_eq!(window.take(Timestamp(1_010_000), release), Err(100));
    }

    #[test]
    fn twenty_creations_of_software_keys_cost_what_ten_of_hsm_keys_do() {
        let window = Window::new(Limit::default());
        for _ in 0..20 {
            assert_eq!(window.take(AT, Cost::of(true, false, 0)), Ok(()));
        }
        assert_eq!(window.take(AT, Cost::of(true, false, 0)), Err(10_000));
    }

    /// The example of the service limits' page.
    #[test]
    fn operations_cost_by_length_and_place_of_the_key_and_their_sum_is_limited() {
        let costs = |hsm: bool| [256, 384, 512].map(|modulus| Cost::of(false, hsm, modulus));
        for (cost, times) in costs(true).into_iter().zip([2000, 500, 250]) {
            let window = Window::new(Limit::default());
            for _ in 0..times {
                assert_eq!(window.take(AT, cost), Ok(()));
            }
            assert_eq!(window.take(AT, cost), Err(10_000), "{cost:?}");
        }
        let window = Window::new(Limit::default());
        let [short, _, long] = costs(true);
        for _ in 0..249 {
            assert_eq!(window.take(AT, long), Ok(()));
        }
        for _ in 0..8 {
            assert_eq!(window.take(AT, short), Ok(()));
        }
        assert_eq!(window.take(AT, costs(false)[0]), Err(10_000));
        // Releases have a budget of their own.
        assert_eq!(window.take(AT, Cost::of(true, true, 512)), Ok(()));
    }
}
