//! The declared shape of events: compiled once for each connector, checked for each event.
//!
//! Refuses schemas that reach outside (`$ref` to a URL or file) or are too large to be checked in bounded time.

use std::{collections::HashMap, sync::Arc};

use connector_core::{
    error::{Error, Result},
    spec::ConnectorSpec,
};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// How deep a schema may be nested.
const MAX_DEPTH: usize = 32;
/// How many values a schema may consist of.
const MAX_NODES: usize = 5_000;
/// How large one compiled pattern may be.
const MAX_PATTERN: usize = 1 << 20;

/// What the schema says about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has the declared shape, or none is declared for its kind.
    Fits,
    /// It has not; the path to the first place that differs, never the value.
    Differs(String),
    /// The connector declares its events, and this is none of them.
    Undeclared,
}

/// The compiled schemas of one connector's events.
#[derive(Debug)]
pub struct EventSchemas {
    kinds: HashMap<Arc<str>, Option<Validator>>,
}

impl EventSchemas {
    /// Compiles the schemas that `spec` declares.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] naming the event whose schema cannot be used.
    pub fn compile(spec: &ConnectorSpec) -> Result<Self> {
        let kinds = spec
            .events
            .iter()
            .map(|event| {
                let validator = event.schema.as_ref().map(|schema| compile(schema, &event.name)).transpose()?;
                Ok((event.name.clone(), validator))
            })
            .collect::<Result<_>>()
            .map_err(|error: Error| error.with_context("connector", &*spec.id))?;
        Ok(Self { kinds })
    }

    /// Checks an event that is JSON. It is made a tree only if there is a schema for its kind.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if it is not JSON.
    pub(super) fn check_bytes(&self, event_type: &str, payload: &[u8]) -> Result<Verdict> {
        match self.kinds.get(event_type) {
            Some(Some(_)) => {
                let tree = serde_json::from_slice(payload).map_err(|_| Error::invalid("the event is not JSON"))?;
                Ok(self.check(event_type, &tree))
            }
            _ => Ok(self.check(event_type, &Value::Null)),
        }
    }

    /// Checks one event.
    pub fn check(&self, event_type: &str, payload: &Value) -> Verdict {
        match self.kinds.get(event_type) {
            None if self.kinds.is_empty() => Verdict::Fits,
            None => Verdict::Undeclared,
            Some(None) => Verdict::Fits,
            Some(Some(validator)) => match validator.validate(payload) {
                Ok(()) => Verdict::Fits,
                Err(error) => Verdict::Differs(error.instance_path().to_string()),
            },
        }
    }
}

fn compile(schema: &Value, event: &str) -> Result<Validator> {
    let mut nodes = 0;
    if !bounded(schema, 0, &mut nodes) {
        return Err(Error::config(format!("the schema of event `{event}` is too large: at most {MAX_DEPTH} levels and {MAX_NODES} values")));
    }
    jsonschema::options()
        // The linear engine: no pattern can be made to backtrack by a payload.
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN))
        .build(schema)
        .map_err(|error| Error::config(format!("the schema of event `{event}` cannot be used")).with_context("schema", error.to_string()))
}

fn bounded(value: &Value, depth: usize, nodes: &mut usize) -> bool {
    *nodes += 1;
    if depth > MAX_DEPTH || *nodes > MAX_NODES {
        return false;
    }
    match value {
        Value::Object(map) => map.values().all(|inner| bounded(inner, depth + 1, nodes)),
        Value::Array(items) => items.iter().all(|inner| bounded(inner, depth + 1, nodes)),
        _ => true,
    }
}
