//! Refuses calls to a host that keeps failing. One breaker per tenant, connector and host.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;

use super::{Layer, forward_to_inner, metrics::BREAKER};
use crate::{
    connector::{Connector, OpCall, OpReply},
    context::CallCx,
    error::Result,
    resilience::{BreakerPolicy, BreakerState, Breakers, Outcome, TimeoutPolicy},
    spec::{ConnectorSpec, TimeoutClass},
};

/// Counts failures and refuses calls while a breaker is open.
#[derive(Debug, Clone)]
pub struct BreakerLayer {
    policy: BreakerPolicy,
    timeouts: TimeoutPolicy,
    breakers: Arc<Breakers>,
}

impl BreakerLayer {
    /// Uses these breakers. A probe may take as long as `timeouts` gives its operation.
    pub fn new(policy: BreakerPolicy, timeouts: TimeoutPolicy, breakers: Arc<Breakers>) -> Self {
        Self { policy, timeouts, breakers }
    }
}

impl Layer for BreakerLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        let spec = inner.spec().clone();
        let composed = spec.operations().iter().filter(|op| op.is_composed()).map(|op| op.name.clone()).collect();
        Arc::new(Broken { spec, composed, inner, layer: self.clone() })
    }
}

#[derive(Debug)]
struct Broken {
    spec: Arc<ConnectorSpec>,
    /// Operations made of others, which pass: their parts are what the breaker sees. As a probe, one would shut out its own parts.
    composed: HashSet<Arc<str>>,
    inner: Arc<dyn Connector>,
    layer: BreakerLayer,
}

impl Broken {
    fn show(&self, cx: &CallCx, state: BreakerState) {
        let (adapter, host) = (self.spec.id.clone(), cx.connection.host().to_owned());
        metrics::gauge!(BREAKER, "adapter" => adapter.clone(), "host" => host.clone()).set(state.as_gauge());
        tracing::info!(connector = &*adapter, host, ?state, "circuit breaker changed");
    }
}

#[async_trait]
impl Connector for Broken {
    forward_to_inner!();

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        if !self.composed.is_empty() && self.composed.contains(&call.operation) {
            return self.inner.call(cx, call).await;
        }
        let BreakerLayer { policy, timeouts, breakers } = &self.layer;
        let breaker = breakers.of(cx.connection.scope(), policy);
        let lease = || {
            let class = self.spec.operation(&call.operation).map_or(TimeoutClass::Long, |op| op.timeout_class);
            timeouts.of(class)
        };
        let permit = breaker.try_acquire_with(lease).map_err(|error| error.with_context("host", cx.connection.host()))?;
        if permit.is_probe() {
            self.show(cx, BreakerState::HalfOpen);
        }
        let result = self.inner.call(cx, call).await;
        if let Some(state) = permit.finish(Outcome::of(&result)) {
            self.show(cx, state);
        }
        result
    }
}
