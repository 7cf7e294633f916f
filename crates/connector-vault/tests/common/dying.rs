//! A store that stops working at a chosen point.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Error, Result, TenantId,
    state::{
        Appended, AuditFilter, AuditLog, AuditRecord, ChainReport, Condition, Enqueued, Entry, EventFilter, EventLog, Job, JobError, JobFilter,
        JobId, JobQueue, Namespace, NewEvent, NewJob, PutOutcome, QueueDepth, StateStore, Store, StoredAudit, StoredEvent,
    },
};

/// A store that fails after so many writes of credentials and tokens, as if the process had been killed.
#[derive(Debug)]
pub struct Dying {
    inner: Arc<dyn Store>,
    writes_left: AtomicI64,
    audits: bool,
}

impl Dying {
    pub fn after(inner: Arc<dyn Store>, writes: i64) -> Self {
        Self { inner, writes_left: AtomicI64::new(writes), audits: true }
    }

    /// One that lives, but cannot write its audit trail.
    pub fn without_trail(inner: Arc<dyn Store>) -> Self {
        Self { inner, writes_left: AtomicI64::new(i64::MAX), audits: false }
    }
}

#[async_trait]
impl StateStore for Dying {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        self.inner.get(namespace, key).await
    }

    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(Error::internal("killed"));
        }
        self.inner.put(namespace, key, value, condition, ttl).await
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        if self.writes_left.load(Ordering::SeqCst) <= 0 {
            return Err(Error::internal("killed"));
        }
        self.inner.delete(namespace, key, condition).await
    }

    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        self.inner.scan(namespace, prefix, after, limit).await
    }
}

#[async_trait]
impl AuditLog for Dying {
    async fn audit(&self, records: Vec<AuditRecord>) -> Result<()> {
        if self.audits { self.inner.audit(records).await } else { Err(Error::internal("the trail cannot be written")) }
    }

    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        self.inner.audit_tail(tenant, filter).await
    }

    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport> {
        self.inner.audit_verify(tenant).await
    }
}

#[async_trait]
impl EventLog for Dying {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        self.inner.append(events).await
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        self.inner.event(tenant, seq).await
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        self.inner.events(tenant, filter).await
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        self.inner.replay(tenant, seq).await
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        self.inner.prune_events(before).await
    }
}

#[async_trait]
impl JobQueue for Dying {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        self.inner.enqueue(job).await
    }

    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>> {
        self.inner.claim(queue, limit, lease).await
    }

    async fn complete(&self, job: &Job) -> Result<bool> {
        self.inner.complete(job).await
    }

    async fn retry(&self, job: &Job, not_before: u64, error: JobError) -> Result<bool> {
        self.inner.retry(job, not_before, error).await
    }

    async fn bury(&self, job: &Job, error: JobError) -> Result<bool> {
        self.inner.bury(job, error).await
    }

    async fn bury_new(&self, job: NewJob, error: JobError) -> Result<JobId> {
        self.inner.bury_new(job, error).await
    }

    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        self.inner.job(tenant, id).await
    }

    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        self.inner.jobs(tenant, filter).await
    }

    async fn revive(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        self.inner.revive(tenant, id).await
    }

    async fn discard(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        self.inner.discard(tenant, id).await
    }

    async fn depth(&self, queue: &str) -> Result<QueueDepth> {
        self.inner.depth(queue).await
    }
}
