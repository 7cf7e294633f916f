//! `credentials validate`: one harmless call over each connection that uses a credential, and what came of it.

use std::process::ExitCode;

use anyhow::Result;
use connector_core::{Error, ErrorKind};
use connector_runtime::{CredentialCheck, CredentialReport};

use crate::{
    http::credentials::missing,
    output::{self, FAILED},
    setup::{Key, Setup},
};

pub(super) async fn run(setup: &Setup, name: &str, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.with_vault(Key::IfThere).await?;
    let tenant = setup.tenant()?;
    let connections = runtime.connections();
    let own = connections.iter().filter(|one| one.tenant == tenant);
    let meant: Vec<_> = own.filter(|one| one.id.as_str() == name || one.credential.as_deref() == Some(name)).collect();
    if meant.is_empty() {
        let known = match runtime.vault() {
            Some(vault) => vault.show(&tenant, name).await,
            None => Err(missing(name)),
        };
        known.map_err(|error| if error.kind() == ErrorKind::NotFound { missing(name) } else { error })?;
        let message =
            format!("no connection uses the credential `{name}`, so there is nothing to prove it over; name it in a connection of hub.yaml");
        return Err(Error::new(ErrorKind::Conflict, message).into());
    }
    let mut reports = Vec::new();
    for connection in meant {
        reports.push(runtime.validate_credentials(&tenant, connection.id.as_str()).await?);
    }
    if as_json {
        output::json(&reports)?;
    } else {
        output::table(&["connection", "credential", "outcome", "why", "cannot work"], reports.iter().map(row))?;
    }
    let good = |report: &CredentialReport| matches!(report.outcome, CredentialCheck::Ok | CredentialCheck::Unproven);
    Ok(if reports.iter().all(good) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn row(report: &CredentialReport) -> Vec<String> {
    let outcome = match report.outcome {
        CredentialCheck::Ok => "accepted",
        CredentialCheck::Refused => "refused",
        CredentialCheck::Missing => "there is none",
        CredentialCheck::Unreachable => "not known: the vendor could not be asked",
        CredentialCheck::Unproven => "there, but the connector has no call that proves it",
    };
    vec![
        report.connection.clone(),
        report.credential.clone().unwrap_or_default(),
        outcome.to_owned(),
        report.error.clone().unwrap_or_default(),
        report.unusable_tools.join(", "),
    ]
}
