//! The audit records of managing: who set, granted, rotated or revoked what, who decided, who made a key.
//!
//! Fails closed: the intent is durable before anything changes, or nothing does. Refuses values: a record names things, it never holds them.

use std::{future::Future, sync::Arc};

use connector_core::{
    Actor, Error, Result, TenantId, WorkspaceId,
    clock::{Clock as _, SystemClock, unix_millis},
    redact,
    spec::Effect,
    state::{AuditOutcome, AuditRecord, Store},
};

/// What stands where a call's record names its connector.
const HUB: &str = "hub";

/// One act of managing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) actor: &'a Actor,
    /// `credentials.set`, `keys.revoke`.
    pub(crate) operation: &'a str,
    /// What it is done to, by name or id.
    pub(crate) subject: &'a str,
    /// Whether the subject is a credential, so that `who-used` finds it.
    pub(crate) on_credential: bool,
}

impl Act<'_> {
    fn record(&self, outcome: AuditOutcome, correlation_id: &str) -> AuditRecord {
        let subject = redact::printable(self.subject, 80);
        AuditRecord {
            at: unix_millis(SystemClock.wall()),
            tenant: self.tenant.clone(),
            workspace: WorkspaceId::default(),
            actor: self.actor.to_string(),
            connector: HUB.into(),
            credential: self.on_credential.then(|| Arc::from(subject.as_str())),
            connection: if self.on_credential { String::new() } else { subject },
            operation: self.operation.into(),
            effect: Effect::Write,
            outcome,
            error: None,
            args_digest: String::new(),
            idempotency_key: None,
            correlation_id: correlation_id.to_owned(),
            duration_ms: 0,
        }
    }

    /// Does it between two records.
    ///
    /// # Errors
    /// What the work reports; [`connector_core::ErrorKind::Internal`] if the intent could not be recorded, and then nothing was done.
    pub(crate) async fn recorded<T>(self, store: &Arc<dyn Store>, work: impl Future<Output = Result<T>>) -> Result<T> {
        let correlation_id = uuid::Uuid::new_v4().to_string();
        store.audit(vec![self.record(AuditOutcome::Intent, &correlation_id)]).await.map_err(|error| {
            Error::internal("the audit trail cannot be written, so nothing was changed; look after the state store's disk").with_source(error)
        })?;
        let result = work.await;
        let outcome = match &result {
            Ok(_) => AuditOutcome::Ok,
            Err(error) if matches!(error.kind(), connector_core::ErrorKind::Denied | connector_core::ErrorKind::Conflict) => AuditOutcome::Refused,
            Err(_) => AuditOutcome::Failed,
        };
        let record =
            AuditRecord { error: result.as_ref().err().map(|error| error.kind().as_str().to_owned()), ..self.record(outcome, &correlation_id) };
        if let Err(error) = store.audit(vec![record]).await {
            // The intent is on record; a missing outcome is for a person to see, not a reason to hide what was done.
            tracing::error!(%error, operation = self.operation, "the outcome of a change could not be recorded");
        }
        result
    }
}
