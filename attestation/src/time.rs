//! Points in time as arguments: milliseconds since 1970 UTC, read and written as RFC 3339.

use std::fmt;

const DAY_SECONDS: u64 = 86_400;
/// Last second RFC 3339 can write: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// Milliseconds since 1970-01-01T00:00:00Z, as attestation documents count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `milliseconds` after 1970.
    #[must_use]
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The time `seconds` after 1970; the last that can be held where there are too many.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn milliseconds(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Reads RFC 3339 (`2025-01-06T16:07:05.472Z`, or with an offset); none where `text` is not that or before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let date = bytes.get(..10)?;
        let clock = bytes.get(11..19)?;
        if !matches!(bytes.get(10)?, b'T' | b't' | b' ')
            || [date.get(4)?, date.get(7)?] != [&b'-', &b'-']
            || [clock.get(2)?, clock.get(5)?] != [&b':', &b':']
        {
            return None;
        }
        let seconds = civil_seconds(
            number(date.get(..4)?)?,
            number(date.get(5..7)?)?,
            number(date.get(8..10)?)?,
            number(clock.get(..2)?)?,
            number(clock.get(3..5)?)?,
            number(clock.get(6..8)?)?,
        )?;
        let mut rest = bytes.get(19..)?;
        let mut milliseconds = 0;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            let (fraction, after) = fraction.split_at_checked(digits)?;
            if fraction.is_empty() {
                return None;
            }
            for place in 0..3 {
                let digit = fraction.get(place).map_or(0, |b| u64::from(b - b'0'));
                milliseconds = milliseconds * 10 + digit;
            }
            rest = after;
        }
        let seconds = match rest {
            b"Z" | b"z" => seconds,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let offset = hours * 3600 + minutes * 60;
                if *sign == b'+' {
                    seconds.checked_sub(offset)?
                } else {
                    seconds.checked_add(offset)?
                }
            }
            _ => return None,
        };
        Some(Self(seconds.checked_mul(1000)?.checked_add(milliseconds)?))
    }
}

/// Seconds since 1970 of a UTC date and time, none where a part is out of range or the date before 1970.
pub(crate) fn civil_seconds(
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    let in_range = (1970..=9999).contains(&year)
        && (1..=days_in_month).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    // Years run from March, so that the leap day is the last (H. Hinnant, "chrono-compatible low-level date algorithms").
    let march_year = if month > 2 { year } else { year - 1 };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let days =
        march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400 + day_of_year;
    let days = days.checked_sub(719_468)?;
    Some(days * DAY_SECONDS + hour * 3600 + minute * 60 + second)
}

/// The number in decimal `digits`, none where one is not a digit.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        if seconds > LAST_SECOND {
            return write!(f, "{} ms after 1970", self.0);
        }
        let days = seconds / DAY_SECONDS + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let time = seconds % DAY_SECONDS;
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        match self.0 % 1000 {
            0 => f.write_str("Z"),
            milliseconds => write!(f, ".{milliseconds:03}Z"),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_read() {
        for (text, milliseconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2025-01-06T16:07:05.472Z", 1_736_179_625_472),
            ("2025-01-06T17:07:05.4729+01:00", 1_736_179_625_472),
            ("2025-01-06T15:37:05.4-00:30", 1_736_179_625_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ] {
            let read = Timestamp::parse_rfc3339(text).unwrap();
            assert_eq!(read.milliseconds(), milliseconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2025-01-06",
            "2025-01-06T16:07:05",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-01-06T24:00:00Z",
            "2025-01-06T16:07:05.Z",
            "2025-01-06T16:07:05+1:00",
            "1969-12-31T23:59:59Z",
            "2025/01/06T16:07:05Z",
            "2025-01-06T16:07:05Zz",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(milliseconds in 0..=LAST_SECOND * 1000) {
            let time = Timestamp::from_milliseconds(milliseconds);
            prop_assert_eq!(Timestamp::parse_rfc3339(&time.to_string()), Some(time));
        }

        #[test]
        fn reading_and_writing_never_panic(text in "\\PC*", milliseconds: u64) {
            let _ = Timestamp::parse_rfc3339(&text);
            let _ = Timestamp::from_milliseconds(milliseconds).to_string();
        }
    }
}
