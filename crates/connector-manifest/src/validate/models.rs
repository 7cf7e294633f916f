//! Models and types: every name leads to a model. Models may refer to each other in circles.

use super::{Check, shown, suggestion};
use crate::{
    model::TypeExpr,
    sources::{child, item},
};

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    for (name, model) in &manifest.models {
        let key = child("models", name);
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            check.error(key.clone(), format!("`{}` is not a model's name; write it as `CamelCase`, letters and digits only", shown(name)));
        }
        for (field_name, field) in &model.fields.0 {
            types(check, &child(&child(&key, "fields"), field_name), &field.type_expr);
        }
        for (at, required) in model.required.iter().enumerate() {
            if !model.fields.0.iter().any(|(field, _)| field == required) {
                let near = suggestion(required, model.fields.0.iter().map(|(field, _)| field.as_str()));
                check.error(item(&child(&key, "required"), at), format!("`{name}` has no field `{}`{near}", shown(required)));
            }
        }
    }
    for (at, tool) in manifest.tools.iter().enumerate() {
        let key = item("tools", at);
        for (at, param) in tool.params.iter().enumerate() {
            types(check, &child(&item(&child(&key, "params"), at), "type"), &param.type_expr);
        }
        if let Some(returns) = &tool.returns {
            types(check, &child(&key, "returns"), returns);
        }
    }
    for (name, event) in &manifest.events {
        if let Some(payload) = &event.payload {
            types(check, &child(&child("events", name), "payload"), payload);
        }
    }
}

fn types(check: &mut Check<'_>, key: &str, expr: &TypeExpr) {
    match expr {
        TypeExpr::Array(inner) | TypeExpr::Map(inner) | TypeExpr::Nullable(inner) => types(check, key, inner),
        TypeExpr::Model(name) if !check.manifest.models.contains_key(name) => {
            let near = suggestion(name, check.manifest.models.keys().map(String::as_str));
            check.error(key, format!("there is no model `{name}`{near}"));
        }
        _ => {}
    }
}
