//! Works off a queue whose jobs are one attempt each: deliveries, alerts, calls that wait for an approval.
//!
//! Owns leases, waits and the end. Refuses to know what a job means; [`Work`] does.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result,
    clock::{Clock, Rng, unix_millis},
    state::{Job, JobError, JobState, Store},
};
use connector_webhook::dispatch::{DeadLetters, DispatchPolicy, buried};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

/// What a job of a queue is.
#[async_trait]
pub(crate) trait Work: Debug + Send + Sync + 'static {
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
    pub(crate) waker: Arc<Notify>,
    pub(crate) work: Arc<dyn Work>,
    pub(crate) dead: Arc<dyn DeadLetters>,
}

/// Attempts a job of this policy gets: one at once and one after each wait.
pub(crate) fn attempts(policy: &DispatchPolicy) -> u32 {
    u32::try_from(policy.schedule.len()).unwrap_or(u32::MAX).saturating_add(1)
}

impl Worker {
    /// Works until `stop` becomes true or its sender is gone, then lets what is in work finish.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut workers = JoinSet::new();
        while !*stop.borrow_and_update() {
            self.take(&mut workers).await;
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                () = self.waker.notified() => {}
                () = tokio::time::sleep(self.policy.poll) => {}
                Some(_) = workers.join_next(), if !workers.is_empty() => {}
            }
        }
        let finish = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(self.policy.drain, finish).await.is_err() {
            tracing::warn!(
                queue = &*self.policy.queue,
                left = workers.len(),
                "work did not finish in time; it is taken again when its lease runs out"
            );
        }
        workers.shutdown().await;
    }

    async fn take(&self, workers: &mut JoinSet<()>) {
        while workers.try_join_next().is_some() {}
        let free = self.policy.concurrency.max(1).saturating_sub(workers.len());
        if free == 0 {
            return;
        }
        match self.store.claim(&self.policy.queue, free, self.policy.lease).await {
            Ok(jobs) => {
                for job in jobs {
                    let this = self.clone();
                    workers.spawn(async move { if job.state == JobState::Dead { this.dead.died(&job).await } else { this.once(job).await } });
                }
            }
            Err(error) => tracing::error!(queue = &*self.policy.queue, %error, "a queue cannot be read; trying again"),
        }
    }

    /// One attempt, and what follows from it.
    async fn once(&self, job: Job) {
        let budget = self.policy.lease.mul_f64(0.9);
        let late = |_| Err(Error::new(ErrorKind::Timeout, format!("it did not finish within {budget:?}")));
        let Err(error) = tokio::time::timeout(budget, self.work.attempt(&job)).await.unwrap_or_else(late) else {
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

/// Whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
