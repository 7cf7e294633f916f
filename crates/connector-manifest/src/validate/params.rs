//! Parameters: declared once, of use, and with values that fit their type.

use std::collections::HashSet;

use serde_json::Value;

use super::{Check, is_name, is_snake, shown, suggestion};
use crate::{
    engine::escape::RULES,
    model::{Param, Tool, TypeExpr},
    placeholders,
    sources::{child, item, near},
    spec::pagination,
};

pub(super) fn check(check: &mut Check<'_>, key: &str, tool: &Tool) {
    let manifest = check.manifest;
    let mut seen = HashSet::new();
    let used = placeholders::used(tool);
    let page = pagination(manifest, tool);
    for (at, param) in tool.params.iter().enumerate() {
        let key = item(&child(key, "params"), at);
        if !seen.insert(&param.name) {
            check.error(child(&key, "name"), format!("the parameter `{}` is declared twice", shown(&param.name)));
        }
        one(check, &key, param);
        let read_by_paging = page.is_some_and(|page| [&page.param, &page.size_param].contains(&&Some(param.name.clone())));
        let is_used = tool.native.is_some()
            || tool.prepare.is_some()
            || placeholders::takes_the_rest(tool)
            || read_by_paging
            || used.iter().any(|(name, _)| *name == param.name);
        if !is_used {
            check.warning(
                key,
                format!("the parameter `{}` is used nowhere; put `{{{}}}` into the path, query, headers or body", param.name, param.name),
            );
        }
    }
    for (name, place) in placeholders::implicit(tool) {
        // A name close to a declared parameter that nothing uses is a slip; any other is only not declared.
        let idle = tool.params.iter().map(|param| param.name.as_str()).filter(|known| !used.iter().any(|(name, _)| name == known));
        if let Some(near) = near(&name, idle) {
            check.warning(child(key, place), format!("`{{{name}}}` is not declared; did you mean `{{{near}}}`, which is declared and not used?"));
            continue;
        }
        let message =
            format!("`{{{name}}}` is not declared, so it takes anything and is required; declare it under `params` with its type and a `doc`");
        check.hint(child(key, place), message);
    }
}

fn one(check: &mut Check<'_>, key: &str, param: &Param) {
    if !is_name(&param.name) {
        check.error(child(key, "name"), format!("`{}` is not a parameter's name; use letters, digits and `_`", shown(&param.name)));
    } else if !is_snake(&param.name) {
        check.hint(child(key, "name"), format!("`{}` is usually written in lower case with `_`", param.name));
    }
    if matches!(param.type_expr, TypeExpr::None) {
        check.error(child(key, "type"), "a parameter of type `none` can have no value");
    }
    if param.required && !param.default.is_null() {
        check.warning(child(key, "default"), "a required parameter with a default is never missing; drop one of the two");
    }
    if !param.default.is_null() && !fits(&param.default, &param.type_expr) {
        check.error(child(key, "default"), format!("the default is not of type `{}`", param.type_expr));
    }
    let member = match &param.type_expr {
        TypeExpr::Array(inner) => inner,
        other => other,
    };
    for (at, value) in param.values.iter().enumerate() {
        if !fits(value, member) {
            check.error(item(&child(key, "enum"), at), format!("this value is not of type `{member}`"));
        }
    }
    if !param.values.is_empty() && !param.default.is_null() {
        let defaults = param.default.as_array().map_or_else(|| std::slice::from_ref(&param.default), Vec::as_slice);
        if !defaults.iter().all(|value| param.values.contains(value)) {
            check.error(child(key, "default"), "the default is none of the accepted values (`enum`)");
        }
    }
    if let (Some(least), Some(greatest)) = (param.min, param.max)
        && least > greatest
    {
        check.error(child(key, "min"), format!("`min` {least} is above `max` {greatest}"));
    }
    let plain = match &param.type_expr {
        TypeExpr::Nullable(inner) => inner,
        other => other,
    };
    if (param.min.is_some() || param.max.is_some()) && matches!(plain, TypeExpr::Any | TypeExpr::Boolean | TypeExpr::Model(_)) {
        check.warning(key, format!("`min` and `max` say nothing about type `{}`", param.type_expr));
    }
    if param.join.is_some() && !matches!(plain, TypeExpr::Array(_) | TypeExpr::Any) {
        check.error(child(key, "join"), format!("`join` puts a list into one text, but `{}` is of type `{}`", param.name, param.type_expr));
    }
    if param.format.is_some() && !matches!(plain, TypeExpr::String | TypeExpr::Datetime | TypeExpr::Date) {
        check.error(child(key, "format"), format!("`format` describes a text, but `{}` is of type `{}`", param.name, param.type_expr));
    }
    if let Some(rule) = &param.escape
        && !RULES.contains(&rule.as_str())
    {
        check.error(child(key, "escape"), format!("`{}` is not an escape rule; accepted: {}", shown(rule), RULES.join(", ")));
    }
    if let Some(setting) = &param.setting
        && !check.manifest.settings.iter().any(|known| known.name == *setting)
    {
        let near = suggestion(setting, check.manifest.settings.iter().map(|setting| setting.name.as_str()));
        check.error(child(key, "setting"), format!("there is no setting `{}`{near}; declare it under `settings`", shown(setting)));
    }
}

/// Whether a value is of a type, as far as that can be said without its model.
fn fits(value: &Value, expr: &TypeExpr) -> bool {
    match expr {
        TypeExpr::Any | TypeExpr::Raw => true,
        TypeExpr::String | TypeExpr::Datetime | TypeExpr::Date => value.is_string(),
        TypeExpr::Integer => value.is_i64() || value.is_u64(),
        TypeExpr::Number => value.is_number(),
        TypeExpr::Boolean => value.is_boolean(),
        TypeExpr::Object | TypeExpr::Model(_) => value.is_object(),
        TypeExpr::None => value.is_null(),
        TypeExpr::Array(inner) => value.as_array().is_some_and(|items| items.iter().all(|item| fits(item, inner))),
        TypeExpr::Map(inner) => value.as_object().is_some_and(|map| map.values().all(|value| fits(value, inner))),
        TypeExpr::Nullable(inner) => value.is_null() || fits(value, inner),
    }
}
