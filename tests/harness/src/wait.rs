//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Between two looks at a condition. Short, since the conditions are cheap and most come true in milliseconds.
const PAUSE: Duration = Duration::from_millis(5);

/// Returns as soon as `look` gives a value; `what` names the awaited thing for the error.
///
/// # Errors
/// When `deadline` passes first, or as soon as `look` itself fails.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if Instant::now() > end {
            return Err(Error::new(format!(
                "waited {deadline:?} in vain for {what}"
            )));
        }
        std::thread::sleep(PAUSE);
    }
}
