//! Times and spans as people write and read them: `2026-11-21 16:00`, `2027-01-31`, `90d`.

use std::time::Duration;

use connector_core::{Error, Result};
use jiff::{Timestamp, civil, tz::TimeZone};

/// A point in time for a table, in UTC; `–` for none.
pub(crate) fn shown(millis: Option<u64>) -> String {
    let time = millis.and_then(|millis| i64::try_from(millis).ok()).and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| "–".into(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
}

/// Unix milliseconds of `2027-01-31` (its begin, in UTC) or `2027-01-31T12:00:00Z`.
pub(crate) fn date(text: &str) -> Result<u64> {
    let time = text.parse::<Timestamp>().or_else(|_| text.parse::<civil::Date>()?.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()));
    let millis = time.ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    millis.ok_or_else(|| Error::invalid("that is not a date; write it as 2027-01-31 or 2027-01-31T12:00:00Z"))
}

/// A span such as `90d`, `24h`, `30m`, `0s`.
pub(crate) fn span(text: &str) -> Result<Duration> {
    let refuse = || Error::invalid("that is not a span of time; write a number and a unit: 90d, 24h, 30m or 0s");
    let unit = text.chars().next_back().ok_or_else(refuse)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(refuse()),
    };
    let count: u64 = text[..text.len() - 1].trim().parse().map_err(|_| refuse())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(refuse)
}

/// A span for a table: the largest unit that fits without a rest.
pub(crate) fn span_shown(seconds: Option<u64>) -> String {
    let Some(seconds) = seconds else { return "–".into() };
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    units
        .iter()
        .find(|(size, _)| seconds >= *size && seconds % size == 0)
        .map_or_else(|| format!("{seconds}s"), |(size, unit)| format!("{}{unit}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_spans_are_read_as_people_write_them() {
        assert_eq!(date("2027-01-31").unwrap(), 1_801_353_600_000);
        assert_eq!(date("2027-01-31T00:00:01Z").unwrap(), 1_801_353_601_000);
        assert_eq!(span("90d").unwrap(), Duration::from_secs(7_776_000));
        assert_eq!(span("0s").unwrap(), Duration::ZERO);
        assert_eq!(span_shown(Some(7_776_000)), "90d");
        assert_eq!(shown(Some(1_801_353_600_000)), "2027-01-31 00:00");
    }

    #[test]
    fn what_is_no_time_is_refused_without_repeating_it() {
        for text in ["", "d", "tomorrow", "12", "-1d", "99999999999999999999d", "1ä"] {
            assert!(span(text).is_err(), "{text}");
            assert!(date(text).is_err(), "{text}");
        }
        assert!(!date("hunter2").unwrap_err().to_string().contains("hunter2"));
    }
}
