//! `${VAR}` in the vault's section: what is missing is named together with who needs it, all at once.

use connector_core::{Error, Result};
use zeroize::Zeroizing;

use crate::remote::Env;

/// Whether the whole text is one `${VAR}`, so that it holds nothing secret itself.
pub(super) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(is_variable)
}

/// Whether this can be the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Fills references and remembers what was missing.
pub(super) struct Fill<'a> {
    env: &'a Env,
    problems: Vec<String>,
}

impl<'a> Fill<'a> {
    pub(super) fn new(env: &'a Env) -> Self {
        Self { env, problems: Vec::new() }
    }

    /// `text` with every `${VAR}` filled. Values are taken as they are and never expanded again.
    pub(super) fn text(&mut self, key: &str, text: &str) -> Zeroizing<String> {
        let mut filled = Zeroizing::new(String::with_capacity(text.len() + 256));
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            filled.push_str(&rest[..at]);
            let Some((name, after)) = rest[at + 2..].split_once('}').filter(|(name, _)| is_variable(name)) else {
                self.problems.push(format!("`{key}`: `${{` does not start the name of a variable; write it like \"${{VAULT_TOKEN}}\""));
                return filled;
            };
            match (self.env)(name).filter(|value| !value.is_empty()) {
                Some(value) => filled.push_str(&Zeroizing::new(value)),
                None => self.problems.push(format!("the environment variable `{name}` is not set; `{key}` needs it")),
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    /// Remembers a problem that is not a missing variable.
    pub(super) fn problem(&mut self, key: &str, message: &str) {
        self.problems.push(format!("`{key}`: {message}"));
    }

    /// Everything was there, or one error that names all that was not.
    pub(super) fn finish(self) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(Error::config(format!("the vault cannot be opened: {}", self.problems.join("; "))))
    }
}
