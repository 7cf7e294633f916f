//! Webhooks and events: a delivery can prove itself, and every path into it parses.

use super::{Check, Strictness, shown, under};
use crate::{
    model::{Verify, WEBHOOK_SCHEMES},
    sources::{child, item, near},
    template::Template,
};

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    if let Some(webhook) = &manifest.webhook {
        verify(check, &webhook.verify);
        check.path("webhook.events_at", &webhook.events_at);
        for (at, path) in webhook.event_id.iter().enumerate() {
            check.path(item("webhook.event_id", at), path);
        }
        for (name, path) in [("event_type", &webhook.event_type), ("occurred_at", &webhook.occurred_at), ("order_by", &webhook.order_by)] {
            if let Some(path) = path {
                check.path(child("webhook", name), path);
            }
        }
        if webhook.event_id.is_empty() {
            check.hint("webhook", "there is no `event_id`; a hash of each event stands in, so two equal events count as one");
        }
    }
    for (at, (name, event)) in manifest.events.iter().enumerate() {
        let key = child("events", name);
        for path in event.matches.keys() {
            check.path(under(&key, &["match", path]), path);
        }
        if event.matches.is_empty() && manifest.events.len() > 1 {
            check.hint(key.clone(), format!("`{name}` has no `match`; only the vendor's own name for it (`event_type`) tells it from the others"));
        }
        let same = manifest.events.iter().take(at).find(|(_, earlier)| !event.matches.is_empty() && earlier.matches == event.matches);
        if let Some((earlier, _)) = same {
            check.warning(child(&key, "match"), format!("`{name}` matches exactly what `{earlier}` matches"));
        }
        for (at, tag) in event.invalidates.iter().enumerate() {
            for placeholder in Template::parse(tag).placeholders() {
                check.path(item(&child(&key, "invalidates"), at), &format!(".{placeholder}"));
            }
        }
    }
}

fn verify(check: &mut Check<'_>, verify: &Verify) {
    let key = "webhook.verify";
    match (&verify.scheme, verify.kind) {
        (Some(_), Some(_)) => check.error(key, "`verify` has either a named `scheme` or a described `kind`, not both"),
        (None, None) => check.error(
            key,
            format!(
                "`verify` says neither `scheme` nor `kind`; there is no default, deliveries must prove themselves; schemes: {}",
                WEBHOOK_SCHEMES.join(", ")
            ),
        ),
        (Some(scheme), None) => {
            if check.strictness == Strictness::Custom && !WEBHOOK_SCHEMES.contains(&scheme.as_str()) {
                let near = near(scheme, WEBHOOK_SCHEMES).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let message =
                    format!("there is no scheme `{}`{near} accepted: {}, or describe it with `kind`", shown(scheme), WEBHOOK_SCHEMES.join(", "));
                let message = if near.is_empty() { message.replacen(" accepted:", "; accepted:", 1) } else { message };
                check.error(child(key, "scheme"), message);
            }
            if scheme == "bearer" {
                check.hint(child(key, "scheme"), "`bearer` proves only that somebody knows a fixed text; prefer a signature over the body");
            }
        }
        (None, Some(_)) => described(check, key, verify),
    }
    if let Some(header) = &verify.header {
        check.header(child(key, "header"), header);
    }
    if let Some(header) = &verify.timestamp {
        check.header(child(key, "timestamp"), header);
    }
    if verify.tolerance.is_some_and(|tolerance| tolerance.0.is_zero() || tolerance.0.as_secs() > 3600) {
        check.error(child(key, "tolerance"), "`tolerance` must be above 0 and at most 1h; a wider window invites replays");
    }
}

fn described(check: &mut Check<'_>, key: &str, verify: &Verify) {
    if verify.header.is_none() {
        check.error(key, "`header` is missing: say which header carries the signature");
    }
    let Some(message) = &verify.message else {
        check.error(key, "`message` is missing: say what is signed, for example `{body}` or `{timestamp}.{body}`");
        return;
    };
    let template = Template::parse(message);
    for name in template.placeholders().filter(|name| !["body", "timestamp", "method", "url"].contains(name)) {
        let message = format!("`{{{}}}` cannot be signed; accepted: {{body}}, {{timestamp}}, {{method}}, {{url}}", shown(name));
        check.error(child(key, "message"), message);
    }
    let uses = |name: &str| template.placeholders().any(|used| used == name);
    if !uses("body") {
        check.error(child(key, "message"), "the signed message leaves out `{body}`, so anybody could change it");
    }
    match (uses("timestamp"), &verify.timestamp) {
        (true, None) => check.error(key, "the message signs `{timestamp}`, so `timestamp` must say which header carries it"),
        (false, Some(_)) => {
            check.warning(child(key, "timestamp"), "the timestamp is not signed (`{timestamp}` is not in `message`), so it proves nothing")
        }
        (false, None) => check.hint(key, "there is no signed timestamp; a replayed delivery is recognised only by its event id"),
        (true, Some(_)) => {}
    }
}
