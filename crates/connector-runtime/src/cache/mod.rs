//! Replies of reads, kept for as long as their operation says, dropped by tag; behind them those that the fleet keeps, if it does.
//!
//! Owns the key (tenant, connection, operation, canonical arguments), joining of concurrent misses, and invalidation. Refuses replies of
//! writes, replies with failed items and replies that say a thing does not exist: somebody may create it without our hearing of it.

mod second;
mod stage;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use connector_core::{
    Cursor, OpReply, ReplyBody, Result, TenantId,
    clock::{Clock, Instant},
    connector::ReplyMeta,
    fleet::SharedCache,
    resilience::SingleFlight,
};
use dashmap::DashMap;
use serde::Serialize;

use crate::{canonical, stats::one};

pub(crate) use second::{Second, Unsaid};
pub(crate) use stage::{CacheStage, touch};

pub(crate) type Key = [u8; 32];

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
    /// Tags dropped, here or by another process of the fleet.
    pub invalidations: u64,
    /// Of the hits, those that another process of the fleet had fetched.
    pub shared_hits: u64,
    /// Questions to the fleet's cache that failed; each was a miss.
    pub shared_errors: u64,
    /// Replies kept now (approximately).
    pub entries: u64,
}

/// The moment a tag was dropped: by the count of invalidations, and by the clock.
#[derive(Debug, Clone, Copy)]
struct Dropped {
    count: u64,
    at: Instant,
}

/// The cache of a runtime. One serves all connectors and tenants; keys keep them apart.
pub struct Cache {
    kept: moka::future::Cache<Key, Kept>,
    /// When a tag was last dropped.
    dropped: DashMap<Key, Dropped>,
    /// Everything older than this is stale; raised when too many tags were remembered, or some may have been missed.
    floor: AtomicU64,
    /// When that was, in nanoseconds since `epoch`; 0: never.
    floor_at: AtomicU64,
    clockwork: AtomicU64,
    epoch: Instant,
    /// What the fleet keeps.
    second: Option<Second>,
    /// Tags that the rest of the fleet has to be told, if there is a fleet.
    unsaid: Option<Unsaid>,
    /// Fetches under way, and whether what came was the fleet's.
    flights: SingleFlight<Key, Result<(Kept, bool)>>,
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
    /// A cache over the fleet's, if it has one. `tells`: whether others are to be told of dropped tags.
    pub(crate) fn new(clock: Arc<dyn Clock>, shared: Option<Arc<dyn SharedCache>>, tells: bool) -> Self {
        let kept = moka::future::Cache::builder().max_capacity(MAX_WEIGHT).weigher(|_, kept: &Kept| kept.weight()).expire_after(Lifetime).build();
        Self {
            kept,
            dropped: DashMap::new(),
            floor: AtomicU64::new(0),
            floor_at: AtomicU64::new(0),
            epoch: clock.now(),
            unsaid: (tells || shared.is_some()).then(|| Unsaid::new(shared.is_some(), tells)),
            second: shared.map(Second::new),
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

    /// Drops the replies of this tenant and connector that carry the tag, also those that are being fetched now, in this process at once and in
    /// the fleet as soon as it can be told.
    pub fn invalidate(&self, tenant: &TenantId, connector: &str, tag: &str) {
        let tag = tag_key(tenant, connector, tag);
        self.drop_here(tag);
        if let Some(unsaid) = &self.unsaid {
            unsaid.add(tag);
        }
    }

    /// Drops the replies with this tag in this process.
    pub(crate) fn drop_here(&self, tag: Key) {
        one(&self.invalidations);
        let count = self.clockwork.fetch_add(1, Relaxed) + 1;
        if self.dropped.len() >= MAX_TAGS {
            // Forgetting single tags would bring stale replies back to life, so everything older goes.
            self.raise_floor(count);
        }
        self.dropped.insert(tag, Dropped { count, at: self.clock.now() });
    }

    /// Drops everything in this process: a tag may have been dropped elsewhere without our hearing of it.
    pub(crate) fn drop_all_here(&self) {
        self.raise_floor(self.clockwork.fetch_add(1, Relaxed) + 1);
    }

    fn raise_floor(&self, count: u64) {
        let at = u64::try_from(self.clock.now().saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        self.floor_at.fetch_max(at.max(1), Relaxed);
        self.floor.fetch_max(count, Relaxed);
        self.dropped.clear();
    }

    /// What the fleet has to be told, if there is a fleet.
    pub(crate) fn unsaid(&self) -> Option<&Unsaid> {
        self.unsaid.as_ref()
    }

    /// What the fleet keeps, if it does.
    pub(crate) fn second(&self) -> Option<&Second> {
        self.second.as_ref()
    }

    /// Whether this process knows of something that happened since `fetched` (`None`: before there was any time) and makes it stale.
    fn outlived(&self, fetched: Option<Instant>, tags: &[Key]) -> bool {
        let before = |moment: Instant| fetched.is_none_or(|fetched| fetched <= moment);
        let floor = self.floor_at.load(Relaxed);
        (floor != 0 && before(self.epoch + Duration::from_nanos(floor)))
            || tags.iter().any(|tag| self.dropped.get(tag).is_some_and(|dropped| before(dropped.at)))
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
            shared_hits: self.second.as_ref().map_or(0, Second::hits),
            shared_errors: self.second.as_ref().map_or(0, Second::errors),
            entries: self.kept.entry_count(),
        }
    }

    fn is_fresh(&self, kept: &Kept) -> bool {
        kept.until > self.clock.now()
            && kept.since >= self.floor.load(Relaxed)
            && kept.tags.iter().all(|tag| self.dropped.get(tag).is_none_or(|dropped| dropped.count <= kept.since))
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
