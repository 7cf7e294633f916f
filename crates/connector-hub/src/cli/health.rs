//! `health`: how every connection is.

use std::process::ExitCode;

use anyhow::Result;
use connector_core::TenantId;
use connector_runtime::{AuthState, ConnectionHealth, HealthState};

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
    let mut health = runtime.health().await;
    let tenant = setup.tenant()?;
    if tenant != TenantId::default() {
        health.retain(|connection| connection.tenant == tenant);
    }
    if as_json {
        output::json(&health)?;
    } else if health.is_empty() {
        eprintln!("there are no connections; add some to hub.yaml or set the connectors' environment variables (`describe CONNECTOR` names them)");
    } else {
        output::table(&crate::http::HEALTH_COLUMNS, health.iter().map(crate::http::health_row))?;
        for line in health.iter().filter_map(advice) {
            eprintln!("{line}");
        }
    }
    Ok(match health.iter().any(|connection| connection.state == HealthState::Down) {
        _ if health.is_empty() => ExitCode::from(NOTHING),
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    })
}

/// What a person has to do about a credential, if anything.
fn advice(health: &ConnectionHealth) -> Option<String> {
    let ConnectionHealth { connection, connector, tenant, .. } = health;
    let of = if *tenant == TenantId::default() { String::new() } else { format!(" --tenant {tenant}") };
    match health.auth {
        AuthState::Reauth => {
            Some(format!("`{connection}`: a person has to sign in again: connector-hub connect {connector} --connection {connection}{of}"))
        }
        AuthState::Missing => {
            Some(format!("`{connection}`: there is no credential: connector-hub connect {connector} --connection {connection}{of}"))
        }
        AuthState::Expired => {
            Some(format!("`{connection}`: the vendor refuses the credential: connector-hub connect {connector} --connection {connection}{of}"))
        }
        AuthState::Unreadable => Some(format!("`{connection}`: its credential cannot be opened; `connector-hub vault verify` says why")),
        _ => None,
    }
}
