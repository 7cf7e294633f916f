//! The manifest as data: what a YAML file, a merged set of files or a `spec.json` says, before anything is checked against anything else.
//!
//! Owns the shape and the short forms (defaults that follow from a method). Refuses meaning: cross-checks are in
//! [`mod@crate::validate`], running it is the engine's.

mod errors;
mod pagination;
mod text;
mod tool;
mod types;
mod webhook;

use std::collections::BTreeMap;

use connector_core::spec::{AuthSpec, LimitSpec, Status, SubscriptionSpec, views::ViewSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use errors::{ErrorRule, Errors, StatusPattern, Until};
pub use pagination::{CursorPlace, Pagination, PaginationKind};
pub use text::{DurationText, OneOrMany};
pub use tool::{Batch, Cache, Encoding, Inverse, KeyRepeat, LookupRepeat, Method, Param, RepeatRule, Split, Tool, ToolExample, ToolPagination};
pub use types::{Field, Model, TypeExpr, indexed::Fields};
pub use webhook::{Event, MacAlgorithm, MacEncoding, Stream, StreamCursor, StreamDeletes, Verify, WEBHOOK_SCHEMES, Webhook};

/// A connector as data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `webhook` for a custom REST connector (its id is `id` or the file's stem), or the id of a built-in one.
    pub connector: String,
    /// The id of a custom connector, if it is not the file's stem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the names of its tools start with (without `_`), if not with its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_prefix: Option<String>,
    /// The name people know it by.
    pub name: String,
    /// Semver of this manifest; `0.1.0` if not said.
    #[serde(default = "initial_version")]
    pub version: String,
    /// What it links to, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// The vendor's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// Where the API is. May hold `{setting}` placeholders filled from the connection's settings, and `${VAR}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The settings a connection has besides base URL and credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// The ways to authenticate, the preferred one first; a single one may stand without a list.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    #[schemars(schema_with = "crate::schema::auth")]
    pub auth: OneOrMany<AuthSpec>,
    /// Credential fields that the connector's Rust code replaces through the vendor's API; the others are replaced by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rotatable: Vec<String>,
    /// Headers sent with every request. Values may hold `{setting}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Limit classes; `default` applies to tools that name none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::limits")]
    pub limits: BTreeMap<String, LimitSpec>,
    /// Where errors are told, and what they mean.
    #[serde(default, skip_serializing_if = "Errors::is_empty")]
    pub errors: Errors,
    /// How listings are paged, for tools that say `pagination: true` or declare nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
    /// How webhooks arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// The kinds of events, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, Event>,
    /// The syncable collections, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, Stream>,
    /// The kinds of subscriptions that make the vendor send webhooks, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::subscription_schema::subscriptions")]
    pub subscriptions: BTreeMap<String, SubscriptionSpec>,
    /// The capability views it fulfils, by id: which tool does what, and where the canonical fields are in its replies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::views_schema::views")]
    pub views: BTreeMap<String, ViewSpec>,
    /// The shapes of records, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Model>,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// The cheapest call that proves the credential and the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// How far it has been shown to work.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(schema_with = "crate::schema::status")]
    pub status: Status,
}

/// The vendor's API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Its version, as the vendor writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When the vendor stops serving that version (`YYYY-MM-DD`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset: Option<String>,
    /// Its documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

/// A call that changes nothing and needs little.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub args: serde_json::Map<String, Value>,
}

/// A setting of a connection, such as a mailbox or a subdomain. Never a secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name, used as `{name}`.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub doc: String,
    /// Whether a connection without it is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required: bool,
    /// The value if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The environment variable a single-connection program reads it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

impl Manifest {
    /// The connector's id: `id`, or `connector` unless that is `webhook`, or the stem of the file it came from.
    pub fn connector_id<'a>(&'a self, file_stem: &'a str) -> &'a str {
        match &self.id {
            Some(id) => id,
            None if self.connector == "webhook" => file_stem,
            None => &self.connector,
        }
    }

    /// What the names of a built-in connector's tools start with, before the `_`.
    pub fn tool_prefix(&self) -> &str {
        self.tool_prefix.as_deref().unwrap_or(&self.connector)
    }

    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

fn initial_version() -> String {
    "0.1.0".into()
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(crate) fn is_null(value: &Value) -> bool {
    value.is_null()
}
