//! The hub over HTTP: ingress, tools, catalogue, credentials, approvals, health, metrics. Every route is a thin skin over the runtime.

mod approvals;
mod audit;
mod body;
mod caller;
mod catalogue;
mod connect;
pub(crate) mod credentials;
mod dashboard;
mod guard;
mod guard_callers;
mod guard_load;
mod health;
mod ingress;
mod keys;
pub(crate) mod oauth;
mod openapi;
mod problem;
mod queue;
mod routes;
pub mod server;
mod stream;
mod subscriptions;
mod tickets;
mod tools;
mod ws;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use connector_core::{
    Error, Result,
    spec::{Effect, views},
};
use connector_runtime::Runtime;
use connector_vault::Vault;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

pub(crate) use health::{HEALTH_COLUMNS, row as health_row};
pub use routes::{IdKind, Needs, Place, ROUTES, Route, router};
pub use stream::{MOST_PER_KEY, MOST_SUBSCRIBERS};
use tokio::sync::watch;
use url::Url;

use crate::keys::Keys;

/// How far the hub is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Everything is served.
    Serving,
    /// A stop was asked for: still everything is served, and everybody is told to go elsewhere.
    Draining,
    /// Nothing new is accepted.
    Stopping,
}

/// What the routes share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    runtime: Runtime,
    keys: Keys,
    metrics: Option<PrometheusHandle>,
    public_url: Option<Url>,
    draining: AtomicBool,
    phase: watch::Sender<Phase>,
    streams: stream::Streams,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("runtime", &self.0.runtime).finish_non_exhaustive()
    }
}

impl App {
    /// The hub around a runtime. `public_url` is where browsers reach it; without one nobody can sign in through it.
    pub fn new(runtime: Runtime, metrics: Option<PrometheusHandle>, public_url: Option<Url>) -> Self {
        let keys = Keys::new(runtime.store().clone());
        let streams = stream::Streams::new(runtime.clone());
        Self(Arc::new(Shared {
            runtime,
            keys,
            metrics,
            public_url,
            draining: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Serving),
            streams,
        }))
    }

    /// Who may call.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// From now on `/readyz` says no, so that a load balancer sends nothing more, and streams end: their clients go on elsewhere.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.0.streams.end();
    }

    /// Moves on towards the end; there is no way back.
    fn enter(&self, phase: Phase) {
        if phase != Phase::Serving {
            self.drain();
        }
        self.0.phase.send_if_modified(|now| {
            let later = *now < phase;
            *now = phase.max(*now);
            later
        });
    }

    /// Tells when the next phase begins.
    fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Whether a request to this path calls a tool that only reads.
    fn only_reads(&self, path: &str) -> bool {
        let name = path.strip_prefix("/api/v1/tools/").and_then(|rest| rest.strip_suffix("/execute"));
        let Some(name) = name else { return false };
        match self.0.runtime.registry().tool(name) {
            Ok((_, op)) => op.effect == Effect::Read,
            Err(_) => views::tool(name).is_some_and(|view| view.op.effect == Effect::Read),
        }
    }

    fn streams(&self) -> &stream::Streams {
        &self.0.streams
    }

    fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// Where secrets are kept.
    fn vault(&self) -> Result<&Vault> {
        self.0.runtime.vault().ok_or_else(|| Error::config("this hub has no vault; give it a master key (`vault new-key`) and start it again"))
    }

    fn public_url(&self) -> Result<&Url> {
        self.0.public_url.as_ref().ok_or_else(|| Error::config("the hub does not know its own address; set `public_url` in hub.yaml"))
    }

    /// The same as the beginning of addresses, without a slash at its end.
    fn base(&self) -> Result<&str> {
        Ok(self.public_url()?.as_str().trim_end_matches('/'))
    }

    fn metrics(&self) -> Option<&PrometheusHandle> {
        self.0.metrics.as_ref()
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }
}

/// Makes this process count; at most once per process.
///
/// # Errors
/// If something else counts already.
pub fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    // Latencies from a cache hit to a slow export, in seconds.
    let buckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
    Ok(PrometheusBuilder::new().set_buckets(&buckets)?.install_recorder()?)
}
