//! Time in the fake's calendars: reading and writing it, and the occurrences of series in a span. It knows UTC, and daily and weekly series;
//! anything else is refused. <https://learn.microsoft.com/graph/api/resources/datetimetimezone>

use super::super::wire::{bad_request, error};
use crate::clock::add_seconds;
use crate::exchange::Reply;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// One occurrence in a span.
#[derive(Debug)]
pub(super) struct Occurrence {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) event: Value,
}

/// Reads `{dateTime, timeZone}`.
pub(super) fn instant(value: &Value) -> Result<Timestamp, Reply> {
    let zone = value["timeZone"].as_str().unwrap_or("UTC");
    if !matches!(zone, "UTC" | "Etc/UTC" | "tzone://Microsoft/Utc") {
        return Err(error(400, "TimeZoneNotSupportedException", &format!("A time zone was specified which is not supported: {zone}")));
    }
    let text = value["dateTime"].as_str().unwrap_or_default();
    if text.ends_with('Z') {
        return text.parse().map_err(|_| bad_request("A dateTime cannot be read."));
    }
    let local: DateTime = text.parse().map_err(|_| bad_request("A dateTime cannot be read."))?;
    local.to_zoned(TimeZone::UTC).map(|at| at.timestamp()).map_err(|_| bad_request("A dateTime is out of range."))
}

/// As Graph writes a time.
pub(super) fn written(at: Timestamp) -> Value {
    json!({ "dateTime": at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000").to_string(), "timeZone": "UTC" })
}

/// How an appointment blocks time, as a digit of `availabilityView`.
pub(super) fn digit(event: &Value) -> char {
    match event["showAs"].as_str() {
        Some("free") => '0',
        Some("tentative") => '1',
        Some("oof") => '3',
        Some("workingElsewhere") => '4',
        _ => '2',
    }
}

/// Minutes of `PT1H30M`.
pub(super) fn minutes(text: &str) -> Option<i64> {
    let (mut total, mut digits) = (0, String::new());
    for c in text.strip_prefix("PT")?.chars() {
        match c {
            '0'..='9' => digits.push(c),
            'H' => total += 60 * std::mem::take(&mut digits).parse::<i64>().ok()?,
            'M' => total += std::mem::take(&mut digits).parse::<i64>().ok()?,
            _ => return None,
        }
    }
    (digits.is_empty() && total > 0).then_some(total)
}

/// Days between two occurrences of a series, and the most there are of them.
pub(super) fn rhythm(recurrence: &Value) -> Result<(i64, usize), Reply> {
    let interval = recurrence["pattern"]["interval"].as_i64().unwrap_or(1).max(1);
    let days = match recurrence["pattern"]["type"].as_str() {
        Some("daily") => interval,
        Some("weekly") => 7 * interval,
        _ => return Err(error(400, "ErrorInvalidRequest", "Only daily and weekly series are known here.")),
    };
    let most = match recurrence["range"]["type"].as_str() {
        Some("numbered") => recurrence["range"]["numberOfOccurrences"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        _ => 366,
    };
    Ok((days, most))
}

/// What of these appointments is in a span: single ones, and the occurrences of series.
pub(super) fn occurrences<'a>(events: impl Iterator<Item = &'a Value>, from: Timestamp, until: Timestamp) -> Vec<Occurrence> {
    let mut found = Vec::new();
    for event in events {
        let (Ok(start), Ok(end)) = (instant(&event["start"]), instant(&event["end"])) else { continue };
        let (days, most) = if event["recurrence"].is_object() { rhythm(&event["recurrence"]).unwrap_or((1, 1)) } else { (1, 1) };
        let last_day = event["recurrence"]["range"]["endDate"].as_str().filter(|_| event["recurrence"]["range"]["type"] == "endDate");
        for n in 0..i64::try_from(most).unwrap_or(1) {
            let (start, end) = (add_seconds(start, n * days * 86_400), add_seconds(end, n * days * 86_400));
            if start >= until || last_day.is_some_and(|last| start.to_zoned(TimeZone::UTC).date().to_string().as_str() > last) {
                break;
            }
            if end > from {
                found.push(Occurrence { start, end, event: occurrence(event, n, start, end) });
            }
        }
    }
    found.sort_by_key(|one| one.start);
    found
}

fn occurrence(event: &Value, n: i64, start: Timestamp, end: Timestamp) -> Value {
    let mut one = event.clone();
    if event["recurrence"].is_object() {
        one["id"] = format!("{}.{n}", event["id"].as_str().unwrap_or_default()).into();
        one["seriesMasterId"] = event["id"].clone();
        one["type"] = "occurrence".into();
        one["recurrence"] = Value::Null;
        (one["start"], one["end"]) = (written(start), written(end));
    }
    one
}
