//! How a vendor's webhooks arrive, the kinds of events, and the collections that can be followed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DurationText, OneOrMany, TypeExpr, is_default};

/// The named schemes that need no code of the connector's own. `connector-webhook` implements them.
pub const WEBHOOK_SCHEMES: [&str; 12] =
    ["standard_webhooks", "stripe", "slack_v0", "github", "linear", "zendesk", "jira", "notion", "intuit", "google_channel", "netbox", "bearer"];

/// How webhooks arrive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// How a delivery proves itself. There is no default.
    pub verify: Verify,
    /// Where the events of one delivery are; `.` (if not said) for the body itself, be it one event or a bare array.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub events_at: String,
    /// What is unique about an event: a path, or several that are joined.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub event_id: OneOrMany<String>,
    /// Where an event tells its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Where an event tells when it happened (Unix seconds or milliseconds, or a date).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<String>,
    /// Events with the same value here are handled in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// What the vendor expects and how it retries, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

/// How a delivery proves itself: a named scheme of the connector's code, or a described MAC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// A named scheme: one of the connector's own, or `standard_webhooks`, `stripe`, `slack_v0`, `github`, `linear`, `zendesk`, `jira`,
    /// `notion`, `intuit`, `google_channel`, `netbox`, or `bearer` (static, legacy).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// A described MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MacAlgorithm>,
    /// The header that has the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What is signed: `{body}`, `{timestamp}.{body}`; `{method}` and `{url}` may occur.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How the signature is written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: MacEncoding,
    /// A text before the signature (`sha256=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The header that has the timestamp, in Unix seconds or milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// How old or early it may be; 300 s if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<DurationText>,
}

/// A MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum MacAlgorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum MacEncoding {
    #[default]
    Hex,
    Base64,
}

/// A kind of event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What it means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Paths and values that tell it from the others.
    #[serde(rename = "match", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matches: BTreeMap<String, Value>,
    /// Cache tags it makes stale, with `{path}` placeholders into the event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invalidates: Vec<String>,
    /// The type of its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<TypeExpr>,
    /// A worked example of its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
}

/// A syncable collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// What its records are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// The tool that lists changes, or `native`.
    pub list: String,
    /// Fixed arguments of that tool.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// How changes are ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<StreamCursor>,
    /// Where a record's key is.
    #[serde(default = "record_id")]
    pub key: String,
    /// How deletions are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<StreamDeletes>,
}

/// How a stream's changes are ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamCursor {
    /// Where a record's change time or version is.
    pub field: String,
    /// `asc` or `desc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// A named windowing rule (`split_at_10000`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}

/// How a stream's deletions are seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamDeletes {
    /// The tool that lists deleted records.
    pub list: String,
    /// Its fixed arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
}

fn whole() -> String {
    ".".into()
}

fn is_whole(text: &str) -> bool {
    text == "."
}

fn record_id() -> String {
    ".id".into()
}
