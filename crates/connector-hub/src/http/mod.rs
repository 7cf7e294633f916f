//! The hub over HTTP: ingress, tools, catalogue, health, metrics. Every route is a thin skin over the runtime.

mod catalogue;
mod dashboard;
mod health;
mod ingress;
mod keys;
mod problem;
mod queue;
mod tools;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use connector_runtime::Runtime;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

pub(crate) use health::{HEALTH_COLUMNS, row as health_row};
pub(crate) use keys::Keys;

/// The longest request body a tool call may have, in bytes. Ingress has its own, smaller cap.
const MOST_BODY: usize = 4 * 1024 * 1024;

/// What the routes share.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    runtime: Runtime,
    keys: Keys,
    metrics: Option<PrometheusHandle>,
    draining: AtomicBool,
}

impl App {
    /// The hub around a runtime.
    pub(crate) fn new(runtime: Runtime, metrics: Option<PrometheusHandle>) -> Self {
        let keys = Keys::new(runtime.store().clone());
        Self(Arc::new(Shared { runtime, keys, metrics, draining: AtomicBool::new(false) }))
    }

    /// Who may call.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// From now on `/readyz` says no, so that a load balancer sends nothing more.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    fn metrics(&self) -> Option<&PrometheusHandle> {
        self.0.metrics.as_ref()
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }
}

/// Makes this process count; at most once per process.
pub(crate) fn install_metrics() -> Result<PrometheusHandle> {
    // Latencies from a cache hit to a slow export, in seconds.
    let buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
    Ok(PrometheusBuilder::new().set_buckets(&buckets)?.install_recorder()?)
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(dashboard::page))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/api/connectors", get(catalogue::list))
        .route("/api/connectors/health", get(health::connections))
        .route("/api/connectors/{id}", get(catalogue::one))
        .route("/api/v1/tools", get(tools::list))
        .route("/api/v1/tools/{tool}/execute", post(tools::execute))
        .route("/api/v1/connections", get(catalogue::connections))
        .route("/api/v1/dlq", get(queue::dead_letters))
        .route("/api/v1/dlq/{id}/retry", post(queue::retry))
        .route("/api/v1/dlq/{id}/discard", post(queue::discard))
        .route("/api/v1/events", get(queue::events))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        // The ingress reads its body itself, up to its own cap, before anything is parsed.
        .route("/api/v1/webhooks/{*target}", post(ingress::receive).get(ingress::receive))
        .with_state(app)
}
