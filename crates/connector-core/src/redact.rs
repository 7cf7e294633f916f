//! The one place that knows what must not be shown.

use serde_json::Value;

/// What stands where a secret was.
pub const REDACTED: &str = "REDACTED";

/// Words that mark a key, header or parameter as secret wherever they occur in its name.
const SECRET_WORDS: [&str; 12] =
    ["authorization", "secret", "password", "passwd", "token", "api_key", "apikey", "api-key", "cookie", "credential", "private_key", "signature"];

/// Names that contain a secret word but are not secret: cursors and counters.
const HARMLESS: [&str; 8] = ["nexttoken", "pagetoken", "next_token", "page_token", "nextpagetoken", "skiptoken", "synctoken", "token_url"];

/// Whether a value under this key, header or parameter name must not be shown.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&name.as_str())
        && (SECRET_WORDS.iter().any(|word| name.contains(word))
            || matches!(name.as_str(), "key" | "pwd" | "sig" | "auth" | "assertion" | "code_verifier"))
}

/// Replaces every value under a secret name, at any depth.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if is_secret_name(key) && !value.is_null() {
                    *value = Value::String(REDACTED.into());
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

/// A URL for people: without user info, and with the values of secret-looking query parameters replaced.
pub fn redact_url(url: &url::Url) -> String {
    let mut shown = url.clone();
    let has_user_info = !shown.username().is_empty() || shown.password().is_some();
    if has_user_info && (shown.set_username("").is_err() || shown.set_password(None).is_err()) {
        return REDACTED.into();
    }
    if url.query_pairs().any(|(name, _)| is_secret_name(&name)) {
        shown.query_pairs_mut().clear().extend_pairs(url.query_pairs().map(|(name, value)| {
            let value = if is_secret_name(&name) { REDACTED.into() } else { value };
            (name, value)
        }));
    }
    shown.into()
}

/// Text for a log line or an error: control characters escaped, cut at `max` characters.
pub fn printable(text: &str, max: usize) -> String {
    let mut shown: String =
        text.chars().take(max).flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect();
    if text.chars().nth(max).is_some() {
        shown.push('…');
    }
    shown
}

/// A vendor's own words for people: control characters escaped, cut at `max` characters, and whatever looks like a key, a token or an
/// e-mail address replaced, because vendors like to quote what was sent.
pub fn scrub(text: &str, max: usize) -> String {
    let words = text
        .split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';' | '='));
    let scrubbed: String = words
        .map(|word| {
            let core = word.trim_end_matches(|c: char| !c.is_alphanumeric());
            let long = core.len() >= 20 && core.chars().any(|c| c.is_ascii_digit()) && core.chars().any(char::is_alphabetic);
            if long || core.contains('@') { format!("{REDACTED}{}", &word[core.len()..]) } else { word.to_owned() }
        })
        .collect();
    printable(&scrubbed, max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_found_at_any_depth_and_cursors_are_left() {
        let mut value = json!({ "a": [{ "client_secret": "x", "name": "n" }], "X-Api-Key": "k", "nextToken": "t", "token": null });
        redact(&mut value);
        assert_eq!(value, json!({ "a": [{ "client_secret": REDACTED, "name": "n" }], "X-Api-Key": REDACTED, "nextToken": "t", "token": null }));
    }

    #[test]
    fn a_url_keeps_its_place_and_loses_its_keys() {
        let url = "https://u:p@x.example/a?api_key=1&q=2".parse().unwrap();
        assert_eq!(redact_url(&url), "https://x.example/a?api_key=REDACTED&q=2");
    }

    #[test]
    fn quoted_keys_and_addresses_are_scrubbed_from_a_vendors_words() {
        assert_eq!(
            scrub("no contact \"ada@example.com\" (key=pat-na1-0123456789abcdef); bad field", 200),
            "no contact \"REDACTED\" (key=REDACTED); bad field"
        );
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}]0;x\r\nb", 20), "a\\u{1b}]0;x\\r\\nb");
    }
}
