//! How many releases and creations a vault takes in a time (Key Vault service limits: 10 in 10 s for HSM keys, together).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// How many.
    pub count: usize,
    /// In how many milliseconds.
    pub milliseconds: u64,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            count: 10,
            milliseconds: 10_000,
        }
    }
}

/// The calls of the last while.
pub(super) struct Window(Mutex<(Limit, VecDeque<u64>)>);

impl Window {
    pub(super) fn new(limit: Limit) -> Self {
        Self(Mutex::new((limit, VecDeque::new())))
    }

    pub(super) fn set(&self, limit: Limit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = limit;
    }

    /// Counts a call, or says in how many milliseconds one will be taken. Refused calls are not counted.
    pub(super) fn take(&self, now: Timestamp) -> Result<(), u64> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (limit, calls) = &mut *guard;
        let start = now.0.saturating_sub(limit.milliseconds);
        while calls.front().is_some_and(|call| *call <= start) {
            calls.pop_front();
        }
        if calls.len() < limit.count {
            calls.push_back(now.0);
            return Ok(());
        }
        let oldest = calls.front().copied().unwrap_or(now.0);
        Err(oldest.saturating_sub(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_call_in_ten_seconds_waits_for_the_first_to_leave() {
        let window = Window::new(Limit::default());
        for call in 0..10 {
            assert_eq!(window.take(Timestamp(1_000_000 + call * 100)), Ok(()));
        }
        assert_eq!(window.take(Timestamp(1_005_000)), Err(5_000));
        assert_eq!(window.take(Timestamp(1_010_000)), Ok(()));
        assert_eq!(window.take(Timestamp(1_010_000)), Err(100));
    }
}
