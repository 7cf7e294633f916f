//! The hub's program, for checks that drive it as a process.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// The program that is given, or the one that is built now.
pub(crate) fn program_of(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(std::path::absolute(given)?);
    }
    crate::run::cargo(&["build", "--quiet", "--locked", "--package", "connector-hub"], &[])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::workspace::root().join("target"), PathBuf::from);
    Ok(std::path::absolute(target.join("debug/connector-hub"))?)
}
