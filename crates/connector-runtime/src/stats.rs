//! What the runtime counted: calls, what saved them, retries by class, waits, drops. For closing tables and health pages.
//!
//! Counted where it happens, by the stages and by a probe between the inner layers and the engine. Prometheus gets its own numbers
//! through the `metrics` crate; nothing here is scraped from there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connector, Error, ErrorKind, OpCall, OpReply, Result,
    connector::Lifecycle,
    delta::DeltaSource,
    rotation::Rotator,
    spec::ConnectorSpec,
    transport::{Request, Response, Transport},
    webhook::WebhookVerifier,
};
use serde::Serialize;
use serde_json::Value;

/// Figures since the runtime was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Governed calls, whatever became of them.
    pub calls: u64,
    /// Requests that were handed to the transport (authentication not counted).
    pub calls_made: u64,
    /// Calls that needed no request.
    pub calls_saved: CallsSaved,
    /// Sends that followed a failed one, by the class of that failure.
    pub retries: BTreeMap<String, u64>,
    /// Calls that waited: for the vendor's limits, or because it asked to slow down.
    pub throttled_waits: u64,
    /// How often a breaker opened.
    pub breaker_trips: u64,
    /// Events that had come before.
    pub duplicates_dropped: u64,
    /// Events that were new.
    pub events_accepted: u64,
    /// Writes answered from the record of an earlier call with the same key.
    pub replays: u64,
    /// Writes that turned out to have happened when it was unclear.
    pub reconciled: u64,
    /// Calls refused by access or policy.
    pub denied: u64,
    /// Approvals asked for.
    pub approvals_asked: u64,
    /// Calls put into the outbox.
    pub queued: u64,
    /// Queued calls that were made later.
    pub queue_done: u64,
    /// Calls that became dead letters.
    pub dead_letters: u64,
    /// Steps of rules that were done.
    pub rule_steps: u64,
    /// Audit records of reads that were dropped because the trail could not keep up.
    pub audit_dropped: u64,
}

/// Calls that needed no request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CallsSaved {
    /// Answered from the cache, or together with another caller of the same.
    pub cache: u64,
    /// Answered as part of a batch, less the batches themselves.
    pub batching: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) cache_saved: AtomicU64,
    pub(crate) batched: AtomicU64,
    batches: AtomicU64,
    direct_batches: AtomicU64,
    retries: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) limit_waits: AtomicU64,
    pub(crate) trips: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) replays: AtomicU64,
    pub(crate) reconciled: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) approvals: AtomicU64,
    pub(crate) queued: AtomicU64,
    pub(crate) queue_done: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) rule_steps: AtomicU64,
    pub(crate) audit_dropped: AtomicU64,
    /// Sends that failed and whose call has not ended yet, so that the next send of the same call is known to be a retry.
    failed: Mutex<HashMap<u64, &'static str>>,
    failed_count: AtomicUsize,
}

/// More unfinished failures than this are forgotten, so that calls that vanish cannot fill the memory.
const MAX_FAILED: usize = 10_000;

/// Counts one.
pub(crate) fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    /// The figures now.
    pub(crate) fn snapshot(&self, trips: u64) -> Stats {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        // Breakers that nobody used for long are forgotten, and their trips with them; the count never goes down.
        let trips = self.trips.fetch_max(trips, Relaxed).max(trips);
        let retries: BTreeMap<String, u64> =
            self.retries.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(class, count)| ((*class).to_owned(), *count)).collect();
        let throttled = retries.get(ErrorKind::Throttled.as_str()).copied().unwrap_or(0);
        let batches = of(&self.batches).saturating_sub(of(&self.direct_batches));
        Stats {
            calls: of(&self.calls),
            calls_made: of(&self.requests),
            calls_saved: CallsSaved { cache: of(&self.cache_saved), batching: of(&self.batched).saturating_sub(batches) },
            throttled_waits: throttled + of(&self.limit_waits),
            retries,
            breaker_trips: trips,
            duplicates_dropped: of(&self.duplicates),
            events_accepted: of(&self.events),
            replays: of(&self.replays),
            reconciled: of(&self.reconciled),
            denied: of(&self.denied),
            approvals_asked: of(&self.approvals),
            queued: of(&self.queued),
            queue_done: of(&self.queue_done),
            dead_letters: of(&self.dead),
            rule_steps: of(&self.rule_steps),
            audit_dropped: of(&self.audit_dropped),
        }
    }

    /// Takes note of what the reply of a call tells.
    pub(crate) fn replied(&self, is_batch: bool, reply: &OpReply) {
        if reply.meta.batched {
            one(&self.batched);
        }
        if reply.meta.reconciled {
            one(&self.reconciled);
        }
        if !reply.meta.waited.is_zero() && reply.meta.attempts <= 1 {
            one(&self.limit_waits);
        }
        if is_batch {
            one(&self.direct_batches);
        }
    }

    /// The call ended: what is sent next with the same words is another call, not a retry.
    pub(crate) fn ended(&self, identity: u64) {
        if self.failed_count.load(Relaxed) > 0 {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.remove(&identity);
            self.failed_count.store(failed.len(), Relaxed);
        }
    }

    fn starts(&self, identity: u64) {
        if self.failed_count.load(Relaxed) == 0 {
            return;
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(class) = failed.remove(&identity) {
            *self.retries.lock().unwrap_or_else(PoisonError::into_inner).entry(class).or_default() += 1;
        }
        self.failed_count.store(failed.len(), Relaxed);
    }

    fn fails(&self, identity: u64, class: &'static str) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MAX_FAILED {
            failed.clear();
        }
        failed.insert(identity, class);
        self.failed_count.store(failed.len(), Relaxed);
    }
}

/// What tells a call from another one, cheaply: attempts of one call carry the same context and the same arguments in the same order.
pub(crate) fn identity(cx: &CallCx, call: &OpCall) -> u64 {
    let mut hasher = DefaultHasher::new();
    (cx.tenant(), &cx.connection.id, &*cx.correlation_id, &*call.operation, &call.cursor).hash(&mut hasher);
    for (name, value) in &call.args {
        name.hash(&mut hasher);
        hash(value, &mut hasher);
    }
    hasher.finish()
}

fn hash(value: &Value, hasher: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        Value::Null => {}
        Value::Bool(flag) => flag.hash(hasher),
        Value::Number(number) => number.hash(hasher),
        Value::String(text) => text.hash(hasher),
        Value::Array(items) => items.iter().for_each(|item| hash(item, hasher)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            name.hash(hasher);
            hash(value, hasher);
        }),
    }
}

/// The operations that serve others as their batch.
pub(crate) fn batch_tools(spec: &ConnectorSpec) -> HashSet<Arc<str>> {
    spec.operations().iter().filter_map(|op| op.batch.as_ref()).map(|batch| batch.tool.clone()).collect()
}

/// Stands between the inner layers and the connector and sees every attempt.
#[derive(Debug)]
pub(crate) struct Probe {
    inner: Arc<dyn Connector>,
    batches: HashSet<Arc<str>>,
    counters: Arc<Counters>,
}

impl Probe {
    pub(crate) fn around(inner: Arc<dyn Connector>, counters: Arc<Counters>) -> Arc<dyn Connector> {
        Arc::new(Self { batches: batch_tools(inner.spec()), inner, counters })
    }
}

/// An attempt under way. Dropped before its end, it was stopped by the timeout layer.
struct Attempt<'a> {
    counters: &'a Counters,
    identity: Option<u64>,
}

impl Attempt<'_> {
    fn ended(mut self, error: Option<&Error>) {
        let identity = self.identity.take();
        if let (Some(identity), Some(error)) = (identity, error) {
            self.counters.fails(identity, error.kind().as_str());
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(identity) = self.identity.take() {
            self.counters.fails(identity, ErrorKind::Timeout.as_str());
        }
    }
}

#[async_trait]
impl Connector for Probe {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        self.inner.spec()
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let identity = identity(cx, &call);
        self.counters.starts(identity);
        let attempt = Attempt { counters: &self.counters, identity: Some(identity) };
        let batch = self.batches.contains(&call.operation);
        let result = self.inner.call(cx, call).await;
        attempt.ended(result.as_ref().err());
        if batch && result.is_ok() {
            one(&self.counters.batches);
        }
        result
    }

    async fn lifecycle(&self, cx: &CallCx, event: Lifecycle) -> Result<()> {
        self.inner.lifecycle(cx, event).await
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        self.inner.webhook()
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        self.inner.delta()
    }

    fn rotator(&self) -> Option<&dyn Rotator> {
        self.inner.rotator()
    }
}

/// Counts the requests that leave.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) inner: Arc<dyn Transport>,
    pub(crate) counters: Arc<Counters>,
}

#[async_trait]
impl Transport for Counted {
    async fn send(&self, cx: &CallCx, request: Request) -> Result<Response> {
        one(&self.counters.requests);
        self.inner.send(cx, request).await
    }

    async fn resolve(&self, cx: &CallCx, host: &str, port: u16, usual: &'static [u16]) -> Result<Vec<SocketAddr>> {
        self.inner.resolve(cx, host, port, usual).await
    }
}
