//! The commands that need the whole product: carried out here if it was built in, otherwise by this program built again with it.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Breaks things on purpose.
pub(crate) fn chaos(args: &[String]) -> Result<ExitCode> {
    #[cfg(feature = "chaos")]
    return crate::chaos::run(args);
    #[cfg(not(feature = "chaos"))]
    again("chaos", "chaos", args)
}

/// Drives the hub from outside.
pub(crate) fn e2e(args: &[String]) -> Result<ExitCode> {
    #[cfg(feature = "chaos")]
    return crate::e2e::run(args);
    #[cfg(not(feature = "chaos"))]
    again("chaos", "e2e", args)
}

/// Looks for secrets where none may be.
pub(crate) fn leakcheck(args: &[String]) -> Result<ExitCode> {
    #[cfg(feature = "leakcheck")]
    return crate::leakcheck::run(args);
    #[cfg(not(feature = "leakcheck"))]
    again("leakcheck", "leakcheck", args)
}

/// Builds this program with `feature`, in the same target directory, and lets it do the work.
#[cfg_attr(feature = "leakcheck", allow(dead_code, reason = "everything is built in"))]
fn again(feature: &str, command: &str, args: &[String]) -> Result<ExitCode> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--locked", "--package", "xtask", "--features", feature, "--", command]).args(args);
    let status = cargo.current_dir(crate::workspace::root()).status().context("starting cargo")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
