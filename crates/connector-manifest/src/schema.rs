//! JSON Schemas: of the manifest format itself, for editors, and the pieces that belong to core's types.

use connector_core::ErrorKind;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

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
    let mut ways = plain_ways();
    let also = json_schema!({ "anyOf": plain_ways() });
    ways.push(way(
        "hmac",
        &["header", "message"],
        json_schema!({
            "header": { "type": "string" }, "message": { "type": "string" }, "encoding": { "enum": ["hex", "base64"] }, "prefix": { "type": "string" },
            "timestamp_header": { "type": "string" }, "nonce_header": { "type": "string" }, "key_id_header": { "type": "string" },
            "secret_env": { "type": "string" }, "also": also,
        }),
    ));
    let of = json_schema!({ "type": "array", "minItems": 2, "items": { "anyOf": ways.clone() } });
    ways.push(way("all", &["of"], json_schema!({ "of": of, "label": { "type": "string" } })));
    ways.push(way("none", &[], json_schema!({})));
    let mut either = ways.clone();
    either.push(json_schema!({ "type": "array", "items": { "anyOf": ways } }));
    json_schema!({ "anyOf": either })
}

/// The ways to authenticate that stand for themselves.
fn plain_ways() -> Vec<Schema> {
    let text = || json_schema!({ "type": "string" });
    vec![
        way("bearer", &[], json_schema!({ "token_env": text(), "prefix": text(), "label": text() })),
        way(
            "api_key",
            &["header"],
            json_schema!({ "header": text(), "place": { "enum": ["header"] }, "key_env": text(), "prefix": text(), "label": text() }),
        ),
        way("basic", &[], json_schema!({ "username_env": text(), "password_env": text(), "label": text() })),
        way("oauth2", &["flow"], oauth2()),
    ]
}

/// The keys of core's `OAuth2Spec`.
fn oauth2() -> Schema {
    let text = || json_schema!({ "type": "string" });
    let texts = || json_schema!({ "type": "array", "items": { "type": "string" } });
    let map = || json_schema!({ "type": "object", "additionalProperties": { "type": "string" } });
    let flag = || json_schema!({ "type": "boolean" });
    let seconds = || json_schema!({ "type": "integer", "minimum": 0 });
    let assertion = json_schema!({
        "type": "object",
        "properties": {
            "algorithm": { "enum": ["RS256", "PS256", "ES256"] },
            "issuer": text(), "subject": text(), "audience": text(),
            "lifetime": { "type": "integer", "minimum": 1, "maximum": 3600 },
            "scope_claim": flag(), "thumbprint": flag(),
        },
        "additionalProperties": false,
    });
    json_schema!({
        "flow": { "enum": ["client_credentials", "authorization_code", "device_code", "jwt_bearer"] },
        "token_url": text(), "authorize_url": text(), "device_url": text(), "revoke_url": text(), "issuer": text(),
        "scopes": texts(), "base_scopes": texts(), "scope_names": map(), "scope_separator": { "enum": ["space", "comma"] },
        "client_auth": { "enum": ["post", "basic", "none", "private_key_jwt"] },
        "params": map(), "authorize_params": map(),
        "body": { "enum": ["form", "json"] },
        "token_at": text(), "keep": texts(), "base_from": text(), "base_hosts": texts(),
        "rotates": flag(), "rotation_grace": seconds(), "default_lifetime": { "type": "integer", "minimum": 1 },
        "scope_on_refresh": flag(), "without_pkce": flag(),
        "assertion": assertion,
        "client_id_env": text(), "client_secret_env": text(), "label": text(),
    })
}

/// One way: the keys of core's `AuthSpec` variant, which itself ignores keys it does not know.
fn way(kind: &str, required: &[&str], keys: Schema) -> Schema {
    let mut properties = Map::new();
    properties.insert("type".into(), serde_json::json!({ "const": kind }));
    if let Value::Object(keys) = keys.to_value() {
        properties.extend(keys);
    }
    let required: Vec<&str> = std::iter::once("type").chain(required.iter().copied()).collect();
    json_schema!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

pub(crate) fn limits(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": {
        "type": "object",
        "properties": {
            "windows": { "type": "array", "items": { "type": "string", "pattern": "^[0-9]+/[0-9]*(ms|s|m|min|h|d)$", "format": "window" } },
            "key": { "type": "string", "pattern": "^(connection|tenant|connector|param:.+)$", "format": "limit-key" },
            "concurrent": { "type": "integer", "minimum": 1 },
            "with": { "type": "string" },
            "remaining_header": { "type": "string" },
            "remaining_form": { "type": "string" },
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
