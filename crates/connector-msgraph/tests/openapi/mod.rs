//! Microsoft's published description of Graph, as far as checking rendered examples against it needs.
//!
//! Owns reading it in place (it is not part of this repository) and turning OpenAPI 3.0 schemas into JSON Schema. Refuses to guess: what the
//! trimmed description lacks is reported as missing, and a waiver must say why that is fine.
#![allow(dead_code, reason = "each test that uses it needs its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "support of tests: a panic is the failure, a skip is said")]

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Map, Value, json};

/// The folder with the published descriptions: `CONNECTORS_SHARED`, or `shared` beside the workspace. `None` where there is none, which is
/// fine everywhere but in CI.
pub(crate) fn shared() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let dir = std::env::var_os("CONNECTORS_SHARED").map_or(beside, PathBuf::from);
    if dir.join("specs").is_dir() {
        return Some(dir);
    }
    assert!(std::env::var_os("CI").is_none(), "the published descriptions are absent; set CONNECTORS_SHARED to the folder that holds `specs`");
    eprintln!("skipped: the published descriptions are not here; CONNECTORS_SHARED may say where they are");
    None
}

/// A description.
pub(crate) struct OpenApi {
    document: Value,
    schemas: Value,
}

/// One operation of it.
pub(crate) struct Operation<'a> {
    api: &'a OpenApi,
    path_item: &'a Value,
    operation: &'a Value,
}

impl OpenApi {
    /// Reads a file of the specs folder.
    pub(crate) fn read(name: &str) -> Option<Self> {
        let text = std::fs::read_to_string(shared()?.join("specs").join(name)).expect("a published description can be read");
        let document: Value = serde_json::from_str(&text).expect("a published description is JSON");
        let mut schemas = document["components"]["schemas"].clone();
        let known: Vec<String> = schemas.as_object().expect("it has schemas").keys().cloned().collect();
        to_json_schema(&mut schemas, &known);
        Some(Self { document, schemas })
    }

    /// The path template that a path is an instance of; literal segments win over placeholders.
    pub(crate) fn path(&self, path: &str) -> Option<&str> {
        let given: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let segments: Vec<&str> = template.split('/').collect();
            segments.len() == given.len() && segments.iter().zip(&given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
        };
        let paths = self.document["paths"].as_object()?;
        paths.keys().filter(|template| fits(template)).min_by_key(|template| template.matches('{').count()).map(String::as_str)
    }

    /// An operation of a path template.
    pub(crate) fn operation(&self, template: &str, method: &str) -> Option<Operation<'_>> {
        let path_item = self.document["paths"].get(template)?;
        let operation = path_item.get(method.to_lowercase())?;
        Some(Operation { api: self, path_item, operation })
    }

    fn resolve<'v>(&'v self, value: &'v Value) -> &'v Value {
        let target = value.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(value)
    }

    /// What is wrong with a value: by the schema, and keys the schema does not know.
    fn problems(&self, schema: &Value, value: &Value) -> Vec<String> {
        let known: Vec<String> = self.schemas.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let mut schema = schema.clone();
        to_json_schema(&mut schema, &known);
        let whole = json!({ "allOf": [schema], "components": { "schemas": self.reachable(&schema) } });
        let validator = jsonschema::validator_for(&whole).expect("a converted schema compiles");
        let mut found: Vec<String> = validator.iter_errors(value).map(|error| format!("{error} at `{}`", error.instance_path())).collect();
        self.unknown_keys(&schema, value, "", &mut found);
        found
    }

    /// The schemas that a schema leads to; compiling all there are would take a second each time.
    fn reachable(&self, schema: &Value) -> Map<String, Value> {
        let (mut found, mut open) = (Map::new(), vec![schema]);
        while let Some(value) = open.pop() {
            match value {
                Value::Array(items) => open.extend(items),
                Value::Object(map) => {
                    let name = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/components/schemas/"));
                    if let Some((name, inner)) = name.and_then(|name| Some((name, self.schemas.get(name)?)))
                        && found.insert(name.to_owned(), inner.clone()).is_none()
                    {
                        open.push(inner);
                    }
                    open.extend(map.values());
                }
                _ => {}
            }
        }
        found
    }

    fn unknown_keys(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let mut properties = BTreeMap::new();
                self.properties(schema, &mut properties, 0);
                for (name, inner) in map.iter().filter(|(name, _)| !name.starts_with('@')) {
                    match properties.get(name.as_str()) {
                        Some(schema) => self.unknown_keys(schema, inner, &format!("{at}/{name}"), found),
                        None if properties.is_empty() => {}
                        None => found.push(format!("unknown property `{at}/{name}`")),
                    }
                }
            }
            Value::Array(items) => {
                let mut inner = None;
                self.items(schema, &mut inner, 0);
                if let Some(inner) = inner {
                    items.iter().for_each(|item| self.unknown_keys(inner, item, at, found));
                }
            }
            _ => {}
        }
    }

    fn branches<'v>(&'v self, schema: &'v Value) -> Vec<&'v Value> {
        let named = schema.get("$ref").and_then(Value::as_str).and_then(|name| self.schemas.get(name.strip_prefix("#/components/schemas/")?));
        let mut all: Vec<&Value> = named.into_iter().collect();
        for word in ["allOf", "anyOf", "oneOf"] {
            all.extend(schema.get(word).and_then(Value::as_array).into_iter().flatten());
        }
        all
    }

    fn properties<'v>(&'v self, schema: &'v Value, into: &mut BTreeMap<&'v str, &'v Value>, depth: u32) {
        into.extend(schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)));
        if depth < 12 {
            self.branches(schema).into_iter().for_each(|branch| self.properties(branch, into, depth + 1));
        }
    }

    fn items<'v>(&'v self, schema: &'v Value, into: &mut Option<&'v Value>, depth: u32) {
        if let Some(items) = schema.get("items") {
            *into = Some(items);
        } else if depth < 12 {
            self.branches(schema).into_iter().for_each(|branch| self.items(branch, into, depth + 1));
        }
    }
}

impl Operation<'_> {
    /// The query parameters it knows.
    pub(crate) fn query(&self) -> Vec<&str> {
        let lists = [self.path_item, self.operation].into_iter().filter_map(|item| item.get("parameters")?.as_array()).flatten();
        let resolved = lists.map(|parameter| self.api.resolve(parameter));
        resolved.filter(|parameter| parameter["in"] == "query").filter_map(|parameter| parameter["name"].as_str()).collect()
    }

    /// What is wrong with a request body; a body where none is known counts as wrong.
    pub(crate) fn request_problems(&self, body: &Value) -> Vec<String> {
        let described = self.operation.get("requestBody").map(|body| self.api.resolve(body));
        match described.map(|described| &described["content"]["application/json"]["schema"]) {
            Some(schema) if schema.is_object() => self.api.problems(schema, body),
            _ if body.is_null() => Vec::new(),
            _ => vec!["a body where none is described".into()],
        }
    }

    /// What is wrong with a reply of this status.
    pub(crate) fn reply_problems(&self, status: u16, body: &Value) -> Vec<String> {
        let responses = &self.operation["responses"];
        let described =
            [status.to_string(), format!("{}XX", status / 100)].iter().find_map(|key| responses.get(key)).map(|one| self.api.resolve(one));
        match described {
            None => vec![format!("status {status} is not described")],
            Some(described) => match &described["content"]["application/json"]["schema"] {
                schema if schema.is_object() => self.api.problems(schema, body),
                _ if body.is_null() || described["content"].is_object() => Vec::new(),
                _ => vec!["a reply where none is described".into()],
            },
        }
    }
}

/// OpenAPI 3.0 to JSON Schema, as far as this description goes: `nullable`, and references to what was trimmed away.
fn to_json_schema(schema: &mut Value, known: &[String]) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| to_json_schema(item, known)),
        Value::Object(map) => {
            map.remove("discriminator");
            let dangling = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/components/schemas/"));
            if dangling.is_some_and(|name| !known.iter().any(|known| known == name)) {
                *schema = Value::Object(Map::new());
                return;
            }
            map.values_mut().for_each(|inner| to_json_schema(inner, known));
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
                let inner = std::mem::take(map);
                *schema = json!({ "anyOf": [inner, { "type": "null" }] });
            }
        }
        _ => {}
    }
}
