//! A tree against the published schema of the format: every key known, every value of the right kind.
//!
//! Owns the errors a person meets first: the unknown key, the missing key, the wrong word. It walks the same schema that
//! editors use, so both accept the same things, and goes on after an error to report the others. Refuses meaning:
//! whether names refer to something is [`mod@crate::validate`]'s.

use std::collections::BTreeSet;

use connector_core::spec::{LimitKey, Window};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    model::{DurationText, RepeatRule, StatusPattern, TypeExpr, Until},
    sources::{MOST_FINDINGS, child, item, near},
    yaml::{Content, Fault, Node, Place},
};

/// An error of shape: where, at which key, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misshape {
    pub(crate) place: Place,
    pub(crate) key: String,
    pub(crate) message: String,
}

/// Walks a tree along a schema and gives the JSON it means.
pub(crate) struct Shape<'s> {
    root: &'s Value,
    pub(crate) errors: Vec<Misshape>,
}

/// A branch of a schema with its name, if it is a named definition.
#[derive(Clone, Copy)]
struct Branch<'s> {
    schema: &'s Value,
    name: &'s str,
}

impl<'s> Shape<'s> {
    pub(crate) fn new(root: &'s Value) -> Self {
        Self { root, errors: Vec::new() }
    }

    /// The JSON that a document means. What is wrong is in `errors` and stands as null.
    pub(crate) fn document(&mut self, node: &Node) -> Value {
        let root = self.root;
        self.value(node, root, "")
    }

    fn error(&mut self, place: Place, key: &str, message: impl Into<String>) {
        if self.is_full() {
            return;
        }
        self.errors.push(Misshape { place, key: key.to_owned(), message: message.into() });
    }

    fn is_full(&self) -> bool {
        self.errors.len() >= MOST_FINDINGS
    }

    /// A value by itself, whatever it is.
    fn free(&mut self, node: &Node, key: &str) -> Value {
        node.to_value().unwrap_or_else(|Fault { place, message }| {
            self.error(place, key, message);
            Value::Null
        })
    }

    fn value(&mut self, node: &Node, schema: &'s Value, key: &str) -> Value {
        if self.is_full() {
            return Value::Null;
        }
        let mut branches = Vec::new();
        self.branches(Branch { schema, name: "" }, &mut branches);
        let is_free = |branch: &Branch<'s>| {
            branch.schema.as_bool() == Some(true)
                || branch.schema.as_object().is_some_and(|map| !["type", "enum", "const", "properties"].iter().any(|word| map.contains_key(*word)))
        };
        if branches.iter().any(is_free) {
            return self.free(node, key);
        }
        match &node.content {
            Content::Mapping(_) => self.mapping(node, &branches, key),
            Content::Sequence(items) => {
                let Some(list) = branches.iter().find(|branch| accepts(branch.schema, "array")) else {
                    return self.wrong_kind(node, "a list", &branches, key);
                };
                let any = Value::Bool(true);
                let member = list.schema.get("items");
                Value::Array(
                    items
                        .iter()
                        .enumerate()
                        .map(|(at, inner)| match member {
                            Some(member) if *member != any => self.value(inner, member, &item(key, at)),
                            _ => self.free(inner, &item(key, at)),
                        })
                        .collect(),
                )
            }
            Content::Scalar { text, plain } => self.scalar(node, text, *plain, &branches, key),
        }
    }

    /// Follows references and alternatives down to what is accepted.
    fn branches(&self, branch: Branch<'s>, found: &mut Vec<Branch<'s>>) {
        if let Some(name) = branch.schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")) {
            if let Some(schema) = self.root.get("$defs").and_then(|defs| defs.get(name)) {
                self.branches(Branch { schema, name }, found);
            }
            return;
        }
        match branch.schema.get("anyOf").or_else(|| branch.schema.get("oneOf")).and_then(Value::as_array) {
            Some(alternatives) => {
                for schema in alternatives {
                    self.branches(Branch { schema, name: branch.name }, found);
                }
            }
            None => found.push(branch),
        }
    }

    fn scalar(&mut self, node: &Node, text: &str, plain: bool, branches: &[Branch<'s>], key: &str) -> Value {
        let value = self.free(node, key);
        let words: Vec<&Value> = branches.iter().flat_map(|branch| words(branch.schema)).filter(|word| !word.is_null()).collect();
        if words.contains(&&value) {
            return value;
        }
        if let Some(branch) = branches.iter().find(|branch| accepts_value(branch.schema, &value)) {
            return self.checked(node, value, *branch, key);
        }
        // `version: 1.10` means the text, as it would in a typed reader; a missing value never does.
        let as_text = Value::String(text.to_owned());
        if plain && !value.is_null() {
            if words.contains(&&as_text) {
                return as_text;
            }
            if let Some(branch) = branches.iter().find(|branch| accepts_value(branch.schema, &as_text)) {
                return self.checked(node, as_text, *branch, key);
            }
        }
        if value.is_null() {
            if branches.iter().any(|branch| accepts(branch.schema, "null")) {
                return value;
            }
            let message = format!("`{}` has no value; give it {} or remove the key", last(key), kinds(branches));
            self.error(node.place, key, message);
            return Value::Null;
        }
        if words.is_empty() || !value.is_string() {
            let given = match value {
                Value::Bool(_) => "true or false",
                Value::Number(_) => "a number",
                _ => "a text",
            };
            return self.wrong_kind(node, given, branches, key);
        }
        // Where a word stands for more than a word, the type itself says what is accepted.
        if let Some(Err(message)) = branches.iter().find_map(|branch| reader(branch.name)).map(|read| read(&as_text)) {
            self.error(node.place, key, message);
            return Value::Null;
        }
        let accepted: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
        let near = near(text, accepted.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        self.error(node.place, key, format!("`{}` is not accepted here; accepted: {}{near}", shown(text), accepted.join(", ")));
        Value::Null
    }

    /// A scalar of the right kind, read by the type it is for.
    fn checked(&mut self, node: &Node, value: Value, branch: Branch<'s>, key: &str) -> Value {
        let format = branch.schema.get("format").and_then(Value::as_str).unwrap_or_default();
        if let Some(Err(message)) = reader(branch.name).or_else(|| reader(format)).map(|read| read(&value)) {
            self.error(node.place, key, message);
            return Value::Null;
        }
        let bound = |word: &str| branch.schema.get(word).and_then(Value::as_f64);
        if let Some(number) = value.as_f64() {
            let (least, greatest) = (bound("minimum"), bound("maximum"));
            if least.is_some_and(|least| number < least) || greatest.is_some_and(|greatest| number > greatest) {
                let range = match (least, greatest) {
                    (Some(least), Some(greatest)) => format!("from {least} to {greatest}"),
                    (Some(least), None) => format!("at least {least}"),
                    (_, greatest) => format!("at most {}", greatest.unwrap_or_default()),
                };
                self.error(node.place, key, format!("`{}` must be {range}, not {value}", last(key)));
            }
        }
        value
    }

    fn wrong_kind(&mut self, node: &Node, given: &str, branches: &[Branch<'s>], key: &str) -> Value {
        let what = if key.is_empty() { "a manifest".to_owned() } else { format!("`{}`", last(key)) };
        // `key: {name}` without quotes is a mapping to YAML.
        let unquoted = match node.entries() {
            [one] if branches.iter().any(|branch| accepts(branch.schema, "string")) && one.value.to_value() == Ok(Value::Null) => {
                format!("; if a placeholder is meant, quote it: `\"{{{}}}\"`", shown(&one.key))
            }
            _ => String::new(),
        };
        self.error(node.place, key, format!("{what} must be {}, not {given}{unquoted}", kinds(branches)));
        Value::Null
    }

    fn mapping(&mut self, node: &Node, branches: &[Branch<'s>], key: &str) -> Value {
        let objects: Vec<&'s Value> = branches.iter().map(|branch| branch.schema).filter(|schema| accepts(schema, "object")).collect();
        let schema = match objects.as_slice() {
            [] => return self.wrong_kind(node, "a mapping", branches, key),
            [one] => *one,
            several => match self.choose(node, several, key) {
                Some(one) => one,
                None => return Value::Null,
            },
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let mut map = Map::new();
        for entry in node.entries() {
            if self.is_full() {
                break;
            }
            let path = child(key, &entry.key);
            if let Some(inner) = properties.and_then(|properties| properties.get(&entry.key)) {
                map.insert(entry.key.clone(), self.value(&entry.value, inner, &path));
            } else {
                match others {
                    None | Some(Value::Bool(true)) => {
                        map.insert(entry.key.clone(), self.free(&entry.value, &path));
                    }
                    Some(Value::Bool(false)) => {
                        let known: Vec<&str> = properties.map(|properties| properties.keys().map(String::as_str).collect()).unwrap_or_default();
                        let near = near(&entry.key, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                        let message = format!("unknown key `{}`{near} accepted: {}", shown(&entry.key), known.join(", "));
                        let message = if near.is_empty() { message.replacen(" accepted:", "; accepted:", 1) } else { message };
                        self.error(entry.place, &path, message);
                    }
                    Some(inner) => {
                        map.insert(entry.key.clone(), self.value(&entry.value, inner, &path));
                    }
                }
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_none() {
                let of = if key.is_empty() { "the manifest".to_owned() } else { format!("`{key}`") };
                self.error(node.place, key, format!("`{name}` is missing in {of}"));
            }
        }
        Value::Object(map)
    }

    /// Which of several shapes a mapping is meant to have: told by a key with a fixed value, or else by the keys it has.
    fn choose(&mut self, node: &Node, several: &[&'s Value], key: &str) -> Option<&'s Value> {
        let fixed = |schema: &'s Value| {
            let properties = schema.get("properties")?.as_object()?;
            properties.iter().find_map(|(name, inner)| Some((name.as_str(), inner.get("const")?.as_str()?)))
        };
        if let Some((name, _)) = several.iter().find_map(|schema| fixed(schema)) {
            let accepted: Vec<&str> = several.iter().filter_map(|schema| fixed(schema)).map(|(_, word)| word).collect();
            let Some(entry) = node.get(name) else {
                self.error(node.place, key, format!("`{name}` is missing in `{key}`; accepted: {}", accepted.join(", ")));
                return None;
            };
            let text = match &entry.value.content {
                Content::Scalar { text, .. } => text.as_str(),
                _ => "",
            };
            let found = several.iter().copied().find(|schema| fixed(schema).is_some_and(|(_, word)| word == text));
            if found.is_none() {
                let near = near(text, accepted.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let message = format!("`{}` is not accepted here; accepted: {}{near}", shown(text), accepted.join(", "));
                self.error(entry.value.place, &child(key, name), message);
            }
            return found;
        }
        let score = |schema: &Value| {
            let has = |name: &str| node.get(name).is_some();
            let required = schema.get("required").and_then(Value::as_array).is_none_or(|names| names.iter().filter_map(Value::as_str).all(has));
            let known = schema.get("properties").and_then(Value::as_object).map_or(0, |known| known.keys().filter(|name| has(name)).count());
            (required, known)
        };
        let best = several.iter().copied().max_by_key(|schema| score(schema))?;
        if score(best) == (false, 0) {
            let shapes: Vec<String> = several
                .iter()
                .filter_map(|schema| {
                    schema.get("required")?.as_array().map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
                })
                .map(|names| format!("a mapping with {names}"))
                .collect();
            self.error(node.place, key, format!("`{}` has none of the keys it needs; accepted: {}", last(key), shapes.join(", or ")));
            return None;
        }
        Some(best)
    }
}

/// The last step of a path, as a person would name it.
fn last(path: &str) -> &str {
    if path.ends_with("\"]") {
        return path.rsplit("[\"").next().map_or(path, |name| name.trim_end_matches("\"]"));
    }
    path.rsplit('.').next().unwrap_or(path)
}

/// A text of the file as it is shown in a message: short, and without what would steer a terminal.
fn shown(text: &str) -> String {
    connector_core::redact::printable(text, 60)
}

fn accepts(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => words(schema).any(|word| kind == "null" && word.is_null()),
    }
}

fn accepts_value(schema: &Value, value: &Value) -> bool {
    if words(schema).next().is_some() {
        return false;
    }
    match value {
        Value::Null => accepts(schema, "null"),
        Value::Bool(_) => accepts(schema, "boolean"),
        Value::Number(number) => accepts(schema, "number") || (!number.is_f64() && accepts(schema, "integer")),
        Value::String(_) => accepts(schema, "string"),
        Value::Array(_) => accepts(schema, "array"),
        Value::Object(_) => accepts(schema, "object"),
    }
}

/// The only values a schema accepts, if it names them.
fn words(schema: &Value) -> impl Iterator<Item = &Value> {
    schema.get("enum").and_then(Value::as_array).into_iter().flatten().chain(schema.get("const"))
}

/// What is accepted, in words.
fn kinds(branches: &[Branch<'_>]) -> String {
    let named = [
        ("string", "a text"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("boolean", "true or false"),
        ("array", "a list"),
        ("object", "a mapping"),
    ];
    let words: BTreeSet<&str> = branches.iter().flat_map(|branch| words(branch.schema)).filter_map(Value::as_str).collect();
    let mut accepted: Vec<String> = Vec::new();
    if !words.is_empty() {
        accepted.push(format!("one of {}", words.into_iter().collect::<Vec<_>>().join(", ")));
    }
    let kinds = named.iter().filter(|(kind, _)| branches.iter().any(|branch| words_free(branch.schema) && accepts(branch.schema, kind)));
    accepted.extend(kinds.map(|(_, name)| (*name).to_owned()));
    accepted.join(" or ")
}

fn words_free(schema: &Value) -> bool {
    words(schema).next().is_none()
}

type Reader = fn(&Value) -> Result<(), String>;

/// The type that reads a scalar of this definition, for its own error message.
fn reader(name: &str) -> Option<Reader> {
    fn read<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
        T::deserialize(value).map(|_| ()).map_err(|error| error.to_string())
    }
    Some(match name {
        "Type" => read::<TypeExpr>,
        "Duration" => read::<DurationText>,
        "Until" => read::<Until>,
        "StatusPattern" => read::<StatusPattern>,
        "Repeat" => read::<RepeatRule>,
        "window" => read::<Window>,
        "limit-key" => read::<LimitKey>,
        _ => return None,
    })
}
