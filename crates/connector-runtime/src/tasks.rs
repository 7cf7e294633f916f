//! What runs besides calls: the outbox worker, the event dispatcher, the reload of custom connectors, the schedule of credentials. Started and
//! drained together.

use std::{sync::Arc, time::Duration};

use connector_core::state::{EventLog, JobQueue};
use connector_webhook::dispatch::Dispatcher;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    events::Events,
    outbox::Worker,
    reload, rotation,
    runtime::Runtime,
    sealed::Readable,
    subscriptions::{self, Admitting},
};

/// The running tasks. Dropping them stops them without waiting; [`RuntimeTasks::shutdown`] drains.
#[derive(Debug)]
pub struct RuntimeTasks {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    runtime: Runtime,
}

impl Runtime {
    pub(crate) fn worker(&self) -> Worker {
        let shared = &self.0.shared;
        Worker {
            outbox: shared.outbox.clone(),
            catalogue: shared.catalogue.clone(),
            send: self.0.send.clone(),
            trail: shared.audit.clone(),
            cache: shared.cache.clone(),
            records: shared.records.clone(),
        }
    }

    pub(crate) fn dispatcher(&self) -> Dispatcher {
        let shared = &self.0.shared;
        let handler = Admitting { runtime: self.clone(), inner: Arc::new(Events::new(self.clone())) };
        let (jobs, log): (Arc<dyn JobQueue>, Arc<dyn EventLog>) = (self.0.store.clone(), self.0.store.clone());
        Dispatcher::new(jobs, log, Arc::new(Readable(Arc::new(handler))), shared.clock.clone())
            .with_policy(self.0.dispatch.clone())
            .with_rng(self.0.rng.clone())
            .with_waker(self.0.waker.clone())
            .with_dead_letters(self.mourner())
    }

    /// Starts the outbox worker, the event dispatcher, the reload of custom connectors and the schedule of credentials. Start them once.
    pub fn start(&self) -> RuntimeTasks {
        let (stop, stopped) = watch::channel(false);
        let worker = self.worker();
        let dispatcher = self.dispatcher();
        let events = stopped.clone();
        let mut tasks = vec![
            tokio::spawn(worker.run(stopped.clone())),
            tokio::spawn(async move { dispatcher.run(events).await }),
            tokio::spawn(watch_files(self.clone(), stopped.clone())),
            tokio::spawn(rotation::tend(self.clone(), stopped.clone())),
            tokio::spawn(subscriptions::run(self.clone(), stopped.clone())),
            tokio::spawn(pass_on(self.clone(), stopped.clone())),
        ];
        tasks.extend(self.start_effects(&stopped));
        RuntimeTasks { stop, tasks, runtime: self.clone() }
    }
}

/// Wakes this process's workers when another process added work.
async fn pass_on(runtime: Runtime, mut stop: watch::Receiver<bool>) {
    let Some(mut wakes) = runtime.0.wakes.clone() else { return };
    while !*stop.borrow_and_update() {
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { break },
            changed = wakes.changed() => {
                // The store is gone, and with it everything that could be worked on.
                if changed.is_err() { break }
                runtime.0.waker.wake();
                runtime.0.shared.outbox.waker.wake();
                runtime.wake_effects();
            }
        }
    }
}

async fn watch_files(runtime: Runtime, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow_and_update() {
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(reload::POLL) => {
                if let Err(error) = runtime.reload().await {
                    tracing::error!(%error, "custom connectors could not be reloaded; the last good ones stay");
                }
            }
        }
    }
}

impl RuntimeTasks {
    /// Takes no new work, lets what is in work finish within `timeout`, and makes the audit records durable. `true` if all finished in time.
    pub async fn shutdown(mut self, timeout: Duration) -> bool {
        // Nobody listens any more: then everything has ended already.
        let _gone = self.stop.send(true).is_err();
        let tasks = std::mem::take(&mut self.tasks);
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let drained = tokio::time::timeout(timeout, futures_util::future::join_all(tasks)).await.is_ok();
        if !drained {
            tracing::warn!(?timeout, "background work did not finish in time; leases bring it back");
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
        self.runtime.0.shared.audit.flush().await;
        drained
    }
}

impl Drop for RuntimeTasks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
