//! What the processes of a fleet share besides the state store: news between them, quotas, cached replies. Ports only.
//!
//! Owns the contracts. Refuses to be relied on for correctness: news may be missed, a shared quota may be out of reach, a shared cache may be
//! empty; every user says what it does then. What must not be lost lies in [`crate::state`].

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

use crate::error::Result;

pub mod memory;

pub use memory::MemoryFleet;

/// News that the receivers of a [`PubSub`] have not fetched yet; whoever is further behind is told that it missed some.
const BACKLOG: usize = 1_024;

/// Something told by a process of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message.
    Message {
        /// What it is about (`cache`, `push`, `pause`).
        topic: Arc<str>,
        /// The message, at most [`MOST_NOTICE`] bytes. Never a secret and never a payload: a name to look up.
        body: Bytes,
    },
    /// Messages may have been missed: the connection broke. Whoever keeps something that a message could have made stale drops it.
    Missed,
}

/// Tells all processes of a fleet something, this one included. At most once, in no order, best effort.
#[async_trait]
pub trait PubSub: Debug + Send + Sync + 'static {
    /// Tells everybody. Returns when it is said, not when it is heard.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Transient`] if it cannot be said now; [`crate::ErrorKind::Invalid`] for a body over [`MOST_NOTICE`] bytes.
    async fn publish(&self, topic: &str, body: Bytes) -> Result<()>;

    /// Hears everything from now on. A receiver that lags ([`broadcast::error::RecvError::Lagged`]) has missed something, as after [`Notice::Missed`].
    fn subscribe(&self) -> broadcast::Receiver<Notice>;
}

/// The longest body of a notice, in bytes; PostgreSQL carries 8,000.
pub const MOST_NOTICE: usize = 4_000;

/// A [`PubSub`] within one process.
#[derive(Debug, Clone)]
pub struct LocalPubSub(broadcast::Sender<Notice>);

impl Default for LocalPubSub {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl LocalPubSub {
    /// Gives this process's receivers a notice that came from somewhere else.
    pub fn hand(&self, notice: Notice) {
        // Nobody listens: then nobody keeps anything stale.
        drop(self.0.send(notice));
    }
}

#[async_trait]
impl PubSub for LocalPubSub {
    async fn publish(&self, topic: &str, body: Bytes) -> Result<()> {
        self.hand(Notice::Message { topic: topic.into(), body });
        Ok(())
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }
}

/// One window of one quota as the store of a fleet counts it, by GCRA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCell {
    /// Whose quota: connector, class, tenant, connection, parameter and window, in plain text. A store digests it before it leaves the process: a
    /// parameter may be somebody's address.
    pub key: Arc<str>,
    /// The time between two calls once the burst is used up.
    pub interval: Duration,
    /// Calls that may be made at once, at least 1. `burst + W / interval` never exceeds the share of the window that is used.
    pub burst: u32,
    /// Calls that all processes together may make at once by their shares. A store that begins to count takes them as made, if they are more than
    /// `burst`.
    pub shares: u32,
}

/// One call that asks for its turn.
#[derive(Debug, Clone, Copy)]
pub struct SharedAsk<'a> {
    /// What it draws from, each cell once.
    pub cells: &'a [SharedCell],
    /// A turn this far ahead may be taken now and waited for, so that the processes of a fleet queue in the store instead of racing for each turn.
    /// Zero: only a turn that has come. At most [`MOST_LEAD`].
    pub lead: Duration,
    /// How long ago this process last made a call by its own share because the store was out of reach. The store has not counted such calls: if
    /// they are newer than its last settling, it settles again.
    pub stray: Option<Duration>,
}

/// What a store of quotas says to a [`SharedAsk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedTurn {
    /// Taken from every cell: make the call after this time (zero: now).
    Taken(Duration),
    /// Nothing was taken: ask again after this time.
    Refused(Duration),
    /// Nothing was taken: the store is new, or has lost count. For this long every process uses its share, and then all of them come back at the
    /// same moment, to cells that are empty. This way no window that spans the change sees more than its quota.
    Settling(Duration),
}

/// The longest [`SharedAsk::lead`].
pub const MOST_LEAD: Duration = Duration::from_secs(1);

/// How long a store settles ([`SharedTurn::Settling`]); longer than [`MOST_LEAD`] and than the time after which a process asks a lost store again.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Quotas counted in one place for all processes, by that place's clock.
#[async_trait]
pub trait SharedLimits: Debug + Send + Sync + 'static {
    /// Takes one call from every cell, or from none.
    ///
    /// # Errors
    /// Any error means the store was not reached or has not answered in time: the caller uses its share of the quota instead. An implementation
    /// answers within tens of milliseconds, and at once while it knows that its store is away.
    async fn take(&self, ask: &SharedAsk<'_>) -> Result<SharedTurn>;
}

/// A kept reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedValue {
    /// What was kept.
    pub value: Bytes,
    /// How long before this answer its [`SharedCache::stamp`] was taken, by the store's clock. Whoever knows of something that happened since does
    /// not use it, so that a drop that did not reach the store makes nothing stale look fresh.
    pub age: Duration,
}

/// The longest value a [`SharedCache`] keeps, in bytes; longer ones are not kept, which is no error.
pub const MOST_CACHED: usize = 256 * 1024;

/// The longest a [`SharedCache`] keeps anything; longer times are cut.
pub const LONGEST_CACHED: Duration = Duration::from_secs(24 * 3_600);

/// Replies kept for all processes.
#[async_trait]
pub trait SharedCache: Debug + Send + Sync + 'static {
    /// What is kept under `key`, unless it expired or one of its tags was dropped since.
    ///
    /// # Errors
    /// The store was not reached: a miss.
    async fn get(&self, key: &[u8; 32]) -> Result<Option<SharedValue>>;

    /// A moment of the store, in its microseconds; never goes back. Take it before a reply is fetched and give it to [`SharedCache::put`]: a tag
    /// dropped in between then makes the reply stale.
    ///
    /// # Errors
    /// The store was not reached: the reply is not kept.
    async fn stamp(&self) -> Result<u64>;

    /// Keeps `value` for `ttl`, stale as soon as one of `tags` is dropped after `stamp`.
    ///
    /// # Errors
    /// The store was not reached; nothing was kept, or it was and is right.
    async fn put(&self, key: &[u8; 32], value: Bytes, tags: &[[u8; 32]], stamp: u64, ttl: Duration) -> Result<()>;

    /// Makes everything with one of these tags stale.
    ///
    /// # Errors
    /// The store was not reached: say it again until it is, because others may still read what is stale.
    async fn drop_tags(&self, tags: &[[u8; 32]]) -> Result<()>;
}
