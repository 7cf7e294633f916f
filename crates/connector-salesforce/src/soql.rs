//! SOQL with bound values. Salesforce has no bind variables, so values have to become literals: here each is quoted and escaped by its type, and
//! names must be names. A value can never become a part of the query.
//!
//! [`bind`] fills the `:name` of a query that is written by hand; [`Select`] builds one. It refuses to check a query against an org: what is
//! not there is the vendor's to say.
//!
//! Escapes: <https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_quotedstringescapes.htm>

mod bind;
mod select;

use connector_core::{Error, Result};
use serde_json::{Map, Value};

pub use bind::bind;
pub(crate) use bind::{end_of_literal, name_of, unknown};
pub use select::{Comparison, Select};

/// A text in WHERE may not be longer (characters).
pub const LONGEST_TEXT: usize = 4_000;
/// A query may not be longer (characters).
pub const LONGEST_QUERY: usize = 100_000;

/// A value as a SOQL literal: texts quoted and escaped, numbers, booleans and null as they are, a list in parentheses. An object says what a text
/// is: `{date: "2026-01-02"}`, `{datetime: "2026-01-02T10:00:00Z"}`, or a pattern for LIKE: `{contains: ..}`, `{starts_with: ..}`,
/// `{ends_with: ..}`, and `{like: ..}` whose `%` and `_` are meant.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] for a text over 4,000 characters or with control characters, an empty list, a date that is none.
pub fn literal(value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(match number.as_f64() {
            // Never with an exponent, which SOQL does not read.
            Some(float) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        }),
        Value::String(text) => quoted(text),
        Value::Array(items) if items.is_empty() => {
            Err(Error::invalid("an empty list matches nothing, and SOQL has no way to write it; leave the query out"))
        }
        Value::Array(items) => {
            let each = items.iter().map(|item| match item {
                Value::Array(_) => Err(Error::invalid("a list in a query holds single values, not lists")),
                item => literal(item),
            });
            Ok(format!("({})", each.collect::<Result<Vec<_>>>()?.join(",")))
        }
        Value::Object(map) => typed(map),
    }
}

/// A text as a quoted literal.
///
/// # Errors
/// As [`literal`].
pub fn quoted(text: &str) -> Result<String> {
    inside(text, |_| false).map(|text| format!("'{text}'"))
}

/// A text as a quoted LIKE pattern that matches exactly this text: `%` and `_` are escaped.
///
/// # Errors
/// As [`literal`].
pub fn like(text: &str) -> Result<String> {
    inside(text, is_wildcard).map(|text| format!("'{text}'"))
}

/// Checks that a text is the name of an object or field, also one of a related record (`Owner.Name`).
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] if it is not.
pub fn identifier(name: &str) -> Result<&str> {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.len() <= 80 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let words = name.split('.').count();
    if words <= 6 && name.split('.').all(word) {
        return Ok(name);
    }
    Err(Error::invalid(format!("`{}` is not a name of an object or field", connector_core::redact::printable(name, 60))))
}

fn is_wildcard(c: char) -> bool {
    matches!(c, '%' | '_')
}

/// The text between the quotes. What `also` holds of gets a backslash, too.
fn inside(text: &str, also: fn(char) -> bool) -> Result<String> {
    if text.chars().count() > LONGEST_TEXT {
        return Err(Error::invalid(format!("a text in a query may have {LONGEST_TEXT} characters at most")));
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\'' => escaped.push_str("\\'"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            c if c.is_control() => return Err(Error::invalid("a text in a query has a control character")),
            c if also(c) => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    Ok(escaped)
}

/// `{date: ..}` and its like.
fn typed(map: &Map<String, Value>) -> Result<String> {
    const FORMS: &str = "accepted: {date}, {datetime}, {like}, {contains}, {starts_with}, {ends_with}";
    let wrong = || Error::invalid(format!("a value that is an object says what its text is; {FORMS}"));
    let (Some((form, Value::String(text))), 1) = (map.iter().next(), map.len()) else { return Err(wrong()) };
    match form.as_str() {
        "date" => text
            .parse::<jiff::civil::Date>()
            .map(|date| date.to_string())
            .map_err(|error| Error::invalid("a `date` in a query is YYYY-MM-DD").with_source(error)),
        "datetime" => Ok(instant(text)?.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()),
        "like" => quoted(text),
        "contains" => inside(text, is_wildcard).map(|text| format!("'%{text}%'")),
        "starts_with" => inside(text, is_wildcard).map(|text| format!("'{text}%'")),
        "ends_with" => inside(text, is_wildcard).map(|text| format!("'%{text}'")),
        _ => Err(wrong()),
    }
}

/// A date and time, RFC 3339 or as Salesforce writes it (`2026-01-02T10:00:00.000+0000`).
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] if it is neither.
pub(crate) fn instant(text: &str) -> Result<jiff::Timestamp> {
    text.parse::<jiff::Timestamp>()
        .or_else(|_| jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", text).and_then(|parts| parts.to_timestamp()))
        .map_err(|error| Error::invalid("this is not a date and time such as 2026-01-02T10:00:00Z").with_source(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_stay_inside_their_quotes() {
        for (text, wanted) in [
            ("Bob's BBQ", r"'Bob\'s BBQ'"),
            ("x' OR LastName != '", r"'x\' OR LastName != \''"),
            (r"C:\temp", r"'C:\\temp'"),
            ("a\\", r"'a\\'"),
            ("two\nlines", r"'two\nlines'"),
        ] {
            assert_eq!(quoted(text).unwrap(), wanted);
        }
        assert_eq!(like("50%_off").unwrap(), r"'50\%\_off'");
        assert!(quoted("a\0b").is_err());
        assert!(quoted(&"x".repeat(4_001)).is_err());
    }

    #[test]
    fn other_values_are_written_by_their_type() {
        for (value, wanted) in [
            (json!(null), "null"),
            (json!(true), "true"),
            (json!(-12), "-12"),
            (json!(1e21), "1000000000000000000000"),
            (json!(0.25), "0.25"),
            (json!(["a'b", 2]), r"('a\'b',2)"),
            (json!({ "date": "2026-01-02" }), "2026-01-02"),
            (json!({ "datetime": "2026-01-02T11:00:00+01:00" }), "2026-01-02T10:00:00.000Z"),
            (json!({ "datetime": "2026-01-02T10:00:00.000+0000" }), "2026-01-02T10:00:00.000Z"),
            (json!({ "contains": "5%" }), r"'%5\%%'"),
            (json!({ "starts_with": "a_" }), r"'a\_%'"),
            (json!({ "like": "a%" }), "'a%'"),
        ] {
            assert_eq!(literal(&value).unwrap(), wanted, "{value}");
        }
        for wrong in
            [json!([]), json!([[1]]), json!({ "date": "2026-02-30" }), json!({ "date": "2026-01-01 OR 1=1" }), json!({ "raw": "x" }), json!({})]
        {
            assert!(literal(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_names() {
        for name in ["Id", "Hub_Id__c", "Owner.Name", "Parent__r.Owner.Name"] {
            assert_eq!(identifier(name).unwrap(), name);
        }
        for name in ["", "1a", "a b", "a,b", "a'", "a.", "COUNT()", "Name FROM Account"] {
            assert!(identifier(name).is_err(), "{name}");
        }
    }
}
