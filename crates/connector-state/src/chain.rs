//! The audit hash chain: `h_i = SHA-256(h_(i-1) ‖ canonical record)`, starting from 32 zero bytes.
//!
//! Owns the canonical form and the link. Refuses to say who may read the trail. A chain shows edits, insertions, reordering and
//! removals; somebody who can rewrite the whole file can also rewrite the whole chain, which only a checkpoint kept elsewhere shows.

use connector_core::{
    error::{Error, Result},
    state::AuditRecord,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The hash before the first entry, in hex.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The record as JSON with sorted keys and no white space, so that the same record always has the same bytes.
///
/// # Errors
/// Internal, if the record cannot be written as JSON.
pub(crate) fn canonical(record: &AuditRecord) -> Result<String> {
    let tree = serde_json::to_value(record).map_err(|error| Error::internal("an audit record could not be written as JSON").with_source(error))?;
    Ok(sorted(tree).to_string())
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The hash of the entry that follows `previous` (hex) and holds `canonical`.
pub(crate) fn link(previous: &str, canonical: &str) -> String {
    let mut hash = Sha256::new();
    // A previous hash that is not hex was tampered with; hashing its text gives a value that cannot match.
    hash.update(hex::decode(previous).unwrap_or_else(|_| previous.as_bytes().to_vec()));
    hash.update(canonical.as_bytes());
    hex::encode(hash.finalize())
}
