//! The facade's features and registry: what makes a new connector known, so that adding one touches no hand-edited file.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result};

use super::{Files, MARK};
use crate::workspace::{Vendor, root};

pub(super) fn generate(vendors: &[Vendor], files: &mut Files) -> Result<()> {
    let cargo = root().join("crates/connectors/Cargo.toml");
    let mut text = fs::read_to_string(&cargo).context("the facade's Cargo.toml")?;
    let version = workspace_version()?;
    let mut features = String::new();
    let mut dependencies = String::new();
    for vendor in vendors {
        let id = &vendor.id;
        writeln!(features, "# {}\n{id} = [\"dep:connector-{id}\"]", vendor.manifest.name)?;
        writeln!(
            dependencies,
            "connector-{id} = {{ path = \"../connector-{id}\", version = \"{}\", optional = true, default-features = false }}",
            version
        )?;
    }
    let ids = |wrap: &dyn Fn(&str) -> String| vendors.iter().map(|vendor| wrap(&vendor.id)).collect::<Vec<_>>().join(", ");
    writeln!(features, "# every connector\nall-connectors = [{}]", ids(&|id| format!("\"{id}\"")))?;
    writeln!(features, "vendor-http = [{}]", ids(&|id| format!("\"connector-{id}?/http\"")))?;
    text = between(&text, "features", &features)?;
    text = between(&text, "dependencies", &dependencies)?;
    files.insert(cargo, text);

    let mut source = format!("{MARK}\n//! The built-in connectors that are compiled in.\n\nuse super::Builtin;\n\n");
    source.push_str("/// The built-in connectors of the features that are on, by id.\npub fn builtins() -> Vec<Builtin> {\n    vec![\n");
    for vendor in vendors {
        let module = format!("connector_{}", vendor.id.replace('-', "_"));
        writeln!(
            source,
            "        #[cfg(feature = \"{}\")]\n        Builtin {{ id: \"{}\", manifest: {module}::manifest, hooks: {module}::hooks }},",
            vendor.id, vendor.id
        )?;
    }
    source.push_str("    ]\n}\n");
    files.insert(root().join("crates/connectors/src/builtin/generated.rs"), super::format_rust(&source)?);

    let mut exports = format!("{MARK}\n//! Each connector under its own name.\n\n");
    for vendor in vendors {
        let module = format!("connector_{}", vendor.id.replace('-', "_"));
        writeln!(exports, "#[cfg(feature = \"{}\")]\n#[doc(inline)]\npub use {module} as {};", vendor.id, vendor.id.replace('-', "_"))?;
    }
    files.insert(root().join("crates/connectors/src/exports.rs"), super::format_rust(&exports)?);
    Ok(())
}

/// The version all crates share.
fn workspace_version() -> Result<String> {
    let text = fs::read_to_string(root().join("Cargo.toml"))?;
    let section = text.split("[workspace.package]").nth(1).context("no [workspace.package] in the root Cargo.toml")?;
    let version = section.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    Ok(version.context("no version in [workspace.package]")?.to_owned())
}

/// Replaces what stands between the marker lines `# <generated: NAME>` and `# </generated>`.
fn between(text: &str, name: &str, new: &str) -> Result<String> {
    let open = format!("# <generated: {name}>\n");
    let start = text.find(&open).with_context(|| format!("crates/connectors/Cargo.toml has no line `{}`", open.trim_end()))? + open.len();
    let length = text[start..].find("# </generated>").context("a generated section of crates/connectors/Cargo.toml is not closed")?;
    Ok(format!("{}{new}{}", &text[..start], &text[start + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n# <generated: x>\nold\n# </generated>\nb\n# <generated: y>\n# </generated>\n";
        assert_eq!(between(text, "x", "new\n").unwrap(), "a\n# <generated: x>\nnew\n# </generated>\nb\n# <generated: y>\n# </generated>\n");
        assert!(between(text, "z", "").is_err());
    }
}
