//! Values into the `:name` of a query.

use connector_core::{Error, Result, redact::printable, suggest};
use serde_json::{Map, Value};

use super::{LONGEST_QUERY, like, literal};

/// Puts the values into the query. `:name` outside of quotes is a place for one; what follows LIKE is escaped for it. A colon before a digit
/// (`LAST_N_DAYS:30`, `10:00`) is none.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] for a name without a value, a value without a place, a quote that is not closed, and as
/// [`literal`].
pub fn bind(query: &str, values: &Map<String, Value>) -> Result<String> {
    let mut bound = String::with_capacity(query.len() + 64);
    let mut used: Vec<&str> = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find(['\'', ':']) {
        bound.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('\'') {
            let end = end_of_literal(rest).ok_or_else(|| Error::invalid("the query has a quote that is not closed"))?;
            bound.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let Some(name) = name_of(rest) else {
            bound.push(':');
            rest = &rest[1..];
            continue;
        };
        let (key, value) = values.get_key_value(name).ok_or_else(|| unknown(name, values))?;
        used.push(key.as_str());
        match value {
            Value::String(text) if follows_like(&bound) => bound.push_str(&like(text)?),
            value => bound.push_str(&literal(value)?),
        }
        rest = &rest[1 + name.len()..];
    }
    bound.push_str(rest);
    if let Some(idle) = values.keys().find(|name| !used.contains(&name.as_str())) {
        return Err(Error::invalid(format!("`params` has `{}`, but the query has no `:{0}`", printable(idle, 60))));
    }
    if bound.chars().count() > LONGEST_QUERY {
        return Err(Error::invalid(format!("the query has more than {LONGEST_QUERY} characters")));
    }
    Ok(bound)
}

/// The name after a colon, if there is one.
pub(crate) fn name_of(text: &str) -> Option<&str> {
    let name = text.strip_prefix(':')?;
    let length = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
    (length > 0 && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).then(|| &name[..length])
}

pub(crate) fn unknown(name: &str, values: &Map<String, Value>) -> Error {
    let name = printable(name, 60);
    let near = suggest::nearest(&name, values.keys().map(String::as_str)).map(|near| format!("; did you mean `:{near}`?")).unwrap_or_default();
    Error::invalid(format!("the query has `:{name}`, but `params` has no value for it{near}"))
}

/// Where the literal at the start of the text ends, behind its closing quote.
pub(crate) fn end_of_literal(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '\'' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

/// Whether the word before is LIKE.
fn follows_like(text: &str) -> bool {
    let before = text.trim_end();
    let word = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
    before.len() < text.len() && word.eq_ignore_ascii_case("like")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn bound(query: &str, values: Value) -> Result<String> {
        let Value::Object(values) = values else { panic!("values must be an object") };
        bind(query, &values)
    }

    #[test]
    fn values_go_where_their_names_are() {
        let query = "SELECT Id FROM Contact WHERE Name = :name AND Email LIKE :mail AND CreatedDate > LAST_N_DAYS:30 AND Id IN :ids AND X = ':name'";
        let text = bound(query, json!({ "name": "O'Hara", "mail": "a_b%", "ids": ["1", "2"] })).unwrap();
        assert_eq!(
            text,
            r"SELECT Id FROM Contact WHERE Name = 'O\'Hara' AND Email LIKE 'a\_b\%' AND CreatedDate > LAST_N_DAYS:30 AND Id IN ('1','2') AND X = ':name'"
        );
    }

    #[test]
    fn what_has_no_counterpart_is_told() {
        let said = |query, values| bound(query, values).unwrap_err().to_string();
        assert!(said("SELECT Id FROM A WHERE B = :emial", json!({ "email": "x" })).contains("did you mean `:email`?"));
        assert!(said("SELECT Id FROM A", json!({ "email": "x" })).contains("has no `:email`"));
        assert!(said("SELECT Id FROM A WHERE B = 'x\\'", json!({})).contains("not closed"));
    }

    /// Reads one literal as the vendor would, and gives what it says and what is behind it.
    fn vendor_reads(text: &str) -> (String, &str) {
        let end = end_of_literal(text).unwrap();
        let mut said = String::new();
        let mut chars = text[1..end - 1].chars();
        while let Some(c) = chars.next() {
            said.push(match (c, c == '\\') {
                (_, true) => match chars.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    plain => plain,
                },
                (plain, false) => plain,
            });
        }
        (said, &text[end..])
    }

    proptest! {
        #[test]
        fn no_value_breaks_out_of_its_quotes(value in "\\PC*|[\\\\'\"%_:\n\r\t a-c]{0,40}") {
            for (before, after) in [("SELECT Id FROM A WHERE B = ", " AND C = 'd'"), ("SELECT Id FROM A WHERE B LIKE ", "")] {
                let text = bound(&format!("{before}:v{after}"), json!({ "v": value })).unwrap();
                let literal = text.strip_prefix(before).unwrap();
                prop_assert!(literal.starts_with('\''));
                let (said, behind) = vendor_reads(literal);
                prop_assert_eq!(&said, &value);
                prop_assert_eq!(behind, after);
            }
        }

        #[test]
        fn a_list_has_as_many_literals_as_values(values in proptest::collection::vec("[\\\\',)( a]{0,8}", 1..6)) {
            let text = bound("IN :v", json!({ "v": values })).unwrap();
            let mut rest = text.strip_prefix("IN (").unwrap();
            for (at, value) in values.iter().enumerate() {
                let (said, behind) = vendor_reads(rest);
                prop_assert_eq!(&said, value);
                rest = behind.strip_prefix(if at + 1 == values.len() { ")" } else { "," }).unwrap();
            }
            prop_assert_eq!(rest, "");
        }
    }
}
