//! What a vendor tells us on its own, and what can be kept in step.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a connector receives webhooks, for documentation; the verifier is code ([`crate::webhook::WebhookVerifier`]).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WebhookSpec {
    /// The name of the verification scheme (`hubspot_v3`, `hmac_sha256`, `client_state`).
    pub scheme: String,
    /// How the vendor answers a retried or duplicated delivery, what it expects and how fast, in a sentence.
    pub notes: String,
    /// Where the events of one delivery are (`.` for the whole body or a bare array).
    pub events_at: String,
}

/// One kind of event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventSpec {
    /// Its name (`contact.created`).
    pub name: Arc<str>,
    /// What it means.
    pub doc: String,
    /// Paths and values that tell this kind from the others.
    pub matches: BTreeMap<String, Value>,
    /// Cache tags it makes stale, with `{path}` placeholders into the event.
    pub invalidates: Vec<String>,
    /// JSON Schema of the payload, where one is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// A syncable collection with a cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// Its name within the connector (`contacts`).
    pub name: Arc<str>,
    /// What its records are.
    pub doc: String,
    /// Where a record's key is (`.id`).
    pub key: String,
    /// The operation that lists changes, or `native`.
    pub list: Arc<str>,
    /// Where a record's cursor value is (`.updatedAt`), for listings ordered by change time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Whether deletions are seen.
    pub deletes: bool,
}
