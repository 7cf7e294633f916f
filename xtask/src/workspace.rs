//! Where things are, and the connectors there are.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use connector_core::spec::ConnectorSpec;
use connector_manifest::{Manifest, Strictness, build_spec, load};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// A vendor crate: its folder, its client type, its manifest and what follows from it.
pub(crate) struct Vendor {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) client: String,
    pub(crate) manifest: Manifest,
    pub(crate) spec: ConnectorSpec,
}

/// All vendor crates: folders `crates/connector-*` that have a `manifest/connector.yaml`, by id.
pub(crate) fn vendors() -> Result<Vec<Vendor>> {
    let mut found = Vec::new();
    for dir in crate_dirs()? {
        if dir.join("manifest/connector.yaml").is_file() {
            found.push(vendor(dir)?);
        }
    }
    Ok(found)
}

/// The folders of all crates, by name.
pub(crate) fn crate_dirs() -> Result<Vec<PathBuf>> {
    let mut dirs: Vec<PathBuf> = fs::read_dir(root().join("crates"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    dirs.retain(|dir| dir.join("Cargo.toml").is_file());
    dirs.sort();
    Ok(dirs)
}

fn vendor(dir: PathBuf) -> Result<Vendor> {
    let crate_name = file_name(&dir);
    let id = crate_name.strip_prefix("connector-").unwrap_or(&crate_name).to_owned();
    let cargo = fs::read_to_string(dir.join("Cargo.toml"))?;
    let client = cargo
        .lines()
        .skip_while(|line| line.trim() != "[package.metadata.connector]")
        .find_map(|line| line.trim().strip_prefix("client = \"")?.strip_suffix('"'))
        .with_context(|| format!("{crate_name}/Cargo.toml needs [package.metadata.connector] with client = \"TypeName\""))?
        .to_owned();
    let mut files: Vec<PathBuf> = fs::read_dir(dir.join("manifest"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    // The head first, the parts by name.
    files.sort_by_key(|file| (file_name(file) != "connector.yaml", file.clone()));
    let texts = files
        .iter()
        .map(|file| Ok((format!("crates/{crate_name}/manifest/{}", file_name(file)), fs::read_to_string(file)?)))
        .collect::<Result<Vec<_>>>()?;
    let sources: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let parsed = match load(&sources, Strictness::BuiltIn) {
        Ok(parsed) => parsed,
        Err(diagnostics) => bail!("the manifest of `{id}` has errors:\n{diagnostics}"),
    };
    if parsed.manifest.connector != id {
        bail!("{crate_name}: the manifest says `connector: {}`, the crate's name says `{id}`; they must be the same", parsed.manifest.connector);
    }
    let spec = build_spec(&Arc::new(parsed.manifest.clone()), &id);
    Ok(Vendor { id, dir, client, manifest: parsed.manifest, spec })
}

/// The last part of a path as text.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
