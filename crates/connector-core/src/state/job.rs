//! The job queue: deferred work with leases, retries and a place for the dead. The outbox and the dead letters are views of it.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    context::{TenantId, WorkspaceId},
    error::{ErrorKind, Result},
};

/// A job's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Work to be done later.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The tenant.
    pub tenant: TenantId,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The queue (`events`, `outbox`).
    pub queue: Arc<str>,
    /// What it is about, for people (`hubspot_create_contact`, `msgraph message.created`).
    pub subject: String,
    /// Unique per (tenant, queue): a second job with the same key is not added.
    pub key: Option<String>,
    /// Jobs with the same key are handled one after the other.
    pub order_key: Option<String>,
    /// What the worker needs.
    pub payload: Bytes,
    /// Unix milliseconds before which it must not run.
    pub not_before: u64,
    /// After this many attempts it is dead.
    pub max_attempts: u32,
}

/// What became of a new job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// Added.
    New(JobId),
    /// A job with its key is there already.
    Existing(JobId),
}

impl Enqueued {
    /// The id of the job that now stands for the work.
    pub fn id(self) -> JobId {
        match self {
            Self::New(id) | Self::Existing(id) => id,
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for its time and a worker.
    Pending,
    /// A worker has it.
    Leased,
    /// Finished.
    Done,
    /// Gave up: a dead letter, kept for review.
    Dead,
    /// A person decided not to do it.
    Discarded,
}

/// Why an attempt failed. Redacted: no payload, no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobError {
    /// The class.
    pub kind: ErrorKind,
    /// What happened.
    pub message: String,
}

impl From<&crate::Error> for JobError {
    fn from(error: &crate::Error) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }
}

/// A queued job.
#[derive(Debug, Clone, Serialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The tenant.
    pub tenant: TenantId,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The queue.
    pub queue: Arc<str>,
    /// What it is about.
    pub subject: String,
    /// Its unique key.
    pub key: Option<String>,
    /// Its ordering key.
    pub order_key: Option<String>,
    /// What the worker needs, kept out of listings.
    #[serde(skip)]
    pub payload: Bytes,
    /// Where it is.
    pub state: JobState,
    /// Attempts started so far, this one included.
    pub attempts: u32,
    /// After this many attempts it is dead.
    pub max_attempts: u32,
    /// Unix milliseconds before which it must not run.
    pub not_before: u64,
    /// Unix milliseconds of its arrival.
    pub created_at: u64,
    /// Why the last attempt failed.
    pub last_error: Option<JobError>,
    /// Grows with every lease; a worker that lost its lease carries an old number and is ignored.
    #[serde(skip)]
    pub fence: u64,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only this queue.
    pub queue: Option<String>,
    /// Only this state.
    pub state: Option<JobState>,
    /// Only jobs after this id.
    pub after: Option<JobId>,
    /// At most this many (0: 100).
    pub limit: usize,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct QueueDepth {
    /// Waiting.
    pub pending: u64,
    /// In work.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
}

/// A durable queue. Handling is at least once: effects carry keys.
#[async_trait]
pub trait JobQueue: Debug + Send + Sync + 'static {
    /// Adds a job, unless one with its key is there. Durable when it returns.
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued>;

    /// Takes up to `limit` due jobs of `queue` for `lease` (by the store's clock), oldest first and never two with one order key. Jobs whose lease
    /// ran out are taken again; those out of attempts become dead letters instead and come along as [`JobState::Dead`], so that somebody
    /// hears of them; they are nobody's to work on.
    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>>;

    /// Finishes a job. `false`: the lease was lost, somebody else has it.
    async fn complete(&self, job: &Job) -> Result<bool>;

    /// Puts a job back, not to run before `not_before` (Unix milliseconds). With attempts spent it becomes a dead letter. `false`: the lease was lost.
    async fn retry(&self, job: &Job, not_before: u64, error: JobError) -> Result<bool>;

    /// Makes a job a dead letter. `false`: the lease was lost.
    async fn bury(&self, job: &Job, error: JobError) -> Result<bool>;

    /// Adds an entry straight to the dead letters, for work that never was a job.
    async fn bury_new(&self, job: NewJob, error: JobError) -> Result<JobId>;

    /// One job.
    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>>;

    /// Jobs, oldest first.
    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>>;

    /// Queues a dead letter again with fresh attempts and the same key. `false`: there is no such dead letter.
    async fn revive(&self, tenant: &TenantId, id: JobId) -> Result<bool>;

    /// Marks a dead letter as not to be done. `false`: there is no such dead letter.
    async fn discard(&self, tenant: &TenantId, id: JobId) -> Result<bool>;

    /// How full a queue is, over all tenants.
    async fn depth(&self, queue: &str) -> Result<QueueDepth>;
}
