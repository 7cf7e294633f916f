//! The JSON Schemas (2020-12) of arguments and outputs.
//!
//! Arguments are an object that refuses unknown keys; records of a vendor keep them, because vendors add fields at any time.
//! Models a schema uses, and only those, stand in its `$defs`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    model::{Field, Manifest, Model, Param, Tool, TypeExpr},
    placeholders,
};

/// Whether a call without it is refused: neither a default nor a connection's setting stands in.
pub(super) fn is_required(param: &Param) -> bool {
    param.required && param.default.is_null() && param.setting.is_none()
}

/// The schema of a tool's arguments.
pub(super) fn input(manifest: &Manifest, tool: &Tool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut models = BTreeSet::new();
    for param in &tool.params {
        collect(&param.type_expr, manifest, &mut models);
        properties.insert(param.name.clone(), parameter(param));
        if is_required(param) {
            required.push(Value::from(param.name.as_str()));
        }
    }
    for (name, _) in placeholders::implicit(tool) {
        required.push(Value::from(name.as_str()));
        properties.insert(name, json!({}));
    }
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), Value::Array(required));
    }
    schema.insert("additionalProperties".into(), false.into());
    define(&mut schema, &models, manifest);
    Value::Object(schema)
}

/// The schema of a tool's output.
pub(super) fn output(manifest: &Manifest, tool: &Tool) -> Value {
    let schema = match (&tool.returns, &tool.response_map) {
        (Some(returns), _) => with_models(of(returns), returns, manifest),
        (None, Some(map)) => {
            let properties: Map<String, Value> = map.keys().map(|name| (name.clone(), json!({}))).collect();
            let required: Vec<&String> = map.keys().collect();
            json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
        }
        (None, None) => json!({}),
    };
    if tool.none_on.is_empty() || schema.as_object().is_some_and(Map::is_empty) { schema } else { nullable(schema) }
}

/// The schema of a type with the models it uses.
pub(super) fn with_models(schema: Value, expr: &TypeExpr, manifest: &Manifest) -> Value {
    let mut models = BTreeSet::new();
    collect(expr, manifest, &mut models);
    match schema {
        Value::Object(mut map) => {
            define(&mut map, &models, manifest);
            Value::Object(map)
        }
        other => other,
    }
}

/// The schema of a type; models as references into `$defs`.
pub(super) fn of(expr: &TypeExpr) -> Value {
    match expr {
        TypeExpr::Any => json!({}),
        TypeExpr::String => json!({ "type": "string" }),
        TypeExpr::Integer => json!({ "type": "integer" }),
        TypeExpr::Number => json!({ "type": "number" }),
        TypeExpr::Boolean => json!({ "type": "boolean" }),
        TypeExpr::Datetime => json!({ "type": "string", "format": "date-time" }),
        TypeExpr::Date => json!({ "type": "string", "format": "date" }),
        TypeExpr::Object => json!({ "type": "object" }),
        TypeExpr::Raw => json!({
            "type": "object",
            "properties": { "content_type": { "type": "string" }, "base64": { "type": "string", "contentEncoding": "base64" } },
            "required": ["content_type", "base64"],
        }),
        TypeExpr::None => json!({ "type": "null" }),
        TypeExpr::Array(inner) => json!({ "type": "array", "items": of(inner) }),
        TypeExpr::Map(inner) => json!({ "type": "object", "additionalProperties": of(inner) }),
        TypeExpr::Nullable(inner) => nullable(of(inner)),
        TypeExpr::Model(name) => json!({ "$ref": format!("#/$defs/{name}") }),
    }
}

/// The same or null. Definitions stay at the top.
fn nullable(schema: Value) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    let is_null_already = map.get("type").is_some_and(|kind| kind == "null" || kind.as_array().is_some_and(|kinds| kinds.contains(&"null".into())));
    if is_null_already {
        return Value::Object(map);
    }
    if let Some(Value::String(kind)) = map.get("type").filter(|_| !map.contains_key("enum")) {
        let kinds = json!([kind, "null"]);
        map.insert("type".into(), kinds);
        return Value::Object(map);
    }
    if map.is_empty() {
        return Value::Object(map);
    }
    let defs = map.shift_remove("$defs");
    let mut either = Map::new();
    either.insert("anyOf".into(), json!([map, { "type": "null" }]));
    if let Some(defs) = defs {
        either.insert("$defs".into(), defs);
    }
    Value::Object(either)
}

fn parameter(param: &Param) -> Value {
    let (inner, is_nullable) = match &param.type_expr {
        TypeExpr::Nullable(inner) => (&**inner, true),
        other => (other, false),
    };
    let Value::Object(mut schema) = of(inner) else { return of(inner) };
    if let Some(format) = &param.format {
        schema.insert("format".into(), format.as_str().into());
    }
    let bounds = match inner {
        TypeExpr::Integer | TypeExpr::Number => Some(("minimum", "maximum")),
        TypeExpr::String | TypeExpr::Datetime | TypeExpr::Date | TypeExpr::Raw => Some(("minLength", "maxLength")),
        TypeExpr::Array(_) => Some(("minItems", "maxItems")),
        TypeExpr::Object | TypeExpr::Map(_) => Some(("minProperties", "maxProperties")),
        TypeExpr::Any | TypeExpr::Boolean | TypeExpr::None | TypeExpr::Nullable(_) | TypeExpr::Model(_) => None,
    };
    if let Some((least, greatest)) = bounds {
        for (word, bound) in [(least, param.min), (greatest, param.max)] {
            if let Some(bound) = bound {
                schema.insert(word.into(), bound.into());
            }
        }
    }
    if !param.values.is_empty() {
        // For a list the accepted values are those of its members.
        match (inner, schema.get_mut("items").and_then(Value::as_object_mut)) {
            (TypeExpr::Array(_), Some(items)) => items.insert("enum".into(), Value::Array(param.values.clone())),
            _ => schema.insert("enum".into(), Value::Array(param.values.clone())),
        };
    }
    let schema = if is_nullable { nullable(Value::Object(schema)) } else { Value::Object(schema) };
    let Value::Object(mut schema) = schema else { return schema };
    if !param.default.is_null() {
        schema.insert("default".into(), param.default.clone());
    }
    if !param.doc.is_empty() {
        schema.insert("description".into(), param.doc.as_str().into());
    }
    Value::Object(schema)
}

/// The models a type needs, through the models it uses. Models may refer to each other in circles.
fn collect(expr: &TypeExpr, manifest: &Manifest, found: &mut BTreeSet<String>) {
    match expr {
        TypeExpr::Array(inner) | TypeExpr::Map(inner) | TypeExpr::Nullable(inner) => collect(inner, manifest, found),
        TypeExpr::Model(name) if found.insert(name.clone()) => {
            let fields = manifest.models.get(name).into_iter().flat_map(|model| &model.fields.0);
            fields.for_each(|(_, field)| collect(&field.type_expr, manifest, found));
        }
        _ => {}
    }
}

fn define(schema: &mut Map<String, Value>, models: &BTreeSet<String>, manifest: &Manifest) {
    if models.is_empty() {
        return;
    }
    // A name that is not declared is refused by the cross-checks; here it means anything.
    let defs: Map<String, Value> = models.iter().map(|name| (name.clone(), manifest.models.get(name).map_or_else(|| json!({}), record))).collect();
    schema.insert("$defs".into(), Value::Object(defs));
}

fn record(model: &Model) -> Value {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    if !model.doc.is_empty() {
        schema.insert("description".into(), model.doc.as_str().into());
    }
    let properties: Map<String, Value> = model.fields.0.iter().map(|(name, field)| (name.clone(), self::field(field))).collect();
    schema.insert("properties".into(), Value::Object(properties));
    if !model.required.is_empty() {
        schema.insert("required".into(), json!(model.required));
    }
    Value::Object(schema)
}

fn field(field: &Field) -> Value {
    let mut schema = of(&field.type_expr);
    if let (Some(map), false) = (schema.as_object_mut(), field.doc.is_empty()) {
        map.insert("description".into(), field.doc.as_str().into());
    }
    schema
}
