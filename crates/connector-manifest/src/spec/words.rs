//! The error table in words, for documentation.

use connector_core::{ErrorKind, spec::ErrorRow};
use serde_json::Value;

use crate::model::{ErrorRule, StatusPattern, Until};

pub(super) fn row(rule: &ErrorRule) -> ErrorRow {
    ErrorRow { when: when(rule), class: rule.class, action: doing(rule) }
}

fn when(rule: &ErrorRule) -> String {
    let mut parts = Vec::new();
    if !rule.status.is_empty() {
        let status = |pattern: &StatusPattern| match pattern {
            StatusPattern::Exact(status) => status.to_string(),
            StatusPattern::Family(family) => format!("{family}xx"),
        };
        parts.push(format!("status {}", rule.status.iter().map(status).collect::<Vec<_>>().join(" or ")));
    }
    if !rule.code.is_empty() {
        parts.push(format!("code {}", rule.code.join(" or ")));
    }
    for (path, value) in &rule.conditions {
        let path = path.trim_start_matches('.');
        parts.push(match value {
            Value::String(any) if any == "*" => format!("{path} present"),
            Value::Array(several) => format!("{path} {}", several.iter().map(plain).collect::<Vec<_>>().join(" or ")),
            one => format!("{path} {}", plain(one)),
        });
    }
    if let Some(text) = &rule.message_contains {
        parts.push(format!("message with \"{text}\""));
    }
    if parts.is_empty() { "any error".into() } else { parts.join(", ") }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the layers do about a class, with what the rule adds.
fn doing(rule: &ErrorRule) -> String {
    let mut text = match rule.class {
        ErrorKind::Throttled => "wait as the vendor says, then send again",
        ErrorKind::Transient => "back off and send again where that is safe",
        ErrorKind::Timeout => "send again once where that is safe",
        ErrorKind::AuthExpired => "refresh the token once and send again",
        ErrorKind::Forbidden => "stop; grant the missing scope or permission",
        ErrorKind::NotFound => "answer that it does not exist",
        ErrorKind::Invalid => "stop; correct the input",
        ErrorKind::Conflict => "read again and decide",
        ErrorKind::CursorExpired => "resync from the start",
        ErrorKind::Quota => "wait until the allowance resets",
        ErrorKind::Partial => "keep what succeeded, report the rest item by item",
        ErrorKind::Protocol => "repeat reads; a write is unknown until it is looked up",
        ErrorKind::Unknown => "look at the vendor before sending again",
        other => other.advice(),
    }
    .to_owned();
    match &rule.until {
        Some(Until::AccountMidnight) => text.push_str(" (midnight of the account)"),
        Some(Until::UtcMidnight) => text.push_str(" (midnight UTC)"),
        Some(Until::Header(name)) => text.push_str(&format!(" (header `{name}` says when)")),
        None => {}
    }
    if let Some(wait) = rule.wait {
        text.push_str(&format!(", at least {} s", wait.0.as_secs_f64()));
    }
    if rule.not_done {
        text.push_str("; it was certainly not carried out");
    }
    if let Some(advice) = &rule.advice {
        text.push_str("; ");
        text.push_str(advice.trim_end_matches('.'));
    }
    text
}
