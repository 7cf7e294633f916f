//! `manifest check|render|new`: writing custom connectors.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use connector_core::{CallCx, Error, OpCall, spec::OpSpec};
use connector_manifest::{ConnectionOptions, Diagnostics, Engine, Hooks, Manifest, Severity, Strictness, connection, load};
use serde_json::{Map, Value, json};

use crate::output::{self, USAGE};

#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Check manifests; a folder counts as one manifest in several files
    Check {
        /// Files or folders
        #[arg(required = true, value_name = "FILE")]
        paths: Vec<PathBuf>,
    },
    /// Show the requests a manifest's tools would send
    Render {
        /// The file or folder
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// Only this tool
        #[arg(long)]
        tool: Option<String>,
    },
    /// Print a manifest to start from
    New {
        /// The connector's id, which prefixes its tools
        #[arg(long, default_value = "my_system")]
        id: String,
        /// Its name for people
        #[arg(long, default_value = "My system")]
        name: String,
        /// Where its API is
        #[arg(long, default_value = "https://api.example.com")]
        base_url: String,
    },
}

pub(super) fn run(command: ManifestCommand, as_json: bool) -> Result<ExitCode> {
    match command {
        ManifestCommand::Check { paths } => check(&paths, as_json),
        ManifestCommand::Render { path, tool } => render(&path, tool.as_deref()),
        ManifestCommand::New { id, name, base_url } => {
            output::text(&connector_manifest::new_manifest_template(&id, &name, &base_url))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(paths: &[PathBuf], as_json: bool) -> Result<ExitCode> {
    let mut all = Vec::new();
    let mut tools = 0;
    for path in paths {
        match read(path)? {
            Ok((manifest, warnings)) => {
                tools += manifest.tools.len();
                all.extend(warnings.0);
            }
            Err(diagnostics) => all.extend(diagnostics.0),
        }
    }
    let errors = all.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    if as_json {
        output::json(&all)?;
    } else {
        for diagnostic in &all {
            output::line(&diagnostic.to_string())?;
        }
        if errors == 0 {
            output::line(&format!("{} manifest(s) with {tools} tool(s) are fine", paths.len()))?;
        }
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(USAGE) })
}

/// Reads and checks a file, or a folder as one manifest in several files.
fn read(path: &Path) -> Result<Result<(Manifest, Diagnostics), Diagnostics>> {
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        files = std::fs::read_dir(path)
            .with_context(|| format!("reading `{}`", path.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
        // The head first, the parts by name.
        files.sort_by_key(|file| (file.file_stem().is_none_or(|stem| stem != "connector"), file.clone()));
    }
    let texts = files
        .iter()
        .map(|file| Ok((file.display().to_string(), std::fs::read_to_string(file).with_context(|| format!("reading `{}`", file.display()))?)))
        .collect::<Result<Vec<_>>>()?;
    let sources: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Ok(load(&sources, Strictness::Custom).map(|parsed| (parsed.manifest, parsed.warnings)))
}

fn render(path: &Path, only: Option<&str>) -> Result<ExitCode> {
    let (manifest, _) = read(path)??;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let id = manifest.connector_id(&stem).to_owned();
    let natives: Vec<String> = manifest.tools.iter().filter_map(|tool| tool.native.clone()).collect();
    if !natives.is_empty() {
        return Err(Error::config(format!("`{}` has native tools ({}), which only its own crate can run", path.display(), natives.join(", "))).into());
    }
    let mut options = ConnectionOptions::default();
    for setting in &manifest.settings {
        options.settings.insert(setting.name.clone(), setting.default.clone().unwrap_or_else(|| setting.name.clone()));
    }
    // A variable that is not set stands for itself: this only shows requests.
    let manifest = connector_manifest::env::resolve(&manifest, &|name| Some(std::env::var(name).unwrap_or_else(|_| name.to_owned())))?;
    let cx = CallCx::new(Arc::new(connection(&manifest, &id, options, &|name| std::env::var(name).ok())?)).with_idempotency_key("example-key");
    let engine = Engine::builder(manifest).id(&id).hooks(Hooks::new()).build()?;
    let spec = connector_core::Connector::spec(&engine).clone();
    if let Some(only) = only {
        spec.require(only)?;
    }
    let mut shown = Vec::new();
    for op in spec.operations().iter().filter(|op| only.is_none_or(|only| only == &*op.name)) {
        let request = engine.render(&cx, &OpCall::new(op.name.clone(), arguments(op)))?;
        shown.push(json!({ "tool": op.name, "request": request }));
    }
    output::json(&shown)?;
    Ok(ExitCode::SUCCESS)
}

/// The example's arguments, or something of the right type for each required parameter.
fn arguments(op: &OpSpec) -> Map<String, Value> {
    let mut args = op.example.args.clone();
    for param in op.params.iter().filter(|param| param.required && param.default.is_none()) {
        args.entry(param.name.to_string()).or_insert_with(|| sample(&param.name, &param.type_name));
    }
    args
}

fn sample(name: &str, type_name: &str) -> Value {
    match type_name.trim_end_matches('?') {
        "integer" => json!(1),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "date" => json!("2026-01-31"),
        "datetime" => json!("2026-01-31T12:00:00Z"),
        "object" => json!({}),
        list if list.starts_with("array") => json!([]),
        map if map.starts_with("map") => json!({}),
        _ => json!(format!("<{name}>")),
    }
}
