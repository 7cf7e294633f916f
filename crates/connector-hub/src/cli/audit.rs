//! `audit`: who did what, and whether the record of it still is what was written.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use connector_core::state::{AuditFilter, AuditOutcome, StoredAudit};

use crate::{
    output::{self, FAILED, NOTHING},
    setup::Setup,
    when,
};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the newest records, oldest of them first
    Tail {
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Only this operation's
        #[arg(long, value_name = "TOOL")]
        operation: Option<String>,
        /// Only this connection's
        #[arg(long, value_name = "C")]
        connection: Option<String>,
    },
    /// Recompute the chain and name the first record that does not fit
    Verify,
    /// Show where a credential was used, when and by whom
    WhoUsed {
        /// The credential's name
        credential: String,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

pub(super) async fn run(setup: &Setup, command: AuditCommand, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.bare().await?;
    let tenant = setup.tenant()?;
    match command {
        AuditCommand::Tail { limit, operation, connection } => {
            let records = runtime.audit_tail(&tenant, AuditFilter { operation, connection, limit: limit.max(1), ..AuditFilter::default() }).await?;
            list(&records, as_json, "no records", ExitCode::SUCCESS)
        }
        AuditCommand::WhoUsed { credential, limit } => {
            let records = runtime.who_used(&tenant, &credential, limit.max(1)).await?;
            let nobody = format!("nobody used `{}`", connector_core::redact::printable(&credential, 80));
            list(&records, as_json, &nobody, ExitCode::from(NOTHING))
        }
        AuditCommand::Verify => {
            let report = runtime.store().audit_verify(&tenant).await?;
            if as_json {
                output::json(&report)?;
            } else {
                match report.first_bad {
                    None => output::line(&format!("{} records checked, the chain holds", report.checked))?,
                    Some(seq) => output::line(&format!(
                        "{} records checked; record {seq} does not follow from the one before: it, or one before it, was changed, removed or added",
                        report.checked
                    ))?,
                }
            }
            Ok(if report.first_bad.is_some() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
        }
    }
}

fn list(records: &[StoredAudit], as_json: bool, nothing: &str, code: ExitCode) -> Result<ExitCode> {
    if as_json {
        output::json(&records)?;
        return Ok(ExitCode::SUCCESS);
    }
    if records.is_empty() {
        output::line(nothing)?;
        return Ok(code);
    }
    output::table(&["no.", "when (UTC)", "who", "operation", "connection", "credential", "outcome"], records.iter().map(row))?;
    Ok(ExitCode::SUCCESS)
}

fn row(stored: &StoredAudit) -> Vec<String> {
    let record = &stored.record;
    let outcome = match record.outcome {
        AuditOutcome::Intent => "intent",
        AuditOutcome::Ok => "ok",
        AuditOutcome::Failed => "failed",
        AuditOutcome::Refused => "refused",
        AuditOutcome::Unknown => "unknown",
        AuditOutcome::Queued => "queued",
    };
    vec![
        stored.seq.to_string(),
        when::shown(Some(record.at)),
        record.actor.clone(),
        record.operation.to_string(),
        record.connection.clone(),
        record.credential.as_deref().unwrap_or("–").to_owned(),
        record.error.as_ref().map_or_else(|| outcome.to_owned(), |error| format!("{outcome}: {error}")),
    ]
}
