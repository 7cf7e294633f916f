//! Values that look like secrets. A manifest is shown to people, published and committed, so it names secrets and never holds them.

use serde_json::Value;

use super::Check;
use crate::sources::{child, item};

/// How well-known credentials start, as their vendors document for secret scanners.
const PREFIXES: [&str; 28] = [
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "whsec_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxe-",
    "xapp-",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "AKIA",
    "ASIA",
    "ya29.",
    "AIza",
    "GOCSPX-",
    "pat-na1-",
    "pat-eu1-",
    "lin_api_",
    "lin_oauth_",
    "ntn_",
    "secret_",
    "ATATT3",
];

/// Headers that carry credentials.
const CREDENTIAL_HEADERS: [&str; 9] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "apikey", "x-auth-token", "x-access-token", "private-token"];

const ADVICE: &str = "a secret must not stand in a manifest; use `auth` (`token_env`, `key_env`) and keep the value in the environment or the vault";

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    headers(check, "headers", &manifest.headers);
    for (at, tool) in manifest.tools.iter().enumerate() {
        let key = item("tools", at);
        headers(check, &child(&key, "headers"), &tool.headers);
        for (name, value) in tool.query.iter().flatten() {
            tree(check, &child(&child(&key, "query"), name), value);
        }
        if let Some(body) = &tool.body {
            tree(check, &child(&key, "body"), body);
        }
        for (at, param) in tool.params.iter().enumerate() {
            tree(check, &child(&item(&child(&key, "params"), at), "default"), &param.default);
        }
    }
    for (at, setting) in manifest.settings.iter().enumerate() {
        if setting.default.as_deref().is_some_and(is_secret) {
            check.error(child(&item("settings", at), "default"), format!("the default looks like a secret: {ADVICE}"));
        }
    }
    for (at, way) in manifest.auth.iter().enumerate() {
        let key = item("auth", at);
        match serde_json::to_value(way) {
            Ok(value) => tree(check, &key, &value),
            Err(error) => check.error(key, format!("this way to authenticate cannot be read: {error}")),
        }
    }
    if manifest.base_url.as_deref().is_some_and(|url| url.split(['/', '=', '&', '?']).any(is_secret)) {
        check.error("base_url", format!("the address has what looks like a secret in it: {ADVICE}"));
    }
}

fn headers<'a>(check: &mut Check<'_>, key: &str, headers: impl IntoIterator<Item = (&'a String, &'a String)>) {
    for (name, value) in headers {
        let key = child(key, name);
        let is_literal = !value.contains('{');
        if CREDENTIAL_HEADERS.contains(&name.to_lowercase().as_str()) {
            let what = if is_literal { "has a fixed value" } else { "is filled from a template" };
            check.error(key, format!("the header `{name}` {what}: {ADVICE}"));
        } else if value.split_whitespace().any(is_secret) {
            check.error(key, format!("the value of header `{name}` looks like a secret: {ADVICE}"));
        }
    }
}

fn tree(check: &mut Check<'_>, key: &str, value: &Value) {
    match value {
        Value::String(text) if text.split_whitespace().any(is_secret) => check.error(key, format!("this value looks like a secret: {ADVICE}")),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, inner)| tree(check, &item(key, at), inner)),
        Value::Object(map) => map.iter().for_each(|(name, inner)| tree(check, &child(key, name), inner)),
        _ => {}
    }
}

/// A known credential's start followed by enough of the rest, a JSON Web Token, or a private key.
fn is_secret(text: &str) -> bool {
    let known = PREFIXES.iter().any(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            let body = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).count();
            body >= 12 && rest.bytes().any(|byte| byte.is_ascii_digit())
        })
    });
    let token = text.starts_with("eyJ") && text.len() > 40 && text.matches('.').count() == 2;
    known || token || text.contains("PRIVATE") && text.contains("-----BEGIN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tokens_are_seen_and_words_are_not() {
        // Built here so that no secret scanner takes the test for a leak.
        for text in [
            format!("xoxb-{}", "123456789012-abc"),
            format!("sk_live_{}", "4eC39HqLyjWDarjt"),
            format!("eyJ{}.{}.{}", "a".repeat(20), "b".repeat(20), "c"),
        ] {
            assert!(is_secret(&text), "{text}");
        }
        for text in ["secret_santa", "application/vnd.api+json", "AKIA", "IdType=\"ImmutableId\"", "secret_of_the_machine", "2026-03-15"] {
            assert!(!is_secret(text), "{text}");
        }
    }
}
