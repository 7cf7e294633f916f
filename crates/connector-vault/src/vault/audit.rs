//! The trail of openings: who opened which credential, for what. A trail that cannot be written is counted and does not stop the read:
//! the runtime audits the call itself as well.

use connector_core::{
    TenantId, WorkspaceId,
    context::Actor,
    credential::CredentialQuery,
    spec::Effect,
    state::{AuditOutcome, AuditRecord},
};

use super::Inner;
use crate::keys::Fault;

/// Counts openings by outcome (`ok`, `unreadable`, `unreachable`).
const OPENS: &str = "integration_vault_opens_total";
/// Counts openings that could not be audited.
const LOST: &str = "integration_vault_audit_failures_total";

/// How an opening ended, as metrics call it.
fn outcome(fault: Option<&Fault>) -> &'static str {
    match fault {
        None => "ok",
        Some(Fault::Unreadable(_)) => "unreadable",
        Some(Fault::Away(_)) => "unreachable",
    }
}

impl Inner {
    /// Writes down an opening for a query. `started`: Unix milliseconds.
    pub(super) async fn audit_open(&self, query: &CredentialQuery<'_>, fault: Option<&Fault>, started: u64) {
        metrics::counter!(OPENS, "outcome" => outcome(fault)).increment(1);
        let record = AuditRecord {
            workspace: query.workspace.cloned().unwrap_or_default(),
            actor: query.actor.to_string(),
            connector: query.connector.into(),
            connection: query.connection.to_owned(),
            correlation_id: query.correlation_id.to_owned(),
            ..self.record(query.tenant, query.name, query.operation, fault, started)
        };
        self.audit(vec![record]).await;
    }

    /// An opening by the vault's own errand (`vault.verify`), counted, to be written with others by [`Inner::audit`].
    pub(super) fn errand(&self, tenant: &TenantId, credential: &str, errand: &str, fault: Option<&Fault>, started: u64) -> AuditRecord {
        metrics::counter!(OPENS, "outcome" => outcome(fault)).increment(1);
        self.record(tenant, credential, errand, fault, started)
    }

    pub(super) async fn audit(&self, records: Vec<AuditRecord>) {
        let count = records.len();
        if count == 0 {
            return;
        }
        if let Err(error) = self.store.audit(records).await {
            metrics::counter!(LOST).increment(count as u64);
            tracing::error!(%error, count, "openings of credentials could not be audited");
        }
    }

    fn record(&self, tenant: &TenantId, credential: &str, operation: &str, fault: Option<&Fault>, started: u64) -> AuditRecord {
        let at = self.wall();
        AuditRecord {
            at,
            tenant: tenant.clone(),
            workspace: WorkspaceId::default(),
            actor: Actor::System.to_string(),
            connector: "".into(),
            connection: String::new(),
            operation: operation.into(),
            effect: Effect::Read,
            outcome: if fault.is_none() { AuditOutcome::Ok } else { AuditOutcome::Failed },
            error: fault.map(|fault| match fault {
                Fault::Unreadable(_) => "unreadable".to_owned(),
                Fault::Away(error) => error.kind().as_str().to_owned(),
            }),
            args_digest: String::new(),
            idempotency_key: None,
            correlation_id: String::new(),
            duration_ms: at.saturating_sub(started),
            credential: Some(credential.into()),
        }
    }
}
