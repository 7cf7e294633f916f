//! What one operation is: its effect, how it may be repeated, what goes in and what comes out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Lazy;

/// What an operation does to the vendor's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Changes nothing.
    Read,
    /// Creates or changes something; gated.
    Write,
    /// Removes something or cannot be taken back; gated.
    Destructive,
}

impl Effect {
    /// `read`, `write` or `destructive`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }
}

/// Whether a call needs an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// The workspace's policy decides.
    Policy,
    /// Always, whatever the policy says.
    Required,
}

/// How a call may be repeated after an ambiguous failure, one where nobody knows whether it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// Sending it twice is the same as once (reads, PUT, DELETE, absolute updates, upserts).
    Natural,
    /// The vendor drops the second one by a key we send.
    ProviderKey,
    /// Look first whether it happened, by a natural key or a marker, and send again only if not.
    LookupFirst,
    /// Never send it twice.
    Never,
}

impl Repeat {
    /// `natural`, `provider_key`, `lookup_first` or `never`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Natural => "natural",
            Self::ProviderKey => "provider_key",
            Self::LookupFirst => "lookup_first",
            Self::Never => "never",
        }
    }
}

/// Which response timeout applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeoutClass {
    /// 10 s by default.
    Read,
    /// 30 s by default: a short write timeout only makes ambiguity.
    Write,
    /// 300 s: exports, uploads, reports.
    Long,
}

/// How replies of a read may be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSpec {
    /// How long a reply stays fresh, in seconds.
    pub ttl_seconds: u64,
    /// Tags such as `contact:{email}` or `contact:{reply.id}`; an event that names a tag drops the reply.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl CacheSpec {
    /// How long a reply stays fresh.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds)
    }
}

/// Concurrent single calls that become one batch call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// The batch operation that serves them.
    pub tool: Arc<str>,
    /// The parameter of the single operation whose values are collected.
    pub by: Arc<str>,
    /// The most values in one batch.
    pub max: usize,
    /// How long to collect, in milliseconds.
    pub window_ms: u64,
    /// The parameter of the batch operation that takes the values; each value is wrapped by `input` where that is given.
    pub into: Arc<str>,
    /// The shape of one input, for example `{"id": "{email}"}`; absent: the bare value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Where the batch reply lists its results, for example `.results`.
    pub items: Arc<str>,
    /// Where one result tells which value it answers, for example `.properties.email`.
    pub key: Arc<str>,
    /// Fixed arguments of the batch call, for example `{"id_property": "email"}`.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// Arguments of the single call that must be equal for two calls to share a batch, passed on as they are.
    #[serde(default)]
    pub share: Vec<Arc<str>>,
}

/// How to find out whether an ambiguous write happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupSpec {
    /// The read that looks.
    pub tool: Arc<str>,
    /// Its arguments, as paths into the write's arguments (`{"email": ".properties.email"}`).
    pub by: BTreeMap<Arc<str>, String>,
    /// Where in the lookup's reply the record is, for example `.results[0]`; absent: the whole reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// The operation that takes a write back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InverseSpec {
    /// The undoing operation.
    pub tool: Arc<str>,
    /// Its arguments, as paths into the write's reply (`{"id": ".id"}`).
    pub args: BTreeMap<Arc<str>, String>,
}

/// How a listing is paged, as far as callers need to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSpec {
    /// The kind: `cursor`, `next_url`, `link_header`, `offset`, `page` or `keyset`.
    pub kind: Arc<str>,
    /// Where a reply lists its items, for example `.results`.
    pub items: Arc<str>,
}

/// One parameter, for documentation and command lines; the schema in [`OpSpec::input_schema`] is what is enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Its type as the manifest writes it (`array<string>`).
    #[serde(rename = "type")]
    pub type_name: Arc<str>,
    /// Whether a call without it is refused.
    pub required: bool,
    /// What it means.
    pub doc: String,
    /// The value used when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The connection's setting whose value is used when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<Arc<str>>,
}

/// A worked example: the test, the documentation and the sandbox's answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The arguments.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// What the rendered request must contain (`method`, `path`, `query`, `headers`, `body`), where it is spelt out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// The vendor's answer.
    #[serde(default)]
    pub reply: Value,
    /// Response headers the answer depends on, for example `Link`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reply_headers: BTreeMap<String, String>,
    /// The status of the answer, 200 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A part of the output the caller must see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
}

/// One thing a connector can do; people and agents see it as a tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpSpec {
    /// Its name, prefixed by the connector (`hubspot_get_contact`).
    pub name: Arc<str>,
    /// What it does, in one or two sentences written for a person or a model.
    pub summary: String,
    /// What it does to the vendor's data.
    pub effect: Effect,
    /// Whether a call needs an approval.
    pub approval: Approval,
    /// How it may be repeated after an ambiguous failure.
    pub repeat: Repeat,
    /// For how long the vendor remembers a repeat key, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_ttl_seconds: Option<u64>,
    /// How to find out whether it happened, for [`Repeat::LookupFirst`] over a natural key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupSpec>,
    /// The least scopes it needs.
    pub scopes: Vec<Arc<str>>,
    /// The limit class it draws from; `default` if not said.
    pub limit_class: Arc<str>,
    /// Which response timeout applies.
    pub timeout_class: TimeoutClass,
    /// How replies may be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// How concurrent calls become one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchSpec>,
    /// How the listing is paged, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PageSpec>,
    /// The operation that takes it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inverse: Option<InverseSpec>,
    /// Its parameters in order.
    pub params: Vec<ParamSpec>,
    /// Whether "there is none" is an answer (`null`) and not an error.
    pub absent_is_answer: bool,
    /// JSON Schema (2020-12) of the arguments: an object that refuses unknown keys.
    pub input_schema: Lazy<Value>,
    /// JSON Schema of the output.
    pub output_schema: Lazy<Value>,
    /// `GET /crm/v3/objects/contacts/{id}` for HTTP operations, `native` for the others; for documentation.
    pub endpoint: String,
    /// The vendor's page about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// A worked example.
    pub example: Lazy<Example>,
}

impl OpSpec {
    /// Whether it is written in Rust instead of being a request template.
    pub fn is_native(&self) -> bool {
        self.endpoint == "native"
    }

    /// Whether it is made of other operations of its connector (limit class `composed`): each of those takes its own turn at breaker and
    /// limits, and this one takes none. If it held one, it would wait for itself.
    pub fn is_composed(&self) -> bool {
        self.is_native() && &*self.limit_class == "composed"
    }

    /// Whether a call may be made again after an ambiguous failure, without anybody else looking first.
    ///
    /// A native operation that looks for its own marker is such a call: it looks each time it runs.
    pub fn repeats_safely(&self) -> bool {
        let looks_itself = self.is_native() && self.repeat == Repeat::LookupFirst && self.lookup.is_none();
        self.effect == Effect::Read || matches!(self.repeat, Repeat::Natural | Repeat::ProviderKey) || looks_itself
    }
}
