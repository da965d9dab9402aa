//! The time, taken from attestation documents: the hypervisor makes them, the parent cannot.
//!
//! It is set as the system's time (CLOCK_REALTIME), so that certificates, request signatures, blobs and log lines
//! cannot go by another; nobody else in the enclave could set it. Between documents the kernel counts on.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nodeseal_attestation::nitro::Claims;
use nodeseal_core::evidence::{AttestError, AttestationRequest};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::nsm::{self, Nsm};

/// How often the time is compared with a new document: a clock that counts 100 ppm wrong is off by 30 ms then.
pub const INTERVAL: Duration = Duration::from_secs(300);
/// Differences up to this stay: TLS and request signatures take minutes.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The time cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// No document.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// The document says nothing of the time.
    #[error("{device} gave a malformed document: {reason}", device = nsm::DEVICE)]
    Document {
        /// What was expected and found.
        reason: String,
    },
    /// The system's time cannot be set.
    #[error("cannot set the system's time: {0}")]
    Set(#[from] io::Error),
}

/// What one document says of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time since 1970-01-01 UTC when the answer was there.
    pub now: Duration,
    /// How far from it the true time is at most.
    pub within: Duration,
}

/// The time by a document of `timestamp` (since 1970-01-01 UTC) that was made between `asked` and `answered` on some
/// clock that only counts: at the middle of the wait, give or take half of it.
#[must_use]
pub fn reading(asked: Duration, timestamp: Duration, answered: Duration) -> Reading {
    let half = answered.saturating_sub(asked) / 2;
    Reading {
        now: timestamp.saturating_add(half),
        within: half,
    }
}

/// The time to set where a clock that shows `shown` is further off than is tolerated.
#[must_use]
pub fn correction(shown: Duration, reading: Reading) -> Option<Duration> {
    let off = shown.abs_diff(reading.now);
    (off > TOLERANCE.saturating_add(reading.within)).then_some(reading.now)
}

/// Sets the system's time by a new document if it is off; by how much it was, in milliseconds.
///
/// # Errors
/// See [`ClockError`].
pub fn anchor(nsm: &dyn Nsm) -> Result<Option<i128>, ClockError> {
    let asked = read(ClockId::Boottime);
    let document = nsm::document(nsm, AttestationRequest::default())?;
    let answered = read(ClockId::Boottime);
    let claims = Claims::read(&document).map_err(|error| ClockError::Document {
        reason: error.to_string(),
    })?;
    let timestamp = Duration::from_millis(claims.timestamp().milliseconds());
    let shown = read(ClockId::Realtime);
    let Some(right) = correction(shown, reading(asked, timestamp, answered)) else {
        return Ok(None);
    };
    set(right)?;
    let milliseconds = |time: Duration| i128::try_from(time.as_millis()).unwrap_or(i128::MAX);
    Ok(Some(
        milliseconds(right).saturating_sub(milliseconds(shown)),
    ))
}

/// Keeps the time right for ever.
pub async fn keep(nsm: Arc<dyn Nsm>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let asked = Arc::clone(&nsm);
        match tokio::task::spawn_blocking(move || anchor(asked.as_ref())).await {
            Ok(Ok(None)) => tracing::debug!("the time is right"),
            Ok(Ok(Some(off))) => tracing::warn!(off_ms = %off, "the time was set"),
            Ok(Err(error)) => tracing::warn!(%error, "the time was not compared"),
            Err(error) => tracing::warn!(%error, "the time was not compared"),
        }
    }
}

/// Time a clock shows. Those that are read always exist, and none is before its start.
fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn set(time: Duration) -> io::Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// Time since the kernel started.
#[must_use]
pub fn since_boot() -> Duration {
    read(ClockId::Boottime)
}

/// Processor time the first process had taken before it was ours: the kernel's start counts as its.
static BEFORE: OnceLock<Duration> = OnceLock::new();

/// Processor time taken since this was first called.
#[must_use]
pub fn processor() -> Duration {
    let now = read(ClockId::ProcessCPUTime);
    now.saturating_sub(*BEFORE.get_or_init(|| now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_time_is_that_of_the_document_in_the_middle_of_the_wait() {
        let found = reading(ms(1_000), ms(5_000_000), ms(1_040));
        assert_eq!(
            found,
            Reading {
                now: ms(5_000_020),
                within: ms(20)
            }
        );
        // A clock that went backwards (it does not) is no reason to panic.
        assert_eq!(reading(ms(9), ms(5), ms(1)).now, ms(5));
    }

    #[test]
    fn a_clock_is_set_only_where_the_wait_does_not_explain_the_difference() {
        let reading = Reading {
            now: ms(5_000_000),
            within: ms(20),
        };
        for (shown, set) in [
            (5_000_000, false),
            (5_001_020, false),
            (5_001_021, true),
            (4_998_980, false),
            (4_998_979, true),
            (0, true),
        ] {
            let expected = set.then_some(reading.now);
            assert_eq!(correction(ms(shown), reading), expected, "{shown}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_times_overflow(a: u64, b: u64, c: u64, d: u64) {
            let time = Duration::from_secs;
            let _ = correction(time(d), reading(time(a), time(b), time(c)));
        }
    }
}
