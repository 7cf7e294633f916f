//! The workers behind rules, forwarding and alerts, and two watches: of dead letters that nobody told of, and of how many there are.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use connector_core::{Result, TenantId};
use connector_webhook::{
    dispatch::{DeadLetters, DispatchPolicy},
    rules::Problem,
    work::Waker,
};
use tokio::{sync::watch, task::JoinHandle};

use super::{Attempt, PARKED_QUEUE, ParkedWork, Worker};
use crate::{
    Runtime,
    alerts::{self, AlertWork},
    forward::{self, ForwardWork},
    outbox,
};

/// How often it is looked for dead letters that nobody told of, which a crash leaves.
const SWEEP: Duration = Duration::from_secs(600);
/// How often the number of dead letters is measured.
const MEASURE: Duration = Duration::from_secs(15);

impl Runtime {
    /// All queues that may hold dead letters.
    pub fn queues(&self) -> [&str; 5] {
        [&self.0.dispatch.queue, outbox::QUEUE, forward::QUEUE, alerts::QUEUE, PARKED_QUEUE]
    }

    /// What is wrong with the rules and alerts as they are written, warnings included. Mistakes are here only after custom connectors changed:
    /// then the last good rules stay in force.
    pub fn rule_problems(&self) -> Vec<Problem> {
        self.0.rules.problems()
    }

    /// Switches an endpoint on again that was switched off because it answered 410. `false`: it was not off.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the tenant has no endpoint of this name; whatever the state store reports.
    pub async fn switch_on_endpoint(&self, tenant: &TenantId, name: &str) -> Result<bool> {
        self.0.forward.switch_on(tenant, name).await
    }

    /// Sets the gauge `integration_dlq_depth` of every queue. Done every quarter of a minute while the runtime's tasks run.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn measure_dead_letters(&self) -> Result<()> {
        for queue in self.queues() {
            let depth = self.0.store.depth(queue).await?;
            #[allow(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("integration_dlq_depth", "queue" => queue.to_owned()).set(depth.dead as f64);
        }
        Ok(())
    }

    /// Hears of every job that is given up.
    pub(crate) fn mourner(&self) -> Arc<dyn DeadLetters> {
        self.0.alerts.clone()
    }

    /// Wakes the workers of these queues.
    pub(crate) fn wake_effects(&self) {
        self.0.forward.waker.wake();
        self.0.alerts.waker.wake();
        self.0.parked.waker.wake();
    }

    pub(crate) fn start_effects(&self, stopped: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let inner = &self.0;
        let worker = |attempt: Arc<dyn Attempt>, policy: &DispatchPolicy, waker: &Waker| {
            let worker = Worker {
                store: inner.store.clone(),
                clock: inner.shared.clock.clone(),
                rng: inner.rng.clone(),
                policy: policy.clone(),
                waker: waker.clone(),
                attempt,
                dead: self.mourner(),
            };
            tokio::spawn(worker.run(stopped.clone()))
        };
        vec![
            worker(Arc::new(ForwardWork { runtime: self.clone() }), &inner.forward.policy, &inner.forward.waker),
            worker(Arc::new(AlertWork { runtime: self.clone() }), &inner.alerts.policy, &inner.alerts.waker),
            worker(Arc::new(ParkedWork { runtime: self.clone() }), &inner.parked.policy, &inner.parked.waker),
            tokio::spawn(watch_over(self.clone(), stopped.clone())),
        ]
    }

    /// The tenants there are, as far as the configuration knows.
    async fn tenants(&self) -> Vec<TenantId> {
        let written = self.0.reloader.lock().await.assembler().config.tenants.iter().map(TenantId::from).collect::<Vec<_>>();
        let connected = self.connections().into_iter().map(|connection| connection.tenant.clone());
        let all: BTreeSet<TenantId> = written.into_iter().chain(connected).chain([TenantId::default()]).collect();
        all.into_iter().collect()
    }
}

async fn watch_over(runtime: Runtime, mut stop: watch::Receiver<bool>) {
    let mut sweep = tokio::time::interval(SWEEP);
    let mut measure = tokio::time::interval(MEASURE);
    for interval in [&mut sweep, &mut measure] {
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    while !*stop.borrow_and_update() {
        let done = tokio::select! {
            changed = stop.changed() => if changed.is_err() { break } else { Ok(()) },
            _ = sweep.tick() => runtime.0.alerts.sweep(&runtime.tenants().await, &runtime.queues()).await,
            _ = measure.tick() => runtime.measure_dead_letters().await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the dead letters could not be looked through; trying again");
        }
    }
}
