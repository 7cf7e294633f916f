//! One tool: a request template or a native operation, and everything layers and people need to know about it.

use std::{borrow::Cow, collections::BTreeMap};

use connector_core::spec::{Effect, TimeoutClass};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::{DurationText, Pagination, TypeExpr, is_default, is_null};

/// Something the connector can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name, lower case with underscores, prefixed by the connector.
    pub name: String,
    /// What it does, written for a person or a model: what it gives, pitfalls, id formats, limits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// The HTTP method. With `path`, or else `native`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The path after the base URL, with `{param}` placeholders (each becomes one encoded segment or part of one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The name of a native operation in the connector's code, instead of `method` and `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<String>,
    /// What it does to the vendor's data. If not said: GET and HEAD read, DELETE is destructive, others write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::effect")]
    pub effect: Option<Effect>,
    /// `true`: every call needs an approval. Otherwise the workspace's policy decides.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approval_required: bool,
    /// How it may be repeated. If not said: GET, HEAD, PUT and DELETE `natural`, POST and PATCH `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatRule>,
    /// The least scopes it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The limit class it draws from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_class: Option<String>,
    /// Which response timeout applies: `read`, `write` or `long`. If not said, by effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::timeout")]
    pub timeout: Option<TimeoutClass>,
    /// Its parameters. Those that appear only as `{name}` are declared implicitly: any type, required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Param>,
    /// Query parameters. If not said, a GET tool's declared parameters that are not in the path go here under their own names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Map<String, Value>>,
    /// The name of a function in the connector's code that checks or rewrites the arguments before the request is rendered (binds the values of
    /// a query). Built-in connectors only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// How the body is written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: Encoding,
    /// The type of the output: a model, `array<Model>`, `raw` for bytes that are not JSON, `none`. `any` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<TypeExpr>,
    /// Where in the reply the output is (`.result`), before `response_map`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// The output's fields as paths into the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_map: Option<BTreeMap<String, String>>,
    /// Statuses that mean "there is none", which is an answer (`null`) and not an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub none_on: Vec<u16>,
    /// Vendor codes that mean that what was wanted is so already (`already_reacted`): done, and not an error. Only for what returns nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done_on: Vec<String>,
    /// A reply of success lists an outcome for each item, and the connector's code reads those that failed out of it. Built-in connectors only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outcomes: bool,
    /// How it is paged: `true` for the manifest's way, `false` for not at all, or its own way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<ToolPagination>,
    /// How replies may be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// How concurrent calls become one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// For a tool that takes many items itself: the array parameter to split, the most items in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// The tool that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<Inverse>,
    /// The vendor's page about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// A worked example; required in built-in connectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<ToolExample>,
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// One parameter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type", default)]
    pub type_expr: TypeExpr,
    /// Whether a call without it is refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required: bool,
    /// What it means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// The value if it is absent.
    #[serde(default, skip_serializing_if = "is_null")]
    pub default: Value,
    /// The only values accepted.
    #[serde(rename = "enum", default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
    /// A JSON Schema format such as `email`, `date-time` or `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The text an array is joined by where it stands for one query or path value (`,`); without it the key is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// The least number, length or item count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The greatest number, length or item count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// Take the value of this connection setting if the caller gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The value is put into a text by this rule, so that it can never break out: `odata_string` doubles quotes, `sysparm` doubles `^`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escape: Option<String>,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// JSON.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`, nested keys as `a[b][0]`.
    Form,
    /// `text/plain`; the template is one text.
    Text,
}

/// How a call may be repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum RepeatRule {
    /// Twice is the same as once.
    Natural,
    /// The vendor deduplicates by a key in a header.
    Key(KeyRepeat),
    /// A read tells whether it happened.
    Lookup(LookupRepeat),
    /// The native code leaves a marker at the vendor and looks for it.
    Marker,
    /// Never.
    Never,
}

/// A vendor's idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRepeat {
    /// The header that carries it.
    pub header: String,
    /// For how long the vendor remembers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<DurationText>,
}

/// A lookup by natural key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupRepeat {
    /// The read.
    pub lookup: String,
    /// Its arguments as paths into the write's arguments.
    pub by: BTreeMap<String, String>,
    /// Where in its reply the record is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl Serialize for RepeatRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Natural => serializer.serialize_str("natural"),
            Self::Marker => serializer.serialize_str("marker"),
            Self::Never => serializer.serialize_str("never"),
            Self::Key(key) => BTreeMap::from([("key", key)]).serialize(serializer),
            Self::Lookup(lookup) => lookup.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RepeatRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const ACCEPTED: &str = "accepted: natural, never, marker, {key: {header, ttl}} or {lookup: TOOL, by: {..}}";
        match Value::deserialize(deserializer)? {
            Value::String(word) => match word.as_str() {
                "natural" => Ok(Self::Natural),
                "marker" => Ok(Self::Marker),
                "never" => Ok(Self::Never),
                other => Err(de::Error::custom(format!("`{other}` is not a way to repeat; {ACCEPTED}"))),
            },
            Value::Object(mut map) if map.len() == 1 && map.contains_key("key") => {
                let key = map.remove("key").unwrap_or_default();
                serde_json::from_value(key).map(Self::Key).map_err(de::Error::custom)
            }
            Value::Object(map) if map.contains_key("lookup") => {
                serde_json::from_value(Value::Object(map)).map(Self::Lookup).map_err(de::Error::custom)
            }
            _ => Err(de::Error::custom(format!("this is not a way to repeat; {ACCEPTED}"))),
        }
    }
}

impl JsonSchema for RepeatRule {
    fn schema_name() -> Cow<'static, str> {
        "Repeat".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let key = generator.subschema_for::<KeyRepeat>();
        let lookup = generator.subschema_for::<LookupRepeat>();
        json_schema!({ "anyOf": [
            { "enum": ["natural", "never", "marker"] },
            { "type": "object", "properties": { "key": key }, "required": ["key"], "additionalProperties": false },
            lookup,
        ] })
    }
}

/// How replies may be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// How long a reply stays fresh.
    pub ttl: DurationText,
    /// Tags such as `contact:{email}`; `{reply.path}` reads the reply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Concurrent single calls that become one batch call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The batch tool.
    pub tool: String,
    /// The parameter of this tool whose values are collected.
    pub by: String,
    /// The most values in one batch.
    pub max: usize,
    /// How long to collect.
    pub window: DurationText,
    /// The array parameter of the batch tool; `inputs` if not said.
    #[serde(default = "inputs", skip_serializing_if = "is_inputs")]
    pub into: String,
    /// The shape of one input, with `{by}` in it; the bare value if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Where the batch reply lists its results; `.results` if not said.
    #[serde(default = "results", skip_serializing_if = "is_results")]
    pub items: String,
    /// Where one result tells which value it answers; `.id` if not said.
    #[serde(default = "id", skip_serializing_if = "is_id")]
    pub key: String,
    /// Fixed arguments of the batch call.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
    /// Parameters that must be equal for two calls to share a batch; passed on as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub share: Vec<String>,
}

fn inputs() -> String {
    "inputs".into()
}

fn is_inputs(text: &str) -> bool {
    text == "inputs"
}

fn results() -> String {
    ".results".into()
}

fn is_results(text: &str) -> bool {
    text == ".results"
}

fn id() -> String {
    ".id".into()
}

fn is_id(text: &str) -> bool {
    text == ".id"
}

/// How a tool that takes many items is split into requests the vendor accepts. Outcomes come back per item, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The array parameter.
    pub by: String,
    /// The most items in one request.
    pub max: usize,
    /// Where the reply lists its results, to be joined; `.results` if not said.
    #[serde(default = "results", skip_serializing_if = "is_results")]
    pub items: String,
}

/// The tool that takes a write back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inverse {
    /// The undoing tool.
    pub tool: String,
    /// Its arguments as paths into the write's reply; a path that starts with `args.` reads the write's arguments.
    pub args: BTreeMap<String, String>,
}

/// How a tool is paged.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ToolPagination {
    /// As the manifest says, or not at all.
    Inherit(bool),
    /// Its own way.
    Own(Box<Pagination>),
}

impl<'de> Deserialize<'de> for ToolPagination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(inherit) => Ok(Self::Inherit(inherit)),
            own => serde_json::from_value(own).map(|own| Self::Own(Box::new(own))).map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for ToolPagination {
    fn schema_name() -> Cow<'static, str> {
        "ToolPagination".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let own = generator.subschema_for::<Pagination>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, own] })
    }
}

/// A worked example: the test, the documentation and the sandbox's answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolExample {
    /// The arguments.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// What the request must contain: `method`, `path`, `query`, `headers`, `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// The vendor's answer; for native tools the output.
    #[serde(default, skip_serializing_if = "is_null")]
    pub reply: Value,
    /// Headers of the answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reply_headers: BTreeMap<String, String>,
    /// The status of the answer; 200 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the output must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
}

impl Tool {
    /// What it does to the vendor's data: as said, or by method; native tools that say nothing count as writes.
    pub fn effect(&self) -> Effect {
        self.effect.unwrap_or(match self.method {
            Some(Method::Get | Method::Head) => Effect::Read,
            Some(Method::Delete) => Effect::Destructive,
            _ => Effect::Write,
        })
    }

    /// How it may be repeated: as said, or by method and effect.
    pub fn repeat(&self) -> RepeatRule {
        self.repeat.clone().unwrap_or_else(|| match (self.method, self.effect()) {
            (Some(Method::Get | Method::Head | Method::Put | Method::Delete), _) | (_, Effect::Read) => RepeatRule::Natural,
            _ => RepeatRule::Never,
        })
    }

    /// The parameter of this name, if it is declared.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.name == name)
    }
}
