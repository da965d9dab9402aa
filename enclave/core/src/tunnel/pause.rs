//! Pauses between attempts.

use std::time::Duration;

/// "Full jitter": anything up to a limit that doubles from `first` to `longest`, so that many nodes do not come back at
/// once.
#[must_use]
pub fn full_jitter(attempt: u32, first: Duration, longest: Duration) -> Duration {
    let doubled = first.saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1)));
    part_of(doubled.min(longest))
}

/// A random part of a duration.
#[must_use]
pub fn part_of(whole: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness it is all of it.
    let part = match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX),
        Err(_) => 1.0,
    };
    whole.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        for attempt in [0, 1, 2, 5, 6, 40, u32::MAX] {
            let most = first * 2u32.saturating_pow(attempt.saturating_sub(1).min(5));
            assert!(full_jitter(attempt, first, longest) <= most.min(longest));
        }
    }
}
