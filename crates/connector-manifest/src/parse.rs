//! From YAML text to a [`Manifest`]: one file, or the files of a vendor's folder.
//!
//! Owns reading under a budget and the merging of files. Refuses to judge meaning: [`mod@crate::validate`] does, [`load`] runs both.

use std::sync::LazyLock;

use serde_json::Value;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Severity},
    merge::merge,
    model::Manifest,
    shape::Shape,
    sources::Sources,
    validate::{Strictness, validate},
    yaml::{self, Place},
};

/// A manifest, what should be known about it, and where its keys stand.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The manifest.
    pub manifest: Manifest,
    /// Warnings and hints; [`parse`] gives none, [`load`] those of the cross-checks.
    pub warnings: Diagnostics,
    /// Where the keys stand.
    pub sources: Sources,
}

/// Reads one manifest. Names are not checked against each other yet: see [`load`].
///
/// # Errors
/// All independent errors of the file, each with its place.
pub fn parse(file: &str, text: &str) -> Result<Parsed, Diagnostics> {
    parse_set(&[(file, text)])
}

/// Reads the files of one connector: a head with `connector` and `name`, and parts that only add `tools`, `models`, `events`,
/// `streams`, `subscriptions`, `views`, `limits` and rows to `errors.table`.
///
/// # Errors
/// All independent errors of all files, each with its place; the same thing declared in two files names both.
pub fn parse_set(files: &[(&str, &str)]) -> Result<Parsed, Diagnostics> {
    let names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    let diagnostic = |place: Place, key: String, message: String| Diagnostic {
        file: names.get(place.file).cloned().unwrap_or_default(),
        line: place.line,
        col: place.col,
        severity: Severity::Error,
        key,
        message,
    };
    let mut faults = Vec::new();
    let mut trees = Vec::new();
    for (at, (_, text)) in files.iter().enumerate() {
        match yaml::load(at, text) {
            Ok(tree) => trees.push(tree),
            Err(fault) => faults.push(diagnostic(fault.place, String::new(), fault.message)),
        }
    }
    if !faults.is_empty() {
        return Err(Diagnostics(faults).sorted());
    }
    let root = merge(trees, &names)
        .map_err(|found| Diagnostics(found.into_iter().map(|fault| diagnostic(fault.place, String::new(), fault.message)).collect()).sorted())?;
    if root.get("connector").is_some_and(|entry| entry.value.to_value() == Ok(Value::String("mcp".into()))) {
        let message = "`connector: mcp` declares an MCP server, not a REST API; it is read by the MCP connector";
        return Err(Diagnostics(vec![diagnostic(root.place, "connector".into(), message.into())]));
    }

    static SCHEMA: LazyLock<Value> = LazyLock::new(crate::schema::manifest_schema);
    let mut shape = Shape::new(&SCHEMA);
    let value = shape.document(&root);
    if !shape.errors.is_empty() {
        let errors = shape.errors.into_iter().map(|error| diagnostic(error.place, error.key, error.message)).collect();
        return Err(Diagnostics(errors).sorted());
    }
    let manifest = serde_json::from_value(value)
        .map_err(|error| Diagnostics(vec![diagnostic(root.place, String::new(), format!("the manifest cannot be read: {error}"))]))?;
    Ok(Parsed { manifest, warnings: Diagnostics::default(), sources: Sources::new(names, &root) })
}

/// Reads and cross-checks the files of one connector.
///
/// # Errors
/// Everything [`parse_set`] or [`validate`] finds, warnings and hints included, if any of it is an error.
pub fn load(files: &[(&str, &str)], strictness: Strictness) -> Result<Parsed, Diagnostics> {
    let mut parsed = parse_set(files)?;
    let found = validate(&parsed.manifest, &parsed.sources, strictness);
    if found.has_errors() {
        return Err(found);
    }
    parsed.warnings = found;
    Ok(parsed)
}

impl Manifest {
    /// Reads a manifest from the JSON that [`Manifest::to_json_pretty`] writes (`generated/spec.json`).
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] with the line and column of the JSON.
    pub fn from_json(text: &str) -> connector_core::Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| connector_core::Error::config(format!("the generated manifest cannot be read: {error}; run codegen again")))
    }

    /// The manifest as JSON, keys in the order of the model, ending in a line break.
    pub fn to_json_pretty(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("every key of the model is a text");
        text.push('\n');
        text
    }
}
