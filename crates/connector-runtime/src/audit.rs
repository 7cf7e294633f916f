//! The audit trail of the call path: who did what, how it ended, and a digest of the arguments; never the arguments.
//!
//! Writes fail closed: their intent is durable before anything leaves, or they are refused. Reads are recorded off the caller's path through a
//! bounded channel; what does not fit is dropped and counted, never waited for.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Actor, CallCx, Error, ErrorKind, Result, TenantId, WorkspaceId,
    clock::{Clock, unix_millis},
    spec::{ConnectorSpec, Effect, OpSpec},
    state::{AuditOutcome, AuditRecord, Store},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    request::{CallOutcome, Governed},
    stack::{Next, Stage},
    stats::{Counters, one},
};

/// Records of reads that may wait to be written.
const CAPACITY: usize = 8_192;
/// The most records in one write.
const BATCH: usize = 512;
/// How long a lone record waits for company.
const LINGER: Duration = Duration::from_millis(200);

enum Message {
    Record(Box<AuditRecord>),
    Flush(oneshot::Sender<()>),
}

/// Writes records. The writer task ends when the last handle is gone.
#[derive(Debug)]
pub(crate) struct Trail {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    later: mpsc::Sender<Message>,
}

/// What is recorded.
pub(crate) struct Entry {
    record: AuditRecord,
}

/// Work of the hub's own on a connection or a credential, as it is recorded.
pub(crate) struct Errand<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) actor: &'a Actor,
    pub(crate) connector: &'a str,
    pub(crate) connection: &'a str,
    pub(crate) operation: &'a str,
    pub(crate) credential: Option<&'a str>,
    pub(crate) correlation_id: &'a str,
    pub(crate) args_digest: &'a str,
}

impl Entry {
    pub(crate) fn errand(errand: &Errand<'_>, outcome: AuditOutcome, error: Option<&Error>) -> Self {
        Self {
            record: AuditRecord {
                at: 0,
                tenant: errand.tenant.clone(),
                workspace: errand.workspace.clone(),
                actor: errand.actor.to_string(),
                connector: errand.connector.into(),
                connection: errand.connection.to_owned(),
                operation: errand.operation.into(),
                effect: Effect::Write,
                outcome,
                error: error.map(|error| error.kind().as_str().to_owned()),
                args_digest: errand.args_digest.to_owned(),
                idempotency_key: None,
                correlation_id: errand.correlation_id.to_owned(),
                duration_ms: 0,
                credential: errand.credential.map(Into::into),
            },
        }
    }

    /// The same with another effect than a write.
    pub(crate) fn with_effect(mut self, effect: Effect) -> Self {
        self.record.effect = effect;
        self
    }

    pub(crate) fn of(cx: &CallCx, spec: &ConnectorSpec, op: &OpSpec, digest: &str, outcome: AuditOutcome) -> Self {
        Self {
            record: AuditRecord {
                at: 0,
                tenant: cx.tenant().clone(),
                workspace: cx.workspace.clone(),
                actor: cx.actor.to_string(),
                connector: spec.id.clone(),
                connection: cx.connection.id.to_string(),
                operation: op.name.clone(),
                effect: op.effect,
                outcome,
                error: None,
                args_digest: digest.to_owned(),
                idempotency_key: cx.idempotency_key.as_deref().map(str::to_owned),
                correlation_id: cx.correlation_id.to_string(),
                duration_ms: 0,
                credential: cx.connection.credential.clone(),
            },
        }
    }

    pub(crate) fn ended(mut self, error: Option<&Error>, took: Duration) -> Self {
        self.record.error = error.map(|error| error.kind().as_str().to_owned());
        self.record.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

impl Trail {
    /// Starts the writer. Must be called inside a tokio runtime.
    pub(crate) fn start(store: Arc<dyn Store>, clock: Arc<dyn Clock>, counters: Arc<Counters>) -> Arc<Self> {
        let (later, records) = mpsc::channel(CAPACITY);
        tokio::spawn(write_behind(store.clone(), records));
        Arc::new(Self { store, clock, counters, later })
    }

    /// Writes and waits until it is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] that says that the write was refused for want of a record. Never a passing kind: nobody may queue it past the trail.
    pub(crate) async fn write_now(&self, entry: Entry) -> Result<()> {
        let mut record = entry.record;
        record.at = unix_millis(self.clock.wall());
        self.store.audit(vec![record]).await.map_err(|error| {
            Error::internal("the audit trail cannot be written, so writes are refused; look after the state store's disk").with_source(error)
        })
    }

    /// Writes soon, off the caller's path.
    pub(crate) fn write_later(&self, entry: Entry) {
        let mut record = entry.record;
        record.at = unix_millis(self.clock.wall());
        if self.later.try_send(Message::Record(Box::new(record))).is_err() {
            one(&self.counters.audit_dropped);
            metrics::counter!("integration_audit_dropped_total").increment(1);
        }
        #[allow(clippy::cast_precision_loss, reason = "a gauge of at most a few thousand")]
        metrics::gauge!("integration_audit_backlog").set((CAPACITY - self.later.capacity()) as f64);
    }

    /// Waits until everything recorded so far is durable, or given up.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.later.send(Message::Flush(done)).await.is_ok() {
            // The writer answers or is gone; either way there is nothing left to wait for.
            drop(written.await);
        }
    }
}

async fn write_behind(store: Arc<dyn Store>, mut messages: mpsc::Receiver<Message>) {
    let mut batch = Vec::new();
    while let Some(message) = messages.recv().await {
        let mut flushed = take(message, &mut batch);
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while flushed.is_none() && batch.len() < BATCH {
            tokio::select! {
                biased;
                message = messages.recv() => match message {
                    Some(message) => flushed = take(message, &mut batch),
                    None => break,
                },
                () = &mut linger => break,
            }
        }
        let records = std::mem::take(&mut batch);
        let count = records.len();
        if count > 0
            && let Err(error) = store.audit(records).await
        {
            metrics::counter!("integration_audit_dropped_total").increment(count as u64);
            tracing::error!(%error, count, "audit records of reads could not be written and are lost");
        }
        if let Some(flushed) = flushed {
            // An error only says that nobody waits any more.
            let _unheard = flushed.send(()).is_err();
        }
    }
}

fn take(message: Message, batch: &mut Vec<AuditRecord>) -> Option<oneshot::Sender<()>> {
    match message {
        Message::Record(record) => {
            batch.push(*record);
            None
        }
        Message::Flush(done) => Some(done),
    }
}

/// The stage that records how calls ended.
#[derive(Debug)]
pub(crate) struct AuditStage {
    pub(crate) trail: Arc<Trail>,
    pub(crate) clock: Arc<dyn Clock>,
}

fn outcome(call: &Governed, result: &Result<CallOutcome>) -> AuditOutcome {
    match result {
        Ok(CallOutcome::Done(_) | CallOutcome::DryRun(_)) => AuditOutcome::Ok,
        Ok(CallOutcome::PendingApproval { .. }) => AuditOutcome::Refused,
        Ok(CallOutcome::Queued { .. }) => AuditOutcome::Queued,
        Err(error) if error.kind() == ErrorKind::Unknown => AuditOutcome::Unknown,
        Err(_) if !call.sent => AuditOutcome::Refused,
        Err(_) => AuditOutcome::Failed,
    }
}

#[async_trait]
impl Stage for AuditStage {
    fn name(&self) -> &'static str {
        "audit"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        let start = self.clock.now();
        let result = next.run(call).await;
        if matches!(result, Ok(CallOutcome::DryRun(_))) {
            return result;
        }
        let took = self.clock.now().saturating_duration_since(start);
        let entry = Entry {
            record: AuditRecord {
                at: 0,
                tenant: call.tenant.clone(),
                workspace: call.workspace.clone(),
                actor: call.actor.to_string(),
                connector: call.loaded.connector.spec().id.clone(),
                connection: connector_core::redact::printable(call.connection_id(), 63),
                operation: call.op.name.clone(),
                effect: call.op.effect,
                outcome: outcome(call, &result),
                error: match &result {
                    Ok(CallOutcome::PendingApproval { .. }) => Some(ErrorKind::ApprovalRequired.as_str().to_owned()),
                    Ok(_) => None,
                    Err(error) => Some(error.kind().as_str().to_owned()),
                },
                args_digest: call.digest.clone(),
                idempotency_key: call.key.clone(),
                correlation_id: call.correlation_id.to_string(),
                duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                // A refused call never got as far as its credential.
                credential: call.linked.as_ref().filter(|_| call.sent).and_then(|linked| linked.connection.credential.clone()),
            },
        };
        if call.is_write() && call.sent {
            // The intent is on record already; a missing outcome is for a person to see, not a reason to hide what happened.
            if let Err(error) = self.trail.write_now(entry).await {
                tracing::error!(%error, operation = &*call.op.name, "the outcome of a write could not be recorded");
            }
        } else {
            self.trail.write_later(entry);
        }
        result
    }
}
