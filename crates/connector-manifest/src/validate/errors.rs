//! The error table: every path parses, every rule can be reached, every extra fits its class.

use connector_core::ErrorKind;
use serde_json::Value;

use super::Check;
use crate::{
    model::{ErrorRule, StatusPattern, Until},
    sources::{child, item},
};

pub(super) fn check(check: &mut Check<'_>) {
    let errors = &check.manifest.errors;
    for (name, paths) in [("code", &errors.code), ("message", &errors.message)] {
        for (at, path) in paths.iter().enumerate() {
            check.path(item(&child("errors", name), at), path);
        }
    }
    if let Some(path) = &errors.request_id {
        check.path("errors.request_id", path);
    }
    if let Some(header) = &errors.request_id_header {
        check.header("errors.request_id_header", header);
    }
    if let Some(path) = &errors.inside_success {
        check.path("errors.inside_success", path.strip_prefix('!').unwrap_or(path));
    }
    for (at, rule) in errors.table.iter().enumerate() {
        let key = item("errors.table", at);
        self::rule(check, &key, rule);
        if let Some(before) = errors.table[..at].iter().position(|earlier| covers(earlier, rule)) {
            let (_, line, _) = check.sources.locate(&item("errors.table", before));
            let place = if line > 0 { format!("the one on line {line}") } else { format!("rule {}", before + 1) };
            check.error(key, format!("this rule is never reached: {place} matches everything it matches; put the narrower rule first"));
        }
    }
}

fn rule(check: &mut Check<'_>, key: &str, rule: &ErrorRule) {
    for path in rule.conditions.keys() {
        check.path(child(&child(key, "where"), path), path);
    }
    if !rule.code.is_empty() && check.manifest.errors.code.is_empty() {
        check.error(child(key, "code"), "the rule asks for the vendor's code, but `errors.code` does not say where a reply has it");
    }
    if rule.message_contains.is_some() && check.manifest.errors.message.is_empty() {
        check.error(child(key, "message_contains"), "the rule reads the vendor's message, but `errors.message` does not say where a reply has it");
    }
    if let Some(items) = &rule.items {
        check.path(child(key, "items"), items);
        if rule.class != ErrorKind::Partial {
            check.error(child(key, "items"), format!("`items` lists failed items and goes only with `class: partial`, not `{}`", rule.class));
        }
    }
    if rule.until.is_some() && !matches!(rule.class, ErrorKind::Throttled | ErrorKind::Quota) {
        check.error(child(key, "until"), format!("`until` goes only with `throttled` and `quota`, not `{}`", rule.class));
    }
    if let Some(Until::Header(name)) = &rule.until {
        check.header(child(key, "until"), name);
    }
    if rule.wait.is_some() && !matches!(rule.class, ErrorKind::Throttled | ErrorKind::Quota | ErrorKind::Transient) {
        check.error(child(key, "wait"), format!("`wait` goes only with `throttled`, `quota` and `transient`, not `{}`", rule.class));
    }
    if rule.status.is_empty() && rule.code.is_empty() && rule.conditions.is_empty() && rule.message_contains.is_none() {
        check.warning(key, "this rule has no condition, so every error that gets here has this class");
    }
}

/// Whether every reply the later rule matches is already matched by the earlier one.
fn covers(earlier: &ErrorRule, later: &ErrorRule) -> bool {
    let within = |pattern: &StatusPattern| {
        earlier.status.iter().any(|known| match (known, pattern) {
            (StatusPattern::Family(family), StatusPattern::Exact(status)) => status / 100 == *family,
            (known, pattern) => known == pattern,
        })
    };
    let status = earlier.status.is_empty() || (!later.status.is_empty() && later.status.iter().all(within));
    let code = earlier.code.is_empty() || (!later.code.is_empty() && later.code.iter().all(|code| earlier.code.contains(code)));
    let conditions = earlier.conditions.iter().all(|(path, value)| later.conditions.get(path).is_some_and(|other| allows(value, other)));
    let message = match (&earlier.message_contains, &later.message_contains) {
        (None, _) => true,
        (Some(part), Some(whole)) => whole.contains(part.as_str()),
        (Some(_), None) => false,
    };
    status && code && conditions && message
}

/// Whether a condition's value lets everything through that the other does.
fn allows(value: &Value, other: &Value) -> bool {
    match (value, other) {
        (Value::String(any), _) if any == "*" => true,
        (Value::Array(several), Value::Array(others)) => others.iter().all(|other| several.contains(other)),
        (Value::Array(several), other) => several.contains(other),
        (value, other) => value == other,
    }
}
