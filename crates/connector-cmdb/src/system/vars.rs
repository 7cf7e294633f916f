//! What placeholders of a profile stand for in one request.

use std::{borrow::Cow, collections::BTreeMap};

use connector_manifest::{
    engine::escape_text,
    template::{Args, scalar},
};
use serde_json::Value;

/// Values by placeholder. In texts they are escaped by the profile's rule; a value that is the whole parameter goes as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vars {
    values: BTreeMap<Cow<'static, str>, Value>,
    escape: Option<String>,
}

impl Vars {
    /// No values yet; texts will be escaped by this rule.
    pub(crate) fn new(escape: Option<&str>) -> Self {
        Self { values: BTreeMap::new(), escape: escape.map(str::to_owned) }
    }

    /// Adds a value.
    pub(crate) fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.values.insert(name.into(), value.into());
        self
    }
}

impl Args for Vars {
    fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = match self.value(name)? {
            Value::Array(items) => Cow::Owned(items.iter().filter_map(scalar).collect::<Vec<_>>().join(",")),
            other => scalar(other)?,
        };
        Some(match &self.escape {
            Some(rule) => escape_text(rule, &text).into(),
            None => text,
        })
    }
}
