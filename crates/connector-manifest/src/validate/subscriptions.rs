//! Subscriptions: every operation named exists and is given what it needs, every placeholder is filled by something, every event is declared.

use connector_core::spec::{Effect, SubscriptionSpec};
use serde_json::{Map, Value};

use super::{Check, is_snake, links, shown, suggestion};
use crate::{
    sources::child,
    template::{Template, Tree},
};

/// What is filled for every kind.
const USUAL: [&str; 8] = ["resource", "notification_url", "lifecycle_url", "secret", "expires", "id", "ids", "new_id"];
/// What is filled for an event that a catch-up makes.
const OF_EVENT: [&str; 3] = ["key", "version", "change"];

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    for (name, kind) in &manifest.subscriptions {
        let key = child("subscriptions", name);
        if !is_snake(name) {
            check.error(key.clone(), format!("`{}` is not a name; write lower-case letters, digits and `_`", shown(name)));
        }
        if manifest.webhook.is_none() {
            check.error(key.clone(), "there is no `webhook` section, so nothing that comes over a subscription could be received");
        }
        params(check, &key, kind);
        if kind.by_hand {
            by_hand(check, &key, kind);
        } else {
            by_api(check, &key, kind);
        }
        events(check, &key, kind);
        if kind.catch_up.is_some() {
            catch_up(check, &key, kind);
        }
    }
}

fn params(check: &mut Check<'_>, key: &str, kind: &SubscriptionSpec) {
    let manifest = check.manifest;
    for (name, param) in &kind.params {
        let key = child(&child(key, "params"), name);
        if USUAL.contains(&name.as_str()) || OF_EVENT.contains(&name.as_str()) {
            check.error(key.clone(), format!("`{}` is filled by the hub; call the parameter something else", shown(name)));
        }
        if let Some(setting) = &param.setting
            && !manifest.settings.iter().any(|known| known.name == *setting)
        {
            let near = suggestion(setting, manifest.settings.iter().map(|known| known.name.as_str()));
            check.error(child(&key, "setting"), format!("`{}` is no declared setting{near}", shown(setting)));
        }
    }
}

fn by_hand(check: &mut Check<'_>, key: &str, kind: &SubscriptionSpec) {
    if kind.instructions.as_deref().unwrap_or_default().trim().is_empty() {
        check.error(key, "`static: true` means that a person subscribes in the vendor's console; `instructions` must say how");
    }
    let more = [
        ("create", kind.create.is_some()),
        ("renew", kind.renew.is_some()),
        ("list", kind.list.is_some()),
        ("delete", kind.delete.is_some()),
        ("reauthorize", kind.reauthorize.is_some()),
    ];
    for (name, _) in more.iter().filter(|(_, there)| *there) {
        check.error(child(key, name), format!("a static subscription is not made by the hub, so `{name}` has no meaning here"));
    }
}

fn by_api(check: &mut Check<'_>, key: &str, kind: &SubscriptionSpec) {
    let Some(create) = &kind.create else {
        check.error(key, "`create` is missing: say which tool makes one, or `static: true` with `instructions`");
        return;
    };
    if kind.resource.is_empty() {
        check.error(key, "`resource` is missing: say what is watched, so that one subscription can be told from another");
    }
    text(check, child(key, "resource"), kind, &kind.resource, &[]);
    operation(check, &child(key, "create"), kind, &create.tool, &create.args, false);
    check.path(child(&child(key, "create"), "id"), &create.id);
    for (name, path) in create.expires.iter().map(|path| ("expires", path)).chain(create.keep.iter().map(|(name, path)| (name.as_str(), path))) {
        check.path(child(&child(key, "create"), name), path);
    }
    if kind.secret && !uses(&Value::Object(create.args.clone()), "secret") {
        check.error(child(key, "secret"), "`secret: true` makes a secret, but `create` gives it to nobody: use `{secret}` in its `args`");
    }
    if let Some(renew) = &kind.renew {
        let key = child(key, "renew");
        match (&renew.tool, renew.replace) {
            (Some(tool), false) => operation(check, &key, kind, tool, &renew.args, false),
            (None, true) => {}
            _ => check.error(key.clone(), "`renew` has either a `tool` or `replace: true`"),
        }
        if renew.many > 1 && !uses(&Value::Object(renew.args.clone()), "ids") {
            check.error(child(&key, "many"), "`many` puts several into one call: use `{ids}` in `args`");
        }
        if let Some(path) = &renew.expires {
            check.path(child(&key, "expires"), path);
        }
        if kind.lifetime.is_none() && kind.max_lifetime.is_none() && kind.renew_at.is_none() {
            check.error(key, "nothing says when to renew: give `lifetime`, `max_lifetime` or `renew_at`");
        }
    } else if kind.max_lifetime.is_some() {
        check.error(key, "`max_lifetime` says that it ends, so `renew` must say how it is kept alive");
    }
    if let (Some(asked), Some(most)) = (kind.lifetime, kind.max_lifetime)
        && asked > most
    {
        check.error(child(key, "lifetime"), "`lifetime` is longer than `max_lifetime`; the vendor would refuse it");
    }
    if let Some(list) = &kind.list {
        let key = child(key, "list");
        operation(check, &key, kind, &list.tool, &list.args, true);
        for (name, path) in [("items", Some(&list.items)), ("id", Some(&list.id)), ("expires", list.expires.as_ref())] {
            if let Some(path) = path {
                check.path(child(&key, name), path);
            }
        }
        if list.ours.is_empty() {
            check.error(child(&key, "ours"), "`ours` is empty, so the hub would take everybody's subscriptions for its own and end them");
        }
        for (group, fields) in [("ours", &list.ours), ("fits", &list.fits)] {
            for (path, filled) in fields {
                let key = child(&child(&key, group), path);
                check.path(key.clone(), path);
                text(check, key, kind, filled, &[]);
            }
        }
    }
    for (name, call) in [("delete", &kind.delete), ("reauthorize", &kind.reauthorize)] {
        if let Some(call) = call {
            operation(check, &child(key, name), kind, &call.tool, &call.args, false);
        }
    }
}

fn operation(check: &mut Check<'_>, key: &str, kind: &SubscriptionSpec, name: &str, args: &Map<String, Value>, reads: bool) {
    let Some(tool) = check.tool(child(key, "tool"), name) else { return };
    if (tool.effect() == Effect::Read) != reads {
        let what = if reads { "changes something; listing must be a read" } else { "is a read and changes nothing" };
        check.error(child(key, "tool"), format!("`{}` {what}", shown(name)));
    }
    links::arguments(check, &child(key, "args"), tool, args.keys().map(String::as_str), true);
    for (name, value) in args {
        let mut names = Vec::new();
        Tree::parse(value).placeholders(&mut names);
        for placeholder in names {
            known(check, child(&child(key, "args"), name), kind, &placeholder, &[]);
        }
    }
}

fn events(check: &mut Check<'_>, key: &str, kind: &SubscriptionSpec) {
    let manifest = check.manifest;
    let mut declared = |key: String, name: &str| {
        if !manifest.events.contains_key(name) {
            let near = suggestion(name, manifest.events.keys().map(String::as_str));
            check.error(key, format!("there is no event `{}`{near}", shown(name)));
        }
    };
    for name in kind.lifecycle.keys() {
        declared(child(&child(key, "lifecycle"), name), name);
    }
    let Some(events) = &kind.events else {
        if !kind.lifecycle.is_empty() || kind.catch_up.is_some() {
            check.error(key, "`events` is missing: say where an event tells which subscription it came over");
        }
        return;
    };
    let key = child(key, "events");
    for (name, event) in [("created", &events.created), ("updated", &events.updated), ("deleted", &events.deleted)] {
        if let Some(event) = event {
            declared(child(&key, name), event);
        }
    }
    check.path(child(&key, "subscription"), &events.subscription);
    for (name, path) in [("key", &events.key), ("version", &events.version)] {
        if let Some(path) = path {
            check.path(child(&key, name), path);
        }
    }
}

fn catch_up(check: &mut Check<'_>, key: &str, kind: &SubscriptionSpec) {
    let Some(catch_up) = &kind.catch_up else { return };
    let manifest = check.manifest;
    let key = child(key, "catch_up");
    let stream = catch_up.stream.split(':').next().unwrap_or_default();
    if !manifest.streams.contains_key(stream) {
        let near = suggestion(stream, manifest.streams.keys().map(String::as_str));
        check.error(child(&key, "stream"), format!("there is no stream `{}`{near}", shown(stream)));
    }
    text(check, child(&key, "stream"), kind, &catch_up.stream, &[]);
    text(check, child(&key, "event_id"), kind, &catch_up.event_id, &OF_EVENT);
    let mut names = Vec::new();
    Tree::parse(&catch_up.payload).placeholders(&mut names);
    for name in names {
        known(check, child(&key, "payload"), kind, &name, &OF_EVENT);
    }
    if let Some(path) = &catch_up.version {
        check.path(child(&key, "version"), path);
    }
    if kind.events.as_ref().is_some_and(|events| events.created.is_none() && events.updated.is_none()) {
        check.error(key, "what is found needs an event to become: give `created` or `updated` under `events`");
    }
}

fn text(check: &mut Check<'_>, key: String, kind: &SubscriptionSpec, text: &str, more: &[&str]) {
    for name in Template::parse(text).placeholders() {
        known(check, key.clone(), kind, name, more);
    }
}

/// A placeholder that something fills.
fn known(check: &mut Check<'_>, key: String, kind: &SubscriptionSpec, name: &str, more: &[&str]) {
    let kept = kind.create.iter().flat_map(|create| create.keep.keys()).map(String::as_str);
    let params = kind.params.keys().map(String::as_str);
    let all: Vec<&str> = USUAL.iter().copied().chain(more.iter().copied()).chain(params).chain(kept).collect();
    if !all.contains(&name) {
        let near = suggestion(name, all.iter().copied());
        check.error(key, format!("nothing fills `{{{}}}`{near}; declare it under `params` of the subscription", shown(name)));
    }
}

fn uses(value: &Value, name: &str) -> bool {
    let mut names = Vec::new();
    Tree::parse(value).placeholders(&mut names);
    names.iter().any(|used| used == name)
}
