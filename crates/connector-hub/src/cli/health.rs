//! `health`: how every connection is.

use std::process::ExitCode;

use anyhow::Result;
use connector_runtime::HealthState;

use crate::{
    output::{self, FAILED, NOTHING},
    setup::Setup,
};

pub(super) async fn run(setup: &Setup, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.runtime().await?;
    for connection in runtime.connections() {
        // The outcome is in the health that is shown; a failure is no reason not to check the others.
        if let Err(error) = runtime.check(&connection.tenant, connection.id.as_str()).await {
            tracing::info!(connection = connection.id.as_str(), %error, "the check failed");
        }
    }
    let health = runtime.health().await;
    if as_json {
        output::json(&health)?;
    } else if health.is_empty() {
        eprintln!("there are no connections; add some to hub.yaml or set the connectors' environment variables (`describe CONNECTOR` names them)");
    } else {
        output::table(&crate::http::HEALTH_COLUMNS, health.iter().map(crate::http::health_row))?;
    }
    Ok(match health.iter().any(|connection| connection.state == HealthState::Down) {
        _ if health.is_empty() => ExitCode::from(NOTHING),
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    })
}
