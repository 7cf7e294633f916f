//! Cross-checks: whether what a manifest says makes sense as a whole.
//!
//! Owns names, references between tools, models, limits and parameters, and what must never stand in a manifest (secrets,
//! addresses that are no vendor's). Refuses nothing the transport enforces again: the egress guard decides at dial time.

mod address;
mod auth;
mod errors;
mod examples;
mod head;
mod limits;
mod links;
mod models;
mod paging;
mod params;
mod secrets;
mod streams;
mod subscriptions;
mod tools;
mod views;
mod webhook;

use std::fmt;

pub(crate) use address::check as check_address;

use crate::{
    diagnostic::{Diagnostics, Severity},
    model::{Manifest, Tool},
    select::Path,
    sources::{MOST_FINDINGS, Sources, child, item, near},
    template::Template,
};

/// How much a manifest must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Somebody's own connector: what is left out is a hint.
    Custom,
    /// A connector of this repository: every write says `repeat`, every tool has `doc` and `example`.
    BuiltIn,
}

/// Checks a manifest. An error in the result means it must not be used.
pub fn validate(manifest: &Manifest, sources: &Sources, strictness: Strictness) -> Diagnostics {
    let mut check = Check { manifest, sources, strictness, found: Diagnostics::default() };
    if is_oversized(&mut check) {
        return check.found.sorted();
    }
    head::check(&mut check);
    auth::check(&mut check);
    limits::check(&mut check);
    errors::check(&mut check);
    models::check(&mut check);
    tools::check(&mut check);
    streams::check(&mut check);
    webhook::check(&mut check);
    subscriptions::check(&mut check);
    views::check(&mut check);
    secrets::check(&mut check);
    check.found.sorted()
}

/// The most tools of one connector, and the most parameters and placeholders of one tool: far above what anybody can survey, and low
/// enough that checks that compare one with all others stay quick.
const MOST_TOOLS: usize = 1_000;
const MOST_PARAMS: usize = 200;

/// Reports what is too big to be checked further.
fn is_oversized(check: &mut Check<'_>) -> bool {
    let manifest = check.manifest;
    let many = [
        ("tools", manifest.tools.len()),
        ("models", manifest.models.len()),
        ("events", manifest.events.len()),
        ("streams", manifest.streams.len()),
        ("subscriptions", manifest.subscriptions.len()),
        ("views", manifest.views.len()),
        ("limits", manifest.limits.len()),
        ("errors.table", manifest.errors.table.len()),
    ];
    for (key, _) in many.iter().filter(|(_, count)| *count > MOST_TOOLS) {
        check.error(*key, format!("there are more than {MOST_TOOLS} entries here; split the connector"));
    }
    for (at, tool) in manifest.tools.iter().enumerate().take(MOST_TOOLS) {
        if tool.params.len() > MOST_PARAMS || crate::placeholders::used(tool).len() > MOST_PARAMS {
            check.error(item("tools", at), format!("this tool has more than {MOST_PARAMS} parameters"));
        }
    }
    check.found.has_errors()
}

/// A check in progress.
struct Check<'m> {
    manifest: &'m Manifest,
    sources: &'m Sources,
    strictness: Strictness,
    found: Diagnostics,
}

impl<'m> Check<'m> {
    fn report(&mut self, severity: Severity, key: impl Into<String>, message: impl fmt::Display) {
        self.found.0.push(self.sources.diagnostic(severity, key, message.to_string()));
    }

    fn error(&mut self, key: impl Into<String>, message: impl fmt::Display) {
        self.report(Severity::Error, key, message);
    }

    fn warning(&mut self, key: impl Into<String>, message: impl fmt::Display) {
        self.report(Severity::Warning, key, message);
    }

    fn hint(&mut self, key: impl Into<String>, message: impl fmt::Display) {
        self.report(Severity::Hint, key, message);
    }

    /// Whether so much was found that nobody would read more.
    fn is_full(&self) -> bool {
        self.found.errors().nth(MOST_FINDINGS).is_some()
    }

    /// An error in a connector of this repository, a hint in somebody's own.
    fn expected(&mut self, key: impl Into<String>, message: impl fmt::Display) {
        let severity = if self.strictness == Strictness::BuiltIn { Severity::Error } else { Severity::Hint };
        self.report(severity, key, message);
    }

    /// A selection path that must parse.
    fn path(&mut self, key: impl Into<String>, text: &str) {
        if let Err(message) = Path::parse(text) {
            self.error(key, message);
        }
    }

    /// A header name that must be one.
    fn header(&mut self, key: impl Into<String>, name: &str) {
        if http::HeaderName::try_from(name).is_err() {
            self.error(key, format!("`{}` is not a header name", shown(name)));
        }
    }

    /// A tool that must exist.
    fn tool(&mut self, key: impl Into<String>, name: &str) -> Option<&'m Tool> {
        let manifest = self.manifest;
        let found = manifest.tool(name);
        if found.is_none() {
            let near = suggestion(name, manifest.tools.iter().map(|tool| tool.name.as_str()));
            self.error(key, format!("there is no tool `{}`{near}", shown(name)));
        }
        found
    }

    /// Placeholders outside tools read settings of the connection, which must be declared.
    fn settings_in(&mut self, key: &str, text: &str) {
        let manifest = self.manifest;
        for name in Template::parse(text).placeholders() {
            if !manifest.settings.iter().any(|setting| setting.name == name) {
                let near = suggestion(name, manifest.settings.iter().map(|setting| setting.name.as_str()));
                self.error(key, format!("`{{{name}}}` is no declared setting{near}; add it under `settings`"));
            }
        }
    }
}

/// `; did you mean ...?` or `; there are ...`, as far as it helps.
fn suggestion<'a>(name: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = near(name, candidates.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let known: Vec<&str> = candidates.collect();
    match known.len() {
        0 => String::new(),
        1..=12 => format!("; there is {}", known.join(", ")),
        _ => String::new(),
    }
}

/// A text of the manifest as it is shown in a message.
fn shown(text: &str) -> String {
    connector_core::redact::printable(text, 60)
}

/// `[a-z][a-z0-9_]*`.
fn is_snake(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A name that can stand in a placeholder.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The key path of something under a tool.
fn under(tool: &str, keys: &[&str]) -> String {
    keys.iter().fold(tool.to_owned(), |path, key| child(&path, key))
}
