//! `scopes`: the least a set of tools needs, and how that compares with what a connection has.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{
    output::{self, FAILED},
    setup::{Key, Setup},
};

#[derive(Debug, Args)]
pub(crate) struct ScopesArgs {
    /// The tools
    #[arg(long, value_name = "A,B", value_delimiter = ',', required_unless_present = "diff")]
    tools: Vec<String>,
    /// Compare with what this connection has
    #[arg(long, value_name = "CONNECTION")]
    diff: Option<String>,
}

pub(super) async fn run(setup: &Setup, args: ScopesArgs, as_json: bool) -> Result<ExitCode> {
    let Some(connection) = args.diff else {
        let report = setup.transient().await?.scopes(&args.tools)?;
        if as_json {
            output::json(&report)?;
        } else {
            let rows = report.connectors.iter().map(|one| {
                let scopes = if one.scopes.is_empty() { "none".to_owned() } else { one.scopes.join("\n") };
                vec![one.connector.clone(), one.scheme.clone().unwrap_or_default(), scopes, one.undeclared.join("\n")]
            });
            output::table(&["connector", "by", "least scopes", "tools that do not say"], rows)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = setup.with_vault(Key::IfThere).await?;
    let diff = runtime.scope_diff(&setup.tenant()?, &connection, &args.tools).await?;
    if as_json {
        output::json(&diff)?;
    } else {
        let has = if diff.unknown { "nobody knows: the vendor does not say for this kind of credential".to_owned() } else { diff.granted.join(", ") };
        output::record(&[
            ("connection", diff.connection.clone()),
            ("needed", diff.needed.join(", ")),
            ("granted", has),
            ("missing", diff.missing.join(", ")),
            ("too much", diff.too_much.join(", ")),
            ("cannot work", diff.unusable_tools.join(", ")),
        ])?;
    }
    Ok(if diff.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
