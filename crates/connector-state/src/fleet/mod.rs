//! What a fleet shares over a server that runs Lua scripts: limits and a cache, the same on Redis and over Upstash's REST API.
//!
//! Owns the scripts, the keys and when the server is asked. Refuses to let a call wait for it: each question has a budget, and once one went
//! unanswered nobody asks until the server has answered a probe in the background. Names of tenants, connections and parameters leave the
//! process only as digests. Cached values are vendors' replies and lie there as they came: the server must be trusted like the state store.
//!
//! All keys begin with `{connectors}:`, so that a cluster keeps them in one slot. The server must not evict keys at will
//! (`maxmemory-policy noeviction`): an evicted cell is a full quota again. An evicted tag only costs a miss.

mod ask;
mod text;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    error::{Error, Result},
    fleet::{LONGEST_CACHED, MOST_CACHED, MOST_LEAD, SETTLE, SharedAsk, SharedCache, SharedLimits, SharedTurn, SharedValue},
};
use sha2::{Digest as _, Sha256};

pub(crate) use ask::{Asked, Eval, Item, Script};

static TAKE: Script = Script::new(include_str!("take.lua"));
static STAMP: Script = Script::new(include_str!("stamp.lua"));
static GET: Script = Script::new(include_str!("get.lua"));
static PUT: Script = Script::new(include_str!("put.lua"));
static DROP: Script = Script::new(include_str!("drop.lua"));

/// How long a drop is remembered: longer than anything is kept.
const TAGS_KEPT: Duration = Duration::from_secs(25 * 3_600);
/// The most tags of one value or one drop; the scripts must stay short, because the server does nothing else meanwhile.
const MOST_TAGS: usize = 256;

/// How a fleet uses its server.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    pub(crate) name: String,
    pub(crate) budget: Duration,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self { name: "connectors".to_owned(), budget: Duration::from_millis(50) }
    }
}

impl FleetOptions {
    /// The name of the fleet (default `connectors`); fleets of other names on the same server know nothing of each other. Letters, digits, `-`
    /// and `_`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The longest a call waits for the server's answer (default 50 ms). Longer than the way there and back, or the server counts as lost: a hub
    /// far from its server needs more. It is what the calls of one moment pay when the server hangs. A call that waits for a limit gives up after
    /// 250 ms in any case, so a larger budget serves the cache alone.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(plain) {
            return Err(Error::config("the name of a fleet must be 1 to 64 letters, digits, `-` and `_`"));
        }
        if self.budget.is_zero() {
            return Err(Error::config("the budget for the fleet's server must be above 0"));
        }
        Ok(())
    }
}

/// Limits and cache over a server.
#[derive(Debug)]
pub(crate) struct Scripted<E> {
    asked: Arc<Asked<E>>,
    /// `{connectors}`.
    slot: String,
}

impl<E: Eval> Scripted<E> {
    /// Over this server. `options` were checked.
    pub(crate) fn new(server: E, options: &FleetOptions) -> Self {
        let slot = format!("{{{}}}", options.name);
        let asked = Asked::new(server, options.budget, &STAMP, format!("{slot}:clock"));
        Self { asked: Arc::new(asked), slot }
    }

    pub(crate) fn server(&self) -> &E {
        self.asked.server()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.asked.is_lost()
    }

    fn key(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", self.slot)
    }

    fn clock(&self) -> String {
        format!("{}:clock", self.slot)
    }

    fn tag(&self, tag: &[u8; 32]) -> String {
        self.key("tag", &hex::encode(tag))
    }
}

#[async_trait]
impl<E: Eval> SharedLimits for Scripted<E> {
    async fn take(&self, ask: &SharedAsk<'_>) -> Result<SharedTurn> {
        let mut keys = vec![format!("{}:born", self.slot)];
        let stray = ask.stray.map_or_else(|| "-1".to_owned(), |ago| micros(ago).to_string());
        let mut args = vec![micros(SETTLE).to_string(), micros(MOST_LEAD).to_string(), micros(ask.lead.min(MOST_LEAD)).to_string(), stray];
        for cell in ask.cells {
            // Half of the digest tells quotas apart as well, and is half as long.
            keys.push(self.key("limit", &hex::encode(&Sha256::digest(cell.key.as_bytes())[..16])));
            args.extend([micros(cell.interval).max(1).to_string(), cell.burst.max(1).to_string(), cell.shares.to_string()]);
        }
        let said = self.asked.ask(&TAKE, &keys, &args).await?;
        let [Item::Int(what), Item::Int(after)] = said[..] else { return Err(misunderstood()) };
        let after = Duration::from_micros(u64::try_from(after).unwrap_or(0));
        match what {
            0 => Ok(SharedTurn::Taken(after)),
            1 => Ok(SharedTurn::Refused(after)),
            2 => Ok(SharedTurn::Settling(after)),
            _ => Err(misunderstood()),
        }
    }
}

#[async_trait]
impl<E: Eval> SharedCache for Scripted<E> {
    async fn get(&self, key: &[u8; 32]) -> Result<Option<SharedValue>> {
        let said = self.asked.ask(&GET, &[self.key("value", &hex::encode(key))], &[self.key("tag", "")]).await?;
        match &said[..] {
            [] => Ok(None),
            [Item::Int(age), Item::Text(value)] => {
                let value = text::decode(value).ok_or_else(misunderstood)?;
                Ok(Some(SharedValue { value, age: Duration::from_micros(u64::try_from(*age).unwrap_or(0)) }))
            }
            _ => Err(misunderstood()),
        }
    }

    async fn stamp(&self) -> Result<u64> {
        match self.asked.ask(&STAMP, &[self.clock()], &[]).await?[..] {
            [Item::Int(now)] => u64::try_from(now).map_err(|_| misunderstood()),
            _ => Err(misunderstood()),
        }
    }

    async fn put(&self, key: &[u8; 32], value: Bytes, tags: &[[u8; 32]], stamp: u64, ttl: Duration) -> Result<()> {
        if value.len() > MOST_CACHED || tags.len() > MOST_TAGS || ttl < Duration::from_millis(1) {
            return Ok(());
        }
        let mut keys = vec![self.clock(), self.key("value", &hex::encode(key))];
        let mut names = String::with_capacity(tags.len() * 64);
        for tag in tags {
            write!(names, "{}", hex::encode(tag)).map_err(|error| Error::internal("a tag cannot be written").with_source(error))?;
            keys.push(self.tag(tag));
        }
        let ttl = ttl.min(LONGEST_CACHED).as_millis().to_string();
        let args = [stamp.to_string(), ttl, TAGS_KEPT.as_millis().to_string(), names, text::encode(&value)];
        self.asked.ask(&PUT, &keys, &args).await.map(drop)
    }

    async fn drop_tags(&self, tags: &[[u8; 32]]) -> Result<()> {
        for tags in tags.chunks(MOST_TAGS) {
            let keys: Vec<String> = std::iter::once(self.clock()).chain(tags.iter().map(|tag| self.tag(tag))).collect();
            self.asked.ask(&DROP, &keys, &[TAGS_KEPT.as_millis().to_string()]).await?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    // Lua counts exactly up to 2^53.
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(1 << 50)
}

fn misunderstood() -> Error {
    Error::internal("the fleet's server answered a script with something else than the script gives; check whether another program uses its keys")
}
