//! `${VAR}` in a hub's configuration: what is missing is named together with who needs it.

use std::sync::Arc;

use connector_core::{Error, Result};

/// Where variables come from.
pub(crate) type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Whether the whole text is one `${VAR}`, so that it holds nothing secret itself.
pub(crate) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(is_variable)
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Fills references and remembers what was missing, so that one run names everything that is.
pub(crate) struct Substitution {
    env: Env,
    problems: Vec<String>,
}

impl Substitution {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, problems: Vec::new() }
    }

    /// `text` with every `${VAR}` filled. Values are taken as they are and never expanded again.
    pub(crate) fn fill(&mut self, key: &str, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            filled.push_str(&rest[..at]);
            let Some((name, after)) = rest[at + 2..].split_once('}').filter(|(name, _)| is_variable(name)) else {
                self.problems.push(format!("`{key}`: `${{` does not start the name of a variable; write it like \"${{HUBSPOT_API_KEY}}\""));
                return filled;
            };
            match (self.env)(name).filter(|value| !value.is_empty()) {
                Some(value) => filled.push_str(&value),
                None => self.problems.push(format!("the environment variable `{name}` is not set; `{key}` needs it")),
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    /// Everything was there, or an error that names all that was not.
    pub(crate) fn finish(self) -> Result<()> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error::config(self.problems.join("; "))) }
    }
}
