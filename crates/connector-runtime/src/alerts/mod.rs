//! Alerts: the people in charge are told when something goes wrong, once, in the log and wherever the configuration says.
//!
//! Owns who hears of what, and that every dead letter is told of. Delivery goes through the queue `alerts`; an alert that cannot be delivered
//! is a dead letter itself, of which the log tells and no alert.

mod deliver;
mod sinks;

use std::sync::Arc;

use async_trait::async_trait;
use connector_core::{
    Error, Result, TenantId, WorkspaceId,
    clock::{Clock, unix_millis},
    redact::printable,
    state::{Job, JobFilter, JobState, NewJob, Store},
};
use connector_webhook::{
    dispatch::{DeadLetters, DispatchPolicy},
    rules::AlertLevel,
    work::Waker,
};
use serde::{Deserialize, Serialize};

pub(crate) use deliver::AlertWork;
pub(crate) use sinks::{Sinks, problems};

use crate::{
    config::AlertOn,
    effects::{Mark, Marks, Outcome, POLL, attempts},
    outbox,
};

/// The queue.
pub const QUEUE: &str = "alerts";
/// Dead letters looked at together.
const PAGE: usize = 200;

/// Something the people in charge should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    pub(crate) tenant: TenantId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) kind: AlertOn,
    pub(crate) level: AlertLevel,
    /// What happened and what to do. Never a secret.
    pub(crate) text: String,
    /// Told once under this key. No dots: it becomes the id of a delivery.
    pub(crate) key: String,
}

/// An alert on its way to one of those who hear of it.
#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    sink: String,
    /// Unix milliseconds.
    at: u64,
    alert: Alert,
}

/// Who hears of what, and the queue that tells them.
#[derive(Debug)]
pub(crate) struct Alerts {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    marks: Marks,
    sinks: Sinks,
    pub(crate) policy: DispatchPolicy,
    pub(crate) waker: Waker,
}

/// The key under which the death of a job is told: a job that is queued again and dies again is told of again.
fn death(job: &Job) -> String {
    format!("dead_{}_{}", job.id, job.fence)
}

impl Alerts {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, sinks: Sinks) -> Self {
        let policy = DispatchPolicy { queue: QUEUE.into(), concurrency: 4, poll: POLL, ..DispatchPolicy::default() };
        Self { marks: Marks::new(store.clone()), store, clock, sinks, policy, waker: Waker::default() }
    }

    pub(crate) fn sinks(&self) -> &Sinks {
        &self.sinks
    }

    /// Raises an alert, unless it was raised before; that is remembered for `ttl`.
    ///
    /// # Errors
    /// Whatever the state store reports; then it may be raised again, and reaches everybody once nevertheless.
    pub(crate) async fn raise(&self, alert: &Alert, ttl: Option<std::time::Duration>) -> Result<()> {
        // Of several hubs that see the same, one tells it. If that one dies meanwhile, its claim lapses and the next look finds it untold.
        if self.marks.get(&alert.tenant, &alert.key).await?.is_some() || !self.marks.claim(&alert.tenant, &alert.key).await? {
            return Ok(());
        }
        if let Err(error) = self.tell(alert).await {
            self.marks.forget(&alert.tenant, &alert.key).await?;
            return Err(error);
        }
        self.marks.put(&alert.tenant, &alert.key, &Mark::of(Outcome::Done), ttl).await
    }

    /// Writes an alert into the log and queues it for everybody who hears of it. Whoever calls this twice with the same key tells nobody twice,
    /// except the log.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub(crate) async fn tell(&self, alert: &Alert) -> Result<()> {
        let at = unix_millis(self.clock.wall());
        let (mut queued, kind) = (false, alert.kind.as_str());
        for sink in self.sinks.hearing(alert) {
            let parcel = Parcel { sink: sink.name.clone(), at, alert: alert.clone() };
            let payload = serde_json::to_vec(&parcel).map_err(|error| Error::internal("an alert cannot be written").with_source(error))?;
            let job = NewJob {
                tenant: alert.tenant.clone(),
                workspace: alert.workspace.clone(),
                queue: QUEUE.into(),
                subject: format!("{kind} to {}", sink.name),
                key: Some(delivery_id(alert, &sink.name)),
                order_key: None,
                payload: payload.into(),
                not_before: 0,
                max_attempts: attempts(&self.policy),
            };
            self.store.enqueue(job).await?;
            queued = true;
        }
        if queued {
            self.waker.wake();
        }
        metrics::counter!("integration_alerts_total", "kind" => kind, "level" => alert.level.as_str()).increment(1);
        let (tenant, text) = (alert.tenant.as_str(), printable(&alert.text, 1_000));
        match alert.level {
            AlertLevel::Info => tracing::info!(tenant, kind, key = alert.key, "alert: {text}"),
            AlertLevel::Warning => tracing::warn!(tenant, kind, key = alert.key, "alert: {text}"),
            AlertLevel::Critical => tracing::error!(tenant, kind, key = alert.key, "alert: {text}"),
        }
        Ok(())
    }

    /// A dead letter was queued again or discarded: what was told of it need not be remembered.
    pub(crate) async fn settled(&self, job: &Job) {
        if let Err(error) = self.marks.forget(&job.tenant, &death(job)).await {
            tracing::debug!(%error, job = %job.id, "what was told of a dead letter stays on record");
        }
    }

    /// Raises the alerts of dead letters that nobody told of: the process died between burying and telling.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub(crate) async fn sweep(&self, tenants: &[TenantId], queues: &[&str]) -> Result<()> {
        for queue in queues.iter().filter(|queue| **queue != QUEUE) {
            if self.store.depth(queue).await?.dead == 0 {
                continue;
            }
            for tenant in tenants {
                let mut after = None;
                loop {
                    let filter = JobFilter { queue: Some((*queue).to_owned()), state: Some(JobState::Dead), after, limit: PAGE };
                    let page = self.store.jobs(tenant, filter).await?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.id);
                    for job in page.iter().filter(|job| !is_alerts_own(job)) {
                        self.raise(&of_death(job), None).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The id of an alert's delivery to one of those who hear of it.
fn delivery_id(alert: &Alert, sink: &str) -> String {
    format!("{}_{sink}", alert.key)
}

/// Whether a job is part of telling somebody. No alert is raised about it: that would be told the same way.
fn is_alerts_own(job: &Job) -> bool {
    &*job.queue == QUEUE || &*job.queue == outbox::QUEUE && outbox::is_alerts_own(&job.payload)
}

fn of_death(job: &Job) -> Alert {
    let why = job.last_error.as_ref().map_or_else(|| "for no known reason".to_owned(), |error| printable(&error.message, 300));
    let id = job.id;
    Alert {
        tenant: job.tenant.clone(),
        workspace: job.workspace.clone(),
        kind: AlertOn::DeadLetter,
        level: AlertLevel::Critical,
        text: format!(
            "`{}` was given up after {} attempt(s) in queue `{}`: {why}. `connector-hub dlq show {id}` tells more; `dlq retry {id}` sends it again, `dlq discard {id}` does not",
            printable(&job.subject, 120),
            job.attempts.max(1),
            job.queue,
        ),
        key: death(job),
    }
}

#[async_trait]
impl DeadLetters for Alerts {
    async fn died(&self, job: &Job) {
        metrics::counter!("integration_dead_letters_total", "queue" => job.queue.to_string()).increment(1);
        if is_alerts_own(job) {
            let why = job.last_error.as_ref().map_or("", |error| &error.message);
            tracing::error!(job = %job.id, subject = %job.subject, why, "an alert could not be delivered; no alert is raised about that");
            return;
        }
        if let Err(error) = self.raise(&of_death(job), None).await {
            tracing::error!(%error, job = %job.id, queue = &*job.queue, "nobody could be told of a dead letter; it is tried again within minutes");
        }
    }
}
