//! `{param}` templates: typed substitution into texts and JSON trees. Nothing is ever expanded twice, and nothing is an expression.

use std::{borrow::Cow, fmt};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Literal(Box<str>),
    /// The value of a parameter or, with dots, something inside it.
    Param(Box<str>),
}

impl Template {
    /// Parses a text. A `{` that does not start a `{name}` is text, so JSON and CSS pass unharmed.
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let after = &rest[open + 1..];
            let name_length = after.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(after.len());
            let is_placeholder =
                name_length > 0 && after[name_length..].starts_with('}') && after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            // `${VAR}` is resolved when a connection is configured, not here.
            let is_env = rest[..open].ends_with('$');
            if is_placeholder && !is_env {
                literal.push_str(&rest[..open]);
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Param(after[..name_length].into()));
                rest = &after[name_length + 1..];
            } else {
                literal.push_str(&rest[..=open]);
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Self { parts }
    }

    /// The pieces.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The names in placeholders, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Param(name) => Some(&**name),
            Part::Literal(_) => None,
        })
    }

    /// The text, if there is no placeholder.
    pub fn as_literal(&self) -> Option<&str> {
        match &self.parts[..] {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The parameter's name, if the whole text is one placeholder.
    pub fn as_param(&self) -> Option<&str> {
        match &self.parts[..] {
            [Part::Param(name)] => Some(name),
            _ => None,
        }
    }

    /// The text with every placeholder filled; `None` if one has no value.
    pub fn fill<'v>(&self, lookup: impl Fn(&str) -> Option<Cow<'v, str>>) -> Option<String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => filled.push_str(text),
                Part::Param(name) => filled.push_str(&lookup(name)?),
            }
        }
        Some(filled)
    }
}

/// A scalar as text, as it goes into a path, a query or a header; `None` for null, lists and objects.
pub fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(true) => Some(Cow::Borrowed("true")),
        Value::Bool(false) => Some(Cow::Borrowed("false")),
        _ => None,
    }
}

/// A JSON tree with placeholders.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// A value without placeholders.
    Fixed(Value),
    /// Exactly one placeholder: takes the parameter's JSON value, type and all.
    Param(Box<str>),
    /// A text with placeholders in it.
    Text(Template),
    /// An object; a key whose value is absent is left out.
    Object(Vec<(Box<str>, Tree)>),
    /// A list; an element that is absent is left out.
    Array(Vec<Tree>),
}

impl Tree {
    /// Parses a body template.
    pub fn parse(value: &Value) -> Self {
        match value {
            Value::String(text) => {
                let template = Template::parse(text);
                match (template.as_literal(), template.as_param()) {
                    (Some(_), _) => Self::Fixed(value.clone()),
                    (_, Some(name)) => Self::Param(name.into()),
                    _ => Self::Text(template),
                }
            }
            Value::Object(map) => {
                let members: Vec<_> = map.iter().map(|(key, value)| (key.as_str().into(), Self::parse(value))).collect();
                if members.iter().all(|(_, tree)| matches!(tree, Self::Fixed(_))) { Self::Fixed(value.clone()) } else { Self::Object(members) }
            }
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(Self::parse).collect();
                if items.iter().all(|tree| matches!(tree, Self::Fixed(_))) { Self::Fixed(value.clone()) } else { Self::Array(items) }
            }
            other => Self::Fixed(other.clone()),
        }
    }

    /// All names in placeholders.
    pub fn placeholders(&self, found: &mut Vec<String>) {
        match self {
            Self::Fixed(_) => {}
            Self::Param(name) => found.push(name.to_string()),
            Self::Text(template) => found.extend(template.placeholders().map(str::to_owned)),
            Self::Object(members) => members.iter().for_each(|(_, tree)| tree.placeholders(found)),
            Self::Array(items) => items.iter().for_each(|tree| tree.placeholders(found)),
        }
    }

    /// Whether anything is left of it when absent parameters are dropped.
    fn is_present(&self, args: &dyn Args) -> bool {
        match self {
            Self::Param(name) => args.value(name).is_some(),
            Self::Text(template) => template.placeholders().all(|name| args.text(name).is_some()),
            // An object made only of absent parameters says nothing.
            Self::Object(members) => members.is_empty() || members.iter().any(|(_, tree)| tree.is_present(args)),
            Self::Fixed(_) | Self::Array(_) => true,
        }
    }

    /// The tree filled, as something that writes itself; `None` if nothing is left of it.
    pub fn filled<'t>(&'t self, args: &'t dyn Args) -> Option<Filled<'t>> {
        self.is_present(args).then_some(Filled { tree: self, args })
    }
}

/// Where placeholders get their values.
pub trait Args {
    /// The value of a parameter; `None` if it is absent.
    fn value(&self, name: &str) -> Option<&Value>;
    /// The value as it goes into a text, escaped by the parameter's rule; `None` if it is absent or not a scalar.
    fn text(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// A filled tree. Serialises straight to its target, without building a tree of its own.
#[derive(Clone, Copy)]
pub struct Filled<'t> {
    tree: &'t Tree,
    args: &'t dyn Args,
}

impl fmt::Debug for Filled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filled")
    }
}

impl Serialize for Filled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.tree {
            Tree::Fixed(value) => value.serialize(serializer),
            Tree::Param(name) => self.args.value(name).serialize(serializer),
            Tree::Text(template) => serializer.serialize_str(&template.fill(|name| self.args.text(name)).unwrap_or_default()),
            Tree::Object(members) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, tree) in members {
                    if let Some(filled) = tree.filled(self.args) {
                        map.serialize_entry(key, &filled)?;
                    }
                }
                map.end()
            }
            Tree::Array(items) => {
                let mut seq = serializer.serialize_seq(None)?;
                for tree in items {
                    if let Some(filled) = tree.filled(self.args) {
                        seq.serialize_element(&filled)?;
                    }
                }
                seq.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    struct Plain(Map<String, Value>);

    impl Args for Plain {
        fn value(&self, name: &str) -> Option<&Value> {
            self.0.get(name)
        }

        fn text(&self, name: &str) -> Option<Cow<'_, str>> {
            self.0.get(name).and_then(scalar)
        }
    }

    fn fill(template: Value, args: Value) -> Option<Value> {
        let Value::Object(args) = args else { panic!("args must be an object") };
        let (tree, args) = (Tree::parse(&template), Plain(args));
        tree.filled(&args).map(|filled| serde_json::to_value(filled).unwrap())
    }

    #[test]
    fn a_whole_placeholder_keeps_its_type_and_an_absent_one_drops_its_key() {
        let template = json!({ "items": "{items}", "note": "for {who}", "x": "{absent}", "deep": { "y": "{absent}" }, "k": 1 });
        assert_eq!(
            fill(template, json!({ "items": [1, { "a": null }], "who": "Ada" })),
            Some(json!({ "items": [1, { "a": null }], "note": "for Ada", "k": 1 }))
        );
    }

    #[test]
    fn a_value_that_looks_like_a_template_is_never_expanded() {
        assert_eq!(fill(json!("{a} {b}"), json!({ "a": "{b}", "b": "x" })), Some(json!("{b} x")));
    }

    #[test]
    fn braces_that_are_no_placeholders_are_text() {
        for text in ["{", "{}", "{ a }", "a{1}", "${HOME}", "{a", "}{"] {
            assert_eq!(Template::parse(text).as_literal(), Some(text));
        }
        assert_eq!(Template::parse("a{b}c{d.e}").placeholders().collect::<Vec<_>>(), ["b", "d.e"]);
    }
}
