//! Counts calls and measures how long they take, with handles looked up once per operation.
//!
//! Metrics go to whatever recorder the program installed with the `metrics` crate before its first call.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use metrics::{Counter, Histogram};

use super::{Layer, forward_to_inner};
use crate::{
    clock::Clock,
    connector::{Connector, OpCall, OpReply},
    context::CallCx,
    error::Result,
    hash::BuildFolded,
    spec::ConnectorSpec,
};

/// `integration_requests_total{adapter,operation,status}`.
pub(super) const REQUESTS: &str = "integration_requests_total";
/// `integration_latency_seconds{adapter,operation}`.
pub(super) const LATENCY: &str = "integration_latency_seconds";
/// `integration_retries_total{adapter,class}`.
pub(super) const RETRIES: &str = "integration_retries_total";
/// `integration_rate_limit_wait_seconds`.
pub(super) const LIMIT_WAIT: &str = "integration_rate_limit_wait_seconds";
/// `integration_breaker_state{adapter,host}`: 0 closed, 1 half-open, 2 open.
pub(super) const BREAKER: &str = "integration_breaker_state";

/// Counts calls by outcome and measures their latency, retries and waits included.
#[derive(Debug, Clone)]
pub struct MetricsLayer {
    clock: Arc<dyn Clock>,
}

impl MetricsLayer {
    /// Measures with this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl Layer for MetricsLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        let handles = inner.spec().operations().iter().map(|op| (op.name.clone(), OnceLock::new())).collect();
        Arc::new(Measured { spec: inner.spec().clone(), inner, clock: self.clock.clone(), handles })
    }
}

#[derive(Debug)]
struct Measured {
    spec: Arc<ConnectorSpec>,
    inner: Arc<dyn Connector>,
    clock: Arc<dyn Clock>,
    handles: HashMap<Arc<str>, OnceLock<Handles>, BuildFolded>,
}

struct Handles {
    ok: Counter,
    latency: Histogram,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handles")
    }
}

impl Handles {
    fn new(spec: &ConnectorSpec, operation: &Arc<str>) -> Self {
        let (adapter, operation) = (spec.id.clone(), operation.clone());
        Self {
            ok: metrics::counter!(REQUESTS, "adapter" => adapter.clone(), "operation" => operation.clone(), "status" => "ok"),
            latency: metrics::histogram!(LATENCY, "adapter" => adapter, "operation" => operation),
        }
    }
}

#[async_trait]
impl Connector for Measured {
    forward_to_inner!();

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let spec = &self.spec;
        // An operation that does not exist has no label: names somebody made up must not fill the metrics store.
        let Some((operation, handles)) = self.handles.get_key_value(&call.operation) else {
            return self.inner.call(cx, call).await;
        };
        let start = self.clock.now();
        let result = self.inner.call(cx, call).await;
        let handles = handles.get_or_init(|| Handles::new(spec, operation));
        handles.latency.record(self.clock.now().saturating_duration_since(start).as_secs_f64());
        match &result {
            Ok(_) => handles.ok.increment(1),
            Err(error) => {
                let (adapter, operation) = (spec.id.clone(), operation.clone());
                metrics::counter!(REQUESTS, "adapter" => adapter, "operation" => operation, "status" => error.kind().as_str()).increment(1);
            }
        }
        result
    }
}
