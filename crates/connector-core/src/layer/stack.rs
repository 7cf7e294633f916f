//! The one place that fixes the order of the layers around a connector.
//!
//! Breaker, limiter and timeout sit inside retry, so every attempt is counted and an open circuit ends the loop. Batching sits
//! outside it, so a batch is retried as one call.

use std::sync::Arc;

use super::{BatchLayer, BreakerLayer, Layer, LimitLayer, MetricsLayer, RetryLayer, TimeoutLayer, TraceLayer};
use crate::{
    clock::{Clock, Rng, SystemClock, ThreadRng},
    connector::Connector,
    fleet::SharedLimits,
    resilience::{Breakers, Budgets, FleetQuotas, Limits, Resilience},
};

/// What the layers need: numbers, time, chance, and the state they share between connectors. Cheap to clone; clones share.
#[derive(Debug, Clone)]
pub struct StackParts {
    /// How patient to be.
    pub resilience: Resilience,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The jitter.
    pub rng: Arc<dyn Rng>,
    breakers: Arc<Breakers>,
    limits: Arc<Limits>,
    budgets: Arc<Budgets>,
}

impl Default for StackParts {
    fn default() -> Self {
        Self::new(Resilience::standard())
    }
}

impl StackParts {
    /// Parts with the real clock and fresh state.
    pub fn new(resilience: Resilience) -> Self {
        Self::with_clock(resilience, SystemClock::shared(), Arc::new(ThreadRng))
    }

    /// Parts with fresh state.
    pub fn with_clock(resilience: Resilience, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self {
            resilience,
            breakers: Arc::new(Breakers::new(clock.clone(), rng.clone())),
            limits: Arc::default(),
            budgets: Arc::default(),
            clock,
            rng,
        }
    }

    /// The same parts with limits that a fleet counts together in `store`, before any connector is put in. `max_processes`: the most processes the
    /// fleet ever has; while the store is out of reach each of them uses that part of every quota. Too small a number lets a fleet without its store
    /// exceed the vendor's limits. Calls in flight are limited per process as before.
    #[must_use]
    pub fn with_shared_limits(self, store: Arc<dyn SharedLimits>, max_processes: u32) -> Self {
        let fleet = FleetQuotas::new(store, max_processes, self.clock.clone());
        Self { limits: Arc::new(Limits::in_fleet(Arc::new(fleet))), ..self }
    }

    /// The same state with other numbers, for one connector among several. Breakers and budgets that exist keep theirs.
    #[must_use]
    pub fn with_resilience(&self, resilience: Resilience) -> Self {
        Self { resilience, ..self.clone() }
    }

    /// The breakers by scope, for health pages.
    pub fn breakers(&self) -> &Arc<Breakers> {
        &self.breakers
    }

    /// The limiters by connector, for health pages.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// The retry budgets by scope.
    pub fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets
    }
}

/// The inner layers, outermost first.
pub fn layers(parts: &StackParts) -> Vec<Box<dyn Layer>> {
    let StackParts { resilience, clock, rng, breakers, limits, budgets } = parts;
    vec![
        Box::new(TraceLayer),
        Box::new(MetricsLayer::new(clock.clone())),
        Box::new(BatchLayer),
        Box::new(RetryLayer::new(resilience.clone(), budgets.clone(), clock.clone(), rng.clone())),
        Box::new(BreakerLayer::new(resilience.breaker, resilience.timeouts, breakers.clone())),
        Box::new(LimitLayer::new(resilience.limits, limits.clone(), clock.clone())),
        Box::new(TimeoutLayer::new(resilience.timeouts, clock.clone())),
    ]
}

/// Puts the inner layers around a connector. What a program adds of its own (access, approval, cache, queue) goes around this.
pub fn inner(base: Arc<dyn Connector>, parts: &StackParts) -> Arc<dyn Connector> {
    layers(parts).iter().rev().fold(base, |inner, layer| layer.apply(inner))
}
