//! The caller's arguments: checked before anything is rendered, with the default and the connection's setting filled in.

use std::borrow::Cow;

use connector_core::{CallCx, Error, Result, suggest};
use serde_json::{Map, Value};

use super::{compile::CompiledTool, escape};
use crate::{
    model::{Param, TypeExpr},
    template::{self, scalar},
};

/// The arguments of one call as templates see them.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    tool: &'a CompiledTool,
    given: &'a Map<String, Value>,
    settings: Vec<(&'a str, Value)>,
}

impl<'a> Arguments<'a> {
    /// Checks names, presence and types.
    pub(super) fn check(tool: &'a CompiledTool, given: &'a Map<String, Value>, cx: &CallCx) -> Result<Self> {
        for (name, value) in given {
            let Some(param) = tool.param(name) else { return Err(unknown(tool, name)) };
            if !value.is_null() {
                check_value(tool, param, value)?;
            }
        }
        let mut settings = Vec::new();
        for param in &tool.params {
            if self::given(given, &param.name).is_some_and(|value| !value.is_null()) {
                continue;
            }
            if let Some(value) = param.setting.as_deref().and_then(|setting| cx.connection.setting(setting)) {
                settings.push((param.name.as_str(), Value::from(value)));
            } else if param.required && param.default.is_null() {
                return Err(missing(tool, param));
            }
        }
        Ok(Self { tool, given, settings })
    }
}

impl Arguments<'_> {
    /// Whether a list given for this parameter becomes one text; otherwise its key is repeated.
    pub(super) fn joins(&self, name: &str) -> bool {
        self.tool.param(name).is_some_and(|param| param.join.is_some())
    }
}

impl template::Args for Arguments<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        if let Some(value) = given(self.given, name).filter(|value| !value.is_null()) {
            return Some(value);
        }
        if let Some((_, value)) = self.settings.iter().find(|(setting, _)| *setting == name) {
            return Some(value);
        }
        self.tool.param(name).map(|param| &param.default).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.value(name)?;
        let param = self.tool.param(name);
        let text = match value {
            Value::Array(items) => {
                let join = param.and_then(|param| param.join.as_deref()).unwrap_or(",");
                Cow::Owned(items.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(join))
            }
            other => scalar(other)?,
        };
        Some(match param.and_then(|param| param.escape.as_deref()) {
            Some(rule) => escape::apply(rule, &text).into(),
            None => text,
        })
    }
}

/// How many arguments are looked through one by one rather than hashed.
const FEW: usize = 8;

/// A given argument.
fn given<'a>(args: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if args.len() > FEW {
        return args.get(name);
    }
    args.iter().find(|(given, _)| given.as_str() == name).map(|(_, value)| value)
}

fn unknown(tool: &CompiledTool, name: &str) -> Error {
    let known = || tool.params.iter().map(|param| param.name.as_str());
    let hint = match suggest::nearest(name, known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if tool.params.is_empty() => "it takes none".to_owned(),
        None => format!("accepted: {}", known().collect::<Vec<_>>().join(", ")),
    };
    Error::invalid(format!("unknown parameter `{}`; {hint}", connector_core::redact::printable(name, 60)))
}

fn missing(tool: &CompiledTool, param: &Param) -> Error {
    let mut message = format!("`{}` needs the parameter `{}` ({})", tool.spec.name, param.name, param.type_expr);
    if !param.doc.is_empty() {
        message.push_str(": ");
        message.push_str(param.doc.trim_end_matches('.'));
    }
    if let Some(setting) = &param.setting {
        message.push_str(&format!("; or set `{setting}` on the connection"));
    }
    Error::invalid(message)
}

fn check_value(tool: &CompiledTool, param: &Param, value: &Value) -> Result<()> {
    let wrong =
        |expected: String| Err(Error::invalid(format!("parameter `{}` of `{}` must be {expected}, not {}", param.name, tool.spec.name, kind(value))));
    if !fits(&param.type_expr, value) {
        return wrong(article(&param.type_expr));
    }
    if !param.values.is_empty() && !param.values.contains(value) {
        let accepted: Vec<String> = param.values.iter().map(ToString::to_string).collect();
        return Err(Error::invalid(format!("parameter `{}` of `{}` must be one of {}", param.name, tool.spec.name, accepted.join(", "))));
    }
    let size = match value {
        Value::Number(number) => number.as_f64(),
        #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
        Value::String(text) => Some(text.chars().count() as f64),
        #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
        Value::Array(items) => Some(items.len() as f64),
        _ => None,
    };
    #[allow(clippy::cast_precision_loss, reason = "bounds in manifests are small")]
    if let Some(size) = size
        && (param.min.is_some_and(|min| size < min as f64) || param.max.is_some_and(|max| size > max as f64))
    {
        let what = if value.is_number() { "" } else { " in length" };
        let bound = match (param.min, param.max) {
            (Some(min), Some(max)) => format!("between {min} and {max}"),
            (Some(min), None) => format!("at least {min}"),
            (_, max) => format!("at most {}", max.unwrap_or_default()),
        };
        return wrong(format!("{bound}{what}"));
    }
    Ok(())
}

/// Whether a value fits a type, as far as it can be told without looking inside models.
fn fits(expected: &TypeExpr, value: &Value) -> bool {
    match expected {
        TypeExpr::Any | TypeExpr::Raw | TypeExpr::None => true,
        TypeExpr::String | TypeExpr::Datetime | TypeExpr::Date => value.is_string(),
        TypeExpr::Integer => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        TypeExpr::Number => value.is_number(),
        TypeExpr::Boolean => value.is_boolean(),
        TypeExpr::Object | TypeExpr::Model(_) => value.is_object(),
        TypeExpr::Array(inner) => value.as_array().is_some_and(|items| items.iter().all(|item| fits(inner, item))),
        TypeExpr::Map(inner) => value.as_object().is_some_and(|map| map.values().all(|value| fits(inner, value))),
        TypeExpr::Nullable(inner) => value.is_null() || fits(inner, value),
    }
}

fn article(expected: &TypeExpr) -> String {
    match expected {
        TypeExpr::Integer => "an integer".into(),
        TypeExpr::Array(_) | TypeExpr::Object => format!("an {expected}"),
        TypeExpr::Datetime => "an RFC 3339 date and time as text".into(),
        TypeExpr::Date => "a date as text (YYYY-MM-DD)".into(),
        other => format!("a {other}"),
    }
}

/// What a value is, without showing it: arguments may be personal.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "that number",
        Value::String(_) => "that text",
        Value::Array(_) => "that list",
        Value::Object(_) => "that object",
    }
}
