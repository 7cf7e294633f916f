//! The job queue: what a worker needs, sealed and bound to queue, subject, key and workspace. A job of the queue of events only names its event.

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::unix_millis,
    state::{Enqueued, Job, JobError, JobFilter, JobId, JobQueue, JobState, NewJob, QueueDepth},
};
use connector_vault::payload::Unopened;

use super::{SealedStore, why};

/// The queue whose jobs are numbers of events.
const EVENTS: &str = "events";
/// A job whose data key cannot be had now is tried again after this many milliseconds, then after twice as many, and so on up to an hour. Each
/// claim is one of its attempts, which cannot be given back: eight of them last two hours.
const AGAIN: u64 = 60_000;
const MOST_DOUBLED: u32 = 6;

/// What a job's payload is bound to, besides its tenant. No key is not the empty key.
fn context<'a>(queue: &'a str, subject: &'a str, key: Option<&'a str>, workspace: &'a str) -> [&'a [u8]; 6] {
    let keyed: &[u8] = if key.is_some() { b"keyed" } else { b"" };
    [b"job", queue.as_bytes(), subject.as_bytes(), keyed, key.unwrap_or_default().as_bytes(), workspace.as_bytes()]
}

/// Why a job that was claimed cannot be worked on, for its record.
fn refusal(unopened: Unopened) -> JobError {
    let message = why(&unopened);
    let kind = match unopened {
        Unopened::Lost(_) => ErrorKind::Config,
        Unopened::Away(error) => Error::from(Unopened::Away(error)).kind(),
    };
    JobError { kind, message }
}

/// Adds to what is known of a job that its payload does not open.
fn note(job: &mut Job, unopened: &Unopened) {
    let why = why(unopened);
    let (kind, message) = match job.last_error.take() {
        Some(before) => (before.kind, format!("{}; {why}", before.message)),
        None => (ErrorKind::Config, why),
    };
    job.last_error = Some(JobError { kind, message });
}

impl SealedStore {
    async fn seal_job(&self, mut job: NewJob) -> Result<NewJob> {
        if &*job.queue != EVENTS {
            let context = context(&job.queue, &job.subject, job.key.as_deref(), job.workspace.as_str());
            job.payload = self.seal(&job.tenant, &context, job.payload).await?;
        }
        Ok(job)
    }

    /// Opens a job's payload in place; it is empty if that fails.
    async fn open_job(&self, job: &mut Job) -> Result<(), Unopened> {
        let sealed = std::mem::take(&mut job.payload);
        let context = context(&job.queue, &job.subject, job.key.as_deref(), job.workspace.as_str());
        job.payload = self.open(&job.tenant, &context, sealed).await?;
        Ok(())
    }

    /// Opens a job for showing it.
    async fn shown(&self, job: &mut Job) {
        if let Err(unopened) = self.open_job(job).await {
            note(job, &unopened);
        }
    }

    /// A job that was claimed, as its worker may have it. One that cannot be opened becomes a dead letter and comes along as such; one whose
    /// data key cannot be had now goes back. `None`: it is nobody's to work on.
    async fn workable(&self, mut job: Job) -> Option<Job> {
        let Err(unopened) = self.open_job(&mut job).await else { return Some(job) };
        if job.state == JobState::Dead {
            note(&mut job, &unopened);
            return Some(job);
        }
        let is_lost = matches!(unopened, Unopened::Lost(_));
        let error = refusal(unopened);
        let settled = if is_lost {
            tracing::error!(job = %job.id, queue = &*job.queue, subject = job.subject, why = error.message, "a job cannot be read and becomes a dead letter");
            self.inner.bury(&job, error.clone()).await
        } else {
            tracing::warn!(job = %job.id, queue = &*job.queue, subject = job.subject, why = error.message, "a job cannot be read now and is put back");
            let wait = AGAIN << job.attempts.saturating_sub(1).min(MOST_DOUBLED);
            let again = unix_millis(self.clock.wall()).saturating_add(wait);
            self.inner.retry(&job, again, error.clone()).await
        };
        match settled {
            Ok(true) if is_lost || job.attempts >= job.max_attempts => {
                job.state = JobState::Dead;
                job.last_error = Some(error);
                Some(job)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::error!(job = %job.id, %error, "what became of a job could not be kept; it comes again when its lease runs out");
                None
            }
        }
    }
}

#[async_trait]
impl JobQueue for SealedStore {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        self.inner.enqueue(self.seal_job(job).await?).await
    }

    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>> {
        let claimed = self.inner.claim(queue, limit, lease).await?;
        let mut jobs = Vec::with_capacity(claimed.len());
        for job in claimed {
            jobs.extend(self.workable(job).await);
        }
        Ok(jobs)
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
        self.inner.bury_new(self.seal_job(job).await?, error).await
    }

    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        let mut found = self.inner.job(tenant, id).await?;
        if let Some(job) = &mut found {
            self.shown(job).await;
        }
        Ok(found)
    }

    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        let mut jobs = self.inner.jobs(tenant, filter).await?;
        for job in &mut jobs {
            self.shown(job).await;
        }
        Ok(jobs)
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
