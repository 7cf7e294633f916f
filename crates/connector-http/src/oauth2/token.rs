//! What a token endpoint answers, read with tolerance: vendors break RFC 6749 in every member.
//!
//! Refuses to show any of it: errors carry the standard's error code and nothing the vendor wrote in prose.

use std::{collections::BTreeMap, fmt, time::Duration};

use connector_core::{
    error::{Error, Result},
    redact::{is_secret_name, printable},
    spec::OAuth2Spec,
};
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{
    Deserialize as _, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::refusal;
use crate::auth::value;

/// How much of an answer is read. Members that nobody asked for are skipped without being built, so generosity costs little, while an
/// answer that is not read may hold the only copy of a rotated refresh token.
pub(super) const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// A lifetime beyond this is a way to say "for ever".
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The longest text that is kept of a member that calls need later.
const MAX_KEPT: usize = 2048;

/// The types of token that go into an `Authorization: Bearer` header. Slack names the kind of its token where others write `bearer`
/// (https://docs.slack.dev/authentication/installing-with-oauth).
const BEARERS: [&str; 3] = ["bearer", "bot", "user"];

/// What a successful answer gives.
pub(super) struct Answer {
    pub(super) access: SecretString,
    /// A refresh token, if one came. If none comes with a renewal, the old one stays good (RFC 6749 §6).
    pub(super) refresh: Option<SecretString>,
    /// How long the access token is good, counted from the request; `None` if the vendor does not say anything usable.
    pub(super) lifetime: Option<Duration>,
    /// The granted scopes; empty if the vendor does not say.
    pub(super) scopes: Vec<String>,
    /// The members that the spec wants kept.
    pub(super) keep: BTreeMap<String, String>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("refresh", &self.refresh.is_some()).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// The members that are read.
#[derive(Default)]
struct Members {
    access: Option<SecretString>,
    refresh: Option<SecretString>,
    plain: BTreeMap<&'static str, Value>,
    keep: BTreeMap<String, String>,
    /// The same of the member that the spec says holds the tokens.
    nested: Option<Box<Members>>,
}

/// The members, besides the tokens, that have a meaning here.
const PLAIN: [&str; 5] = ["token_type", "expires_in", "scope", "scopes", "error"];

/// Builds what is read and skips the rest.
struct Reader<'s> {
    spec: &'s OAuth2Spec,
    token_at: Option<&'s str>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Members;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(plain) = PLAIN.into_iter().find(|plain| **plain == key) {
                members.plain.insert(plain, map.next_value()?);
                continue;
            }
            match key.as_str() {
                "access_token" => members.access = map.next_value_seed(Secret)?,
                "refresh_token" => members.refresh = map.next_value_seed(Secret)?,
                key if self.token_at == Some(key) => {
                    members.nested = Some(Box::new(map.next_value_seed(Reader { spec: self.spec, token_at: None })?));
                }
                key if self.keeps(key) => self.keep(key, &map.next_value()?, &mut members.keep),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

impl Reader<'_> {
    /// Whether something of the member `key` is kept: itself, or `key.inner`.
    fn keeps(&self, key: &str) -> bool {
        self.spec.keep.iter().any(|name| name.split('.').next() == Some(key))
    }

    fn keep(&self, key: &str, value: &Value, kept: &mut BTreeMap<String, String>) {
        for name in self.spec.keep.iter().filter(|name| name.split('.').next() == Some(key) && !is_secret_name(name)) {
            let found = name.split('.').skip(1).try_fold(value, |value, part| value.get(part));
            let text = match found {
                Some(Value::String(text)) if text.len() <= MAX_KEPT => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => continue,
            };
            kept.insert(name.clone(), text);
        }
    }
}

/// A text that never exists outside of a secret; `null` is none.
struct Secret;

impl<'de> DeserializeSeed<'de> for Secret {
    type Value = Option<SecretString>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()).map(SecretString::from))
    }
}

/// Reads a successful answer.
///
/// # Errors
/// [`connector_core::ErrorKind::Protocol`] if it is none, and what [`refusal::error`] makes of an error that came with a status of success.
pub(super) fn parse(spec: &OAuth2Spec, status: StatusCode, body: &[u8]) -> Result<Answer> {
    // serde's messages quote the value they dislike, and here that value may be a token.
    let unreadable = || Error::protocol("the token endpoint's answer is not the JSON of RFC 6749").with_status(status.as_u16());
    let mut json = serde_json::Deserializer::from_slice(body);
    let reader = Reader { spec, token_at: spec.token_at.as_deref() };
    let mut top = reader.deserialize(&mut json).map_err(|_| unreadable())?;
    json.end().map_err(|_| unreadable())?;
    let mut keep = std::mem::take(&mut top.keep);
    let code = top.plain.get("error").and_then(refusal::code_of);
    let mut members = match (&spec.token_at, top.nested.take()) {
        (Some(_), Some(nested)) if nested.access.is_some() => *nested,
        _ => top,
    };
    keep.append(&mut members.keep);
    let Some(access) = members.access else {
        return Err(match code {
            Some(code) => refusal::error(status, Some(&code), None),
            None => Error::protocol("the token endpoint's answer has no access token").with_status(status.as_u16()),
        });
    };
    if let Some(kind) = members.plain.get("token_type").and_then(Value::as_str)
        && !BEARERS.iter().any(|known| kind.eq_ignore_ascii_case(known))
    {
        return Err(Error::protocol(format!("the token endpoint issues tokens of type `{}`, only `Bearer` can be used", printable(kind, 40))));
    }
    bearer(&access)?;
    let scopes = ["scope", "scopes"].iter().find_map(|name| members.plain.get(name)).map(scopes).unwrap_or_default();
    Ok(Answer { access, refresh: members.refresh, lifetime: lifetime(members.plain.get("expires_in")), scopes, keep })
}

/// `Bearer {access_token}`, marked sensitive.
pub(super) fn bearer(access: &SecretString) -> Result<HeaderValue> {
    value::sensitive(format!("Bearer {}", access.expose_secret()).into())
        .map_err(|_| Error::protocol("the access token has a character that a header cannot carry"))
}

/// `"a b"`, `"a,b"` (Slack, Linear) or `["a", "b"]` (HubSpot).
fn scopes(value: &Value) -> Vec<String> {
    let split = |text: &str| text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    match value {
        Value::String(text) => split(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).flat_map(split).collect(),
        _ => Vec::new(),
    }
}

/// `3600`, `"3600"`, `3600.5`; missing, unreadable, zero or negative: none.
///
/// Zero is what some vendors write for "does not expire". Should it mean "already expired" after all, the first 401 fetches another.
fn lifetime(expires_in: Option<&Value>) -> Option<Duration> {
    let seconds = match expires_in? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).map_or(LONGEST, |lifetime| lifetime.min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use connector_core::error::ErrorKind;
    use serde_json::json;

    use super::*;

    fn read(spec: serde_json::Value, body: &str) -> Result<Answer> {
        let mut whole = json!({ "flow": "authorization_code" });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        parse(&serde_json::from_value(whole).unwrap(), StatusCode::OK, body.as_bytes())
    }

    #[test]
    fn the_vendors_answers_are_read() {
        // https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/oauth
        let hubspot = r#"{"token_type":"bearer","access_token":"CKr","refresh_token":"na1-4f","expires_in":1800,"hub_id":424242,
            "scopes":["oauth","crm.objects.contacts.read"]}"#;
        let answer = read(json!({ "keep": ["hub_id"] }), hubspot).unwrap();
        assert_eq!((answer.access.expose_secret(), answer.refresh.unwrap().expose_secret()), ("CKr", "na1-4f"));
        assert_eq!((answer.lifetime, answer.keep["hub_id"].as_str()), (Some(Duration::from_secs(1800)), "424242"));
        assert_eq!(answer.scopes, ["oauth", "crm.objects.contacts.read"]);
        // https://docs.slack.dev/authentication/using-token-rotation
        let slack = r#"{"ok":true,"access_token":"xoxe.xoxb-1","token_type":"bot","scope":"chat:write,channels:history",
            "team":{"id":"T0ACME","name":"Acme"},"authed_user":{"id":"U0ANN"},"expires_in":43200,"refresh_token":"xoxe-1"}"#;
        let answer = read(json!({ "keep": ["team.id", "team", "app_id"], "token_at": "authed_user" }), slack).unwrap();
        assert_eq!((answer.access.expose_secret(), answer.scopes.len()), ("xoxe.xoxb-1", 2));
        assert_eq!(answer.keep, BTreeMap::from([("team.id".to_owned(), "T0ACME".to_owned())]), "objects are not kept");
    }

    #[test]
    fn the_tokens_may_lie_in_a_member() {
        let body = r#"{"ok":true,"team":{"id":"T0"},"authed_user":{"id":"U0","access_token":"xoxp","scope":"search:read","token_type":"user"}}"#;
        let answer = read(json!({ "token_at": "authed_user", "keep": ["team.id", "id"] }), body).unwrap();
        assert_eq!((answer.access.expose_secret(), answer.scopes.as_slice()), ("xoxp", &["search:read".to_owned()][..]));
        assert_eq!((answer.keep["id"].as_str(), answer.keep["team.id"].as_str()), ("U0", "T0"));
        assert!(answer.refresh.is_none() && answer.lifetime.is_none());
    }

    #[test]
    fn secrets_are_never_among_what_is_kept() {
        let answer = read(
            json!({ "keep": ["refresh_token", "id_token", "x.api_key", "ok"] }),
            r#"{"access_token":"a","refresh_token":"canary","id_token":"canary","x":{"api_key":"canary"},"ok":"yes"}"#,
        )
        .unwrap();
        assert_eq!(answer.keep, BTreeMap::from([("ok".to_owned(), "yes".to_owned())]));
        assert!(!format!("{answer:?}").contains("canary"));
    }

    #[test]
    fn an_error_with_a_status_of_success_is_an_error() {
        let error = read(json!({}), r#"{"ok":false,"error":"invalid_refresh_token"}"#).unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_refresh_token")));
    }

    #[test]
    fn strange_members_do_not_cost_the_token() {
        let huge = format!(r#"{{"more":"{}","access_token":"a","refresh_token":""}}"#, "x".repeat(1 << 20));
        let cases = [
            r#"{"access_token":"a","expires_in":"soon"}"#,
            r#"{"access_token":"a","expires_in":-5,"scope":7}"#,
            r#"{"access_token":"a","expires_in":0,"scope":null,"refresh_token":null}"#,
            r#"{"access_token":"a","expires_in":{"a":[1]},"scopes":{"a":1},"error":null}"#,
            &huge,
        ];
        for body in cases {
            let answer = read(json!({}), body).unwrap();
            assert!(answer.lifetime.is_none() && answer.refresh.is_none() && answer.scopes.is_empty(), "{body:.60}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_so_and_shows_nothing() {
        for body in [
            "",
            "<html>canary",
            r#"["canary"]"#,
            r#"{"access_token":{"canary":1}}"#,
            r#"{"access_token":"canary"} canary"#,
            r#"{"access_token":"canary","token_type":"mac"}"#,
            r#"{"access_token":"can\nary"}"#,
            r#"{"refresh_token":"canary"}"#,
        ] {
            let error = read(json!({}), body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{body}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }
}
