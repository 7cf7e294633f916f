//! `cargo xtask new <id>`: the folder of a new connector. Nothing shared is edited by hand; `codegen` makes it known.
//!
//! To take one away again: remove its `manifest/`, run `codegen`, then remove the folder. The other way round cargo cannot start any more.

use std::fs;

use anyhow::{Result, bail};

use crate::{codegen::format_rust, workspace::root};

pub(crate) fn new(id: &str) -> Result<()> {
    let plain = id.starts_with(|c: char| c.is_ascii_lowercase()) && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !plain {
        bail!("`{id}` is not an id: lower-case letters and digits, starting with a letter");
    }
    let dir = root().join(format!("crates/connector-{id}"));
    if dir.exists() {
        bail!("crates/connector-{id} is there already");
    }
    let client = id[..1].to_ascii_uppercase() + &id[1..];
    let files = [
        ("Cargo.toml", CARGO),
        ("README.md", README),
        ("manifest/connector.yaml", MANIFEST),
        ("src/lib.rs", LIB),
        ("src/client.rs", CLIENT),
        ("tests/client.rs", CLIENT_TEST),
        ("tests/conformance.rs", CONFORMANCE),
    ];
    for (path, template) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&dir))?;
        let text = template.replace("@ID@", id).replace("@CLIENT@", &client).replace("@UPPER@", &id.to_uppercase());
        // Where an import belongs depends on the id.
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        fs::write(path, if is_rust { format_rust(&text)? } else { text })?;
    }
    crate::codegen::run(false)?;
    println!(
        "made crates/connector-{id}. Next: describe its tools in manifest/*.yaml, then `cargo xtask codegen` and `cargo nextest run -p connector-{id}`"
    );
    Ok(())
}

const CARGO: &str = include_str!("new/Cargo.toml.txt");
const README: &str = include_str!("new/README.md.txt");
const MANIFEST: &str = include_str!("new/connector.yaml.txt");
const LIB: &str = include_str!("new/lib.rs.txt");
const CLIENT: &str = include_str!("new/client.rs.txt");
const CLIENT_TEST: &str = include_str!("new/client_test.rs.txt");
const CONFORMANCE: &str = include_str!("new/conformance.rs.txt");
