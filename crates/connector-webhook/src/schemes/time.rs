//! Timestamps in headers, and the window in which a delivery counts as fresh.

use std::time::{Duration, SystemTime};

use connector_core::error::Result;

use super::denied;

/// How old or early a delivery may be when nothing else is said.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// From here on a number is taken for milliseconds: as seconds it would be the year 5138.
const MILLIS_FROM: u64 = 100_000_000_000;
/// From here on a number is nonsense either way.
const NONSENSE_FROM: u64 = 100_000_000_000_000;

/// Reads Unix seconds or milliseconds (digits only, no sign, no fraction), or a date of RFC 3339 with its `T`.
///
/// # Errors
/// Denied as malformed.
pub(crate) fn parse(text: &str) -> Result<SystemTime> {
    if text.len() <= 35 && text.contains('T') {
        return text.parse::<jiff::Timestamp>().map(SystemTime::from).map_err(|_| denied("malformed"));
    }
    let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<u64>().ok()).flatten().filter(|number| *number < NONSENSE_FROM);
    let number = number.ok_or_else(|| denied("malformed"))?;
    Ok(instant(number))
}

/// A number of seconds or milliseconds as a time.
pub(crate) fn instant(number: u64) -> SystemTime {
    let since = if number >= MILLIS_FROM { Duration::from_millis(number) } else { Duration::from_secs(number) };
    SystemTime::UNIX_EPOCH + since
}

/// Whether `at` is within `tolerance` of `now`, in both directions.
pub(crate) fn fresh(at: SystemTime, now: SystemTime, tolerance: Duration) -> bool {
    let apart = now.duration_since(at).or_else(|_| at.duration_since(now)).unwrap_or(Duration::MAX);
    apart <= tolerance
}
