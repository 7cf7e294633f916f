//! The invariants that can be checked by reading: which crate may know which, how files begin and how long they get, what never stands in them.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::workspace::{crate_dirs, file_name, root};

/// A file longer than this hides a noun.
const MOST_LINES: usize = 600;

/// Crates each crate must never depend on: the arrows of ARCHITECTURE.md, read backwards.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    ("connector-core", &["reqwest", "rustls", "hyper", "axum", "rusqlite", "serde-saphyr", "clap", "connector-"]),
    ("connector-http", &["connector-manifest", "connector-runtime", "connector-state", "rusqlite", "axum"]),
    ("connector-manifest", &["connector-http", "connector-runtime", "connector-state", "reqwest", "axum"]),
    ("connector-state", &["connector-http", "connector-manifest", "connector-runtime", "reqwest", "axum"]),
    ("connector-webhook", &["connector-runtime", "connector-state", "axum"]),
    ("connector-runtime", &["connector-msgraph", "connector-hubspot", "connector-cmdb", "connector-sandbox", "connectors", "axum"]),
];

pub(crate) fn run() -> Result<()> {
    let mut found = Vec::new();
    let mut files = 0;
    let mut dirs = crate_dirs()?;
    dirs.push(root().join("xtask"));
    for dir in &dirs {
        let name = file_name(dir);
        manifest(dir, &name, &mut found)?;
        for part in ["src", "tests", "benches", "examples"] {
            walk(&dir.join(part), &mut |path, text| {
                files += 1;
                source(path, text, part, &mut found);
            })?;
        }
    }
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE", "deny.toml"] {
        if !root().join(name).is_file() {
            found.push(format!("{name} is missing"));
        }
    }
    if !found.is_empty() {
        for line in &found {
            eprintln!("{line}");
        }
        bail!("{} thing(s) to tidy", found.len());
    }
    println!("tidy: {files} files in {} crates", dirs.len());
    Ok(())
}

fn manifest(dir: &Path, name: &str, found: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(dir.join("Cargo.toml"))?;
    if !text.contains("[lints]\nworkspace = true") {
        found.push(format!("{name}/Cargo.toml does not take the workspace's lints (they forbid unsafe code)"));
    }
    if !text.contains("license.workspace = true") {
        found.push(format!("{name}/Cargo.toml has no licence"));
    }
    if name != "xtask" && !dir.join("README.md").is_file() {
        found.push(format!("{name} has no README.md, which is its crate documentation"));
    }
    let dependencies = section(&text, "[dependencies]");
    let rules = FORBIDDEN.iter().filter(|(crate_name, _)| *crate_name == name).flat_map(|(_, forbidden)| forbidden.iter());
    for forbidden in rules {
        if dependencies.lines().any(|line| line.starts_with(forbidden)) {
            found.push(format!("{name} must not depend on `{forbidden}…`: see the arrows in ARCHITECTURE.md"));
        }
    }
    if name.starts_with("connector-") && name != "connector-hub" && dependencies.lines().any(|line| line.starts_with("connector-sandbox")) {
        found.push(format!("{name} must not depend on the sandbox: it is for tests, benches and the demo"));
    }
    Ok(())
}

fn section<'t>(text: &'t str, header: &str) -> &'t str {
    let Some(start) = text.find(header) else { return "" };
    let rest = &text[start + header.len()..];
    &rest[..rest.find("\n[").unwrap_or(rest.len())]
}

fn source(path: &Path, text: &str, part: &str, found: &mut Vec<String>) {
    let shown = path.strip_prefix(root()).unwrap_or(path).display();
    let generated = text.starts_with("// @generated");
    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("// @generated") && !line.starts_with("#!["));
    let documented = first.is_some_and(|line| line.starts_with("//!")) || text.starts_with("#![doc = include_str!");
    if !documented {
        found.push(format!("{shown}: begins without `//!` that says what it owns"));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES && !generated && part == "src" {
        found.push(format!("{shown}: {lines} lines; which noun is hiding?"));
    }
    if generated {
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("if ") || code.starts_with("match ") || code.starts_with("for ") || code.starts_with("while ") {
                found.push(format!("{shown}:{}: generated code has a branch", number + 1));
            }
        }
        return;
    }
    // Put together here, so that this file does not find itself.
    let unfinished =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat(), ["unimplemented", "!("].concat(), ["#[", "ignore"].concat()];
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = unfinished.iter().find(|word| line.contains(word.as_str())) {
            found.push(format!("{shown}:{}: unfinished: `{word}`", number + 1));
        }
    }
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path, &str)) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    let mut entries: Vec<_> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, visit)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&path, &fs::read_to_string(&path)?);
        }
    }
    Ok(())
}
