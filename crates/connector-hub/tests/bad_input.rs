//! Bad input over a real socket, one test for each kind, named after its number in the list of promises: the exact status, the same body for
//! the same status, bounded work, no secret or payload in answers and logs, nothing kept. Numbers that are missing here belong to other parts.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

#[path = "bad_input/wire.rs"]
mod wire;

#[path = "bad_input/bodies.rs"]
mod bodies;
#[path = "bad_input/callers.rs"]
mod callers;
#[path = "bad_input/proofs.rs"]
mod proofs;

/// The one body of each status.
pub(crate) const INVALID: &str = r#"{"status":"invalid"}"#;
pub(crate) const UNAUTHORIZED: &str = r#"{"status":"unauthorized"}"#;
pub(crate) const NOT_FOUND: &str = r#"{"status":"not_found"}"#;
pub(crate) const TIMEOUT: &str = r#"{"status":"timeout"}"#;
pub(crate) const TOO_LARGE: &str = r#"{"status":"too_large"}"#;
pub(crate) const UNSUPPORTED: &str = r#"{"status":"unsupported"}"#;
