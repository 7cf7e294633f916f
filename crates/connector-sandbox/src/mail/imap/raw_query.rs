//! `X-GM-RAW`: a part of Gmail's search language, the part a mail connector's users write. Words are joined by "and"; `-` before a word turns it
//! round. An operator that is not known fits nothing, so a test notices it.

use super::search::Candidate;
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Whether a message fits the query.
pub(super) fn fits(candidate: &Candidate<'_>, query: &str) -> bool {
    terms(query).into_iter().all(|term| {
        let (wanted, term) = term.strip_prefix('-').map_or((true, term.as_str()), |term| (false, term));
        fits_one(candidate, term) == wanted
    })
}

fn fits_one(candidate: &Candidate<'_>, term: &str) -> bool {
    let message = candidate.message;
    let label = |name: &str| candidate.labels.iter().any(|known| known.trim_start_matches('\\').eq_ignore_ascii_case(name));
    let day = message.internal.to_zoned(TimeZone::UTC).date();
    let Some((operator, value)) = term.split_once(':') else {
        return candidate.body_holds(term) || ["subject", "from", "to", "cc"].iter().any(|name| candidate.header_holds(name, term));
    };
    match (operator, value) {
        ("from" | "to" | "cc" | "bcc" | "subject", _) => candidate.header_holds(operator, value),
        ("rfc822msgid", _) => message.message_id.trim_matches(['<', '>']) == value.trim_matches(['<', '>']),
        ("has", "attachment") => candidate.has_attachment(),
        ("is", "unread") => !message.has("\\Seen"),
        ("is", "read") => message.has("\\Seen"),
        ("is", "starred") => message.has("\\Flagged"),
        ("in" | "label", "anywhere") => true,
        ("in" | "label", name) => label(name),
        ("newer_than", age) => before(candidate.today, age).is_some_and(|limit| day >= limit),
        ("older_than", age) => before(candidate.today, age).is_some_and(|limit| day < limit),
        ("after", date) => ymd(date).is_some_and(|limit| day >= limit),
        ("before", date) => ymd(date).is_some_and(|limit| day < limit),
        ("larger", size) => size.parse().is_ok_and(|size: usize| message.raw.len() > size),
        ("smaller", size) => size.parse().is_ok_and(|size: usize| message.raw.len() < size),
        _ => false,
    }
}

/// The words; quotes keep blanks and are dropped.
fn terms(query: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut quoted = false;
    for char in query.chars() {
        match char {
            '"' => quoted = !quoted,
            ' ' if !quoted => terms.push(String::new()),
            other => {
                if let Some(term) = terms.last_mut() {
                    term.push(other);
                }
            }
        }
    }
    terms.retain(|term| !term.is_empty());
    terms
}

/// The day this long (`2d`, `3m`, `1y`) before `today`.
fn before(today: Date, age: &str) -> Option<Date> {
    let count: i32 = age.get(..age.len().checked_sub(1)?)?.parse().ok()?;
    let span = match age.chars().last()? {
        'd' => count.days(),
        'm' => count.months(),
        'y' => count.years(),
        _ => return None,
    };
    today.checked_sub(span).ok()
}

fn ymd(text: &str) -> Option<Date> {
    jiff::fmt::strtime::parse("%Y/%m/%d", text.replace('-', "/")).ok()?.to_date().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_ages_are_read() {
        assert_eq!(terms(r#"from:ann subject:"two words" -is:read"#), ["from:ann", "subject:two words", "-is:read"]);
        let today = jiff::civil::date(2026, 11, 21);
        assert_eq!(before(today, "2d"), Some(jiff::civil::date(2026, 11, 19)));
        assert_eq!((before(today, "2w"), before(today, "d"), before(today, "")), (None, None, None));
    }
}
