//! The JSON Schema of the `subscriptions` section, whose types are core's.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The section: kinds by name.
pub(crate) fn subscriptions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": kind() })
}

fn text() -> Schema {
    json_schema!({ "type": "string" })
}

fn span() -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9]+(s|m|h|d)$", "examples": ["10080m", "7d"] })
}

fn texts() -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
}

fn call(more: &[(&str, Schema)], required: &[&str]) -> Schema {
    let mut properties = serde_json::Map::new();
    properties.insert("tool".into(), text().to_value());
    properties.insert("args".into(), serde_json::json!({ "type": "object" }));
    properties.extend(more.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone().to_value())));
    json_schema!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn kind() -> Schema {
    let flag = || json_schema!({ "type": "boolean" });
    let params = json_schema!({ "type": "object", "additionalProperties": {
        "type": "object",
        "properties": { "doc": text(), "required": flag(), "default": {}, "setting": text() },
        "additionalProperties": false,
    } });
    let create = call(&[("id", text()), ("expires", text()), ("keep", texts())], &["tool", "id"]);
    let many = json_schema!({ "type": "integer", "minimum": 1 });
    let renew = call(&[("expires", text()), ("replace", flag()), ("many", many)], &[]);
    let list =
        call(&[("items", text()), ("id", text()), ("expires", text()), ("ours", texts()), ("fits", texts())], &["tool", "items", "id", "ours"]);
    let events = json_schema!({
        "type": "object",
        "properties": {
            "subscription": text(), "key": text(), "version": text(), "created": text(), "updated": text(), "deleted": text(),
        },
        "required": ["subscription"],
        "additionalProperties": false,
    });
    let catch_up = json_schema!({
        "type": "object",
        "properties": { "stream": text(), "version": text(), "event_id": text(), "payload": {} },
        "required": ["stream", "event_id", "payload"],
        "additionalProperties": false,
    });
    json_schema!({
        "type": "object",
        "properties": {
            "doc": text(),
            "static": flag(),
            "instructions": text(),
            "quiet_after": span(),
            "params": params,
            "resource": text(),
            "lifetime": span(),
            "max_lifetime": span(),
            "renew_at": span(),
            "expires_as": { "enum": ["rfc3339", "unix_ms", "unix_s"] },
            "secret": flag(),
            "create": create,
            "renew": renew,
            "list": list,
            "delete": call(&[], &["tool"]),
            "reauthorize": call(&[], &["tool"]),
            "lifecycle": { "type": "object", "additionalProperties": { "enum": ["reauthorize", "removed", "missed"] } },
            "events": events,
            "catch_up": catch_up,
        },
        "additionalProperties": false,
    })
}
