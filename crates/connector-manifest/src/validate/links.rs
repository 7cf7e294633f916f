//! What a tool says about other tools: how to look whether it happened, what batches it, what takes it back.

use connector_core::spec::Effect;

use super::{Check, shown, suggestion, tools::any_text, under};
use crate::{
    model::{Batch, Inverse, LookupRepeat, RepeatRule, Tool, TypeExpr},
    placeholders,
    sources::{child, item},
    template::{Template, Tree},
};

pub(super) fn check(check: &mut Check<'_>, key: &str, tool: &Tool) {
    match &tool.repeat {
        Some(RepeatRule::Key(rule)) => check.header(under(key, &["repeat", "key", "header"]), &rule.header),
        Some(RepeatRule::Lookup(rule)) => lookup(check, key, tool, rule),
        _ => {}
    }
    if let Some(batch) = &tool.batch {
        self::batch(check, &child(key, "batch"), tool, batch);
    }
    if let Some(split) = &tool.split {
        let key = child(key, "split");
        own_param(check, &child(&key, "by"), tool, &split.by);
        if let Some(param) = tool.param(&split.by)
            && !matches!(param.type_expr, TypeExpr::Array(_) | TypeExpr::Any)
        {
            check.error(child(&key, "by"), format!("`{}` is of type `{}`; only a list can be split", split.by, param.type_expr));
        }
        if split.max == 0 {
            check.error(child(&key, "max"), "`max: 0` would send nothing");
        }
        check.path(child(&key, "items"), &split.items);
    }
    if let Some(inverse) = &tool.inverse {
        self::inverse(check, &child(key, "inverse"), tool, inverse);
    }
}

fn lookup(check: &mut Check<'_>, key: &str, tool: &Tool, rule: &LookupRepeat) {
    let key = child(key, "repeat");
    let Some(read) = check.tool(child(&key, "lookup"), &rule.lookup) else { return };
    if read.effect() != Effect::Read {
        check.error(child(&key, "lookup"), format!("`{}` changes something; only a read can tell whether a write happened", rule.lookup));
    }
    arguments(check, &child(&key, "by"), read, rule.by.keys().map(String::as_str), true);
    for (name, path) in &rule.by {
        let key = under(&key, &["by", name]);
        check.path(key.clone(), path);
        from_argument(check, &key, tool, path);
    }
    if let Some(found) = &rule.found {
        check.path(child(&key, "found"), found);
    }
}

fn batch(check: &mut Check<'_>, key: &str, tool: &Tool, batch: &Batch) {
    own_param(check, &child(key, "by"), tool, &batch.by);
    for (at, name) in batch.share.iter().enumerate() {
        own_param(check, &item(&child(key, "share"), at), tool, name);
    }
    check.path(child(key, "items"), &batch.items);
    check.path(child(key, "key"), &batch.key);
    if batch.max == 0 {
        check.error(child(key, "max"), "`max: 0` would send nothing");
    }
    if let Some(input) = &batch.input {
        let mut names = Vec::new();
        Tree::parse(input).placeholders(&mut names);
        for name in names.iter().filter(|name| **name != batch.by) {
            check.error(child(key, "input"), format!("`{{{}}}` is not filled here; only `{{{}}}` is", shown(name), batch.by));
        }
        if !any_text(input, &|text| Template::parse(text).placeholders().any(|name| name == batch.by)) {
            check.error(child(key, "input"), format!("`input` does not use `{{{}}}`, so every input would be the same", batch.by));
        }
    }
    let Some(many) = check.tool(child(key, "tool"), &batch.tool) else { return };
    if many.effect() != Effect::Read {
        check.error(child(key, "tool"), format!("`{}` changes something; a batch of reads must be a read", batch.tool));
    }
    let into = std::iter::once(batch.into.as_str());
    if !placeholders::all(many).contains(&batch.into) {
        let near = suggestion(&batch.into, many.params.iter().map(|param| param.name.as_str()));
        check.error(
            child(key, "into"),
            format!("`{}` has no parameter `{}`{near}; `into` says which one takes the collected values", batch.tool, shown(&batch.into)),
        );
        return;
    }
    let given = into.chain(batch.args.keys().map(String::as_str)).chain(batch.share.iter().map(String::as_str));
    arguments(check, &child(key, "args"), many, given, true);
}

fn inverse(check: &mut Check<'_>, key: &str, tool: &Tool, inverse: &Inverse) {
    if tool.effect() == Effect::Read {
        check.error(key, "a read changes nothing, so nothing takes it back");
    }
    let Some(undo) = check.tool(child(key, "tool"), &inverse.tool) else { return };
    if undo.effect() == Effect::Read {
        check.error(child(key, "tool"), format!("`{}` is a read and takes nothing back", inverse.tool));
    }
    arguments(check, &child(key, "args"), undo, inverse.args.keys().map(String::as_str), true);
    for (name, text) in &inverse.args {
        let key = under(key, &["args", name]);
        match text.strip_prefix("args.") {
            Some(rest) => {
                let path = format!(".{rest}");
                check.path(key.clone(), &path);
                from_argument(check, &key, tool, &path);
            }
            None => check.path(key, text),
        }
    }
}

/// Arguments given to another tool: all known, and nothing it needs left out.
pub(super) fn arguments<'a>(check: &mut Check<'_>, key: &str, tool: &Tool, given: impl Iterator<Item = &'a str>, whole: bool) {
    let known = placeholders::all(tool);
    let given: Vec<&str> = given.collect();
    for name in given.iter().filter(|name| !known.iter().any(|known| known == **name)) {
        let near = suggestion(name, known.iter().map(String::as_str));
        check.error(child(key, name), format!("`{}` has no parameter `{}`{near}", shown(&tool.name), shown(name)));
    }
    if !whole {
        return;
    }
    let declared = tool.params.iter().filter(|param| param.required && param.default.is_null() && param.setting.is_none());
    let implicit = placeholders::implicit(tool);
    let required = declared.map(|param| param.name.as_str()).chain(implicit.iter().map(|(name, _)| name.as_str()));
    for name in required.filter(|name| !given.contains(name)) {
        check.error(key, format!("`{}` needs the parameter `{name}`, which is not given here", shown(&tool.name)));
    }
}

fn own_param(check: &mut Check<'_>, key: &str, tool: &Tool, name: &str) {
    let known = placeholders::all(tool);
    if !known.iter().any(|known| known == name) {
        let near = suggestion(name, known.iter().map(String::as_str));
        check.error(key, format!("`{}` has no parameter `{}`{near}", shown(&tool.name), shown(name)));
    }
}

/// A path into a tool's own arguments starts with one of its parameters.
fn from_argument(check: &mut Check<'_>, key: &str, tool: &Tool, path: &str) {
    let first = path.trim_start_matches('.').split(['.', '[', ' ']).next().unwrap_or_default().trim_matches('"');
    let known = placeholders::all(tool);
    if !first.is_empty() && !known.iter().any(|known| known == first) {
        let near = suggestion(first, known.iter().map(String::as_str));
        check.error(key, format!("the path reads the parameter `{}`, which `{}` does not have{near}", shown(first), shown(&tool.name)));
    }
}
