//! Custom REST connectors from YAML files: a file in a folder is a connector, without any code.
//!
//! Owns reading and naming: a connector's id is its manifest's `id` or its file's stem. Refuses what is not a custom REST connector, files
//! over the cap, and ids that cannot stand in an address.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use connector_manifest::{Diagnostic, Diagnostics, Manifest, Severity, Strictness, load};

use crate::ingress::route::path_id;

/// The longest file that is read, in bytes. The parser's own cap is the same; this one keeps longer files off the memory.
const MAX_BYTES: u64 = 256 * 1024;

/// A custom connector as its file declares it.
#[derive(Debug, Clone)]
pub struct CustomConnector {
    /// Its id.
    pub id: String,
    /// What it is. `${VAR}` is not filled yet: see `connector_manifest::env`.
    pub manifest: Arc<Manifest>,
    /// Warnings and hints about it.
    pub warnings: Diagnostics,
    /// The file it came from; empty if it came from text.
    pub path: PathBuf,
}

/// Reads the custom connector in a file.
///
/// # Errors
/// Everything that is wrong with the file, with its places.
pub fn read(path: &Path) -> Result<CustomConnector, Diagnostics> {
    let bytes = bytes(path)?;
    from_bytes(path, &bytes)
}

/// The bytes of a file, no more than the cap.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Diagnostics> {
    let refuse = |message: String| problem(&path.display().to_string(), "", message);
    let unreadable = |error: std::io::Error| refuse(format!("the file cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(format!("the file is longer than {} KiB, which no manifest needs", MAX_BYTES / 1024)));
    }
    Ok(bytes)
}

pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<CustomConnector, Diagnostics> {
    let name = path.display().to_string();
    let text = std::str::from_utf8(bytes).map_err(|_| problem(&name, "", "the file is not UTF-8 text".into()))?;
    let mut connector = from_text(&name, text)?;
    connector.path = path.to_owned();
    Ok(connector)
}

/// Reads a custom connector from text. `file` names the text in messages, and its stem the connector if the manifest does not.
///
/// # Errors
/// Everything that is wrong with the text, with its places.
pub fn from_text(file: &str, text: &str) -> Result<CustomConnector, Diagnostics> {
    let parsed = load(&[(file, text)], Strictness::Custom)?;
    let manifest = parsed.manifest;
    if manifest.connector != "webhook" {
        let (_, line, col) = parsed.sources.locate("connector");
        let shown = connector_core::redact::printable(&manifest.connector, 40);
        let message = format!(
            "`connector: {shown}` is not a custom REST connector; write `connector: webhook`, and its name as `id:` if the file is called differently"
        );
        return Err(at(file, line, col, "connector", message));
    }
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id = manifest.connector_id(stem).to_owned();
    if path_id(&id).as_deref() != Some(&*id) {
        let (_, line, col) = parsed.sources.locate("id");
        let shown = connector_core::redact::printable(&id, 63);
        let message =
            format!("`{shown}` cannot name a connector: lower-case letters, digits, `-` and `_`, at most 63; rename the file or give an `id:`");
        return Err(at(file, line, col, "id", message));
    }
    let manifest = Arc::new(manifest);
    if let Some(webhook) = &manifest.webhook {
        // What cannot be verified at run time is better said at the file.
        let events = connector_manifest::build_spec(&manifest, &id).events;
        if let Err(error) = crate::schemes::verifier(webhook, &events) {
            let (_, line, col) = parsed.sources.locate("webhook.verify");
            return Err(at(file, line, col, "webhook.verify", error.message().to_owned()));
        }
    }
    Ok(CustomConnector { id, manifest, warnings: parsed.warnings, path: PathBuf::new() })
}

pub(crate) fn problem(file: &str, key: &str, message: String) -> Diagnostics {
    at(file, 0, 0, key, message)
}

fn at(file: &str, line: u32, col: u32, key: &str, message: String) -> Diagnostics {
    Diagnostics(vec![Diagnostic { file: file.to_owned(), line, col, severity: Severity::Error, key: key.to_owned(), message }])
}
