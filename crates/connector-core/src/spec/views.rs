//! Capability views: vocabularies that several connectors share, such as `crm` or `mailbox`, and how a connector says that it fulfils one.
//!
//! A vocabulary is data: named operations with canonical arguments and results. Owns the words and their JSON Schemas. Refuses to run
//! anything: a manifest's section `views` maps each operation to a tool, and that tool is what is called.

mod chat;
mod cmdb;
mod crm;
mod mailbox;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Approval, Effect, Lazy, OpSpec, ParamSpec, Repeat, TimeoutClass};

/// The argument of every tool of a view that says which connection is meant. The hub takes it out before the call is translated.
pub const CONNECTION: &str = "connection";
/// Where a record keeps everything of the vendor's that the view has no word for.
pub const CUSTOM: &str = "custom";
/// Where a record says which connector and connection it came from.
pub const SOURCE: &str = "source";

/// A vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Its id, and the prefix of its tools: `crm`.
    pub id: &'static str,
    /// What it is about, in a sentence.
    pub doc: &'static str,
    /// The records its operations give.
    pub models: &'static [ViewModel],
    /// What can be asked for.
    pub operations: &'static [ViewOp],
}

/// A canonical record. Besides its fields each has `custom` and `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewModel {
    /// Its name: `Contact`.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields in order.
    pub fields: &'static [ViewField],
}

/// An argument of an operation, or a field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewField {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: ViewKind,
    /// Whether it is always there.
    pub required: bool,
    /// What it means.
    pub doc: &'static str,
}

/// What an argument or a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewKind {
    /// Text.
    Text,
    /// A point in time, RFC 3339. In results always in UTC, however the vendor writes it.
    Time,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Flag,
    /// A list of texts.
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An object of the vendor's own field names.
    Fields,
    /// A record of the view that stands in another, without `custom` and `source`.
    Record(&'static str),
    /// A list of such records.
    Records(&'static str),
}

/// What an operation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// A record.
    One(&'static str),
    /// A record, or null if there is none.
    Maybe(&'static str),
    /// `{"items": [record…], "more": true}`.
    Many(&'static str),
}

impl Gives {
    /// The record's model.
    pub fn model(self) -> &'static str {
        match self {
            Self::One(model) | Self::Maybe(model) | Self::Many(model) => model,
        }
    }
}

/// One thing that can be asked of every connector that fulfils it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewOp {
    /// Its name within the view: `find_contact`.
    pub name: &'static str,
    /// What it does, for a person or a model.
    pub doc: &'static str,
    /// What it does to the vendor's data; the tool behind it must do the same.
    pub effect: Effect,
    /// Its arguments in order.
    pub params: &'static [ViewField],
    /// What it gives.
    pub gives: Gives,
}

/// How a connector fulfils a view: a section of its manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewSpec {
    /// Where each model's fields are in the vendor's records: field → selection path, template over the arguments, or an object of these.
    /// `custom` names the object (or objects) of the record whose left-over members are lifted into `custom`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<Arc<str>, Map<String, Value>>,
    /// The operations it fulfils.
    pub operations: BTreeMap<Arc<str>, ViewCall>,
}

/// The tool that fulfils an operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewCall {
    /// The tool.
    pub call: Arc<str>,
    /// The tool's arguments: values with `{argument}` placeholders. What an absent argument alone fills is left out.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
    /// What is added to arguments of `with`: members to an object, items to a list. What `with` says stays.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub add: Map<String, Value>,
    /// What each item of a list argument becomes before it is put in, with `{item}` for the item.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub each: Map<String, Value>,
    /// Arguments that change nothing here, because what they ask for is given anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anyway: Vec<Arc<str>>,
    /// Where the record, or the list of records, is in the tool's reply; the whole of it if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Where a reply says that the list was cut; the next cursor says it if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
    /// The fields of this operation's records, if they are elsewhere than `models` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Map<String, Value>>,
}

static VIEWS: [&View; 4] = [&chat::CHAT, &cmdb::CMDB, &crm::CRM, &mailbox::MAILBOX];

/// All vocabularies, by id.
pub fn all() -> &'static [&'static View] {
    &VIEWS
}

/// The vocabulary of this id.
pub fn view(id: &str) -> Option<&'static View> {
    VIEWS.iter().copied().find(|view| view.id == id)
}

impl View {
    /// The operation of this name.
    pub fn operation(&self, name: &str) -> Option<&'static ViewOp> {
        self.operations.iter().find(|op| op.name == name)
    }

    /// The model of this name.
    pub fn model(&self, name: &str) -> Option<&'static ViewModel> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The tool's name of an operation: `crm_find_contact`.
    pub fn tool(&self, op: &ViewOp) -> String {
        format!("{}_{}", self.id, op.name)
    }
}

/// An operation of a view as a tool, with everything that people, agents and command lines want to know of one.
#[derive(Debug, Clone)]
pub struct ViewTool {
    /// The view.
    pub view: &'static View,
    /// The operation.
    pub op: &'static ViewOp,
    /// The same as any other tool. How it may be repeated, what it costs and which scopes it needs is the underlying tool's to say.
    pub spec: Arc<OpSpec>,
}

/// All operations of all views as tools, ordered by name within their view.
pub fn tools() -> &'static [ViewTool] {
    static TOOLS: LazyLock<Vec<ViewTool>> = LazyLock::new(|| {
        VIEWS.iter().flat_map(|view| view.operations.iter().map(|op| ViewTool { view, op, spec: Arc::new(op_spec(view, op)) })).collect()
    });
    &TOOLS
}

/// The tool of this name, if it is one of a view.
pub fn tool(name: &str) -> Option<&'static ViewTool> {
    tools().iter().find(|tool| &*tool.spec.name == name)
}

fn op_spec(view: &'static View, op: &'static ViewOp) -> OpSpec {
    let connection = ParamSpec {
        name: CONNECTION.into(),
        type_name: "string".into(),
        required: false,
        doc: "The connection to use; needed where several fit.".into(),
        default: None,
        setting: None,
    };
    let params = op.params.iter().map(|param| ParamSpec {
        name: param.name.into(),
        type_name: param.kind.name().into(),
        required: param.required,
        doc: param.doc.to_owned(),
        default: None,
        setting: None,
    });
    let reads = op.effect == Effect::Read;
    OpSpec {
        name: view.tool(op).into(),
        summary: op.doc.to_owned(),
        effect: op.effect,
        approval: Approval::Policy,
        repeat: if reads { Repeat::Natural } else { Repeat::Never },
        repeat_ttl_seconds: None,
        lookup: None,
        scopes: Vec::new(),
        limit_class: "default".into(),
        timeout_class: if reads { TimeoutClass::Read } else { TimeoutClass::Write },
        cache: None,
        batch: None,
        page: None,
        inverse: None,
        params: params.chain([connection]).collect(),
        absent_is_answer: matches!(op.gives, Gives::Maybe(_)),
        input_schema: Lazy::new(|| input_schema(op)),
        output_schema: Lazy::new(|| output_schema(view, op.gives)),
        endpoint: format!("view {}", view.id),
        docs: None,
        example: Lazy::default(),
    }
}

/// The JSON Schema of an operation's arguments, the connection included.
fn input_schema(op: &ViewOp) -> Value {
    let mut properties: Map<String, Value> = op.params.iter().map(|param| (param.name.to_owned(), described(param))).collect();
    properties.insert(CONNECTION.into(), json!({ "type": "string", "description": "The connection to use; needed where several fit." }));
    let required: Vec<&str> = op.params.iter().filter(|param| param.required).map(|param| param.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// The JSON Schema of what an operation gives.
fn output_schema(view: &View, gives: Gives) -> Value {
    let defs: Map<String, Value> = view
        .models
        .iter()
        .filter(|model| is_used(view, gives.model(), model.name))
        .map(|model| (model.name.to_owned(), model_schema(model, model.name == gives.model())))
        .collect();
    let record = json!({ "$ref": format!("#/$defs/{}", gives.model()) });
    let mut schema = match gives {
        Gives::One(_) => record,
        Gives::Maybe(_) => json!({ "anyOf": [record, { "type": "null" }] }),
        Gives::Many(_) => json!({
            "type": "object",
            "properties": { "items": { "type": "array", "items": record }, "more": { "type": "boolean", "description": "There are more." } },
            "required": ["items", "more"],
        }),
    };
    schema["$defs"] = Value::Object(defs);
    schema
}

/// Whether `model` is `root` or stands in it.
fn is_used(view: &View, root: &str, model: &str) -> bool {
    let holds = |field: &ViewField| matches!(field.kind, ViewKind::Record(name) | ViewKind::Records(name) if name == model);
    root == model || view.model(root).is_some_and(|root| root.fields.iter().any(holds))
}

/// The schema of a record. `whole` ones carry `custom` and `source`.
fn model_schema(model: &ViewModel, whole: bool) -> Value {
    let mut properties: Map<String, Value> = model.fields.iter().map(|field| (field.name.to_owned(), described(field))).collect();
    let mut required: Vec<&str> = model.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    if whole {
        properties.insert(CUSTOM.into(), json!({ "type": "object", "description": "What the vendor says besides, under its own names." }));
        properties.insert(
            SOURCE.into(),
            json!({
                "type": "object",
                "properties": { "connector": { "type": "string" }, "connection": { "type": "string" } },
                "required": ["connector", "connection"],
                "description": "Which connector and connection it came from.",
            }),
        );
        required.extend([CUSTOM, SOURCE]);
    }
    json!({ "type": "object", "description": model.doc, "properties": properties, "required": required, "additionalProperties": false })
}

fn described(field: &ViewField) -> Value {
    let mut schema = field.kind.schema();
    schema["description"] = field.doc.into();
    schema
}

impl ViewKind {
    /// Its JSON Schema.
    fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
            Self::Number => json!({ "type": "number" }),
            Self::Integer => json!({ "type": "integer" }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::Word(words) => json!({ "type": "string", "enum": words }),
            Self::Fields => json!({ "type": "object" }),
            Self::Record(model) => json!({ "allOf": [{ "$ref": format!("#/$defs/{model}") }] }),
            Self::Records(model) => json!({ "type": "array", "items": { "$ref": format!("#/$defs/{model}") } }),
        }
    }

    /// Its name as manifests write types.
    fn name(self) -> &'static str {
        match self {
            Self::Text | Self::Word(_) => "string",
            Self::Time => "datetime",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Flag => "boolean",
            Self::Texts => "array<string>",
            Self::Fields | Self::Record(_) => "object",
            Self::Records(_) => "array<object>",
        }
    }

    /// Whether it is a list.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Texts | Self::Records(_))
    }
}

/// A field that is always there.
const fn must(name: &'static str, kind: ViewKind, doc: &'static str) -> ViewField {
    ViewField { name, kind, required: true, doc }
}

/// A field that may be absent.
const fn may(name: &'static str, kind: ViewKind, doc: &'static str) -> ViewField {
    ViewField { name, kind, required: false, doc }
}

/// The most records of a page.
const LIMIT: ViewField = may("limit", ViewKind::Integer, "The most records on a page.");
/// Fields of the vendor's own, to be read.
const FIELDS: ViewField = may("fields", ViewKind::Texts, "The vendor's own fields to give under `custom`, besides those it gives anyway.");
/// Fields of the vendor's own, to be written.
const OWN: ViewField = may("custom", ViewKind::Fields, "The vendor's own fields, under the names `custom` has in results.");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_is_said_once_and_leads_somewhere() {
        let mut names = BTreeSet::new();
        for tool in tools() {
            assert!(names.insert(tool.spec.name.clone()), "{} twice", tool.spec.name);
            assert!(tool.view.model(tool.op.gives.model()).is_some(), "{}", tool.spec.name);
            let params: BTreeSet<_> = tool.op.params.iter().map(|param| param.name).collect();
            assert!(params.len() == tool.op.params.len() && !params.contains(CONNECTION), "{}", tool.spec.name);
            assert_eq!(super::tool(&tool.spec.name).map(|found| found.op), Some(tool.op));
        }
        for view in all() {
            assert_eq!(super::view(view.id), Some(*view));
            for model in view.models {
                let fields: BTreeSet<_> = model.fields.iter().map(|field| field.name).collect();
                assert!(fields.len() == model.fields.len() && !fields.contains(CUSTOM) && !fields.contains(SOURCE), "{}", model.name);
                for field in model.fields {
                    if let ViewKind::Record(inner) | ViewKind::Records(inner) = field.kind {
                        let inner = view.model(inner).unwrap_or_else(|| panic!("{}.{} holds `{inner}`, which is not there", model.name, field.name));
                        assert!(
                            !inner.fields.iter().any(|field| matches!(field.kind, ViewKind::Record(_) | ViewKind::Records(_))),
                            "one level is enough"
                        );
                    }
                }
            }
        }
        assert!(names.len() >= 40, "{}", names.len());
    }

    #[test]
    fn a_tool_says_what_it_takes_and_gives() {
        let tool = tool("crm_find_contact").map(|tool| &tool.spec);
        let spec = tool.map(|spec| (spec.effect, spec.absent_is_answer, &spec.input_schema["required"]));
        assert_eq!(spec, Some((Effect::Read, true, &json!(["email"]))));
        let output = tool.map(|spec| spec.output_schema["$defs"]["Contact"]["required"].clone());
        assert_eq!(output, Some(json!(["id", "custom", "source"])));
    }
}
