//! The outbox and the dead letters: nothing lost, nothing doubled.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    state::{
        Appended, AuditFilter, AuditLog, AuditOutcome, AuditRecord, ChainReport, Condition, Enqueued, Entry, EventFilter, EventLog, Job, JobError,
        JobFilter, JobId, JobQueue, JobState, Namespace, NewEvent, NewJob, PutOutcome, QueueDepth, StateStore, StoredAudit, StoredEvent,
    },
};
use connector_runtime::{CallOutcome, CallRequest, Runtime};
use connector_state::MemoryState;
use serde_json::json;

use crate::fixture::{Scripted, Step, call, runtime, value};

fn acme() -> TenantId {
    "acme".into()
}

fn fails(kind: ErrorKind, times: usize) -> impl Iterator<Item = Step> {
    std::iter::repeat_n(Step::Fail(kind), times)
}

async fn queued(runtime: &Runtime, request: CallRequest) -> JobId {
    match runtime.call(request).await.unwrap() {
        CallOutcome::Queued { job_id, .. } => job_id,
        other => panic!("expected a job, got {other:?}"),
    }
}

async fn state(runtime: &Runtime, id: JobId) -> JobState {
    runtime.store().job(&acme(), id).await.unwrap().unwrap().state
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_now_is_sent_later_once_under_the_same_key() {
    let connector = Scripted::new();
    connector.script("crm_create", fails(ErrorKind::NotSent, 4));
    let runtime = runtime(&connector).await;
    let request = || call("crm_create", json!({ "email": "a@b.c" })).idempotency_key("k");
    let id = queued(&runtime, request()).await;
    assert_eq!(queued(&runtime, request()).await, id, "a repeat is the same job");
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(state(&runtime, id).await, JobState::Done);
    assert_eq!(connector.sent("crm_create"), 5);
    assert!(connector.seen().iter().all(|seen| seen.key.as_deref() == Some("k")));
    assert_eq!(value(&runtime, request()).await["n"], 5, "the result is there under the key");
    let stats = runtime.stats();
    assert_eq!((stats.queued, stats.queue_done, stats.dead_letters), (1, 1, 0));
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
    let trail = runtime.audit_tail(&acme(), AuditFilter::default()).await.unwrap();
    let outcomes: Vec<AuditOutcome> = trail.iter().map(|entry| entry.record.outcome).filter(|outcome| *outcome != AuditOutcome::Queued).collect();
    assert_eq!(outcomes, [AuditOutcome::Intent, AuditOutcome::Intent, AuditOutcome::Ok, AuditOutcome::Ok]);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_key_gets_one_that_stays() {
    let connector = Scripted::new();
    connector.script("crm_charge", fails(ErrorKind::Transient, 3));
    let runtime = runtime(&connector).await;
    queued(&runtime, call("crm_charge", json!({ "amount": 5 }))).await;
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let seen = connector.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen[0].key.is_some() && seen.iter().all(|one| one.key == seen[0].key));
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn an_unclear_write_that_nobody_can_look_up_is_for_a_person() {
    let connector = Scripted::new();
    connector.script("crm_create", fails(ErrorKind::Transient, 1));
    let runtime = runtime(&connector).await;
    let tasks = runtime.start();
    let error = runtime.call(call("crm_create", json!({ "email": "a@b.c" }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!(connector.sent("crm_create"), 1, "it is never sent again on its own");
    let dead = runtime.dead_letters(&acme(), JobFilter::default()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(error.context_value("dead_letter"), Some(dead[0].id.to_string().as_str()));
    assert!(dead[0].last_error.as_ref().unwrap().message.starts_with("needs a person"));
    assert!(runtime.dead_letters(&"globex".into(), JobFilter::default()).await.unwrap().is_empty());
    assert!(!runtime.retry_dead_letter(&"globex".into(), dead[0].id).await.unwrap());
    let key = connector.seen()[0].key.clone();
    assert!(runtime.retry_dead_letter(&acme(), dead[0].id).await.unwrap());
    assert!(!runtime.retry_dead_letter(&acme(), dead[0].id).await.unwrap());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((connector.sent("crm_create"), connector.seen()[1].key.clone()), (2, key));
    assert!(runtime.dead_letters(&acme(), JobFilter::default()).await.unwrap().is_empty());
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn an_unclear_write_is_looked_up_before_anything_is_sent_again() {
    let connector = Scripted::new();
    connector.script("crm_upsert", fails(ErrorKind::Timeout, 1));
    // The inline look fails, so does the first one from the queue; the second finds the record.
    connector.script("crm_find", fails(ErrorKind::Forbidden, 2));
    connector.script("crm_find", [Step::Ok(json!({ "id": "9" }))]);
    let runtime = runtime(&connector).await;
    let request = || call("crm_upsert", json!({ "email": "a@b.c" })).idempotency_key("k");
    let id = queued(&runtime, request()).await;
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!(state(&runtime, id).await, JobState::Done);
    assert_eq!((connector.sent("crm_upsert"), connector.sent("crm_find")), (1, 3));
    assert_eq!(value(&runtime, request()).await, json!({ "id": "9" }));
    assert_eq!(runtime.stats().reconciled, 1);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_done_is_sent_after_the_look() {
    let connector = Scripted::new();
    connector.script("crm_upsert", fails(ErrorKind::Timeout, 1));
    connector.script("crm_find", fails(ErrorKind::Forbidden, 1));
    connector.script("crm_find", [Step::Absent]);
    let runtime = runtime(&connector).await;
    let id = queued(&runtime, call("crm_upsert", json!({ "email": "a@b.c" }))).await;
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(state(&runtime, id).await, JobState::Done);
    assert_eq!(connector.sent("crm_upsert"), 2);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn looks_that_keep_failing_end_with_a_person_and_discarding_frees_the_key() {
    let connector = Scripted::new();
    connector.script("crm_upsert", fails(ErrorKind::Timeout, 1));
    connector.script("crm_find", fails(ErrorKind::Forbidden, 20));
    let runtime = runtime(&connector).await;
    let request = || call("crm_upsert", json!({ "email": "a@b.c" })).idempotency_key("k");
    let id = queued(&runtime, request()).await;
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(state(&runtime, id).await, JobState::Dead);
    assert_eq!((connector.sent("crm_upsert"), connector.sent("crm_find")), (1, 4));
    let error = runtime.call(request()).await.unwrap_err();
    assert!(error.message().contains("dead letter"), "{error}");
    assert!(runtime.discard_dead_letter(&acme(), id).await.unwrap());
    assert!(!runtime.discard_dead_letter(&acme(), id).await.unwrap());
    value(&runtime, request()).await;
    assert_eq!(connector.sent("crm_upsert"), 2);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn the_schedule_ends_with_a_dead_letter() {
    let connector = Scripted::new();
    connector.script("crm_update", fails(ErrorKind::Transient, 1_000));
    let runtime = runtime(&connector).await;
    let id = queued(&runtime, call("crm_update", json!({ "id": "1" }))).await;
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(2 * 86_400)).await;
    assert_eq!(state(&runtime, id).await, JobState::Dead);
    assert_eq!(runtime.stats().dead_letters, 1);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn reads_and_definite_failures_are_the_callers() {
    let connector = Scripted::new();
    connector.script("crm_find", fails(ErrorKind::Transient, 3));
    connector.script("crm_update", fails(ErrorKind::Invalid, 1));
    let runtime = runtime(&connector).await;
    assert_eq!(runtime.call(call("crm_find", json!({ "email": "a@b.c" }))).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(runtime.call(call("crm_update", json!({ "id": "1" }))).await.unwrap_err().kind(), ErrorKind::Invalid);
    connector.script("crm_update", fails(ErrorKind::Throttled, 3));
    let mut impatient = call("crm_update", json!({ "id": "1" }));
    impatient.queue = Some(false);
    assert_eq!(runtime.call(impatient).await.unwrap_err().kind(), ErrorKind::Throttled);
    assert_eq!(runtime.store().depth("outbox").await.unwrap(), QueueDepth::default());
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_comes_back_within_the_callers_time() {
    let connector = Scripted::new();
    connector.script("crm_update", std::iter::repeat_n(Step::Slow(Duration::from_secs(3_600), json!({})), 5));
    let runtime = runtime(&connector).await;
    let mut request = call("crm_update", json!({ "id": "1" }));
    request.deadline = Some(Duration::from_secs(7));
    let start = tokio::time::Instant::now();
    queued(&runtime, request).await;
    assert!(start.elapsed() <= Duration::from_secs(8), "{:?}", start.elapsed());
}

/// A store whose audit trail cannot be written.
#[derive(Debug)]
pub(crate) struct NoAudit(pub(crate) MemoryState);

#[async_trait]
impl AuditLog for NoAudit {
    async fn audit(&self, _: Vec<AuditRecord>) -> Result<()> {
        Err(Error::internal("no space left"))
    }

    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        self.0.audit_tail(tenant, filter).await
    }

    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport> {
        self.0.audit_verify(tenant).await
    }
}

#[async_trait]
impl StateStore for NoAudit {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        self.0.get(namespace, key).await
    }

    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome> {
        self.0.put(namespace, key, value, condition, ttl).await
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        self.0.delete(namespace, key, condition).await
    }

    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        self.0.scan(namespace, prefix, after, limit).await
    }
}

#[async_trait]
impl EventLog for NoAudit {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        self.0.append(events).await
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        self.0.event(tenant, seq).await
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        self.0.events(tenant, filter).await
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        self.0.replay(tenant, seq).await
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        self.0.prune_events(before).await
    }
}

#[async_trait]
impl JobQueue for NoAudit {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        self.0.enqueue(job).await
    }

    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>> {
        self.0.claim(queue, limit, lease).await
    }

    async fn complete(&self, job: &Job) -> Result<bool> {
        self.0.complete(job).await
    }

    async fn retry(&self, job: &Job, not_before: u64, error: JobError) -> Result<bool> {
        self.0.retry(job, not_before, error).await
    }

    async fn bury(&self, job: &Job, error: JobError) -> Result<bool> {
        self.0.bury(job, error).await
    }

    async fn bury_new(&self, job: NewJob, error: JobError) -> Result<JobId> {
        self.0.bury_new(job, error).await
    }

    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        self.0.job(tenant, id).await
    }

    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        self.0.jobs(tenant, filter).await
    }

    async fn revive(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        self.0.revive(tenant, id).await
    }

    async fn discard(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        self.0.discard(tenant, id).await
    }

    async fn depth(&self, queue: &str) -> Result<QueueDepth> {
        self.0.depth(queue).await
    }
}
