//! Makes queued calls: sends them, or looks first where it is unclear whether they were made; gives up to a person after the schedule.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use connector_core::{
    CallCx, Error, ErrorKind, OpCall, OpReply, Result,
    clock::{unix_millis, unix_seconds},
    spec::{Effect, LookupSpec, OpSpec, Repeat},
    state::{AuditOutcome, Job, JobError},
};
use connector_manifest::select::Path;
use connector_webhook::{
    dispatch,
    work::{Work, work_off},
};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{Mode, Outbox, Parcel, record_of};
use crate::{
    audit::{Entry, Trail},
    cache::{self, Cache},
    catalogue::{Catalogue, Loaded},
    idempotency::{Records, Stored},
    send::SendStage,
    stats::one,
};

/// How often an unclear write is looked for before a person is asked: 3 times over 10 minutes.
const LOOKS: u32 = 3;
/// The waits between looks.
const LOOK_WAITS: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(480)];

/// Works off the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) catalogue: Arc<ArcSwap<Catalogue>>,
    pub(crate) send: Arc<SendStage>,
    pub(crate) trail: Arc<Trail>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) records: Arc<Records>,
}

/// What an attempt came to.
enum Verdict {
    Made(OpReply),
    /// Again later, after at least this long.
    Later(Error, Option<Duration>),
    /// Only a person can help.
    Hopeless(Error),
}

impl Worker {
    /// Works until `stop` becomes true or its sender is gone, then lets what is in work finish.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        let outbox = self.outbox.clone();
        work_off(&*outbox.store, &outbox.policy, &outbox.waker, stop, Arc::new(self)).await;
    }

    /// What follows once a call is a dead letter.
    async fn died(&self, job: &Job, record: Option<String>) {
        if let Some(row) = record
            && let Err(error) = self.records.died(&job.tenant, &row, job.id).await
        {
            tracing::error!(%error, job = %job.id, "the end of a queued call could not be recorded");
        }
        self.outbox.dead.died(job).await;
    }

    fn note(&self, job: &Job, settled: Result<bool>) {
        match settled {
            Ok(true) => {}
            Ok(false) => tracing::warn!(job = %job.id, "the lease was lost; somebody else has the call"),
            Err(error) => tracing::error!(%error, job = %job.id, "the outcome of a queued call could not be kept; it will be taken again"),
        }
    }

    async fn attempt(&self, job: &Job, parcel: &Parcel) -> Verdict {
        let catalogue = self.catalogue.load_full();
        let found = catalogue.registry.tool(&parcel.tool).and_then(|(connector, op)| {
            let loaded = catalogue.loaded.get(&connector.spec().id).ok_or_else(|| Error::internal("a connector is listed but not loaded"))?;
            let linked = catalogue.connections.of(&job.tenant, &parcel.connection)?;
            if linked.connection.connector != connector.spec().id || !linked.is_granted(&parcel.workspace) {
                return Err(Error::new(ErrorKind::Denied, "the connection of this queued call is no longer granted to its workspace"));
            }
            Ok((loaded.clone(), op.clone(), linked.connection.clone()))
        });
        let (loaded, op, connection) = match found {
            Ok(found) => found,
            Err(error) => return Verdict::Hopeless(error),
        };
        let mut cx = CallCx::new(connection)
            .with_workspace(parcel.workspace.clone())
            .with_actor(parcel.actor.clone())
            .with_correlation_id(parcel.correlation_id.clone())
            // Less than the lease, so that two workers never have the same call.
            .with_deadline(self.outbox.clock.now() + self.outbox.policy.lease.mul_f64(0.8));
        cx.idempotency_key.clone_from(&parcel.idempotency_key);
        let start = self.outbox.clock.now();
        let (verdict, sent) = self.go_about(job, parcel, &loaded, &op, &cx).await;
        if sent && op.effect != Effect::Read {
            let took = self.outbox.clock.now().saturating_duration_since(start);
            let entry = entry(parcel, &loaded, &op, &cx, took, &verdict);
            if let Err(error) = self.trail.write_now(entry).await {
                tracing::error!(%error, operation = &*op.name, "the outcome of a queued write could not be recorded");
            }
        }
        verdict
    }

    /// Looks if it must, sends if it may. Also tells whether the operation itself was sent.
    async fn go_about(&self, job: &Job, parcel: &Parcel, loaded: &Arc<Loaded>, op: &OpSpec, cx: &CallCx) -> (Verdict, bool) {
        let forgotten = op.repeat == Repeat::ProviderKey
            && parcel.maybe_done
            && op.repeat_ttl_seconds.is_some_and(|ttl| unix_seconds(self.outbox.clock.wall()).saturating_sub(parcel.first_sent) >= ttl);
        if parcel.mode == Mode::Look || forgotten {
            let Some(lookup) = &op.lookup else {
                let message = "the vendor has forgotten the key of this write by now; look whether it happened before sending it again";
                return (Verdict::Hopeless(Error::new(ErrorKind::Unknown, message)), false);
            };
            match self.look(loaded, op, lookup, parcel, cx).await {
                Ok(Some(reply)) => {
                    one(&self.outbox.counters.reconciled);
                    return (Verdict::Made(reply), false);
                }
                Ok(None) => {}
                Err(error) if job.attempts >= LOOKS => {
                    let message = "needs a person: nobody could tell whether this write happened";
                    return (Verdict::Hopeless(Error::new(ErrorKind::Unknown, message).with_source(error)), false);
                }
                Err(error) => {
                    let at = usize::try_from(job.attempts.saturating_sub(1)).unwrap_or(0);
                    return (Verdict::Later(error, LOOK_WAITS.get(at).copied()), false);
                }
            }
        }
        let call = OpCall::new(parcel.tool.clone(), parcel.args.clone()).with_cursor(parcel.cursor.clone());
        let verdict = match self.send.deliver(loaded, cx, op, call, &parcel.digest).await {
            Ok(reply) => {
                if op.effect != Effect::Read {
                    let tree = reply.body.to_value().ok();
                    cache::touch(&self.cache, loaded, cx.tenant(), &parcel.args, tree.as_ref());
                }
                Verdict::Made(reply)
            }
            Err(error) if error.kind() == ErrorKind::Unknown && op.lookup.is_some() && parcel.mode == Mode::Look => Verdict::Later(error, None),
            Err(error) if error.kind().is_passing() && (op.repeats_safely() || error.kind().certainly_not_done() || parcel.mode == Mode::Look) => {
                Verdict::Later(error, None)
            }
            Err(error) => Verdict::Hopeless(error),
        };
        (verdict, true)
    }

    /// Whether the write happened: its record if so, `None` if certainly not.
    async fn look(&self, loaded: &Arc<Loaded>, op: &OpSpec, lookup: &LookupSpec, parcel: &Parcel, cx: &CallCx) -> Result<Option<OpReply>> {
        let read = loaded.connector.spec().require(&lookup.tool)?;
        if read.effect != Effect::Read {
            return Err(Error::config(format!("the lookup `{}` of `{}` is not a read", lookup.tool, op.name)));
        }
        let given = Value::Object(parcel.args.clone());
        let mut args = Map::new();
        for (name, path) in &lookup.by {
            let path = Path::parse(path).map_err(Error::config)?;
            let value = path.get(&given).ok_or_else(|| Error::invalid(format!("the write of `{}` has no value to look for", op.name)))?;
            args.insert(name.to_string(), value.clone());
        }
        let mut cx = cx.clone();
        cx.idempotency_key = None;
        let reply = match self.send.deliver(loaded, &cx, read, OpCall::new(lookup.tool.clone(), args), "").await {
            Ok(reply) if reply.meta.absent => return Ok(None),
            Ok(reply) => reply,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let body = reply.body.to_value()?;
        let path = Path::parse(lookup.found.as_deref().unwrap_or(".")).map_err(Error::config)?;
        let there = |record: &&Value| !record.is_null() && record.as_array().is_none_or(|list| !list.is_empty());
        let Some(record) = path.get(&body).filter(there) else { return Ok(None) };
        let mut found = OpReply::from_value(record.clone(), None)?;
        found.meta = reply.meta;
        found.meta.reconciled = true;
        Ok(Some(found))
    }
}

#[async_trait]
impl Work for Worker {
    async fn once(&self, job: Job) {
        let store = &self.outbox.store;
        let parcel = match serde_json::from_slice::<Parcel>(&job.payload) {
            Ok(parcel) => parcel,
            Err(error) => {
                let error = Error::internal("a queued call cannot be read").with_source(error);
                return self.note(&job, store.bury(&job, JobError::from(&error)).await);
            }
        };
        let record = parcel.record.clone();
        match self.attempt(&job, &parcel).await {
            Verdict::Made(reply) => {
                one(&self.outbox.counters.queue_done);
                if let Some(row) = &record {
                    let stored = Stored::of(&reply);
                    drop(reply);
                    let recorded = match stored {
                        Ok(stored) => self.records.made(&job.tenant, row, stored).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = recorded {
                        tracing::error!(%error, job = %job.id, "the result of a queued call could not be recorded");
                    }
                }
                self.note(&job, store.complete(&job).await);
            }
            Verdict::Later(error, floor) if job.attempts < job.max_attempts => {
                let wait = self.outbox.policy.wait(job.attempts.saturating_add(1), error.retry_after(), &*self.outbox.rng);
                let wait = floor.unwrap_or(wait);
                let not_before = unix_millis(self.outbox.clock.wall()).saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                tracing::warn!(job = %job.id, subject = %job.subject, attempt = job.attempts, ?wait, %error, "a queued call failed");
                self.note(&job, store.retry(&job, not_before, JobError::from(&error)).await);
            }
            Verdict::Later(error, _) | Verdict::Hopeless(error) => {
                tracing::error!(job = %job.id, subject = %job.subject, %error, "a queued call became a dead letter");
                let buried = store.bury(&job, JobError::from(&error)).await;
                if matches!(buried, Ok(true)) {
                    one(&self.outbox.counters.dead);
                    self.died(&dispatch::buried(&job, &error), record).await;
                }
                self.note(&job, buried);
            }
        }
    }

    async fn vanished(&self, job: Job) {
        one(&self.outbox.counters.dead);
        self.died(&job, record_of(&job.payload)).await;
    }
}

/// How an attempt is put on record.
fn entry(parcel: &Parcel, loaded: &Loaded, op: &OpSpec, cx: &CallCx, took: Duration, verdict: &Verdict) -> Entry {
    let (outcome, error) = match verdict {
        Verdict::Made(_) => (AuditOutcome::Ok, None),
        Verdict::Later(error, _) => (AuditOutcome::Queued, Some(error)),
        Verdict::Hopeless(error) if error.kind() == ErrorKind::Unknown => (AuditOutcome::Unknown, Some(error)),
        Verdict::Hopeless(error) => (AuditOutcome::Failed, Some(error)),
    };
    Entry::of(cx, loaded.connector.spec(), op, &parcel.digest, outcome).ended(error, took)
}
