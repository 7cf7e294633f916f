//! The loop over a queue: claims jobs into free places, waits to be woken, lets what is in work finish at the end.
//!
//! Refuses to know what a job means or how it is settled; [`Work`] does.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::state::{Job, JobQueue, JobState};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::dispatch::DispatchPolicy;

/// What a queue's jobs are.
#[async_trait]
pub trait Work: Debug + Send + Sync + 'static {
    /// One attempt at a job that is leased to us, and its settlement in the store. Must end before the lease does.
    async fn once(&self, job: Job);

    /// `job` is a dead letter already: the workers that had it vanished too often.
    async fn vanished(&self, job: Job);
}

/// Tells whoever works off a queue that there is work.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Wakes it; if it is busy, it looks once more afterwards.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Works a queue off until `stop` becomes true or its sender is gone, then lets what is in work finish. What does not finish in
/// [`DispatchPolicy::drain`] is dropped, and taken again by somebody when its lease runs out.
pub async fn work_off(jobs: &dyn JobQueue, policy: &DispatchPolicy, waker: &Waker, mut stop: watch::Receiver<bool>, work: Arc<dyn Work>) {
    let mut workers = JoinSet::new();
    while !*stop.borrow_and_update() {
        take(jobs, policy, &work, &mut workers).await;
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { break },
            () = waker.0.notified() => {}
            () = tokio::time::sleep(policy.poll) => {}
            Some(_) = workers.join_next(), if !workers.is_empty() => {}
        }
    }
    let finish = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(policy.drain, finish).await.is_err() {
        tracing::warn!(
            target: "connectors::webhook",
            queue = &*policy.queue,
            left = workers.len(),
            "work did not finish in time; it is taken again when its lease runs out"
        );
    }
    workers.shutdown().await;
}

/// Fills the free places.
async fn take(jobs: &dyn JobQueue, policy: &DispatchPolicy, work: &Arc<dyn Work>, workers: &mut JoinSet<()>) {
    while workers.try_join_next().is_some() {}
    let free = policy.concurrency.max(1).saturating_sub(workers.len());
    if free == 0 {
        return;
    }
    match jobs.claim(&policy.queue, free, policy.lease).await {
        Ok(claimed) => {
            for job in claimed {
                let work = work.clone();
                workers.spawn(async move {
                    if job.state == JobState::Dead {
                        tracing::error!(
                            target: "connectors::webhook",
                            queue = &*job.queue, job = %job.id, subject = %job.subject,
                            "a job became a dead letter: its workers vanished"
                        );
                        work.vanished(job).await;
                    } else {
                        work.once(job).await;
                    }
                });
            }
        }
        Err(error) => tracing::error!(target: "connectors::webhook", queue = &*policy.queue, %error, "a queue cannot be read; trying again"),
    }
}

/// How long a handler may take: a tenth less than the lease, so that two never work on the same job.
pub fn budget(policy: &DispatchPolicy) -> Duration {
    policy.lease.mul_f64(0.9)
}
