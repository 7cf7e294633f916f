//! JSON Schemas: of the manifest format itself, for editors, and the pieces that belong to core's types.

use connector_core::ErrorKind;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::model::Manifest;

/// The JSON Schema of the manifest format (draft 2020-12), published as `docs/spec/manifest.schema.json`.
pub fn manifest_schema() -> Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    if let Value::Object(map) = &mut schema {
        map.insert("title".into(), "connectors manifest".into());
        map.insert("$id".into(), "https://github.com/connectors-rs/connectors/blob/main/docs/spec/manifest.schema.json".into());
    }
    schema
}

pub(crate) fn auth(_: &mut SchemaGenerator) -> Schema {
    let text = || json_schema!({ "type": "string" });
    let one = json_schema!({
        "type": "object",
        "properties": {
            "type": { "enum": ["bearer", "api_key", "basic", "oauth2", "hmac", "none"] },
            "label": text(), "token_env": text(), "key_env": text(), "username_env": text(), "password_env": text(),
            "client_id_env": text(), "client_secret_env": text(), "secret_env": text(),
            "header": text(), "prefix": text(), "place": { "enum": ["header"] },
            "flow": { "enum": ["client_credentials", "authorization_code", "jwt_bearer"] },
            "token_url": text(), "authorize_url": text(),
            "scopes": { "type": "array", "items": text() },
            "client_auth": { "enum": ["post", "basic"] },
            "params": { "type": "object", "additionalProperties": text() },
            "message": text(), "encoding": { "enum": ["hex", "base64"] },
            "timestamp_header": text(), "nonce_header": text(), "key_id_header": text(), "also": { "type": "object" },
        },
        "required": ["type"],
        "additionalProperties": false,
    });
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
}

pub(crate) fn limits(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": {
        "type": "object",
        "properties": {
            "windows": { "type": "array", "items": { "type": "string", "pattern": "^[0-9]+/[0-9]*(ms|s|m|min|h|d)$" } },
            "key": { "type": "string", "pattern": "^(connection|tenant|connector|param:.+)$" },
            "concurrent": { "type": "integer", "minimum": 1 },
            "with": { "type": "string" },
            "remaining_header": { "type": "string" },
            "reset_header": { "type": "string" },
        },
        "additionalProperties": false,
    } })
}

pub(crate) fn status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": { "sandbox": { "type": "boolean" }, "published_description": { "type": "boolean" }, "verified_live": { "type": "boolean" } },
        "additionalProperties": false,
    })
}

pub(crate) fn effect(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["read", "write", "destructive", null] })
}

pub(crate) fn timeout(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["read", "write", "long", null] })
}

pub(crate) fn error_class(_: &mut SchemaGenerator) -> Schema {
    let classes: Vec<&str> = ERROR_CLASSES.iter().map(|kind| kind.as_str()).collect();
    json_schema!({ "enum": classes })
}

/// The classes a manifest's error table may give.
pub(crate) const ERROR_CLASSES: [ErrorKind; 13] = [
    ErrorKind::Throttled,
    ErrorKind::Transient,
    ErrorKind::Timeout,
    ErrorKind::AuthExpired,
    ErrorKind::Forbidden,
    ErrorKind::NotFound,
    ErrorKind::Invalid,
    ErrorKind::Conflict,
    ErrorKind::CursorExpired,
    ErrorKind::Quota,
    ErrorKind::Partial,
    ErrorKind::Protocol,
    ErrorKind::Unknown,
];
