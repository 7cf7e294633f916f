//! Checks the arguments against the operation's schema before anything else happens. Errors name the parameter, never its value.

use async_trait::async_trait;
use connector_core::{Error, Result, redact::printable, spec::OpSpec, suggest};
use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::{Map, Value};

use crate::{
    request::{CallOutcome, Governed},
    stack::{Next, Stage},
};

/// How large one compiled pattern may be.
const MAX_PATTERN: usize = 1 << 20;
/// How many problems one error names.
const SHOWN: usize = 3;

/// Compiles an operation's input schema; `None` if it cannot be, in which case the engine's own check of names and types is what remains.
pub(crate) fn compile(op: &OpSpec) -> Option<Validator> {
    jsonschema::options()
        // The linear engine: no argument can make a pattern backtrack.
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN))
        .build(&op.input_schema)
        .inspect_err(|error| tracing::error!(operation = &*op.name, %error, "the input schema of an operation cannot be compiled"))
        .ok()
}

/// Holds arguments against a compiled schema.
pub(crate) fn check(validator: &Validator, op: &OpSpec, params: &Map<String, Value>) -> Result<()> {
    let args = Value::Object(params.clone());
    let problems: Vec<String> = validator.iter_errors(&args).take(SHOWN).map(|error| describe(op, &error)).collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::invalid(problems.join("; "))) }
}

/// The stage that refuses wrong arguments.
#[derive(Debug)]
pub(crate) struct ValidateStage;

#[async_trait]
impl Stage for ValidateStage {
    fn name(&self) -> &'static str {
        "validate"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        if let Some(validator) = call.loaded.validator(&call.op) {
            check(validator, &call.op, &call.params).map_err(|error| error.at(&call.loaded.connector.spec().id, &call.op.name))?;
        }
        next.run(call).await
    }
}

fn describe(op: &OpSpec, error: &ValidationError<'_>) -> String {
    let path = path(&error.instance_path().to_string());
    let at = |text: &str| if path.is_empty() { "the arguments".to_owned() } else { format!("{text}`{path}`") };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let name = printable(unexpected.first().map_or("", String::as_str), 40);
            if !path.is_empty() {
                return format!("`{path}` has no part `{name}`");
            }
            let known = op.params.iter().map(|param| &*param.name);
            let hint = suggest::nearest(&name, known.clone())
                .map_or_else(|| format!("accepted: {}", known.collect::<Vec<_>>().join(", ")), |near| format!("did you mean `{near}`?"));
            format!("there is no parameter `{name}`; {hint}")
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            match op.params.iter().find(|param| path.is_empty() && &*param.name == name) {
                Some(param) if !param.doc.is_empty() => format!("the parameter `{name}` is missing: {}", param.doc.trim_end_matches('.')),
                _ if path.is_empty() => format!("the parameter `{name}` is missing"),
                _ => format!("`{path}` lacks `{name}`"),
            }
        }
        ValidationErrorKind::Type { .. } => {
            let kinds = expected_type(error).unwrap_or_else(|| "of another type".to_owned());
            format!("{} must be {kinds}", at(""))
        }
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().map(|options| options.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")).unwrap_or_default();
            format!("{} must be one of {options}", at(""))
        }
        ValidationErrorKind::Format { format } => format!("{} is not a valid {format}", at("")),
        ValidationErrorKind::Minimum { limit } => format!("{} must be at least {limit}", at("")),
        ValidationErrorKind::Maximum { limit } => format!("{} must be at most {limit}", at("")),
        ValidationErrorKind::MinLength { limit } => format!("{} must have at least {limit} character(s)", at("")),
        ValidationErrorKind::MaxLength { limit } => format!("{} must have at most {limit} characters", at("")),
        ValidationErrorKind::MinItems { limit } => format!("{} must have at least {limit} item(s)", at("")),
        ValidationErrorKind::MaxItems { limit } => format!("{} must have at most {limit} items", at("")),
        other => format!("{} does not fit its schema (`{}`); `describe` shows what is accepted", at(""), other.keyword()),
    }
}

/// "a string", from the error's own words about the schema, which quote the value before them.
fn expected_type(error: &ValidationError<'_>) -> Option<String> {
    let text = error.masked().to_string();
    let kinds: Vec<&str> = text.rsplit_once(" is not of type")?.1.split('"').skip(1).step_by(2).collect();
    Some(
        kinds
            .into_iter()
            .map(|kind| if kind.starts_with(['a', 'i', 'o']) { format!("an {kind}") } else { format!("a {kind}") })
            .collect::<Vec<_>>()
            .join(" or "),
    )
    .filter(|text| !text.is_empty())
}

/// `/items/0/name` as `items[0].name`.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = printable(&step.replace("~1", "/").replace("~0", "~"), 40);
        if step.bytes().all(|byte| byte.is_ascii_digit()) && !path.is_empty() {
            path.push_str(&format!("[{step}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&step);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_reads_as_a_path() {
        assert_eq!(path("/items/0/name"), "items[0].name");
        assert_eq!(path(""), "");
        assert_eq!(path("/a~1b"), "a/b");
    }
}
