//! The JSON Schema of the `views` section, made from the vocabularies: editors and the reader know every view, operation and field by name.

use connector_core::spec::views::{self, CUSTOM, View};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// The section: views by id.
pub(crate) fn views(_: &mut SchemaGenerator) -> Schema {
    let all: Map<String, Value> = views::all().iter().map(|view| (view.id.to_owned(), view_schema(view))).collect();
    json_schema!({ "type": "object", "properties": all, "additionalProperties": false })
}

fn view_schema(view: &View) -> Value {
    let models: Map<String, Value> = view
        .models
        .iter()
        .map(|model| {
            let names = model.fields.iter().map(|field| field.name).chain([CUSTOM]);
            let fields: Map<String, Value> = names.map(|name| (name.to_owned(), json!({}))).collect();
            (model.name.to_owned(), json!({ "type": "object", "description": model.doc, "properties": fields, "additionalProperties": false }))
        })
        .collect();
    let operations: Map<String, Value> = view.operations.iter().map(|op| (op.name.to_owned(), call(op.doc))).collect();
    json!({
        "type": "object",
        "description": view.doc,
        "properties": {
            "models": { "type": "object", "properties": models, "additionalProperties": false },
            "operations": { "type": "object", "properties": operations, "additionalProperties": false },
        },
        "required": ["operations"],
        "additionalProperties": false,
    })
}

fn call(doc: &str) -> Value {
    json!({
        "type": "object",
        "description": doc,
        "properties": {
            "call": { "type": "string" },
            "with": { "type": "object" },
            "add": { "type": "object" },
            "each": { "type": "object" },
            "anyway": { "type": "array", "items": { "type": "string" } },
            "at": { "type": "string" },
            "more": { "type": "string" },
            "map": { "type": "object" },
        },
        "required": ["call"],
        "additionalProperties": false,
    })
}
