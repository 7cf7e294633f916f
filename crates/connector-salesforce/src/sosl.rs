//! SOSL with bound values: inside the braces of FIND reserved characters are escaped, outside of them values are SOQL literals.
//!
//! Reserved characters: <https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_sosl_find.htm>

use connector_core::{Error, Result};
use serde_json::{Map, Value};

use crate::soql::{self, end_of_literal, name_of, unknown};

/// A search text may not be longer (characters).
pub const LONGEST_TERM: usize = 10_000;

/// A text as a search term: each reserved character gets a backslash. A text in which AND, OR or NOT stands as a word is searched as a phrase,
/// because these are operators.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] for a text under 2 or over 10,000 characters, or with control characters.
pub fn term(text: &str) -> Result<String> {
    let length = text.chars().count();
    if !(2..=LONGEST_TERM).contains(&length) {
        return Err(Error::invalid(format!("a search text has 2 to {LONGEST_TERM} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid("a search text has a control character"));
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if "?&|!{}[]()^~*:\\\"'+-".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    let has_operator = text.split_whitespace().any(|word| ["AND", "OR", "NOT"].iter().any(|operator| word.eq_ignore_ascii_case(operator)));
    Ok(if has_operator { format!("\"{escaped}\"") } else { escaped })
}

/// Puts the values into the `:name` of a search.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] for a name without a value, a value without a place, a value in the braces that is no text, quotes or
/// braces that are not closed, and as [`term`] and [`soql::literal`].
pub fn bind(search: &str, values: &Map<String, Value>) -> Result<String> {
    let mut bound = String::with_capacity(search.len() + 64);
    let mut used: Vec<&str> = Vec::new();
    let mut in_braces = false;
    let mut rest = search;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\\' if in_braces => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '{' if !in_braces => {
                in_braces = true;
                1
            }
            '}' if in_braces => {
                in_braces = false;
                1
            }
            '\'' if !in_braces => end_of_literal(rest).ok_or_else(|| Error::invalid("the search has a quote that is not closed"))?,
            ':' => match name_of(rest) {
                None => 1,
                Some(name) => {
                    let (key, value) = values.get_key_value(name).ok_or_else(|| unknown(name, values))?;
                    used.push(key.as_str());
                    bound.push_str(&match value {
                        Value::String(text) if in_braces => term(text)?,
                        _ if in_braces => return Err(Error::invalid(format!("`:{name}` is searched for, so its value must be a text"))),
                        value => soql::literal(value)?,
                    });
                    rest = &rest[1 + name.len()..];
                    continue;
                }
            },
            c => c.len_utf8(),
        };
        bound.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    if in_braces {
        return Err(Error::invalid("the search has a brace that is not closed"));
    }
    match values.keys().find(|name| !used.contains(&name.as_str())) {
        Some(idle) => Err(Error::invalid(format!("`params` has `{}`, but the search has no `:{0}`", connector_core::redact::printable(idle, 60)))),
        None => Ok(bound),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn bound(search: &str, values: Value) -> Result<String> {
        let Value::Object(values) = values else { panic!("values must be an object") };
        bind(search, &values)
    }

    #[test]
    fn terms_are_escaped_in_the_braces_and_quoted_behind_them() {
        let search = "FIND {:t} IN NAME FIELDS RETURNING Contact(Id WHERE LastName = :name)";
        let text = bound(search, json!({ "t": "R&D} RETURNING User", "name": "O'Hara" })).unwrap();
        assert_eq!(text, r"FIND {R\&D\} RETURNING User} IN NAME FIELDS RETURNING Contact(Id WHERE LastName = 'O\'Hara')");
        assert_eq!(bound("FIND {:t}", json!({ "t": "rock and roll" })).unwrap(), "FIND {\"rock and roll\"}");
        assert!(bound("FIND {:t}", json!({ "t": "a" })).is_err());
        assert!(bound("FIND {:t}", json!({ "t": 12 })).is_err());
        assert!(bound("FIND {:t", json!({ "t": "ab" })).is_err());
        assert!(bound("FIND {ab}", json!({ "t": "ab" })).is_err());
    }

    proptest! {
        #[test]
        fn no_term_breaks_out_of_its_braces(value in "[?&|!{}\\[\\]()^~*:\\\\\"'+\\- a-c]{2,30}") {
            let text = bound("FIND {:t} IN ALL FIELDS", json!({ "t": value })).unwrap();
            let inside = text.strip_prefix("FIND {").unwrap();
            let mut escaped = false;
            let end = inside.char_indices().find_map(|(at, c)| {
                let ends = c == '}' && !escaped;
                escaped = c == '\\' && !escaped;
                ends.then_some(at)
            });
            prop_assert_eq!(&inside[end.unwrap()..], "} IN ALL FIELDS");
        }
    }
}
