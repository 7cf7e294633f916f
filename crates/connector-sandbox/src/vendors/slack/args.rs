//! The arguments of a method, wherever Slack takes them from: the query, a form, or JSON where the method writes.

use super::Refusal;
use crate::exchange::Req;
use serde_json::{Map, Value};

/// What was said, by name.
#[derive(Debug)]
pub(super) struct Args(Map<String, Value>);

impl Args {
    /// Reads them. JSON sent to a method that only reads is not looked at, as Slack does it: the arguments are then simply missing.
    pub(super) fn read(req: &Req, reads: bool) -> Result<Self, Refusal> {
        let mut all: Map<String, Value> = req.query.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        if req.body.is_empty() {
            return Ok(Self(all));
        }
        let kind = req.header("content-type").unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" if reads => {}
            "application/json" => match req.json() {
                Ok(Value::Object(given)) => all.extend(given),
                Ok(Value::Null) => {}
                Ok(_) => return Err("json_not_object".into()),
                Err(_) => return Err("invalid_json".into()),
            },
            "application/x-www-form-urlencoded" => all.extend(req.form().into_iter().map(|(name, value)| (name, value.into()))),
            "multipart/form-data" => return Err("invalid_form_data".into()),
            "" => return Err("missing_post_type".into()),
            _ => return Err("invalid_post_type".into()),
        }
        Ok(Self(all))
    }

    /// A text; numbers count as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A text that must be there.
    pub(super) fn need(&self, name: &str) -> Result<String, Refusal> {
        self.text(name).ok_or_else(|| Refusal {
            code: "invalid_arguments".into(),
            more: serde_json::json!({"response_metadata": {"messages": [format!("[ERROR] missing required field: {name}")]}}),
        })
    }

    /// A yes or no, as JSON or as a form writes it.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => Some(matches!(text.as_str(), "true" | "1" | "True")),
            Value::Number(number) => Some(number.as_u64() != Some(0)),
            _ => None,
        }
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A list or an object; a form writes it as JSON in a text.
    pub(super) fn tree(&self, name: &str) -> Option<Value> {
        match self.0.get(name)? {
            Value::String(text) => serde_json::from_str(text).ok().filter(|value: &Value| value.is_array() || value.is_object()),
            Value::Null => None,
            other => Some(other.clone()),
        }
    }

    /// Ids with commas between them, or a list.
    pub(super) fn ids(&self, name: &str) -> Vec<String> {
        match self.0.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(text)) => text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    /// How many are wanted: between 1 and `most`.
    pub(super) fn limit(&self, usual: usize, most: usize) -> usize {
        self.number("limit").and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0).unwrap_or(usual).min(most)
    }
}
