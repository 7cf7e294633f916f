//! Rules that keep a caller's text inside its quotes in a vendor's query language.

use std::borrow::Cow;

/// The rules by name, as `escape:` of a parameter names them.
pub(crate) const RULES: [&str; 5] = ["odata_string", "kql", "sysparm", "soql_string", "oql_string"];

/// Applies a rule. Unknown rules are refused when the manifest is compiled.
pub fn apply(rule: &str, text: &str) -> String {
    match rule {
        // OData v4: a quote inside a string literal is doubled. https://docs.oasis-open.org/odata/odata/v4.01/odata-v4.01-part2-url-conventions.html
        "odata_string" => text.replace('\'', "''"),
        // A KQL phrase ends at a double quote and has no escape for it, so quotes become spaces.
        "kql" => text.replace('"', " "),
        // ServiceNow encoded queries separate clauses with `^`; doubling it is unverified, so it is dropped with line breaks.
        "sysparm" => text.replace(['^', '\r', '\n'], " "),
        // iTop's OQL: inside single quotes a backslash escapes itself and the quote (unverified); a line break is never needed.
        "oql_string" => text.replace(['\r', '\n'], " ").replace('\\', "\\\\").replace('\'', "\\'"),
        "soql_string" => text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
            match c {
                '\\' | '\'' | '"' => escaped.extend(['\\', c]),
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                other => escaped.push(other),
            }
            escaped
        }),
        _ => text.to_owned(),
    }
}

/// Percent-encodes one path segment, or the part of one that a parameter fills.
///
/// `None` for a value that would change the number of segments: empty, `.` or `..`.
pub(super) fn segment(text: &str) -> Option<Cow<'_, str>> {
    (!matches!(text, "" | "." | "..")).then(|| percent_encoding::utf8_percent_encode(text, UNRESERVED).into())
}

/// Percent-encodes a query value.
pub(super) fn query(text: &str) -> Cow<'_, str> {
    percent_encoding::utf8_percent_encode(text, QUERY).into()
}

/// Everything but the unreserved characters of RFC 3986.
const UNRESERVED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As above, leaving what is common and harmless in query values readable.
const QUERY: &percent_encoding::AsciiSet =
    &UNRESERVED.remove(b',').remove(b':').remove(b'@').remove(b'/').remove(b'$').remove(b'*').remove(b'(').remove(b')');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_leaves_its_place() {
        assert_eq!(segment("a/b?x=1#f%2F").unwrap(), "a%2Fb%3Fx%3D1%23f%252F");
        assert_eq!(segment("ada+x@example.com").unwrap(), "ada%2Bx%40example.com");
        assert_eq!(segment(".."), None);
        assert_eq!(query("a&b=c d+e"), "a%26b%3Dc%20d%2Be");
        assert_eq!(apply("odata_string", "O'Hara' or 1 eq 1"), "O''Hara'' or 1 eq 1");
        assert_eq!(apply("oql_string", "x' OR 1=1 \\"), "x\\' OR 1=1 \\\\");
        assert_eq!(apply("soql_string", "' OR '1'='1\\"), "\\' OR \\'1\\'=\\'1\\\\");
    }
}
