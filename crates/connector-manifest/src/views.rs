//! Capability views at work: a call in a view's words becomes a call of a connector's tool, and the tool's reply becomes the view's record.
//!
//! Owns the translation in both directions, with the same templates and selection paths that tools are written in. Refuses to call
//! anything: whoever asks makes the call, over the same path as any other call of that tool.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use connector_core::{
    Error, ErrorKind, Result,
    spec::{
        ConnectorSpec, Effect,
        views::{Gives, View, ViewCall, ViewOp, ViewSpec},
    },
};
use serde_json::{Map, Value, json};

use crate::{
    select::Path,
    template::{Args, Tree, scalar},
    views_reply::Mapping,
};

/// Where a record came from, as it stands in `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// The connector's id.
    pub connector: &'a str,
    /// The connection's id.
    pub connection: &'a str,
}

/// How one operation of a view is done by one connector.
#[derive(Debug)]
pub struct Fulfilment {
    view: &'static View,
    op: &'static ViewOp,
    tool: Arc<str>,
    with: Vec<(Box<str>, Tree)>,
    add: Vec<(Box<str>, Tree)>,
    each: Vec<(Box<str>, Tree)>,
    /// The arguments that reach the tool or the records.
    uses: BTreeSet<String>,
    at: Path,
    more: Option<Path>,
    mapping: Mapping,
}

impl Fulfilment {
    /// Compiles what a manifest says.
    ///
    /// # Errors
    /// What is wrong, in words. The cross-checks of manifests say the same with its place.
    pub(crate) fn new(view: &'static View, op: &'static ViewOp, spec: &ViewSpec, call: &ViewCall) -> std::result::Result<Self, String> {
        let model = view.model(op.gives.model()).ok_or_else(|| format!("the view `{}` has no model `{}`", view.id, op.gives.model()))?;
        let map = match (&call.map, spec.models.get(model.name)) {
            (Some(own), _) => own,
            (None, Some(shared)) => shared,
            (None, None) => return Err(format!("nothing says where the fields of `{}` are; add it under `models`, or `map` here", model.name)),
        };
        let mapping = Mapping::new(view, model, map)?;
        let trees = |map: &Map<String, Value>| -> Vec<(Box<str>, Tree)> {
            map.iter().map(|(name, value)| (name.as_str().into(), Tree::parse(value))).collect()
        };
        let (with, add) = (trees(&call.with), trees(&call.add));
        let mut uses = Vec::new();
        with.iter().chain(&add).for_each(|(_, tree)| tree.placeholders(&mut uses));
        mapping.placeholders(&mut uses);
        let path = |text: Option<&String>| text.map(|text| Path::parse(text)).transpose();
        Ok(Self {
            view,
            op,
            tool: call.call.clone(),
            with,
            add,
            each: trees(&call.each),
            uses: uses.into_iter().chain(call.anyway.iter().map(|name| name.to_string())).collect(),
            at: path(call.at.as_ref())?.unwrap_or(Path::parse(".")?),
            more: path(call.more.as_ref())?,
            mapping,
        })
    }

    /// The operation.
    pub fn op(&self) -> &'static ViewOp {
        self.op
    }

    /// The tool that does it.
    pub fn tool(&self) -> &Arc<str> {
        &self.tool
    }

    /// The tool's arguments for these of the operation. `schema` is the tool's input schema: numbers become text where it takes text.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for an argument that this connector has no place for: leaving it out would do something else than was asked.
    pub fn request(&self, connector: &str, args: &Map<String, Value>, schema: &Value) -> Result<Map<String, Value>> {
        let given = |(_, value): &(&String, &Value)| !value.is_null();
        if let Some((name, _)) = args.iter().filter(given).find(|(name, _)| !self.uses.contains(*name)) {
            let takes: Vec<&str> = self.op.params.iter().map(|param| param.name).filter(|name| self.uses.contains(*name)).collect();
            return Err(Error::unsupported(format!(
                "`{connector}` has no place for `{name}` of `{}`; it takes: {}",
                self.view.tool(self.op),
                takes.join(", ")
            )));
        }
        let args = Given(self.wrapped(args)?);
        let mut request = Map::new();
        for (name, tree) in &self.with {
            if let Some(value) = fill(tree, &args)? {
                request.insert(name.to_string(), value);
            }
        }
        for (name, tree) in &self.add {
            if let Some(more) = fill(tree, &args)? {
                add(request.entry(&**name).or_insert(Value::Null), more);
            }
        }
        self.whole(connector, &request, schema)?;
        for (name, value) in &mut request {
            if let Some(of_param) = schema.get("properties").and_then(|properties| properties.get(name)) {
                fit(value, of_param, schema.get("$defs"), 0);
            }
        }
        Ok(request)
    }

    /// What the tool always needs may hang on an argument that other connectors do without.
    fn whole(&self, connector: &str, request: &Map<String, Value>, schema: &Value) -> Result<()> {
        let mut required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        if let Some(name) = required.find(|name| !request.contains_key(*name)) {
            let mut fills = Vec::new();
            self.with.iter().chain(&self.add).filter(|(param, _)| **param == *name).for_each(|(_, tree)| tree.placeholders(&mut fills));
            let fills = fills.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
            return Err(Error::invalid(format!("`{connector}` needs {fills} for `{}`", self.view.tool(self.op))));
        }
        Ok(())
    }

    /// The arguments, with the items of lists as `each` says.
    fn wrapped(&self, args: &Map<String, Value>) -> Result<Map<String, Value>> {
        let mut args: Map<String, Value> =
            args.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, tree) in &self.each {
            let Some(Value::Array(items)) = args.get_mut(&**name) else { continue };
            for item in items {
                let whole = Given(Map::from_iter([("item".to_owned(), item.take())]));
                *item = fill(tree, &whole)?.unwrap_or_default();
            }
        }
        Ok(args)
    }

    /// What the operation gives, from what the tool gave. `more` is whether the reply has a next page.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if there is no list, or no record with its required fields, where the manifest says it is;
    /// [`ErrorKind::NotFound`] if a record was asked for by its id and the tool knows none.
    pub fn reply(&self, args: &Map<String, Value>, reply: Value, more: bool, source: Source<'_>) -> Result<Value> {
        let name = || self.view.tool(self.op);
        match self.op.gives {
            Gives::Many(_) => {
                let more = more || self.more.as_ref().and_then(|path| path.get(&reply)).and_then(Value::as_bool).unwrap_or_default();
                let items = match self.at.take(reply) {
                    Value::Array(items) => items,
                    Value::Null => Vec::new(),
                    _ => return Err(Error::protocol(format!("the reply for `{}` has no list at `{}`", name(), self.at))),
                };
                let items: Vec<Value> = items.into_iter().map(|item| self.mapping.record(item, args, source)).collect::<Result<_>>()?;
                Ok(json!({ "items": items, "more": more }))
            }
            Gives::Maybe(_) => match self.at.take(reply) {
                Value::Null => Ok(Value::Null),
                record => self.mapping.record(record, args, source),
            },
            Gives::One(_) => match self.at.take(reply) {
                Value::Null if self.op.effect == Effect::Read => {
                    Err(Error::new(ErrorKind::NotFound, format!("`{}` finds nothing for these arguments", name())))
                }
                record => self.mapping.record(record, args, source),
            },
        }
    }
}

/// Everything of views that a connector fulfils.
#[derive(Debug, Default)]
pub struct Fulfilments(BTreeMap<(&'static str, &'static str), Fulfilment>);

impl Fulfilments {
    /// Compiles what a connector's description says.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the first mistake; a manifest that passed its cross-checks has none.
    pub fn of(spec: &ConnectorSpec) -> Result<Self> {
        let mut all = BTreeMap::new();
        for (id, fulfils) in &spec.views {
            let wrong = |what: &str, why: &str| Error::config(format!("`{}`: views.{id}{what}: {why}", spec.id));
            let view = connector_core::spec::views::view(id).ok_or_else(|| wrong("", "there is no such view"))?;
            for (name, call) in &fulfils.operations {
                let place = format!(".operations.{name}");
                let op = view.operation(name).ok_or_else(|| wrong(&place, "the view has no such operation"))?;
                spec.require(&call.call)?;
                let fulfilment = Fulfilment::new(view, op, fulfils, call).map_err(|why| wrong(&place, &why))?;
                all.insert((view.id, op.name), fulfilment);
            }
        }
        Ok(Self(all))
    }

    /// How an operation is done, if it is.
    pub fn get(&self, view: &str, op: &str) -> Option<&Fulfilment> {
        let key = self.0.keys().find(|key| key.0 == view && key.1 == op)?;
        self.0.get(key)
    }

    /// All of them, by view and operation.
    pub fn iter(&self) -> impl Iterator<Item = &Fulfilment> {
        self.0.values()
    }
}

/// The arguments of a call as templates look at them.
struct Given(Map<String, Value>);

impl Args for Given {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        scalar(self.0.get(name)?)
    }
}

fn fill(tree: &Tree, args: &Given) -> Result<Option<Value>> {
    tree.filled(args)
        .map(serde_json::to_value)
        .transpose()
        .map_err(|error| Error::internal("the arguments of a view's call could not be filled in").with_source(error))
}

/// Members join an object, items a list; what is there stays.
fn add(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(map), Value::Object(more)) => {
            for (name, value) in more {
                map.entry(name).or_insert(value);
            }
        }
        (Value::Array(items), Value::Array(more)) => {
            for item in more {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        (into @ Value::Null, more) => *into = more,
        _ => {}
    }
}

/// Schemas deeper than this are not followed: a model may hold itself.
const DEEPEST: usize = 12;

/// Numbers and flags as text where the tool takes text: vendors take as text what people write as a number.
fn fit(value: &mut Value, schema: &Value, defs: Option<&Value>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if let Some(named) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")) {
        if let Some(schema) = defs.and_then(|defs| defs.get(named)) {
            fit(value, schema, defs, depth + 1);
        }
        return;
    }
    let wants = |kind: &str| match schema.get("type") {
        Some(Value::String(wanted)) => wanted == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|wanted| wanted == kind),
        _ => false,
    };
    match value {
        Value::Number(_) | Value::Bool(_) if wants("string") && !wants("number") && !wants("integer") && !wants("boolean") => {
            *value = Value::String(value.to_string());
        }
        Value::Object(map) => {
            for (name, value) in map {
                let known = schema.get("properties").and_then(|properties| properties.get(name));
                if let Some(schema) = known.or_else(|| schema.get("additionalProperties")) {
                    fit(value, schema, defs, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| fit(item, schema, defs, depth + 1));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fulfilment(op: &str, call: Value) -> Fulfilment {
        let view = connector_core::spec::views::view("mailbox").expect("a view");
        let models = json!({ "models": { "Receipt": { "id": ".id" }, "Message": { "id": ".id" } }, "operations": {} });
        let (spec, call) = (serde_json::from_value(models).expect("a spec"), serde_json::from_value(call).expect("a call"));
        Fulfilment::new(view, view.operation(op).expect("an operation"), &spec, &call).expect("it compiles")
    }

    fn request(fulfilment: &Fulfilment, args: Value) -> Result<Value> {
        let schema = json!({
            "type": "object",
            "properties": {
                "recipients": { "type": "array", "items": { "$ref": "#/$defs/Recipient" } },
                "flags": { "type": "array", "items": { "type": "string" } },
                "what": { "type": "object", "properties": { "title": { "type": "string" } }, "additionalProperties": { "type": ["string", "null"] } },
                "copies": { "type": "integer" },
            },
            "required": ["recipients"],
            "$defs": { "Recipient": { "type": "object", "properties": { "mail": { "type": "string" }, "rank": { "type": "string" } } } },
        });
        let Value::Object(args) = args else { panic!("an object") };
        fulfilment.request("shop", &args, &schema).map(Value::Object)
    }

    #[test]
    fn arguments_find_their_places_and_take_the_tools_types() {
        let sends = fulfilment(
            "send",
            json!({
                "call": "shop_send",
                "with": { "recipients": "{to}", "what": { "title": "{subject}", "nr": 7, "copy": "{cc}" }, "flags": ["new"], "copies": 2 },
                "add": { "flags": "{bcc}", "what": { "title": "no", "more": true, "text": "{body}" } },
                "each": { "to": { "mail": "{item}", "rank": 1 } },
            }),
        );
        let args = json!({ "to": ["a@b.c", "{to}"], "subject": "Hi", "body": "{subject}", "bcc": ["new", "x"], "cc": null });
        assert_eq!(
            request(&sends, args).expect("a request"),
            json!({
                "recipients": [{ "mail": "a@b.c", "rank": "1" }, { "mail": "{to}", "rank": "1" }],
                "what": { "title": "Hi", "nr": "7", "more": "true", "text": "{subject}" },
                "flags": ["new", "x"],
                "copies": 2,
            }),
            "what came from outside is never a placeholder"
        );
    }

    #[test]
    fn what_has_no_place_or_is_missing_is_said_in_the_views_words() {
        let lists = json!({ "call": "shop_list", "with": { "recipients": "{folder}" }, "anyway": ["limit"], "at": ".rows" });
        let lists = fulfilment("list_messages", lists);
        let folder = request(&lists, json!({ "folder": ["x"], "limit": 9 })).expect("a request");
        assert_eq!(folder, json!({ "recipients": ["x"] }));
        let error = request(&lists, json!({})).expect_err("it needs one");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "`shop` needs `folder` for `mailbox_list_messages`"));
        let reads = fulfilment("list_messages", json!({ "call": "shop_list", "with": { "recipients": "{folder}" }, "at": ".rows" }));
        let error = request(&reads, json!({ "folder": [], "limit": 9 })).expect_err("there is no place for it");
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Unsupported, "`shop` has no place for `limit` of `mailbox_list_messages`; it takes: folder")
        );
    }

    #[test]
    fn a_reply_without_what_was_promised_is_told() {
        let source = Source { connector: "shop", connection: "shop-1" };
        let lists = fulfilment("list_messages", json!({ "call": "shop_list", "at": ".rows", "more": ".cut" }));
        let reply = |value: Value, more| lists.reply(&Map::new(), value, more, source);
        assert_eq!(reply(json!({ "rows": [], "cut": true }), false).expect("a page"), json!({ "items": [], "more": true }));
        assert_eq!(reply(json!({}), true).expect("a page"), json!({ "items": [], "more": true }));
        assert_eq!(reply(json!({ "rows": "none" }), false).expect_err("no list").kind(), ErrorKind::Protocol);
        assert_eq!(reply(json!({ "rows": [{ "key": 1 }] }), false).expect_err("no id").kind(), ErrorKind::Protocol);
        let gets = fulfilment("get_message", json!({ "call": "shop_get" }));
        assert_eq!(gets.reply(&Map::new(), Value::Null, false, source).expect_err("nothing").kind(), ErrorKind::NotFound);
        let moves = fulfilment("move", json!({ "call": "shop_move", "map": { "id": "{id}" } }));
        let Value::Object(args) = json!({ "id": "7" }) else { panic!("an object") };
        assert_eq!(moves.reply(&args, Value::Null, false, source).expect("a receipt")["id"], "7", "a write may give nothing back");
    }
}
