//! What a token endpoint answers, read with tolerance: vendors break RFC 6749 in every member.
//!
//! Refuses to show any of it: errors carry the standard's error code and nothing the vendor wrote in prose.

use std::{fmt, time::Duration};

use connector_core::{
    error::{Error, ErrorKind, Result, Retry},
    redact::printable,
};
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::auth::value;

/// How much of an answer is read. A token with every claim a vendor can think of stays below it.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// How long a token is used whose lifetime the vendor does not name.
const UNNAMED_LIFETIME: Duration = Duration::from_secs(300);

/// No token is trusted longer, whatever the vendor names; a revoked one is then noticed within a day.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A token fresh from the endpoint.
pub(super) struct Token {
    /// `Bearer {access_token}`, marked sensitive.
    pub(super) header: HeaderValue,
    /// How long it is good, counted from the request.
    pub(super) lifetime: Duration,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// The members that are read; others, however many, are skipped without being built.
#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
    #[serde(default)]
    token_type: Option<Value>,
    #[serde(default)]
    expires_in: Option<Value>,
    /// Some vendors answer 200 and put the error here.
    #[serde(default)]
    error: Option<Value>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// Reads a successful answer.
pub(super) fn parse(status: StatusCode, body: &[u8]) -> Result<Token> {
    // serde's messages quote the value they dislike, and here that value may be a token.
    let unreadable = || Error::protocol("the token endpoint's answer is not the JSON of RFC 6749").with_status(status.as_u16());
    let answer: Answer = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let Some(token) = answer.access_token.filter(|token| !token.expose_secret().is_empty()) else {
        return Err(match answer.error.as_ref().and_then(Value::as_str) {
            Some(code) => refusal(status, Some(code), None),
            None => Error::protocol("the token endpoint's answer has no access token").with_status(status.as_u16()),
        });
    };
    if let Some(kind) = answer.token_type.as_ref().and_then(Value::as_str)
        && !kind.eq_ignore_ascii_case("bearer")
    {
        return Err(Error::protocol(format!("the token endpoint issues tokens of type `{}`, only `Bearer` can be used", printable(kind, 40))));
    }
    let header = value::sensitive(format!("Bearer {}", token.expose_secret()).into())
        .map_err(|_| Error::protocol("the access token has a character that a header cannot carry").with_status(status.as_u16()))?;
    Ok(Token { header, lifetime: lifetime(answer.expires_in.as_ref()) })
}

/// `3600`, `"3600"`, `3600.5`; missing, unreadable, zero or negative: five minutes; absurd: a day.
///
/// Zero is what some vendors write for "does not expire". Should it mean "already expired" after all, the first 401 fetches another.
fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok().filter(|seconds| !seconds.is_nan()),
        _ => None,
    };
    match seconds {
        None => UNNAMED_LIFETIME,
        Some(seconds) if seconds <= 0.0 => UNNAMED_LIFETIME,
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_or(MAX_LIFETIME, |lifetime| lifetime.min(MAX_LIFETIME)),
    }
}

/// The error code of a refusal, if the answer has one that looks like a code.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<Value>,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    refusal.error.as_ref().and_then(Value::as_str).map(str::to_owned)
}

/// A refusal as an error: RFC 6749 §5.2 and §4.1.2.1, RFC 8707 §2.
pub(super) fn refusal(status: StatusCode, code: Option<&str>, retry_after: Option<Duration>) -> Error {
    // Prose may repeat the client's secret or a person's name, so only what can be a code is repeated (RFC 6749 §5.2 and §7.2).
    let is_code = |text: &&str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let code = code.filter(is_code);
    let shown = code.map_or_else(|| "no error code".to_owned(), |code| format!("`{code}`"));
    let (kind, advice) = match (code, status.as_u16()) {
        (Some("temporarily_unavailable" | "server_error"), _) => (ErrorKind::Transient, "it may pass"),
        (Some("slow_down"), _) | (_, 429) => (ErrorKind::Throttled, "it asks for fewer token requests"),
        (_, 408 | 425 | 500..=599) => (ErrorKind::Transient, "it may pass"),
        (Some("invalid_client"), _) => (ErrorKind::AuthExpired, "check client id and client secret, the secret may have expired"),
        (Some("invalid_grant"), _) => (ErrorKind::AuthExpired, "connect again"),
        (Some("unauthorized_client"), _) => (ErrorKind::AuthExpired, "allow this client the client credentials grant at the vendor"),
        (Some("access_denied"), _) => (ErrorKind::Forbidden, "grant the application consent at the vendor"),
        (Some("invalid_scope"), _) => (ErrorKind::Config, "check the scopes"),
        (Some("invalid_target"), _) => (ErrorKind::Config, "check the resource or audience"),
        (Some("unsupported_grant_type"), _) => (ErrorKind::Config, "check that the token URL offers the client credentials grant"),
        (Some("invalid_request"), _) => (ErrorKind::Config, "check token URL, scopes and further parameters"),
        (_, 401 | 403) => (ErrorKind::AuthExpired, "check client id and client secret"),
        (_, 300..=399) => (ErrorKind::Config, "the token URL redirects, which is never followed; configure where it leads"),
        (_, 404 | 405 | 410) => (ErrorKind::Config, "check the token URL"),
        (_, 200..=299) => (ErrorKind::Protocol, "check the token URL"),
        _ => (ErrorKind::Config, "check token URL, client id and client secret"),
    };
    let mut error = Error::new(kind, format!("the token endpoint refused with {shown}: {advice}")).with_status(status.as_u16());
    if let Some(code) = code {
        error = error.with_vendor_code(code);
    }
    match retry_after {
        Some(delay) if matches!(kind, ErrorKind::Throttled | ErrorKind::Transient) => error.with_retry(Retry::After(delay)),
        _ => error,
    }
}
