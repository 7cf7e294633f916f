//! `docs/connectors/<id>.md`: the integration sheet of each connector, and the published schema of the manifest format.

use std::fmt::Write as _;

use anyhow::Result;

use super::Files;
use crate::workspace::{Vendor, root};

pub(super) fn generate(vendors: &[Vendor], files: &mut Files) -> Result<()> {
    let mut index = String::from(
        "# Connectors\n\nOne integration sheet each, made from the manifests by `cargo xtask codegen`.\n\n| connector | what | operations |\n|---|---|---|\n",
    );
    for vendor in vendors {
        let path = root().join("docs/connectors").join(format!("{}.md", vendor.id));
        files.insert(path, connector_manifest::sheet::markdown(&vendor.spec));
        writeln!(index, "| [{}]({}.md) | {} | {} |", vendor.id, vendor.id, vendor.spec.summary, vendor.spec.operations().len())?;
    }
    files.insert(root().join("docs/connectors/README.md"), index);
    let schema = serde_json::to_string_pretty(&connector_manifest::schema::manifest_schema())? + "\n";
    files.insert(root().join("docs/spec/manifest.schema.json"), schema);
    Ok(())
}
