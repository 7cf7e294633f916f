//! What a token endpoint's refusal means: its error code, the class it has for the caller, and what became of the request.
//!
//! Refuses the vendor's prose: only what can be a code is repeated (RFC 6749 §5.2).

use std::time::Duration;

use connector_core::error::{Error, ErrorKind, Retry};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// A refresh token, code or assertion that will never be taken again. Besides the standard's: HubSpot's `BAD_REFRESH_TOKEN`, and Slack's
/// `invalid_refresh_token` and `token_revoked` (https://docs.slack.dev/reference/methods/oauth.v2.access).
const DEAD: [&str; 4] = ["invalid_grant", "BAD_REFRESH_TOKEN", "invalid_refresh_token", "token_revoked"];

/// A client id or client secret that is not taken. Besides the standard's: Salesforce's and Slack's (unverified).
const WRONG_CLIENT: [&str; 3] = ["invalid_client", "invalid_client_id", "bad_client_secret"];

/// What became of a token request that gave no token. Decides whether a rotating refresh token may have been used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was certainly not carried out.
    NotDone,
    /// Nobody knows.
    Unknown,
    /// The vendor will never carry it out: what it was asked for with is used up, revoked or expired.
    Dead,
}

/// A token request that gave no token.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) fate: Fate,
}

impl Failed {
    /// A failure before anything was sent.
    pub(super) fn before(error: Error) -> Self {
        Self { error, fate: Fate::NotDone }
    }

    /// A failure of sending or of reading the answer, by its class.
    pub(super) fn under_way(error: Error) -> Self {
        let fate = match error.kind() {
            ErrorKind::NotSent | ErrorKind::CircuitOpen | ErrorKind::Overloaded | ErrorKind::Throttled | ErrorKind::Denied => Fate::NotDone,
            ErrorKind::Config | ErrorKind::Invalid | ErrorKind::Unsupported => Fate::NotDone,
            _ => Fate::Unknown,
        };
        Self { error, fate }
    }

    /// An answer that is no token.
    pub(super) fn answered(error: Error) -> Self {
        let server = error.status().is_none_or(|status| status >= 500 || status == 408 || status < 300);
        let fate = match error.kind() {
            ErrorKind::AuthExpired if error.vendor_code().is_some_and(is_dead) => Fate::Dead,
            ErrorKind::Protocol => Fate::Unknown,
            ErrorKind::Transient if server => Fate::Unknown,
            _ => Fate::NotDone,
        };
        Self { error, fate }
    }

    /// Whether it was the client's own secret that was not taken, so that an older one may do.
    pub(super) fn blames_client(&self) -> bool {
        let code = self.error.vendor_code();
        code.is_some_and(|code| WRONG_CLIENT.contains(&code)) || (self.error.status() == Some(401) && code.is_none())
    }
}

/// Whether this code says that the grant is gone for good.
fn is_dead(code: &str) -> bool {
    DEAD.contains(&code)
}

/// The error code of a refusal, if the answer has one.
///
/// A refresh token that Jira does not know is `unauthorized_client` with a telling description (unverified); it comes back as
/// `invalid_grant`, which is what it means.
pub(super) fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<Value>,
        error_description: Option<Value>,
        code: Option<Value>,
        status: Option<Value>,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let code = [refusal.error, refusal.code, refusal.status].iter().flatten().find_map(code_of)?;
    let describes_token = refusal.error_description.as_ref().and_then(Value::as_str).is_some_and(|text| text.contains("refresh_token is invalid"));
    Some(if code == "unauthorized_client" && describes_token { "invalid_grant".to_owned() } else { code })
}

/// `"invalid_grant"`, or `{"code": "invalid_grant"}`.
pub(super) fn code_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("code")?.as_str()).map(str::to_owned)
}

/// A refusal as an error: RFC 6749 §5.2 and §4.1.2.1, RFC 8707 §2, RFC 8628 §3.5.
pub(super) fn error(status: StatusCode, code: Option<&str>, retry_after: Option<Duration>) -> Error {
    // Prose may repeat the client's secret or a person's name, so only what can be a code is repeated (RFC 6749 §5.2 and §7.2).
    let is_code = |text: &&str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let code = code.filter(is_code);
    let shown = code.map_or_else(|| "no error code".to_owned(), |code| format!("`{code}`"));
    let (kind, advice) = match (code, status.as_u16()) {
        (Some("temporarily_unavailable" | "server_error" | "internal_error" | "fatal_error" | "service_unavailable"), _) => {
            (ErrorKind::Transient, "it may pass")
        }
        (Some("slow_down" | "ratelimited" | "rate_limit_exceeded"), _) | (_, 429) => (ErrorKind::Throttled, "it asks for fewer token requests"),
        (_, 408 | 425 | 500..=599) => (ErrorKind::Transient, "it may pass"),
        (Some(code), _) if WRONG_CLIENT.contains(&code) => (ErrorKind::AuthExpired, "check client id and client secret, the secret may have expired"),
        (Some(code), _) if is_dead(code) => (ErrorKind::AuthExpired, "connect again"),
        (Some("expired_token"), _) => (ErrorKind::AuthExpired, "the time to confirm is over, connect again"),
        (Some("unauthorized_client"), _) => (ErrorKind::AuthExpired, "allow this client the grant at the vendor"),
        (Some("access_denied"), _) => (ErrorKind::Forbidden, "grant the application consent at the vendor"),
        (Some("invalid_scope"), _) => (ErrorKind::Config, "check the scopes"),
        (Some("invalid_target"), _) => (ErrorKind::Config, "check the resource or audience"),
        (Some("unsupported_grant_type"), _) => (ErrorKind::Config, "check that the token URL offers this grant"),
        (Some("invalid_request"), _) => (ErrorKind::Config, "check token URL, scopes and further parameters"),
        (_, 401 | 403) => (ErrorKind::AuthExpired, "check client id and client secret"),
        (_, 300..=399) => (ErrorKind::Config, "the token URL redirects, which is never followed; configure where it leads"),
        (_, 404 | 405 | 410) => (ErrorKind::Config, "check the token URL"),
        (None, 200..=299) => (ErrorKind::Protocol, "check the token URL"),
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

/// What a failure to get a token is for the call that wanted it. The call has not been sent, so what is `transient`, `timeout` or `protocol`
/// for the token request is `not_sent` for the call, and even an unsafe write may try again.
pub(super) fn unambiguous(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Transient | ErrorKind::Timeout | ErrorKind::Protocol => {
            let (kind, retry) = (error.kind(), error.retry());
            let retry = if matches!(retry, Retry::Never) { Retry::Soon } else { retry };
            error.with_kind(ErrorKind::NotSent).with_retry(retry).with_context("token_request", kind.as_str())
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_where_vendors_put_them() {
        for (body, expected) in [
            (r#"{"error":"invalid_grant","error_description":"x"}"#, Some("invalid_grant")),
            (r#"{"status":"BAD_REFRESH_TOKEN","message":"x"}"#, Some("BAD_REFRESH_TOKEN")),
            (r#"{"object":"error","status":400,"code":"invalid_grant"}"#, Some("invalid_grant")),
            (r#"{"error":{"code":"x"}}"#, Some("x")),
            (r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#, Some("invalid_grant")),
            (r#"{"error":"unauthorized_client","error_description":"other"}"#, Some("unauthorized_client")),
            (r#"{"error":7,"status":400}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(code(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn the_fate_of_a_request_follows_from_status_and_code() {
        let fate = |status: u16, code: Option<&str>| Failed::answered(error(StatusCode::from_u16(status).unwrap(), code, None)).fate;
        for (status, code, expected) in [
            (400, Some("invalid_grant"), Fate::Dead),
            (401, Some("token_revoked"), Fate::Dead),
            (200, Some("invalid_refresh_token"), Fate::Dead),
            (400, Some("BAD_REFRESH_TOKEN"), Fate::Dead),
            (401, Some("invalid_client"), Fate::NotDone),
            (400, Some("temporarily_unavailable"), Fate::NotDone),
            (400, None, Fate::NotDone),
            (429, None, Fate::NotDone),
            (302, None, Fate::NotDone),
            (408, None, Fate::Unknown),
            (500, None, Fate::Unknown),
            (503, Some("temporarily_unavailable"), Fate::Unknown),
            (200, Some("internal_error"), Fate::Unknown),
            (200, Some("invalid_arguments"), Fate::NotDone),
            (200, None, Fate::Unknown),
        ] {
            assert_eq!(fate(status, code), expected, "{status} {code:?}");
        }
        for (kind, expected) in [(ErrorKind::NotSent, Fate::NotDone), (ErrorKind::Timeout, Fate::Unknown), (ErrorKind::Transient, Fate::Unknown)] {
            assert_eq!(Failed::under_way(Error::new(kind, "x")).fate, expected);
        }
    }
}
