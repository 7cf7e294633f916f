//! What a fleet shares, kept in this process: the rules that Redis and Upstash follow, written down once in Rust.
//!
//! For tests and for several runtimes in one process. Refuses to be shared further: another process sees nothing of it.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{LONGEST_CACHED, MOST_CACHED, MOST_LEAD, SETTLE, SharedAsk, SharedCache, SharedLimits, SharedTurn, SharedValue};
use crate::{
    clock::Instant,
    error::{Error, ErrorKind, Result},
};

/// A kept reply and what may make it stale.
#[derive(Debug)]
struct Kept {
    value: Bytes,
    tags: Vec<[u8; 32]>,
    stamp: u64,
    until: u64,
}

#[derive(Debug, Default)]
struct Held {
    /// When counting began, in microseconds of this store; `None`: nobody has asked yet.
    born: Option<u64>,
    /// Theoretical arrival times.
    cells: HashMap<std::sync::Arc<str>, u64>,
    kept: HashMap<[u8; 32], Kept>,
    /// When a tag was last dropped.
    dropped: HashMap<[u8; 32], u64>,
    /// The newest stamp given out or drop made.
    newest: u64,
}

/// Shared limits and a shared cache within one process. Time is tokio's.
#[derive(Debug)]
pub struct MemoryFleet {
    held: Mutex<Held>,
    epoch: Instant,
    away: AtomicBool,
}

impl Default for MemoryFleet {
    fn default() -> Self {
        Self { held: Mutex::default(), epoch: Instant::now(), away: AtomicBool::new(false) }
    }
}

impl MemoryFleet {
    /// As if the network to it was cut (`false`) and mended (`true`).
    pub fn reachable(&self, reachable: bool) {
        self.away.store(!reachable, Ordering::SeqCst);
    }

    /// As if it was started anew with nothing in it.
    pub fn forget(&self) {
        *self.lock() = Held::default();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<(u64, MutexGuard<'_, Held>)> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Transient, "the shared store is out of reach"));
        }
        // A second on top, so that times before it can be told from zero.
        Ok((micros(self.epoch.elapsed()).saturating_add(1_000_000), self.lock()))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[async_trait]
impl SharedLimits for MemoryFleet {
    async fn take(&self, ask: &SharedAsk<'_>) -> Result<SharedTurn> {
        let (now, mut held) = self.reach()?;
        let (settle, lead) = (micros(SETTLE), micros(ask.lead.min(MOST_LEAD)));
        let strayed = |born: u64| ask.stray.is_some_and(|ago| now.saturating_sub(micros(ago)) > born + settle);
        let born = match held.born {
            Some(born) if !strayed(born) => born,
            _ => *held.born.insert(now),
        };
        let open = born + settle;
        if now < open {
            return Ok(SharedTurn::Settling(Duration::from_micros(open - now)));
        }
        let mut wait = 0;
        let mut arrivals = Vec::with_capacity(ask.cells.len());
        for cell in ask.cells {
            let interval = micros(cell.interval).max(1);
            let full = interval.saturating_mul(u64::from(cell.burst.max(1)));
            let spent = interval.saturating_mul(u64::from(cell.burst.max(cell.shares).max(1)));
            // Empty when counting began, and never so far ahead that a clock which jumped back would stop everything.
            let stored = held.cells.get(&cell.key).copied().unwrap_or(0).min(now + spent + micros(MOST_LEAD));
            let arrival = stored.max(open.saturating_add(spent)).max(now);
            wait = wait.max((arrival + interval).saturating_sub(full).saturating_sub(now));
            arrivals.push((cell, arrival, interval));
        }
        if wait > lead {
            return Ok(SharedTurn::Refused(Duration::from_micros((wait - lead).max(1))));
        }
        for (cell, arrival, interval) in arrivals {
            held.cells.insert(cell.key.clone(), arrival.max(now + wait) + interval);
        }
        Ok(SharedTurn::Taken(Duration::from_micros(wait)))
    }
}

#[async_trait]
impl SharedCache for MemoryFleet {
    async fn get(&self, key: &[u8; 32]) -> Result<Option<SharedValue>> {
        let (now, held) = self.reach()?;
        let fresh = |kept: &&Kept| kept.until > now && kept.tags.iter().all(|tag| held.dropped.get(tag).is_none_or(|dropped| *dropped < kept.stamp));
        let found = held.kept.get(key).filter(fresh);
        Ok(found.map(|kept| SharedValue { value: kept.value.clone(), age: Duration::from_micros(now.saturating_sub(kept.stamp)) }))
    }

    async fn stamp(&self) -> Result<u64> {
        let (now, mut held) = self.reach()?;
        held.newest = held.newest.max(now);
        Ok(held.newest)
    }

    async fn put(&self, key: &[u8; 32], value: Bytes, tags: &[[u8; 32]], stamp: u64, ttl: Duration) -> Result<()> {
        let (now, mut held) = self.reach()?;
        let stale = tags.iter().any(|tag| held.dropped.get(tag).is_some_and(|dropped| *dropped >= stamp));
        if value.len() > MOST_CACHED || ttl.is_zero() || stale || stamp > held.newest {
            return Ok(());
        }
        let until = now.saturating_add(micros(ttl.min(LONGEST_CACHED)));
        held.kept.insert(*key, Kept { value, tags: tags.to_vec(), stamp, until });
        Ok(())
    }

    async fn drop_tags(&self, tags: &[[u8; 32]]) -> Result<()> {
        let (now, mut held) = self.reach()?;
        held.newest = held.newest.max(now) + 1;
        let at = held.newest;
        held.dropped.extend(tags.iter().map(|tag| (*tag, at)));
        Ok(())
    }
}
