//! One comparison on one place of a payload.

use connector_manifest::select::Path;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::model::ConditionConfig;

/// How large a compiled expression may be, in bytes. The engine is linear in its input whatever the expression says.
const MAX_REGEX: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Condition {
    path: Path,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Equals(Value),
    In(Vec<Value>),
    Exists(bool),
    Matches(Regex),
}

impl Condition {
    /// # Errors
    /// The key of the part that is wrong, and what is wrong with it.
    pub(super) fn new(config: &ConditionConfig) -> Result<Self, (&'static str, String)> {
        let path = Path::parse(&config.path).map_err(|why| ("path", why))?;
        let mut tests = Vec::new();
        if let Some(value) = &config.equals {
            tests.push(Test::Equals(value.clone()));
        }
        if let Some(values) = &config.one_of {
            if values.is_empty() {
                return Err(("in", "an empty list is never met; name the accepted values".into()));
            }
            tests.push(Test::In(values.clone()));
        }
        if let Some(there) = config.exists {
            tests.push(Test::Exists(there));
        }
        if let Some(text) = &config.matches {
            let regex = RegexBuilder::new(text).size_limit(MAX_REGEX).build();
            tests.push(Test::Matches(regex.map_err(|error| ("matches", format!("this is not a usable regular expression: {}", brief(&error))))?));
        }
        match <[Test; 1]>::try_from(tests) {
            Ok([test]) => Ok(Self { path, test }),
            Err(tests) if tests.is_empty() => Err(("path", "nothing is compared; add `equals`, `in`, `exists` or `matches`".into())),
            Err(_) => Err(("path", "a condition compares once; write a second condition, both must hold".into())),
        }
    }

    pub(super) fn holds(&self, payload: &Value) -> bool {
        let found = self.path.get(payload);
        match &self.test {
            Test::Equals(value) => found.is_some_and(|found| same(found, value)),
            Test::In(values) => found.is_some_and(|found| values.iter().any(|value| same(found, value))),
            Test::Exists(there) => found.is_some() == *there,
            Test::Matches(regex) => self.path.text(payload).is_some_and(|text| regex.is_match(&text)),
        }
    }
}

/// Numbers are the same if their values are: vendors write `7`, people write `7.0`.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && a.as_f64().is_some(),
        _ => found == wanted,
    }
}

/// The last line of the engine's message says what is wrong; the lines before draw it.
fn brief(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
