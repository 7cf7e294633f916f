//! Tools: names, the request they make, and what is made of the reply.

use std::collections::HashMap;

use connector_core::spec::Effect;
use serde_json::Value;

use super::{Check, Strictness, examples, is_name, is_snake, links, paging, params, shown, under};
use crate::{
    model::{Encoding, Method, RepeatRule, Tool, ToolPagination, TypeExpr},
    placeholders,
    sources::{child, item},
    template::Template,
};

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    if let Some(page) = &manifest.pagination {
        paging::check(check, "pagination", page);
    }
    let mut seen: HashMap<&str, String> = HashMap::new();
    for (at, tool) in manifest.tools.iter().enumerate() {
        if check.is_full() {
            break;
        }
        let key = item("tools", at);
        if let Some(first) = seen.insert(&tool.name, key.clone()) {
            let (file, line, _) = check.sources.locate(&child(&first, "name"));
            let place = if line > 0 { format!("; the first is {file}:{line}") } else { String::new() };
            check.error(child(&key, "name"), format!("the tool `{}` is declared twice{place}", shown(&tool.name)));
        }
        name(check, &key, tool);
        door(check, &key, tool);
        if tool.doc.trim().is_empty() {
            check.expected(
                key.clone(),
                format!("`{}` has no `doc`; say what it does and what it gives, people and models choose by it", shown(&tool.name)),
            );
        }
        // PUT and DELETE mean the same twice by RFC 9110 §9.2.2; what is neither must say it.
        let says_by_method = matches!(tool.method, Some(Method::Put | Method::Delete));
        if tool.repeat.is_none() && tool.effect() != Effect::Read && !says_by_method && check.strictness == Strictness::BuiltIn {
            let message = format!("`{}` writes and must say `repeat`: what to do when nobody knows whether it happened", tool.name);
            check.error(key.clone(), message);
        }
        if tool.effect == Some(Effect::Read) && matches!(tool.method, Some(Method::Delete | Method::Put | Method::Patch)) {
            check.error(under(&key, &["effect"]), "`effect: read` with PUT, PATCH or DELETE; those change something and must be gated");
        }
        params::check(check, &key, tool);
        reply(check, &key, tool);
        links::check(check, &key, tool);
        examples::check(check, &key, tool);
    }
}

fn name(check: &mut Check<'_>, key: &str, tool: &Tool) {
    let manifest = check.manifest;
    let key = child(key, "name");
    if !is_snake(&tool.name) || tool.name.len() > 64 {
        check.error(
            key,
            format!("`{}` is not a tool's name; use lower-case letters, digits and `_`, at most 64, starting with a letter", shown(&tool.name)),
        );
        return;
    }
    if check.strictness == Strictness::BuiltIn {
        let prefix = format!("{}_", manifest.tool_prefix());
        if !tool.name.starts_with(&prefix) {
            check.error(key, format!("`{}` must start with `{prefix}`", tool.name));
        }
        return;
    }
    // Tools of one custom connector should be told apart from others by a common first word.
    let first_word = |name: &str| name.split('_').next().unwrap_or_default().to_owned();
    if let Some(usual) = manifest.tools.first().map(|tool| first_word(&tool.name))
        && first_word(&tool.name) != usual
    {
        check.hint(key, format!("the other tools start with `{usual}_`; one prefix tells people whose tool it is"));
    }
}

/// `native`, or `method` and `path` with what goes with them.
fn door(check: &mut Check<'_>, key: &str, tool: &Tool) {
    match (&tool.native, tool.method, &tool.path) {
        (Some(_), None, None) => {
            let given = [
                ("query", tool.query.is_some()),
                ("headers", !tool.headers.is_empty()),
                ("body", tool.body.is_some()),
                ("select", tool.select.is_some()),
                ("response_map", tool.response_map.is_some()),
                ("split", tool.split.is_some()),
                ("prepare", tool.prepare.is_some()),
                ("outcomes", tool.outcomes),
            ];
            for (name, _) in given.iter().filter(|(_, is_given)| *is_given) {
                check.error(child(key, name), format!("`{name}` is not read with `native`; the connector's code makes the requests"));
            }
            if check.strictness == Strictness::Custom {
                check.error(child(key, "native"), "`native` means Rust code of a built-in connector; a custom one gives `method` and `path`");
            }
            return;
        }
        (Some(_), ..) => check.error(child(key, "native"), "a tool has either `native` or `method` and `path`, not both"),
        (None, None, None) => check.error(key, format!("`{}` has neither `method` and `path` nor `native`", shown(&tool.name))),
        (None, None, Some(_)) => check.error(key, "`method` is missing; accepted: GET, HEAD, POST, PUT, PATCH, DELETE"),
        (None, Some(_), None) => check.error(key, "`path` is missing; it follows the base URL, for example `/orders/{id}`"),
        (None, Some(_), Some(_)) => {}
    }
    for (name, given) in [("prepare", tool.prepare.is_some()), ("outcomes", tool.outcomes)] {
        if given && check.strictness == Strictness::Custom {
            check.error(child(key, name), format!("`{name}` means Rust code of a built-in connector; a custom one has none"));
        }
    }
    if let Some(path) = &tool.path {
        self::path(check, &child(key, "path"), path);
    }
    let bodiless = matches!(tool.method, Some(Method::Get | Method::Head));
    if bodiless && tool.body.is_some() {
        check.error(child(key, "body"), "GET and HEAD have no body; put the values into `query`, or use POST with `effect: read`");
    }
    if tool.body.is_none() && tool.encoding == Encoding::Text {
        check.error(child(key, "encoding"), "`encoding: text` needs a `body` that is one text");
    }
    if tool.encoding == Encoding::Text && tool.body.as_ref().is_some_and(|body| !body.is_string()) {
        check.error(child(key, "body"), "with `encoding: text` the body is one text, for example `\"{text}\"`");
    }
    if tool.encoding == Encoding::Form && tool.body.as_ref().is_some_and(|body| !body.is_object()) {
        check.error(child(key, "body"), "with `encoding: form` the body is a mapping");
    }
    for (name, value) in &tool.headers {
        let key = under(key, &["headers", name]);
        check.header(key.clone(), name);
        if value.chars().any(char::is_control) {
            check.error(key.clone(), format!("the value of header `{}` has a line break or another control character", shown(name)));
        }
        if ["host", "content-length", "transfer-encoding", "connection"].contains(&name.to_lowercase().as_str()) {
            check.error(key, format!("`{}` is set by the transport", shown(name)));
        }
    }
    no_env(check, key, tool);
    near_placeholders(check, key, tool);
}

fn path(check: &mut Check<'_>, key: &str, path: &str) {
    if path.contains("://") {
        check.error(key, "`path` follows the base URL; the host belongs into `base_url`");
    } else if !path.starts_with('/') {
        check.error(key, "`path` must start with `/`");
    }
    if path.contains(['?', '#']) {
        check.error(key, "`path` has `?` or `#`; parameters belong into `query`");
    }
    if path.contains("//") && !path.contains("://") {
        check.error(key, "`path` has an empty segment (`//`)");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        check.error(key, "`path` has a `.` or `..` segment");
    }
    if path.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        check.error(key, "`path` has blanks, control characters or backslashes; percent-encode them");
    }
    if path.matches('{').count() != Template::parse(path).placeholders().count() {
        check.error(key, "a `{` in `path` does not start a placeholder such as `{id}`");
    }
}

fn no_env(check: &mut Check<'_>, key: &str, tool: &Tool) {
    let texts = serde_json::json!({ "path": tool.path, "query": tool.query, "headers": tool.headers, "body": tool.body });
    for (name, value) in texts.as_object().into_iter().flatten() {
        if any_text(value, &|text| text.contains("${")) {
            let message = "`${...}` is never filled inside a tool: declare a parameter, or a setting that a parameter takes by `setting:`";
            check.error(child(key, name), message);
        }
    }
}

/// A whole text in braces that is no placeholder is almost always a slip.
fn near_placeholders(check: &mut Check<'_>, key: &str, tool: &Tool) {
    let query = tool.query.clone().map(Value::Object);
    for (name, value) in [("query", &query), ("body", &tool.body)] {
        let slip = |text: &str| {
            text.starts_with('{') && text.ends_with('}') && !text.contains([':', '"', '\n']) && Template::parse(text).as_literal().is_some()
        };
        if let Some(inner) = value.as_ref().and_then(|value| unquoted(value)) {
            let message = format!("`{{{inner}}}` without quotes is a mapping with no value; if the parameter is meant, write `\"{{{inner}}}\"`");
            check.warning(child(key, name), message);
        }
        if value.as_ref().is_some_and(|value| any_text(value, &slip)) {
            check.warning(child(key, name), "a text in braces here is no placeholder and is sent as it stands; names have letters, digits and `_`");
        }
    }
}

/// The name in a `{name}` that YAML reads as a mapping because it has no quotes.
fn unquoted(value: &Value) -> Option<&str> {
    let inside = |value: &'_ Value| -> bool {
        value.as_object().is_some_and(|map| map.len() == 1 && map.iter().all(|(name, value)| value.is_null() && is_name(name)))
    };
    let members: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    members.into_iter().find_map(|member| match member {
        member if inside(member) => member.as_object()?.keys().next().map(String::as_str),
        member => unquoted(member),
    })
}

/// Whether any text of a tree is such a one.
pub(super) fn any_text(value: &Value, is: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, is)),
        Value::Object(map) => map.values().any(|value| any_text(value, is)),
        _ => false,
    }
}

fn reply(check: &mut Check<'_>, key: &str, tool: &Tool) {
    if let Some(select) = &tool.select {
        check.path(child(key, "select"), select);
    }
    for (name, path) in tool.response_map.iter().flatten() {
        check.path(under(key, &["response_map", name]), path);
    }
    let unread = matches!(tool.returns, Some(TypeExpr::Raw | TypeExpr::None)) && (tool.response_map.is_some() || tool.select.is_some());
    if unread {
        check.error(child(key, "returns"), "`select` and `response_map` read JSON; they do not go with `returns: raw` or `none`");
    }
    for (at, status) in tool.none_on.iter().enumerate() {
        if !(200..600).contains(status) {
            check.error(item(&child(key, "none_on"), at), format!("{status} is not a status a vendor answers with"));
        }
    }
    if !tool.done_on.is_empty() && !matches!(tool.returns, Some(TypeExpr::None)) {
        check.error(child(key, "done_on"), "an error that counts as done brings no output; say `returns: none`");
    }
    match &tool.pagination {
        Some(ToolPagination::Own(own)) => paging::check(check, &child(key, "pagination"), own),
        Some(ToolPagination::Inherit(true)) if check.manifest.pagination.is_none() => {
            check.error(child(key, "pagination"), "`pagination: true` takes the manifest's way of paging, but there is no `pagination` at the top");
        }
        _ => {}
    }
    if tool.effect() != Effect::Read && (tool.cache.is_some() || tool.batch.is_some()) {
        let name = if tool.cache.is_some() { "cache" } else { "batch" };
        check.error(child(key, name), format!("`{name}` goes only with reads; `{}` is a {}", shown(&tool.name), tool.effect().as_str()));
    }
    if tool.repeat == Some(RepeatRule::Marker) && tool.native.is_none() {
        check.error(child(key, "repeat"), "`repeat: marker` needs code that leaves and finds the marker; give `{lookup: TOOL, by: {..}}` instead");
    }
    if let Some(cache) = &tool.cache
        && cache.ttl.0.as_secs() == 0
    {
        check.error(under(key, &["cache", "ttl"]), "`ttl` is less than a second");
    }
    let known = placeholders::all(tool);
    for (at, tag) in tool.cache.iter().flat_map(|cache| &cache.tags).enumerate() {
        for name in Template::parse(tag).placeholders() {
            if placeholders::root(name) != "reply" && !known.iter().any(|param| param == placeholders::root(name)) {
                let message = format!("`{{{}}}` in this tag is neither a parameter nor `{{reply.path}}`", shown(name));
                check.error(item(&under(key, &["cache", "tags"]), at), message);
            }
        }
    }
}
