//! Running cargo: tests, and everything a merge needs.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace::root;

/// What no default build has belongs to all tests: what drives the whole product, and the parts of connectors that a program asks for.
const FEATURES: [&str; 2] = ["--features", "xtask/leakcheck,connector-slack/socket-mode,connector-msgraph/rich-notifications"];

/// All tests: nextest where it is installed, cargo's own runner otherwise, then the examples in the documentation.
pub(crate) fn test(args: &[String]) -> Result<()> {
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    if nextest {
        cargo(&[&["nextest", "run", "--workspace", "--locked"], &FEATURES[..]].concat(), args)?;
    } else {
        eprintln!("cargo-nextest is not installed; using `cargo test`, which takes longer");
        cargo(&[&["test", "--workspace", "--locked", "--lib", "--bins", "--tests"], &FEATURES[..]].concat(), args)?;
    }
    if args.is_empty() {
        cargo(&[&["test", "--workspace", "--locked", "--doc"], &FEATURES[..]].concat(), &[])?;
    }
    Ok(())
}

/// What a merge needs, the cheap checks first.
pub(crate) fn ci() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    crate::codegen::run(true)?;
    crate::tidy::run()?;
    cargo(&[&["clippy", "--workspace", "--all-targets", "--locked"], &FEATURES[..], &["--", "-D", "warnings"]].concat(), &[])?;
    test(&[])?;
    cargo(&["doc", "--workspace", "--no-deps", "--locked"], &[])
}

pub(crate) fn cargo(args: &[&str], more: &[String]) -> Result<()> {
    let status = Command::new("cargo").args(args).args(more).current_dir(root()).status().context("starting cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed", args.join(" "));
    }
    Ok(())
}
