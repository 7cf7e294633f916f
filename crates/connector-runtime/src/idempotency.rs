//! At most once under a caller's key: the key is stored before the first byte leaves, the result is replayed, and the same key with
//! other arguments is refused.
//!
//! Owns the records (kept for seven days). Refuses to send again what may have happened, when nobody can tell.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use connector_core::{
    Cursor, Error, ErrorKind, OpReply, ReplyBody, Result, Retry, TenantId,
    clock::{Clock, unix_seconds},
    connector::ItemError,
    spec::TimeoutClass,
    state::{Condition, JobId, Namespace, PutOutcome, Store},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    canonical,
    request::{CallOutcome, Governed},
    stack::{Next, Stage},
    stats::{Counters, one},
};

/// How long a key is remembered: seven days.
pub const KEY_TTL: Duration = Duration::from_secs(7 * 86_400);
/// The longest key taken.
const MAX_KEY: usize = 255;
/// The part of the store.
const NAMESPACE: &str = "idempotency";
/// When to ask again about a call that is under way.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// What a call under way may take beyond its deadline before it counts as lost.
const GRACE: u64 = 60;

/// What is known about a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    digest: String,
    state: State,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    /// Under way, at the latest until then (Unix seconds).
    InFlight { until: u64 },
    /// In the outbox.
    Queued { job: JobId, reason: String },
    /// Made, with this reply.
    Done { reply: Stored },
    /// Nobody knows whether it was made; a person decides.
    Unknown { message: String },
    /// It was given up as a dead letter.
    Dead { job: JobId },
}

/// A reply at rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    body: StoredBody,
    next: Option<Cursor>,
    partial: Vec<ItemError>,
    status: u16,
    request_id: Option<String>,
    reconciled: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredBody {
    Empty,
    Json(Value),
    Raw { base64: String, content_type: String },
}

impl Stored {
    pub(crate) fn of(reply: &OpReply) -> Result<Self> {
        let body = match &reply.body {
            ReplyBody::Empty => StoredBody::Empty,
            ReplyBody::Raw { bytes, content_type } => {
                let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
                StoredBody::Raw { base64, content_type: content_type.to_string() }
            }
            other => StoredBody::Json(other.to_value()?),
        };
        Ok(Self {
            body,
            next: reply.next.clone(),
            partial: reply.partial.clone(),
            status: reply.meta.status,
            request_id: reply.meta.request_id.as_deref().map(str::to_owned),
            reconciled: reply.meta.reconciled,
        })
    }

    fn reply(self) -> Result<OpReply> {
        let body = match self.body {
            StoredBody::Empty => ReplyBody::Empty,
            StoredBody::Json(value) => ReplyBody::Value(value),
            StoredBody::Raw { base64, content_type } => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
                let bytes = bytes.map_err(|error| Error::internal("a stored reply cannot be read").with_source(error))?;
                ReplyBody::Raw { bytes: bytes.into(), content_type: content_type.into() }
            }
        };
        let mut reply = OpReply::new(body);
        reply.next = self.next;
        reply.partial = self.partial;
        reply.meta.status = self.status;
        reply.meta.request_id = self.request_id.map(Into::into);
        reply.meta.reconciled = self.reconciled;
        reply.meta.cached = true;
        Ok(reply)
    }
}

/// Keeps records in the state store.
#[derive(Debug)]
pub(crate) struct Records {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Records {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    fn now(&self) -> u64 {
        unix_seconds(self.clock.wall())
    }

    /// The record's key: H(tenant, connection, tool, caller's key).
    fn row(call: &Governed) -> Option<String> {
        let key = call.key.as_deref().filter(|_| call.is_write())?;
        Some(canonical::hex_digest(&[call.tenant.as_str().as_bytes(), call.connection_id().as_bytes(), call.op.name.as_bytes(), key.as_bytes()]))
    }

    /// Whether a call with this key is on record.
    pub(crate) async fn exists(&self, call: &Governed) -> Result<bool> {
        let Some(row) = Self::row(call) else { return Ok(false) };
        Ok(self.store.get(Namespace::new(&call.tenant, NAMESPACE), &row).await?.is_some())
    }

    async fn write(&self, tenant: &TenantId, row: &str, record: &Record, condition: Condition) -> Result<PutOutcome> {
        let text = serde_json::to_vec(record).map_err(|error| Error::internal("an idempotency record could not be written").with_source(error))?;
        self.store.put(Namespace::new(tenant, NAMESPACE), row, Bytes::from(text), condition, Some(KEY_TTL)).await
    }

    async fn read(&self, tenant: &TenantId, row: &str) -> Result<Option<(Record, u64)>> {
        let Some(entry) = self.store.get(Namespace::new(tenant, NAMESPACE), row).await? else { return Ok(None) };
        let record =
            serde_json::from_slice(&entry.value).map_err(|error| Error::internal("an idempotency record cannot be read").with_source(error))?;
        Ok(Some((record, entry.version)))
    }

    /// A queued call was made.
    pub(crate) async fn made(&self, tenant: &TenantId, row: &str, reply: Stored) -> Result<()> {
        self.settle(tenant, row, State::Done { reply }).await
    }

    /// A queued call became a dead letter.
    pub(crate) async fn died(&self, tenant: &TenantId, row: &str, job: JobId) -> Result<()> {
        self.settle(tenant, row, State::Dead { job }).await
    }

    /// A dead letter was queued again.
    pub(crate) async fn revived(&self, tenant: &TenantId, row: &str, job: JobId) -> Result<()> {
        self.settle(tenant, row, State::Queued { job, reason: "a person queued it again".into() }).await
    }

    /// The key is free again: certainly nothing was done, or a person decided that nothing will be.
    pub(crate) async fn release(&self, tenant: &TenantId, row: &str) -> Result<()> {
        self.store.delete(Namespace::new(tenant, NAMESPACE), row, Condition::Any).await.map(drop)
    }

    async fn settle(&self, tenant: &TenantId, row: &str, state: State) -> Result<()> {
        let Some((record, _)) = self.read(tenant, row).await? else { return Ok(()) };
        self.write(tenant, row, &Record { digest: record.digest, state }, Condition::Any).await.map(drop)
    }
}

/// The stage that makes keyed writes happen at most once.
#[derive(Debug)]
pub(crate) struct IdempotencyStage {
    pub(crate) records: Arc<Records>,
    pub(crate) counters: Arc<Counters>,
}

impl IdempotencyStage {
    /// What a stored record means for a call with the same key; `None`: it may be taken over at this version.
    fn answer(&self, call: &Governed, record: Record) -> Result<Option<CallOutcome>> {
        let conflict = |message: &str| Error::new(ErrorKind::Conflict, message);
        if record.digest != call.digest {
            return Err(conflict("this idempotency key was used with other arguments; use a new key for another write"));
        }
        match record.state {
            State::Done { reply } => {
                one(&self.counters.replays);
                Ok(Some(CallOutcome::Done(reply.reply()?)))
            }
            State::Queued { job, reason } => Ok(Some(CallOutcome::Queued { job_id: job, reason })),
            State::InFlight { until } if until > self.records.now() => {
                let error = conflict("a call with this idempotency key is under way; ask again shortly");
                Err(error.with_retry(Retry::After(ASK_AGAIN)))
            }
            // The process that made it is gone. What may be repeated is; what may not is for a person.
            State::InFlight { .. } if call.op.repeats_safely() => Ok(None),
            State::InFlight { .. } => Err(Error::new(
                ErrorKind::Unknown,
                "an earlier call with this idempotency key never reported back; look at the vendor, then use a new key if it did not happen",
            )),
            State::Unknown { message } => Err(Error::new(ErrorKind::Unknown, message)),
            State::Dead { job } => {
                Err(conflict("the call with this idempotency key became a dead letter; retry or discard that one")
                    .with_context("job", job.to_string()))
            }
        }
    }

    /// Writes down how the call ended; `None` frees the key.
    async fn settle(&self, call: &Governed, row: &str, state: Result<Option<State>>) -> Result<()> {
        let tenant = &call.tenant;
        let Some(state) = state? else { return self.records.release(tenant, row).await };
        let mut condition = Condition::Any;
        if let State::Queued { .. } = state
            && let Some((known, version)) = self.records.read(tenant, row).await?
        {
            // The job may have ended while its row was on the way; what it wrote stands.
            if !matches!(known.state, State::InFlight { .. }) {
                return Ok(());
            }
            condition = Condition::Is(version);
        }
        self.records.write(tenant, row, &Record { digest: call.digest.clone(), state }, condition).await.map(drop)
    }
}

/// What the end of a call means for its key; `None`: certainly nothing was done, so the key is free.
fn ended(outcome: &Result<CallOutcome>) -> Result<Option<State>> {
    Ok(match outcome {
        Ok(CallOutcome::Done(reply)) => Some(State::Done { reply: Stored::of(reply)? }),
        Ok(CallOutcome::Queued { job_id, reason }) => Some(State::Queued { job: *job_id, reason: reason.clone() }),
        Err(error) if error.kind() == ErrorKind::Unknown => Some(match error.context_value("dead_letter").and_then(|id| id.parse().ok()) {
            Some(id) => State::Dead { job: JobId(id) },
            None => State::Unknown { message: error.message().to_owned() },
        }),
        Ok(_) | Err(_) => None,
    })
}

#[async_trait]
impl Stage for IdempotencyStage {
    fn name(&self) -> &'static str {
        "idempotency"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        let Some(row) = Records::row(call) else { return next.run(call).await };
        if call.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control)) {
            return Err(Error::invalid(format!("an idempotency key is 1 to {MAX_KEY} characters without control characters")));
        }
        let time = call.deadline.unwrap_or_else(|| {
            let timeouts = &call.loaded.resilience.resilience().timeouts;
            timeouts.whole(if call.op.timeout_class == TimeoutClass::Long { TimeoutClass::Long } else { TimeoutClass::Write })
        });
        let mine = Record { digest: call.digest.clone(), state: State::InFlight { until: self.records.now() + time.as_secs() + GRACE } };
        let mut condition = Condition::Absent;
        loop {
            if call.replay_only {
                let known = self.records.read(&call.tenant, &row).await?;
                let answer = known.map(|(record, _)| self.answer(call, record)).transpose()?.flatten();
                return answer
                    .ok_or_else(|| Error::new(ErrorKind::Conflict, "the earlier call with this idempotency key is no longer on record; call again"));
            }
            match self.records.write(&call.tenant, &row, &mine, condition).await? {
                PutOutcome::Stored(_) => break,
                PutOutcome::Refused(None) => condition = Condition::Absent,
                PutOutcome::Refused(Some(entry)) => {
                    let record = serde_json::from_slice(&entry.value)
                        .map_err(|error| Error::internal("an idempotency record cannot be read").with_source(error))?;
                    match self.answer(call, record)? {
                        Some(outcome) => return Ok(outcome),
                        None => condition = Condition::Is(entry.version),
                    }
                }
            }
        }
        call.record = Some(row.clone());
        let outcome = next.run(call).await;
        let state = ended(&outcome);
        if let Err(error) = self.settle(call, &row, state).await {
            // The row still says "under way": a repeat is refused rather than sent twice.
            tracing::error!(%error, operation = &*call.op.name, "the result of a keyed write could not be recorded");
        }
        outcome
    }
}
