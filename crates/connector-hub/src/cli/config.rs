//! `config explain`: what a setting is, and who said so.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use connector_core::resilience::Resilience;
use serde_json::json;

use crate::{output, setup::Setup};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
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
    let ConfigCommand::Explain { key, connector } = command;
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
