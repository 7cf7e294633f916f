//! What a fleet shares over Redis: exact limits, a cache of replies, news.
//!
//! One connection asks, another listens; both are made again by themselves. Refuses to be needed: a server that is away, slow, full or
//! read-only costs precision and hits, never a call. What must not be lost lies in the state store.

mod link;
mod news;
mod target;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    error::{ErrorKind, Result},
    fleet::{LocalPubSub, Notice, PubSub, SharedAsk, SharedCache, SharedLimits, SharedTurn, SharedValue},
};
use secrecy::SecretString;
use tokio::sync::broadcast;

use self::{
    link::{Link, Running},
    target::Target,
};
use crate::fleet::{FleetOptions, Scripted};

/// How long [`RedisFleet::connect`] waits for the first connection.
const OPEN: Duration = Duration::from_secs(3);

/// [`SharedLimits`], [`SharedCache`] and [`PubSub`] over one Redis server (6.2 or newer, or one that speaks the same: Valkey, KeyDB).
#[derive(Debug)]
pub struct RedisFleet {
    scripted: Scripted<Link>,
    heard: LocalPubSub,
    channel: String,
    _listener: Running,
}

impl RedisFleet {
    /// Connects to `redis://user:password@host:port/database`, `rediss://…` for TLS with the machine's authorities, or `unix:///path`.
    ///
    /// A server that does not answer is no error: the fleet goes on without it and uses it as soon as it is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the URL will not do, or the server refuses its user or password. The URL is never shown.
    pub async fn connect(url: &SecretString) -> Result<Self> {
        Self::connect_with(url, FleetOptions::default()).await
    }

    /// As [`RedisFleet::connect`], with these options.
    ///
    /// # Errors
    /// As [`RedisFleet::connect`], or the options will not do.
    pub async fn connect_with(url: &SecretString, options: FleetOptions) -> Result<Self> {
        options.check()?;
        let target = Target::parse(url)?;
        let (link, mut first) = Link::start(target.clone());
        let first = match tokio::time::timeout(OPEN, first.wait_for(Option::is_some)).await {
            Ok(Ok(told)) => told.clone().unwrap_or(Ok(())),
            Ok(Err(_)) | Err(_) => Ok(()),
        };
        match first {
            Err(error) if error.kind() == ErrorKind::Config => return Err(error),
            Err(error) => tracing::warn!(target: "connectors::fleet", %error, "the fleet begins without its Redis server"),
            Ok(()) => {}
        }
        let channel = format!("{{{}}}:news", options.name);
        let heard = LocalPubSub::default();
        let listener = tokio::spawn(news::listen(target, channel.clone(), heard.clone()));
        Ok(Self { scripted: Scripted::new(link, &options), heard, channel, _listener: Running(listener) })
    }

    /// Whether the server was lost and is being probed, for health pages.
    pub fn is_lost(&self) -> bool {
        self.scripted.is_lost()
    }
}

#[async_trait]
impl SharedLimits for RedisFleet {
    async fn take(&self, ask: &SharedAsk<'_>) -> Result<SharedTurn> {
        self.scripted.take(ask).await
    }
}

#[async_trait]
impl SharedCache for RedisFleet {
    async fn get(&self, key: &[u8; 32]) -> Result<Option<SharedValue>> {
        self.scripted.get(key).await
    }

    async fn stamp(&self) -> Result<u64> {
        self.scripted.stamp().await
    }

    async fn put(&self, key: &[u8; 32], value: Bytes, tags: &[[u8; 32]], stamp: u64, ttl: Duration) -> Result<()> {
        self.scripted.put(key, value, tags, stamp, ttl).await
    }

    async fn drop_tags(&self, tags: &[[u8; 32]]) -> Result<()> {
        self.scripted.drop_tags(tags).await
    }
}

#[async_trait]
impl PubSub for RedisFleet {
    async fn publish(&self, topic: &str, body: Bytes) -> Result<()> {
        self.scripted.server().publish(&self.channel, &news::message(topic, &body)?).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.heard.subscribe()
    }
}
