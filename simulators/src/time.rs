//! Points in time as the simulated services write them, and the clock they read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

/// Year, month, day, hour, minute, second.
type Civil = (u64, u64, u64, u64, u64, u64);

impl Timestamp {
    /// From whole seconds since 1970.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This many seconds later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// This many seconds earlier, not before 1970.
    #[must_use]
    pub fn minus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds.saturating_mul(1000)))
    }

    /// `20150830T123600Z`, as SigV4 writes it.
    #[must_use]
    pub fn basic(self) -> String {
        let (y, m, d, h, min, s) = self.civil();
        format!("{y:04}{m:02}{d:02}T{h:02}{min:02}{s:02}Z")
    }

    /// Reads `20150830T123600Z`.
    #[must_use]
    pub fn parse_basic(text: &str) -> Option<Self> {
        let fields = [(0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15)];
        let fits = text.len() == 16 && text.get(8..9) == Some("T") && text.ends_with('Z');
        Self::from_fields(text, fields).filter(|_| fits)
    }

    /// Reads `2015-08-30T12:36:00Z` (RFC 3339, UTC, whole seconds).
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let fields = [(0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19)];
        let point = Self::from_fields(text, fields)?;
        // Writing it again is the check of everything between the digits.
        (point.to_string() == text).then_some(point)
    }

    /// `Sun, 30 Aug 2015 12:36:00 GMT`, as HTTP's Date header has it (RFC 9110 section 5.6.7).
    #[must_use]
    pub fn http(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let pick = |names: &[&'static str], at: u64| {
            usize::try_from(at)
                .ok()
                .and_then(|at| names.get(at).copied())
                .unwrap_or_default()
        };
        let (y, m, d, h, min, s) = self.civil();
        let day = pick(&DAYS, self.seconds() / 86_400 % 7);
        let month = pick(&MONTHS, m - 1);
        format!("{day}, {d:02} {month} {y:04} {h:02}:{min:02}:{s:02} GMT")
    }

    /// Content of an X.509 time (RFC 5280 section 4.1.2.5): whether UTCTime, and its text.
    pub(crate) fn x509(self) -> (bool, String) {
        let (y, m, d, h, min, s) = self.civil();
        let rest = format!("{m:02}{d:02}{h:02}{min:02}{s:02}Z");
        if y < 2050 {
            (true, format!("{:02}{rest}", y % 100))
        } else {
            (false, format!("{y:04}{rest}"))
        }
    }

    fn from_fields(text: &str, fields: [(usize, usize); 6]) -> Option<Self> {
        let mut numbers = [0; 6];
        for ((from, to), number) in fields.into_iter().zip(&mut numbers) {
            let digits = text.get(from..to)?;
            if !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *number = digits.parse::<u64>().ok()?;
        }
        let [y, m, d, h, min, s] = numbers;
        if !(1970..=9999).contains(&y) || !(1..=12).contains(&m) || h > 23 || min > 59 || s > 59 {
            return None;
        }
        let point = Self::from_seconds(days(y, m, d)? * 86_400 + h * 3600 + min * 60 + s);
        // A day its month does not have comes out as another date.
        (point.civil() == (y, m, d, h, min, s)).then_some(point)
    }

    /// The proleptic Gregorian date and time (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    fn civil(self) -> Civil {
        let seconds = self.seconds();
        let shifted = seconds / 86_400 + 719_468;
        let era = shifted / 146_097;
        let of_era = shifted % 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let rest = seconds % 86_400;
        (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
    }
}

/// Days from 1970-01-01 to a date not before it.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let of_era = year % 400;
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

impl fmt::Display for Timestamp {
    /// `2015-08-30T12:36:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (y, m, d, h, min, s) = self.civil();
        write!(f, "{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z")
    }
}

/// What a simulator takes for the present. Clones share it.
#[derive(Clone)]
pub struct Clock {
    /// Milliseconds since 1970 if the clock stands; 0 if it follows the system's.
    standing: Arc<AtomicU64>,
    /// Milliseconds added.
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::standing_at(Timestamp(0))
    }

    /// A clock that moves only when told to.
    #[must_use]
    pub fn standing_at(now: Timestamp) -> Self {
        Self {
            standing: Arc::new(AtomicU64::new(now.0)),
            offset: Arc::new(AtomicI64::new(0)),
        }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let standing = self.standing.load(Ordering::SeqCst);
        let base = if standing == 0 {
            let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
            let elapsed = elapsed.unwrap_or_default().as_millis();
            u64::try_from(elapsed).unwrap_or(u64::MAX)
        } else {
            standing
        };
        Timestamp(base.saturating_add_signed(self.offset.load(Ordering::SeqCst)))
    }

    /// Sets how far the clock is ahead of what it follows (behind, if negative), in milliseconds.
    pub fn set_offset(&self, milliseconds: i64) {
        self.offset.store(milliseconds, Ordering::SeqCst);
    }
}

/// How far a clock is to be ahead, as admin doors are told: `{"offset_seconds": N}`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offset {
    offset_seconds: i64,
}

impl Offset {
    /// Sets `clock` so.
    pub(crate) fn set(&self, clock: &Clock) {
        clock.set_offset(self.offset_seconds.saturating_mul(1000));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates_come_out_right() {
        let point = Timestamp::from_seconds(1_440_938_160);
        assert_eq!(point.to_string(), "2015-08-30T12:36:00Z");
        assert_eq!(point.basic(), "20150830T123600Z");
        assert_eq!(point.http(), "Sun, 30 Aug 2015 12:36:00 GMT");
        assert_eq!(point.x509(), (true, "150830123600Z".to_owned()));
        let leap = Timestamp::parse_rfc3339("2000-02-29T23:59:59Z").unwrap();
        assert_eq!(leap.seconds(), 951_868_799);
        let late = Timestamp::parse_rfc3339("2050-01-01T00:00:00Z").unwrap();
        assert_eq!(late.x509(), (false, "20500101000000Z".to_owned()));
    }

    #[test]
    fn dates_that_do_not_exist_are_not_read() {
        for text in [
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01 00:00:00Z",
            "2023-01-01T00:00:00+00:00",
            "1969-12-31T23:59:59Z",
            "",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
        for text in ["20230229T000000Z", "20230101X000000Z", "20230101T000000"] {
            assert_eq!(Timestamp::parse_basic(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_until_9999_reads_back_from_both_forms(seconds in 0u64..253_402_300_800) {
            let point = Timestamp::from_seconds(seconds);
            prop_assert_eq!(Timestamp::parse_rfc3339(&point.to_string()), Some(point));
            prop_assert_eq!(Timestamp::parse_basic(&point.basic()), Some(point));
        }

        #[test]
        fn any_text_is_read_or_not_without_panic(text in "\\PC{0,24}") {
            let _ = Timestamp::parse_rfc3339(&text);
            let _ = Timestamp::parse_basic(&text);
        }
    }

    #[test]
    fn a_standing_clock_moves_only_by_its_offset_and_its_clones_follow() {
        let clock = Clock::standing_at(Timestamp::from_seconds(100));
        let clone = clock.clone();
        clock.set_offset(-2500);
        assert_eq!(clone.now(), Timestamp(97_500));
    }
}
