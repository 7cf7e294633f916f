//! Replies of reads, kept for as long as their operation says, dropped by tag.
//!
//! Owns the key (tenant, connection, operation, canonical arguments), joining of concurrent misses, and invalidation. Refuses replies of
//! writes, replies with failed items and replies that say a thing does not exist: somebody may create it without our hearing of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{
    Cursor, Error, ErrorKind, OpReply, ReplyBody, Result, TenantId,
    clock::{Clock, Instant},
    connector::ReplyMeta,
    resilience::SingleFlight,
    spec::OpSpec,
};
use dashmap::DashMap;
use serde::Serialize;

use crate::{
    canonical,
    request::{CallOutcome, Governed},
    stack::{Next, Stage},
    stats::{Counters, one},
    tags,
};

type Key = [u8; 32];

/// A kept reply.
#[derive(Debug, Clone)]
struct Kept {
    body: ReplyBody,
    next: Option<Cursor>,
    meta: ReplyMeta,
    tags: Arc<[Key]>,
    /// The count of invalidations when its request was made; a tag dropped later makes it stale.
    since: u64,
    until: Instant,
    ttl: Duration,
}

impl Kept {
    fn reply(&self) -> OpReply {
        let mut reply = OpReply::new(self.body.clone());
        reply.next.clone_from(&self.next);
        reply.meta = self.meta.clone();
        reply.meta.cached = true;
        reply.meta.waited = Duration::ZERO;
        reply
    }

    fn weight(&self) -> u32 {
        let body = match &self.body {
            ReplyBody::Empty => 0,
            ReplyBody::Json(bytes) | ReplyBody::Raw { bytes, .. } => bytes.len(),
            // A tree takes several times the room of its text.
            ReplyBody::Value(value) => value.to_string().len() * 4,
        };
        u32::try_from(body + self.tags.len() * 32 + 256).unwrap_or(u32::MAX)
    }
}

/// What the store forgets on its own; freshness is judged by our clock.
struct Lifetime;

impl moka::Expiry<Key, Kept> for Lifetime {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: std::time::Instant) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(&self, _: &Key, kept: &Kept, _: std::time::Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.ttl)
    }
}

/// How the cache did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CacheStats {
    /// Answered from the cache.
    pub hits: u64,
    /// Fetched.
    pub misses: u64,
    /// Answered together with another caller's fetch.
    pub joined: u64,
    /// Replies that were there but stale by a tag or by time.
    pub stale: u64,
    /// Tags dropped.
    pub invalidations: u64,
    /// Replies kept now (approximately).
    pub entries: u64,
}

/// The cache of a runtime. One serves all connectors and tenants; keys keep them apart.
pub struct Cache {
    kept: moka::future::Cache<Key, Kept>,
    /// The count of invalidations when a tag was last dropped.
    dropped: DashMap<Key, u64>,
    /// Everything older than this is stale; raised when too many tags were remembered.
    floor: AtomicU64,
    clockwork: AtomicU64,
    flights: SingleFlight<Key, Result<Kept>>,
    clock: Arc<dyn Clock>,
    hits: AtomicU64,
    misses: AtomicU64,
    joined: AtomicU64,
    stale: AtomicU64,
    invalidations: AtomicU64,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What all replies together may weigh, in bytes.
const MAX_WEIGHT: u64 = 64 << 20;
/// More dropped tags than this are not remembered one by one.
const MAX_TAGS: usize = 100_000;

impl Cache {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let kept = moka::future::Cache::builder().max_capacity(MAX_WEIGHT).weigher(|_, kept: &Kept| kept.weight()).expire_after(Lifetime).build();
        Self {
            kept,
            dropped: DashMap::new(),
            floor: AtomicU64::new(0),
            clockwork: AtomicU64::new(1),
            flights: SingleFlight::new(),
            clock,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
        }
    }

    /// Drops the replies of this tenant and connector that carry the tag, also those that are being fetched now.
    pub fn invalidate(&self, tenant: &TenantId, connector: &str, tag: &str) {
        one(&self.invalidations);
        let now = self.clockwork.fetch_add(1, Relaxed) + 1;
        if self.dropped.len() >= MAX_TAGS {
            // Forgetting single tags would bring stale replies back to life, so everything older goes.
            self.floor.store(now, Relaxed);
            self.dropped.clear();
        }
        self.dropped.insert(tag_key(tenant, connector, tag), now);
    }

    /// How it did.
    pub fn stats(&self) -> CacheStats {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        CacheStats {
            hits: of(&self.hits),
            misses: of(&self.misses),
            joined: of(&self.joined),
            stale: of(&self.stale),
            invalidations: of(&self.invalidations),
            entries: self.kept.entry_count(),
        }
    }

    fn is_fresh(&self, kept: &Kept) -> bool {
        kept.until > self.clock.now()
            && kept.since >= self.floor.load(Relaxed)
            && kept.tags.iter().all(|tag| self.dropped.get(tag).is_none_or(|dropped| *dropped <= kept.since))
    }

    async fn get(&self, key: &Key) -> Option<Kept> {
        let kept = self.kept.get(key).await?;
        if self.is_fresh(&kept) {
            return Some(kept);
        }
        one(&self.stale);
        self.kept.invalidate(key).await;
        None
    }
}

fn tag_key(tenant: &TenantId, connector: &str, tag: &str) -> Key {
    canonical::digest(&[tenant.as_str().as_bytes(), connector.as_bytes(), tag.as_bytes()])
}

/// The stage that answers reads from the cache, and drops what writes made stale.
#[derive(Debug)]
pub(crate) struct CacheStage {
    pub(crate) cache: Arc<Cache>,
    pub(crate) counters: Arc<Counters>,
}

impl CacheStage {
    fn key(call: &Governed) -> Key {
        canonical::digest(&[
            call.tenant.as_str().as_bytes(),
            call.connection_id().as_bytes(),
            call.op.name.as_bytes(),
            call.digest.as_bytes(),
            &call.loaded.generation.to_le_bytes(),
        ])
    }

    fn count(call: &Governed, result: &'static str) {
        let adapter = call.loaded.connector.spec().id.clone();
        metrics::counter!("integration_cache_requests_total", "adapter" => adapter, "operation" => call.op.name.clone(), "result" => result)
            .increment(1);
    }

    /// Fetches and keeps.
    async fn fetch(&self, key: Key, ttl: Duration, call: &mut Governed, next: Next<'_>) -> Result<Kept> {
        let since = self.cache.clockwork.load(Relaxed);
        one(&self.cache.misses);
        let outcome = next.run(call).await?;
        let CallOutcome::Done(reply) = outcome else {
            return Err(Error::internal("a read that may be cached came back as something else than a reply"));
        };
        let tags = self.tags(call, &call.op, &reply)?;
        let keep = reply.partial.is_empty() && !reply.meta.absent;
        let ttl = if keep { ttl } else { Duration::ZERO };
        let kept = Kept { body: reply.body, next: reply.next, meta: reply.meta, tags, since, until: self.cache.clock.now() + ttl, ttl };
        if !ttl.is_zero() {
            self.cache.kept.insert(key, kept.clone()).await;
        }
        Ok(kept)
    }

    fn tags(&self, call: &Governed, op: &OpSpec, reply: &OpReply) -> Result<Arc<[Key]>> {
        if op.cache.as_ref().is_none_or(|cache| cache.tags.is_empty()) {
            return Ok(Arc::from([]));
        }
        let body = match &reply.body {
            ReplyBody::Raw { .. } => serde_json::Value::Null,
            other => other.to_value()?,
        };
        let connector = &call.loaded.connector.spec().id;
        Ok(tags::of_reply(op, &call.params, &body).iter().map(|tag| tag_key(&call.tenant, connector, tag)).collect())
    }

    fn write_touched(&self, call: &Governed, outcome: &Result<CallOutcome>) {
        let reply = match outcome {
            Ok(CallOutcome::Done(reply)) if !matches!(reply.body, ReplyBody::Raw { .. }) => reply.body.to_value().ok(),
            _ => None,
        };
        touch(&self.cache, &call.loaded, &call.tenant, &call.params, reply.as_ref());
    }
}

/// Drops the tags a write may have made stale.
pub(crate) fn touch(
    cache: &Cache,
    loaded: &crate::catalogue::Loaded,
    tenant: &TenantId,
    args: &serde_json::Map<String, serde_json::Value>,
    reply: Option<&serde_json::Value>,
) {
    let args = serde_json::Value::Object(args.clone());
    for tag in loaded.templates.touched_by(&args, reply) {
        cache.invalidate(tenant, &loaded.connector.spec().id, &tag);
    }
}

#[async_trait]
impl Stage for CacheStage {
    fn name(&self) -> &'static str {
        "cache"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        if call.is_write() {
            let outcome = next.run(call).await;
            if call.sent {
                self.write_touched(call, &outcome);
            }
            return outcome;
        }
        let Some(ttl) = call.op.cache.as_ref().map(connector_core::spec::CacheSpec::ttl).filter(|ttl| !ttl.is_zero()) else {
            return next.run(call).await;
        };
        // A read that may be queued may come back as a job, which cannot be shared.
        if call.queue == Some(true) {
            return next.run(call).await;
        }
        let key = Self::key(call);
        if let Some(kept) = self.cache.get(&key).await {
            one(&self.cache.hits);
            one(&self.counters.cache_saved);
            Self::count(call, "hit");
            return Ok(CallOutcome::Done(kept.reply()));
        }
        let mut led = false;
        let deadline = call.cx()?.deadline;
        let found = {
            let flight = self.cache.flights.run(key, || {
                led = true;
                self.fetch(key, ttl, call, next)
            });
            match deadline {
                None => flight.await,
                Some(deadline) => match tokio::time::timeout_at(deadline, flight).await {
                    Ok(found) => found,
                    Err(_) => Arc::new(Err(Error::new(ErrorKind::Timeout, "another caller's fetch of the same did not end before the deadline"))),
                },
            }
        };
        if led {
            Self::count(call, "miss");
        } else if found.is_ok() {
            one(&self.cache.joined);
            one(&self.counters.cache_saved);
            Self::count(call, "joined");
        } else if found
            .as_ref()
            .as_ref()
            .is_err_and(|error| matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Overloaded | ErrorKind::Cancelled))
            && deadline.is_none_or(|deadline| deadline > self.cache.clock.now())
        {
            // The caller who fetched had less time than this one; its failure is not this one's.
            let kept = self.fetch(key, ttl, call, next).await?;
            Self::count(call, "miss");
            let mut reply = kept.reply();
            reply.meta.cached = false;
            return Ok(CallOutcome::Done(reply));
        }
        match &*found {
            Ok(kept) => {
                let mut reply = kept.reply();
                reply.meta.cached = !led;
                reply.meta.waited = if led { kept.meta.waited } else { Duration::ZERO };
                Ok(CallOutcome::Done(reply))
            }
            Err(error) => Err(error.clone()),
        }
    }
}
