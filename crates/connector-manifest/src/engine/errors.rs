//! What an answer means: the manifest's table first, then the HTTP table of the retry contract.

use std::time::{Duration, SystemTime};

use connector_core::{CallCx, Error, ErrorKind, Retry, connector::ItemError, redact, resilience::retry_after};
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};

use super::hooks::PartialItems;
use crate::{
    model::{ErrorRule, Errors, StatusPattern, Until},
    select::Path,
};

/// The compiled table.
#[derive(Debug)]
pub(super) struct Table {
    code: Vec<Path>,
    message: Vec<Path>,
    request_id: Option<Path>,
    pub(super) request_id_header: Option<HeaderName>,
    inside: Option<Inside>,
    rules: Vec<Rule>,
    /// The 2xx statuses that rules speak about; other successes are not looked into.
    success_statuses: Vec<StatusPattern>,
}

#[derive(Debug)]
struct Inside {
    path: Path,
    /// `!.ok`: an error if the value is false.
    negated: bool,
}

#[derive(Debug)]
struct Rule {
    source: ErrorRule,
    conditions: Vec<(Path, Value)>,
    items: Option<Path>,
}

/// What a 2xx answer turned out to be.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A success.
    Fine,
    /// Some items failed.
    Partial(Vec<ItemError>),
    /// An error in the clothes of a success.
    Wrong(Error),
}

/// An answer to be understood.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) cx: &'a CallCx,
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    pub(super) args: &'a Map<String, Value>,
    pub(super) now: SystemTime,
}

/// Error bodies above this are not looked into.
const MOST_ERROR_BODY: usize = 64 * 1024;
/// A vendor's text is cut here.
const MOST_MESSAGE: usize = 200;
/// And its code here.
const MOST_CODE: usize = 80;

impl Table {
    pub(super) fn compile(errors: &Errors) -> Result<Self, String> {
        let path = |text: &String| Path::parse(text);
        let rules = errors
            .table
            .iter()
            .map(|source| {
                let conditions =
                    source.conditions.iter().map(|(text, value)| Ok((Path::parse(text)?, value.clone()))).collect::<Result<_, String>>()?;
                Ok(Rule { conditions, items: source.items.as_ref().map(path).transpose()?, source: source.clone() })
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self {
            code: errors.code.iter().map(path).collect::<Result<_, _>>()?,
            message: errors.message.iter().map(path).collect::<Result<_, _>>()?,
            request_id: errors.request_id.as_ref().map(path).transpose()?,
            request_id_header: errors
                .request_id_header
                .as_ref()
                .map(|name| HeaderName::try_from(name).map_err(|_| format!("`{name}` is not a header name")))
                .transpose()?,
            inside: errors
                .inside_success
                .as_ref()
                .map(|text| {
                    let negated = text.starts_with('!');
                    Path::parse(text.trim_start_matches('!')).map(|path| Inside { path, negated })
                })
                .transpose()?,
            success_statuses: rules
                .iter()
                .flat_map(|rule| rule.source.status.iter().copied())
                .filter(|status| (200..300).any(|code| status.matches(code)))
                .collect(),
            rules,
        })
    }

    /// Whether a 2xx body is an error in the clothes of a success.
    pub(super) fn hides_error(&self, body: &[u8]) -> bool {
        self.inside.as_ref().is_some_and(|inside| {
            let found = inside.path.get_in_text(body);
            let truthy = found.as_ref().is_some_and(|value| *value != Value::Bool(false));
            if inside.negated { found == Some(Value::Bool(false)) } else { truthy }
        })
    }

    /// Looks into a 2xx answer, but only as far as the table asks for it.
    pub(super) fn inspect_success(&self, answer: Answer<'_>, partial: Option<PartialItems>) -> Verdict {
        if self.hides_error(answer.body) {
            return Verdict::Wrong(self.error(answer));
        }
        if !self.success_statuses.iter().any(|status| status.matches(answer.status)) {
            return Verdict::Fine;
        }
        let Ok(body) = serde_json::from_slice::<Value>(answer.body) else { return Verdict::Fine };
        let code = first_text(&self.code, &body);
        // Only a rule that names a 2xx status speaks about successes.
        let rule = self.rules.iter().find(|rule| !rule.source.status.is_empty() && rule.matches(answer.status, code.as_deref(), &body, self));
        let Some(rule) = rule else { return Verdict::Fine };
        if rule.source.class == ErrorKind::Partial {
            let items = match partial {
                Some(read) => read(&body, answer.args),
                None => rule.items.as_ref().map(|items| self.items(items, &body)).unwrap_or_default(),
            };
            return if items.is_empty() { Verdict::Fine } else { Verdict::Partial(items) };
        }
        Verdict::Wrong(self.error(answer))
    }

    /// The error an answer stands for.
    pub(super) fn error(&self, answer: Answer<'_>) -> Error {
        let Answer { status, headers, body, .. } = answer;
        let tree = (body.len() <= MOST_ERROR_BODY).then(|| serde_json::from_slice::<Value>(body).ok()).flatten().unwrap_or_default();
        let code = first_text(&self.code, &tree);
        let rule = self.rules.iter().find(|rule| rule.matches(status, code.as_deref(), &tree, self));
        let kind = match rule {
            Some(rule) => rule.source.class,
            // The vendor answered, and the answer is no: nothing about it is unreadable or uncertain.
            None if (200..300).contains(&status) => ErrorKind::Invalid,
            None => by_status(status, headers),
        };
        let told = retry_after::from_headers(headers, answer.now);
        let mut message = what(kind, status).to_owned();
        if let Some(advice) = rule.and_then(|rule| rule.source.advice.as_ref()) {
            message.push_str("; ");
            message.push_str(advice);
        }
        let mut error = Error::new(kind, message).with_status(status);
        if let Some(delay) = told.or_else(|| rule.and_then(|rule| rule.wait(answer))) {
            error = error.with_retry(Retry::After(delay));
        } else if matches!(kind, ErrorKind::Quota) {
            error = error.with_retry(Retry::Never);
        }
        if let Some(code) = code {
            error = error.with_vendor_code(shown_code(&code));
        }
        let request_id = self.request_id_header.as_ref().and_then(|name| headers.get(name)).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let Some(id) = request_id.or_else(|| self.request_id.as_ref().and_then(|path| path.text(&tree))) {
            error = error.with_request_id(redact::printable(&id, 80));
        }
        if rule.is_some_and(|rule| rule.source.not_done) {
            error = error.with_context("not_done", "true");
        }
        // The vendor's own words help most where the request was wrong; they may quote what was sent, so they are scrubbed.
        if matches!(kind, ErrorKind::Invalid | ErrorKind::Forbidden | ErrorKind::Conflict | ErrorKind::NotFound)
            && let Some(text) = first_text(&self.message, &tree)
        {
            error = error.with_context("vendor_message", redact::scrub(&text, MOST_MESSAGE));
        }
        error
    }

    fn items(&self, items: &Path, body: &Value) -> Vec<ItemError> {
        let found = items.get(body).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        found
            .iter()
            .map(|item| {
                let code = first_text(&self.code, item);
                let status = item.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok()).unwrap_or(400);
                let kind =
                    self.rules.iter().find(|rule| rule.source.class != ErrorKind::Partial && rule.matches(status, code.as_deref(), item, self));
                let kind = kind.map_or_else(|| by_status(status, &HeaderMap::new()), |rule| rule.source.class);
                let key = ["id", "key"].iter().find_map(|name| item.get(*name)).and_then(Value::as_str).map(str::to_owned);
                ItemError {
                    index: item.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok()),
                    key,
                    kind,
                    message: what(kind, status).to_owned(),
                    vendor_code: code.map(|code| shown_code(&code)),
                    retryable: kind.is_passing(),
                }
            })
            .collect()
    }
}

impl Rule {
    fn matches(&self, status: u16, code: Option<&str>, body: &Value, table: &Table) -> bool {
        let rule = &self.source;
        (rule.status.is_empty() || rule.status.iter().any(|pattern| pattern.matches(status)))
            && (rule.code.is_empty() || code.is_some_and(|code| rule.code.iter().any(|wanted| wanted == code)))
            && self.conditions.iter().all(|(path, wanted)| holds(path.get(body), wanted))
            && rule.message_contains.as_ref().is_none_or(|part| first_text(&table.message, body).is_some_and(|text| text.contains(part.as_str())))
    }

    fn wait(&self, answer: Answer<'_>) -> Option<Duration> {
        let until = match &self.source.until {
            None => return self.source.wait.map(|wait| wait.0),
            Some(Until::Header(name)) => {
                let told = answer.headers.get(name.as_str()).and_then(|value| value.to_str().ok());
                return told.and_then(|value| retry_after::parse_reset(value, answer.now)).or(self.source.wait.map(|wait| wait.0));
            }
            Some(Until::UtcMidnight) => "UTC",
            Some(Until::AccountMidnight) => answer.cx.connection.setting("timezone").unwrap_or("UTC"),
        };
        to_midnight(answer.now, until)
    }
}

fn holds(found: Option<&Value>, wanted: &Value) -> bool {
    match (found, wanted) {
        (None, _) => false,
        (Some(_), Value::String(any)) if any == "*" => true,
        (Some(found), Value::Array(wanted)) => wanted.iter().any(|wanted| holds(Some(found), wanted)),
        (Some(found), wanted) => found == wanted,
    }
}

fn first_text(paths: &[Path], value: &Value) -> Option<String> {
    paths.iter().find_map(|path| path.text(value)).filter(|text| !text.is_empty())
}

/// A vendor's code for people. Where a code belongs, some vendors quote what was sent.
fn shown_code(code: &str) -> String {
    redact::scrub(code, MOST_CODE)
}

/// From now to the next midnight of a time zone. An unknown zone counts as UTC.
fn to_midnight(now: SystemTime, zone: &str) -> Option<Duration> {
    let zone = jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let here = jiff::Timestamp::try_from(now).ok()?.to_zoned(zone);
    let midnight = here.tomorrow().ok()?.start_of_day().ok()?;
    Duration::try_from(midnight.timestamp().duration_since(here.timestamp())).ok()
}

/// The HTTP table: what a status means where the vendor says nothing special.
pub(super) fn by_status(status: u16, headers: &HeaderMap) -> ErrorKind {
    match status {
        401 => ErrorKind::AuthExpired,
        402 | 507 => ErrorKind::Quota,
        403 => ErrorKind::Forbidden,
        404 | 410 => ErrorKind::NotFound,
        408 | 423 | 425 => ErrorKind::Transient,
        409 | 412 => ErrorKind::Conflict,
        429 => ErrorKind::Throttled,
        503 if headers.contains_key(http::header::RETRY_AFTER) => ErrorKind::Throttled,
        500..=599 => ErrorKind::Transient,
        400..=499 => ErrorKind::Invalid,
        _ => ErrorKind::Protocol,
    }
}

fn what(kind: ErrorKind, status: u16) -> &'static str {
    match kind {
        ErrorKind::Throttled => "the vendor asks us to slow down",
        ErrorKind::Transient | ErrorKind::Timeout => "the vendor failed for the moment",
        ErrorKind::AuthExpired => "the vendor does not accept the credential; connect again",
        ErrorKind::Forbidden => "the credential is not allowed to do this; grant the missing scope or permission",
        ErrorKind::NotFound => "the vendor has no such thing; it may have been deleted",
        ErrorKind::Conflict => "the thing changed meanwhile or exists already; read it again",
        ErrorKind::CursorExpired => "the vendor no longer knows this cursor; start a full resync",
        ErrorKind::Quota => "the vendor's allowance is used up",
        ErrorKind::Protocol if (300..400).contains(&status) => {
            "the vendor answered with a redirect, which is not followed with credentials; correct the base URL"
        }
        ErrorKind::Protocol => "the vendor's answer is not what its API promises",
        ErrorKind::Unknown => "nobody knows whether the vendor carried it out",
        _ => "the vendor refused the request as wrong",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn cx() -> CallCx {
        CallCx::new(Arc::new(connector_core::Connection::new("x", "https://api.example").unwrap().with_setting("timezone", "Europe/Paris")))
    }

    fn error(table: Value, status: u16, headers: &[(&str, &str)], body: &Value) -> Error {
        let table = Table::compile(&serde_json::from_value(table).unwrap()).unwrap();
        let headers = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
        let body = body.to_string();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let (cx, args) = (cx(), Map::new());
        table.error(Answer { cx: &cx, status, headers: &headers, body: body.as_bytes(), args: &args, now })
    }

    #[test]
    fn the_first_matching_rule_gives_the_class_and_the_wait() {
        let table = json!({ "code": ".category", "request_id": ".correlationId", "table": [
            { "status": 429, "where": { ".policyName": "DAILY" }, "class": "quota", "until": "utc_midnight" },
            { "status": 429, "class": "throttled", "wait": "10s" },
        ] });
        let daily = error(table.clone(), 429, &[], &json!({ "policyName": "DAILY", "category": "RATE_LIMITS", "correlationId": "c1" }));
        assert_eq!((daily.kind(), daily.retry(), daily.request_id()), (ErrorKind::Quota, Retry::After(Duration::from_secs(86_400)), Some("c1")));
        let rolling = error(table.clone(), 429, &[], &json!({ "policyName": "TEN_SECONDLY_ROLLING" }));
        assert_eq!(rolling.retry(), Retry::After(Duration::from_secs(10)));
        let told = error(table, 429, &[("retry-after", "3")], &json!({}));
        assert_eq!(told.retry(), Retry::After(Duration::from_secs(3)));
    }

    #[test]
    fn what_the_table_does_not_know_falls_back_to_http() {
        for (status, kind) in [
            (400, ErrorKind::Invalid),
            (401, ErrorKind::AuthExpired),
            (403, ErrorKind::Forbidden),
            (410, ErrorKind::NotFound),
            (412, ErrorKind::Conflict),
            (418, ErrorKind::Invalid),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Transient),
            (503, ErrorKind::Transient),
            (302, ErrorKind::Protocol),
        ] {
            assert_eq!(error(json!({}), status, &[], &Value::Null).kind(), kind, "{status}");
        }
        assert_eq!(error(json!({}), 503, &[("retry-after", "1")], &Value::Null).kind(), ErrorKind::Throttled);
    }

    #[test]
    fn an_error_inside_a_200_is_found() {
        let table = Table::compile(
            &serde_json::from_value(
                json!({ "inside_success": "!.ok", "code": ".error", "table": [{ "code": "ratelimited", "class": "throttled" }] }),
            )
            .unwrap(),
        )
        .unwrap();
        let (cx, args, headers) = (cx(), Map::new(), HeaderMap::new());
        let verdict = |body: &'static str| {
            table.inspect_success(
                Answer { cx: &cx, status: 200, headers: &headers, body: body.as_bytes(), args: &args, now: SystemTime::UNIX_EPOCH },
                None,
            )
        };
        assert!(matches!(verdict(r#"{"ok":true}"#), Verdict::Fine));
        assert!(matches!(verdict(r#"{"ok":false,"error":"ratelimited"}"#), Verdict::Wrong(error) if error.kind() == ErrorKind::Throttled));
    }
}
