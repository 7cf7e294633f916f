//! What the processes of a fleet share besides the state store: news between them, quotas, cached replies. Ports only.
//!
//! Owns the contracts. Refuses to be relied on for correctness: news may be missed, a shared quota may be out of reach, a shared cache may be
//! empty; every user says what it does then. What must not be lost lies in [`crate::state`].

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

use crate::error::Result;

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
    /// Whose quota: connector, class, tenant, connection, parameter and window, digested so that it holds no name.
    pub key: Arc<str>,
    /// The time between two calls once the burst is used up.
    pub interval: Duration,
    /// Calls that may be made at once, at least 1. `burst + W / interval` never exceeds the share of the window that is used.
    pub burst: u32,
}

/// Quotas counted in one place for all processes, by that place's clock.
#[async_trait]
pub trait SharedLimits: Debug + Send + Sync + 'static {
    /// Takes one call from every cell, or from none. Zero: taken. Otherwise the time after which to ask again.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Transient`] if the store does not answer in time: the caller uses its share of the quota instead.
    async fn take(&self, cells: &[SharedCell]) -> Result<Duration>;
}

/// Replies kept for all processes.
#[async_trait]
pub trait SharedCache: Debug + Send + Sync + 'static {
    /// What is kept under `key`, unless it expired or one of its tags was dropped since.
    async fn get(&self, key: &[u8; 32]) -> Result<Option<Bytes>>;

    /// How many tags were dropped so far. Take it before a reply is fetched and give it to [`SharedCache::put`]: a tag dropped in between then makes
    /// the reply stale.
    async fn stamp(&self) -> Result<u64>;

    /// Keeps `value` for `ttl`, stale as soon as one of `tags` is dropped after `stamp`.
    async fn put(&self, key: &[u8; 32], value: Bytes, tags: &[[u8; 32]], stamp: u64, ttl: Duration) -> Result<()>;

    /// Makes everything with this tag stale.
    async fn drop_tag(&self, tag: &[u8; 32]) -> Result<()>;
}
