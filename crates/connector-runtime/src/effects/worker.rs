//! Works off a queue whose jobs are one attempt each: deliveries, alerts, calls that wait for an approval.
//!
//! Owns what follows from an attempt. Refuses to know what a job means; [`Attempt`] does.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result,
    clock::{Clock, Rng, unix_millis},
    state::{Job, JobError, Store},
};
use connector_webhook::{
    dispatch::{DeadLetters, DispatchPolicy, buried},
    work::{Waker, Work, budget, work_off},
};
use tokio::sync::watch;

/// What a job of a queue is, where one attempt is all there is to it.
#[async_trait]
pub(crate) trait Attempt: Debug + Send + Sync + 'static {
    /// One attempt. A passing error, or one that names a delay, is tried again later.
    async fn attempt(&self, job: &Job) -> Result<()>;
}

/// Works off one queue.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) policy: DispatchPolicy,
    pub(crate) waker: Waker,
    pub(crate) attempt: Arc<dyn Attempt>,
    pub(crate) dead: Arc<dyn DeadLetters>,
}

/// Attempts a job of this policy gets: one at once and one after each wait.
pub(crate) fn attempts(policy: &DispatchPolicy) -> u32 {
    u32::try_from(policy.schedule.len()).unwrap_or(u32::MAX).saturating_add(1)
}

impl Worker {
    /// Works until `stop` becomes true or its sender is gone, then lets what is in work finish.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) {
        let (jobs, policy, waker) = (self.store.clone(), self.policy.clone(), self.waker.clone());
        work_off(&*jobs, &policy, &waker, stop, Arc::new(self)).await;
    }

    async fn settled(&self, job: &Job, settled: Result<bool>, dead: Option<Job>) {
        match (settled, dead) {
            (Ok(true), Some(dead)) => self.dead.died(&dead).await,
            (Ok(true), None) => {}
            (Ok(false), _) => tracing::warn!(queue = &*job.queue, job = %job.id, "the lease was lost; somebody else has the job"),
            (Err(error), _) => {
                tracing::error!(queue = &*job.queue, job = %job.id, %error, "the outcome of a job could not be kept; it will be taken again")
            }
        }
    }
}

#[async_trait]
impl Work for Worker {
    async fn once(&self, job: Job) {
        let budget = budget(&self.policy);
        let late = |_| Err(Error::new(ErrorKind::Timeout, format!("it did not finish within {budget:?}")));
        let Err(error) = tokio::time::timeout(budget, self.attempt.attempt(&job)).await.unwrap_or_else(late) else {
            return self.settled(&job, self.store.complete(&job).await, None).await;
        };
        let passes = error.kind().is_passing() || error.kind() == ErrorKind::Cancelled || error.retry_after().is_some();
        if passes && job.attempts < job.max_attempts {
            let wait = self.policy.wait(job.attempts, error.retry_after(), &*self.rng);
            tracing::warn!(queue = &*job.queue, job = %job.id, subject = %job.subject, attempt = job.attempts, ?wait, %error, "an attempt failed");
            let not_before = unix_millis(self.clock.wall()).saturating_add(millis(wait));
            return self.settled(&job, self.store.retry(&job, not_before, JobError::from(&error)).await, None).await;
        }
        let settled = self.store.bury(&job, JobError::from(&error)).await;
        self.settled(&job, settled, Some(buried(&job, &error))).await;
    }

    async fn vanished(&self, job: Job) {
        self.dead.died(&job).await;
    }
}

/// Whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
