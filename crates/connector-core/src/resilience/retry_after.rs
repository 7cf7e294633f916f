//! Reads how long a vendor asks us to wait, in every form seen in the wild.
//!
//! A value that cannot be read is no value: the caller falls back to its own backoff. Nothing longer than a day is believed.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// Longer waits are cut to this.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The delay in a `Retry-After` value: seconds (`120`), fractions (`0.5`) or an HTTP date. A date in the past gives zero,
/// a negative number or anything else gives `None`, and more than [`LONGEST`] gives [`LONGEST`].
pub fn parse(value: &str, wall_now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match number(value) {
        Some(seconds) => Some(from_seconds(seconds)),
        None => httpdate::parse_http_date(value).ok().map(|date| until(date, wall_now)),
    }
}

/// The delay a response asks for: `retry-after-ms` where a vendor sends it, else `retry-after`.
pub fn from_headers(headers: &HeaderMap, wall_now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let precise = text("retry-after-ms").and_then(|value| number(value.trim())).map(|millis| from_seconds(millis / 1_000.0));
    precise.or_else(|| parse(text("retry-after")?, wall_now))
}

/// As [`from_headers`], and if that says nothing, the named header in which this vendor tells when its window resets
/// (see [`parse_reset`]). Such headers mean different things at different vendors, so none is read unless named.
pub fn from_headers_or_reset(headers: &HeaderMap, reset_header: Option<&str>, wall_now: SystemTime) -> Option<Duration> {
    from_headers(headers, wall_now).or_else(|| parse_reset(headers.get(reset_header?)?.to_str().ok()?, wall_now))
}

/// The delay until a window resets, told as seconds from now, Unix seconds or milliseconds, an HTTP date or an ISO 8601
/// date. An ISO date without seconds is rounded up to the next minute.
pub fn parse_reset(value: &str, wall_now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Some(number) = number(value) {
        // Nobody's window is thirty years long: a number this large is a date.
        return Some(match number {
            millis if millis >= 1e12 => until(unix(millis / 1_000.0)?, wall_now),
            seconds if seconds >= 1e9 => until(unix(seconds)?, wall_now),
            seconds => from_seconds(seconds),
        });
    }
    httpdate::parse_http_date(value).ok().or_else(|| iso(value)).map(|date| until(date, wall_now))
}

fn number(text: &str) -> Option<f64> {
    // Rust also reads `inf`, `nan` and signs as numbers; no vendor means those.
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.').then(|| text.parse::<f64>().ok())?
}

fn from_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |delay| delay.min(LONGEST))
}

fn until(date: SystemTime, wall_now: SystemTime) -> Duration {
    date.duration_since(wall_now).unwrap_or_default().min(LONGEST)
}

fn unix(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// `2026-11-21T13:05Z`, `2026-11-21T13:05:30.250+02:00`.
fn iso(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone[1..].split_once(':').or_else(|| zone[1..].split_at_checked(2))?;
            let offset = hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().unwrap_or(0) * 60;
            if zone.starts_with('-') { -offset } else { offset }
        }
    };
    let mut clock = clock.splitn(3, ':');
    let (hour, minute) = (clock.next()?.parse::<i64>().ok()?, clock.next()?.parse::<i64>().ok()?);
    let second = clock.next().map_or(Some(60.0), |second| second.parse::<f64>().ok().filter(|second| (0.0..61.0).contains(second)))?;
    let plausible = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !plausible || !(0..24).contains(&hour) || !(0..60).contains(&minute) {
        return None;
    }
    // Days since 1970-01-01 of a proleptic Gregorian date, counting years from March so that the leap day comes last.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let whole = u64::try_from(days * 86_400 + hour * 3_600 + minute * 60 - offset).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(whole))?.checked_add(Duration::try_from_secs_f64(second).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        let seconds = |s: f64| Some(Duration::from_secs_f64(s));
        for (text, expected) in [
            ("120", seconds(120.0)),
            ("0", seconds(0.0)),
            (" 7 ", seconds(7.0)),
            ("0.5", seconds(0.5)),
            (".25", seconds(0.25)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", seconds(60.0)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", seconds(60.0)),
            ("Sun Nov  6 08:50:37 1994", seconds(60.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", seconds(0.0)),
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(LONGEST)),
            ("1000000000000", Some(LONGEST)),
            ("1e99", Some(LONGEST)),
            ("1e999", Some(LONGEST)),
            ("-5", None),
            ("+5", None),
            ("inf", None),
            ("NaN", None),
            ("soon", None),
            ("", None),
            ("12 seconds", None),
            ("5,6", None),
        ] {
            assert_eq!(parse(text, now()), expected, "{text}");
        }
    }

    #[test]
    fn headers_are_read_in_order_of_precision_and_resets_only_when_named() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-reset", "30".parse().unwrap());
        assert_eq!(from_headers(&headers, now()), None);
        assert_eq!(from_headers_or_reset(&headers, None, now()), None);
        assert_eq!(from_headers_or_reset(&headers, Some("x-ratelimit-reset"), now()), Some(Duration::from_secs(30)));
        headers.insert("retry-after", "2".parse().unwrap());
        assert_eq!(from_headers_or_reset(&headers, Some("x-ratelimit-reset"), now()), Some(Duration::from_secs(2)));
        headers.insert("retry-after-ms", "1500".parse().unwrap());
        assert_eq!(from_headers(&headers, now()), Some(Duration::from_millis(1500)));
        headers.insert("retry-after-ms", "garbage".parse().unwrap());
        assert_eq!(from_headers(&headers, now()), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_reset_is_a_delay_or_a_date() {
        for (text, expected) in [
            ("30", Some(30)),
            ("1000000010", Some(86_400)),
            ("784111787", Some(86_400)),
            ("1994-11-06T08:50:37Z", Some(60)),
            ("1994-11-06T10:50:37+02:00", Some(60)),
            ("1994-11-06T06:50:37-0200", Some(60)),
            ("1994-11-06T08:50Z", Some(83)),
            ("1994-11-06 08:50:37Z", Some(60)),
            ("1994-13-06T08:50:37Z", None),
            ("1994-11-06T08:50:37", None),
            ("tomorrow", None),
        ] {
            assert_eq!(parse_reset(text, now()).map(|delay| delay.as_secs()), expected, "{text}");
        }
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_730_000);
        assert_eq!(parse_reset("1763730060", later), Some(Duration::from_secs(60)));
        assert_eq!(parse_reset("1763730060000", later), Some(Duration::from_secs(60)));
        assert_eq!(parse_reset("2025-11-21T13:01:00Z", later), Some(Duration::from_secs(60)));
        assert_eq!(parse_reset("2024-02-29T00:00:00Z", SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_164_790)), Some(Duration::from_secs(10)));
    }
}
