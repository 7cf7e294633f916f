//! `config explain`: what a setting is, and who said so. `config check`: what a start would stumble over.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use connector_core::resilience::Resilience;
use connector_manifest::{Diagnostic, Severity};
use serde_json::json;

use crate::{
    output::{self, USAGE},
    setup::Setup,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read hub.yaml, the custom connectors and the rules as a start would, and list what is wrong
    Check,
    /// Show a setting's value and origin
    Explain {
        /// The setting, for example `retry.max_attempts`; all of them if not said
        key: Option<String>,
        /// As it applies to this connector; to all of them if not said
        #[arg(long, value_name = "C")]
        connector: Option<String>,
    },
}

/// A setting with the connectors it applies to.
struct Line {
    key: &'static str,
    value: u64,
    origin: String,
    connectors: Vec<String>,
}

pub(super) async fn run(setup: &Setup, command: ConfigCommand, as_json: bool) -> Result<ExitCode> {
    let ConfigCommand::Explain { key, connector } = command else { return check(setup, as_json).await };
    let runtime = setup.transient().await?;
    let all: Vec<String> = runtime.registry().iter().map(|connector| connector.spec().id.to_string()).collect();
    let connectors = connector.map_or_else(|| all.clone(), |connector| vec![connector]);
    let keys: Vec<&str> = key.as_deref().map_or_else(|| Resilience::keys().collect(), |key| vec![key]);
    let mut lines: Vec<Line> = Vec::new();
    for key in keys {
        for connector in &connectors {
            let explained = runtime.explain(connector, key)?;
            // Connectors that agree share a line.
            match lines.iter_mut().find(|line| line.key == explained.key && line.value == explained.value && line.origin == explained.origin) {
                Some(line) => line.connectors.push(connector.clone()),
                None => {
                    lines.push(Line { key: explained.key, value: explained.value, origin: explained.origin, connectors: vec![connector.clone()] })
                }
            }
        }
    }
    if as_json {
        let lines = lines.iter().map(|line| json!({ "key": line.key, "value": line.value, "origin": line.origin, "connectors": line.connectors }));
        output::json(&lines.collect::<Vec<_>>())?;
    } else {
        let rows = lines.iter().map(|line| {
            let connectors = if line.connectors == all { "all".to_owned() } else { line.connectors.join(", ") };
            vec![line.key.to_owned(), line.value.to_string(), line.origin.clone(), connectors]
        });
        output::table(&["setting", "value", "from", "connectors"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts everything together over a store that keeps nothing. What the hub refuses to start with is an error by itself; what it would start
/// with all the same is listed here.
async fn check(setup: &Setup, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.transient().await?;
    let files = runtime.problems().into_iter().flat_map(|problem| problem.diagnostics.0);
    let hub_yaml = setup.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let rules = runtime.rule_problems().into_iter().map(|problem| Diagnostic {
        file: hub_yaml.clone(),
        line: 0,
        col: 0,
        severity: if problem.is_warning { Severity::Warning } else { Severity::Error },
        key: problem.key,
        message: problem.message,
    });
    let found: Vec<Diagnostic> = files.chain(rules).collect();
    let bad = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    if as_json {
        let shown = found.iter().map(|one| {
            let severity = if one.severity == Severity::Error { "error" } else { "warning" };
            json!({ "file": one.file, "line": one.line, "col": one.col, "key": one.key, "severity": severity, "message": one.message })
        });
        output::json(&shown.collect::<Vec<_>>())?;
    } else if found.is_empty() {
        let (connections, connectors) = (runtime.connections().len(), runtime.registry().iter().count());
        output::line(&format!("nothing is wrong: {connectors} connectors, {connections} connections"))?;
    } else {
        for diagnostic in &found {
            output::line(&diagnostic.to_string())?;
        }
    }
    Ok(if bad { ExitCode::from(USAGE) } else { ExitCode::SUCCESS })
}
