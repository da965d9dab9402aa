//! Durations as people write them: "500ms", "10s", "5m", "1h".

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a duration: a whole number and its unit, above zero.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "expected a duration such as \"500ms\", \"10s\", \"5m\" or \"1h\", found {text:?}"
        ))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let milliseconds = number.checked_mul(match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    })?;
    (milliseconds > 0).then_some(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_above_zero_with_its_unit() {
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Some(Duration::from_secs(3600)));
        for wrong in [
            "",
            "s",
            "10",
            "0s",
            "-1s",
            "1.5s",
            "1 s",
            "1d",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
