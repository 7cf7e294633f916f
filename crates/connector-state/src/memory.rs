//! Everything in memory, for tests and for programs that keep nothing. Same behaviour as SQLite, forgotten with the process.
//!
//! Refuses durability: "durable when it returns" means here "visible to every later call".

mod audit;
mod events;
mod jobs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    clock::{Clock, SystemClock, unix_millis},
    error::Result,
    state::{Condition, Entry, MemoryStore, Namespace, PutOutcome, StateStore},
};

/// A [`Store`](connector_core::state::Store) in memory.
#[derive(Debug)]
pub struct MemoryState {
    kv: MemoryStore,
    clock: Arc<dyn Clock>,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    events: events::Events,
    jobs: jobs::Jobs,
    audit: audit::Audit,
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new(SystemClock::shared())
    }
}

impl MemoryState {
    /// An empty store that measures leases and expiries by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { kv: MemoryStore::new(clock.clone()), clock, tables: Mutex::default() }
    }

    fn now(&self) -> u64 {
        unix_millis(self.clock.wall())
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // No method leaves the tables half changed, so a panic elsewhere does not spoil them.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for MemoryState {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        self.kv.get(namespace, key).await
    }

    async fn put(
        &self,
        namespace: Namespace<'_>,
        key: &str,
        value: Bytes,
        condition: Condition,
        ttl: Option<std::time::Duration>,
    ) -> Result<PutOutcome> {
        self.kv.put(namespace, key, value, condition, ttl).await
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        self.kv.delete(namespace, key, condition).await
    }

    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        self.kv.scan(namespace, prefix, after, limit).await
    }
}
