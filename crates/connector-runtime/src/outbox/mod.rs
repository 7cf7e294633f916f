//! Calls that cannot be made now: kept durably and made later, or kept for a person when nobody knows whether they were made.
//!
//! Owns which failures are queued and what the queue remembers. Refuses secrets in payloads: arguments and ids only; the credential is
//! found again when the call is made. Payloads are not encrypted; keep the state store where the data it holds may be.

mod worker;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Actor, Cursor, Error, ErrorKind, Result, TenantId, WorkspaceId,
    clock::{Clock, Rng, unix_millis, unix_seconds},
    spec::{OpSpec, Repeat},
    state::{JobError, JobId, NewJob, Store},
};
use connector_webhook::{
    dispatch::{DeadLetters, DispatchPolicy},
    rules::RESERVED,
    work::Waker,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    canonical,
    request::{CallOutcome, Governed},
    stack::{Next, Stage},
    stats::{Counters, one},
};

pub(crate) use worker::Worker;

/// The queue's name.
pub const QUEUE: &str = "outbox";

/// How a queued call is gone about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Send it: it certainly was not done, or doing it twice is doing it once.
    Send,
    /// Look first whether it was done.
    Look,
}

/// What the queue remembers of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Parcel {
    tool: Arc<str>,
    args: Map<String, Value>,
    cursor: Option<Cursor>,
    connection: String,
    workspace: WorkspaceId,
    actor: Actor,
    idempotency_key: Option<Arc<str>>,
    correlation_id: Arc<str>,
    mode: Mode,
    /// Unix seconds of the first send, by which a vendor forgets its keys.
    first_sent: u64,
    /// Whether any send of it may have been carried out.
    maybe_done: bool,
    digest: String,
    /// The idempotency record to settle.
    record: Option<String>,
}

/// Keeps calls for later.
#[derive(Debug)]
pub(crate) struct Outbox {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    counters: Arc<Counters>,
    policy: DispatchPolicy,
    pub(crate) waker: Waker,
    /// Hears of what is given up.
    dead: Arc<dyn DeadLetters>,
}

/// What the outbox does about a failure.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// It is the caller's.
    Report,
    Queue(Mode),
    /// It becomes a dead letter that needs a person.
    Bury,
}

/// What to do about the failure of a sent call.
fn plan(op: &OpSpec, error: &Error, may_queue: bool) -> Plan {
    let can_look = op.lookup.is_some();
    if error.kind() == ErrorKind::Unknown {
        return match (can_look, may_queue) {
            (true, true) => Plan::Queue(Mode::Look),
            // Not queued, but not forgotten either.
            _ => Plan::Bury,
        };
    }
    if !may_queue || !error.kind().is_passing() {
        return Plan::Report;
    }
    if op.repeats_safely() || error.kind().certainly_not_done() {
        return Plan::Queue(Mode::Send);
    }
    if op.repeat == Repeat::LookupFirst && can_look { Plan::Queue(Mode::Look) } else { Plan::Report }
}

impl Outbox {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, counters: Arc<Counters>, dead: Arc<dyn DeadLetters>) -> Self {
        let policy = DispatchPolicy { queue: QUEUE.into(), concurrency: 8, lease: Duration::from_secs(360), ..DispatchPolicy::default() };
        Self { store, clock, rng, counters, policy, waker: Waker::default(), dead }
    }

    /// Attempts a job gets: one after each wait; the caller's own was before the first.
    fn attempts(&self) -> u32 {
        u32::try_from(self.policy.schedule.len()).unwrap_or(u32::MAX)
    }

    fn job(&self, call: &Governed, mode: Mode, error: &Error) -> Result<NewJob> {
        let cx = call.cx()?;
        let parcel = Parcel {
            tool: call.op.name.clone(),
            args: call.params.clone(),
            cursor: call.cursor.clone(),
            connection: call.connection_id().to_owned(),
            workspace: call.workspace.clone(),
            actor: call.actor.clone(),
            idempotency_key: cx.idempotency_key.clone(),
            correlation_id: call.correlation_id.clone(),
            mode,
            first_sent: unix_seconds(self.clock.wall()),
            maybe_done: !error.kind().certainly_not_done(),
            digest: call.digest.clone(),
            record: call.record.clone(),
        };
        let key = cx.idempotency_key.as_deref().unwrap_or(&call.correlation_id);
        let wait = self.policy.wait(1, error.retry_after(), &*self.rng);
        Ok(NewJob {
            tenant: call.tenant.clone(),
            workspace: call.workspace.clone(),
            queue: QUEUE.into(),
            subject: call.op.name.to_string(),
            key: Some(canonical::hex_digest(&[call.connection_id().as_bytes(), call.op.name.as_bytes(), key.as_bytes(), call.digest.as_bytes()])),
            order_key: None,
            payload: encode(&parcel)?,
            not_before: unix_millis(self.clock.wall()).saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            max_attempts: self.attempts(),
        })
    }

    /// Tells of a call that became a dead letter without ever having been a job.
    async fn tell(&self, tenant: &TenantId, id: JobId) {
        match self.store.job(tenant, id).await {
            Ok(Some(job)) => self.dead.died(&job).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, job = %id, "nobody could be told of a dead letter; it is tried again within minutes"),
        }
    }

    /// Decides about the failure of a sent call.
    async fn caught(&self, call: &Governed, error: Error) -> Result<CallOutcome> {
        let may_queue = call.queue.unwrap_or_else(|| call.is_write());
        match plan(&call.op, &error, may_queue) {
            Plan::Report => Err(error),
            Plan::Queue(mode) => {
                let job = match self.job(call, mode, &error) {
                    Ok(job) => self.store.enqueue(job).await,
                    Err(broken) => Err(broken),
                };
                match job {
                    Ok(queued) => {
                        one(&self.counters.queued);
                        self.waker.wake();
                        let reason = format!("{}: {}", error.kind(), error.message());
                        Ok(CallOutcome::Queued { job_id: queued.id(), reason })
                    }
                    Err(failed) => {
                        tracing::error!(error = %failed, operation = &*call.op.name, "a call could not be queued; its caller gets the failure");
                        Err(error.with_context("not_queued", failed.kind().as_str()))
                    }
                }
            }
            Plan::Bury => {
                let mode = if call.op.lookup.is_some() { Mode::Look } else { Mode::Send };
                let why = JobError { kind: error.kind(), message: format!("needs a person: {error}") };
                let buried = match self.job(call, mode, &error) {
                    Ok(job) => self.store.bury_new(job, why).await,
                    Err(broken) => Err(broken),
                };
                match buried {
                    Ok(id) => {
                        one(&self.counters.dead);
                        self.tell(&call.tenant, id).await;
                        Err(error.with_context("dead_letter", id.to_string()))
                    }
                    Err(failed) => {
                        tracing::error!(error = %failed, operation = &*call.op.name, "an unclear write could not be kept as a dead letter");
                        Err(error.with_context("not_kept", failed.kind().as_str()))
                    }
                }
            }
        }
    }
}

fn encode(parcel: &Parcel) -> Result<Bytes> {
    serde_json::to_vec(parcel).map(Bytes::from).map_err(|error| Error::internal("a call could not be written for the queue").with_source(error))
}

/// The idempotency record that a job of this queue settles.
pub(crate) fn record_of(payload: &[u8]) -> Option<String> {
    serde_json::from_slice::<Parcel>(payload).ok()?.record
}

/// Whether a job of this queue is the call of an alert.
pub(crate) fn is_alerts_own(payload: &[u8]) -> bool {
    let actor = serde_json::from_slice::<Parcel>(payload).map(|parcel| parcel.actor);
    matches!(actor, Ok(Actor::Rule(name)) if name.starts_with(RESERVED))
}

/// The stage that keeps failed calls.
#[derive(Debug)]
pub(crate) struct OutboxStage {
    pub(crate) outbox: Arc<Outbox>,
}

#[async_trait]
impl Stage for OutboxStage {
    fn name(&self) -> &'static str {
        "outbox"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        if call.is_write()
            && let Some(cx) = &mut call.cx
        {
            // A key from the start, so that a send from the queue is the same write as the first one.
            cx.idempotency_key.get_or_insert_with(|| uuid::Uuid::new_v4().to_string().into());
        }
        match next.run(call).await {
            Err(error) if call.sent && !call.settled_by_caller => self.outbox.caught(call, error).await,
            other => other,
        }
    }
}
