//! Points in time as RFC 3339 text, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const DAYS_BEFORE_1970: u64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const DAYS_IN_ERA: u64 = 146_097;

/// `2026-11-23T22:47:09.123Z`. A time before 1970 is given as 1970.
#[must_use]
pub fn format_rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date_of(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Reads `2026-11-23T22:47:09Z`, with or without a fraction of a second, with `Z` or an offset from UTC.
///
/// None when it is not that, the date does not exist, or lies before 1970.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let (year, month, day) = three_numbers(date, '-', [4, 2, 2])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, nanoseconds(fraction)?),
        None => (clock, 0),
    };
    let (hour, minute, second) = three_numbers(clock, ':', [2, 2, 2])?;
    // RFC 3339 allows second 60 for leap seconds; POSIX time has none.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_to(year, month, day)?;
    let local = days * DAY + hour * 3600 + minute * 60 + second;
    let seconds = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => local,
        ("+", offset) => local.checked_sub(offset_seconds(offset)?)?,
        ("-", offset) => local.checked_add(offset_seconds(offset)?)?,
        _ => return None,
    };
    UNIX_EPOCH.checked_add(Duration::new(seconds, fraction))
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let well_formed = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| text.parse().ok())?
}

fn three_numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<(u64, u64, u64)> {
    let (first, rest) = text.split_once(separator)?;
    let (second, third) = rest.split_once(separator)?;
    let [a, b, c] = digits;
    Some((number(first, a)?, number(second, b)?, number(third, c)?))
}

fn nanoseconds(fraction: &str) -> Option<u32> {
    if !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let digits = format!("{fraction:0<9}");
    u32::try_from(number(&digits, 9)?).ok()
}

fn offset_seconds(offset: &str) -> Option<u64> {
    let (hours, minutes) = offset.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
}

/// Days from 1970-01-01 to the date; none if there is no such date or it is before.
fn days_to(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last.
    let year_from_march = if month > 2 {
        year
    } else {
        year.checked_sub(1)?
    };
    let (era, of_era) = (year_from_march / 400, year_from_march % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    let days = (era * DAYS_IN_ERA + day_of_era).checked_sub(DAYS_BEFORE_1970)?;
    (date_of(days) == (year, month, day)).then_some(days)
}

/// The date so many days after 1970-01-01.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, of_era) = (days / DAYS_IN_ERA, days % DAYS_IN_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn seconds(text: &str) -> Option<u64> {
        let time = parse_rfc3339(text)?;
        Some(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn known_dates_read_and_write() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T23:59:59.000Z", 951_868_799),
            ("2026-11-23T22:47:09.000Z", 1_795_474_029),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
            let time = UNIX_EPOCH + Duration::from_secs(expected);
            assert_eq!(format_rfc3339(time), text);
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        let expected = parse_rfc3339("2026-11-23T22:47:09.5Z").unwrap();
        for text in [
            "2026-11-23T23:47:09.500+01:00",
            "2026-11-23t20:17:09.5-02:30",
            "2026-11-23 22:47:09.500000000z",
        ] {
            assert_eq!(parse_rfc3339(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T22:47Z",
            "2026-11-23T22:47:09",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T22:47:09.Z",
            "1969-12-31T23:59:59Z",
            "+026-11-23T22:47:09Z",
            "2026-11-23T22:47:09+1:00",
            "2026-11-23T22:47:09Z ",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_time_reads_back_as_it_was_written(milliseconds in 0u64..250_000_000_000_000) {
            let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(time)), Some(time));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = parse_rfc3339(&text);
        }
    }
}
