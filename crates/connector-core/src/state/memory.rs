//! The in-memory key-value store, for tests and for programs that keep nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, Entry, Namespace, PutOutcome, StateStore};
use crate::{
    clock::{Clock, Instant, SystemClock},
    error::Result,
};

/// A [`StateStore`] in memory. Forgets everything with the process.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    map: Mutex<BTreeMap<(String, String, String), Slot>>,
}

#[derive(Debug)]
struct Slot {
    /// `None` after a delete: the version must go on growing when the key comes back.
    value: Option<Bytes>,
    version: u64,
    expires: Option<Instant>,
}

impl Slot {
    fn live(&self, now: Instant) -> Option<Entry> {
        if self.expires.is_some_and(|at| at <= now) {
            return None;
        }
        self.value.clone().map(|value| Entry { value, version: self.version })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(SystemClock::shared())
    }
}

impl MemoryStore {
    /// An empty store that expires entries by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, map: Mutex::new(BTreeMap::new()) }
    }
}

fn full(namespace: Namespace<'_>, key: &str) -> (String, String, String) {
    (namespace.tenant.as_str().to_owned(), namespace.name.to_owned(), key.to_owned())
}

fn holds(condition: Condition, current: Option<&Entry>) -> bool {
    match condition {
        Condition::Any => true,
        Condition::Absent => current.is_none(),
        Condition::Is(version) => current.is_some_and(|entry| entry.version == version),
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(&full(namespace, key)).and_then(|slot| slot.live(self.clock.now())))
    }

    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome> {
        let now = self.clock.now();
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = map.entry(full(namespace, key)).or_insert(Slot { value: None, version: 0, expires: None });
        let current = slot.live(now);
        if !holds(condition, current.as_ref()) {
            return Ok(PutOutcome::Refused(current));
        }
        *slot = Slot { value: Some(value), version: slot.version + 1, expires: ttl.map(|ttl| now + ttl) };
        Ok(PutOutcome::Stored(slot.version))
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        let now = self.clock.now();
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = map.get_mut(&full(namespace, key)) else { return Ok(false) };
        let current = slot.live(now);
        if current.is_none() || !holds(condition, current.as_ref()) {
            return Ok(false);
        }
        slot.value = None;
        Ok(true)
    }

    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        let now = self.clock.now();
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let start = full(namespace, after.filter(|after| *after > prefix).unwrap_or(prefix));
        Ok(map
            .range(start..)
            .take_while(|((tenant, name, key), _)| tenant == namespace.tenant.as_str() && name == namespace.name && key.starts_with(prefix))
            .filter(|((_, _, key), _)| after.is_none_or(|after| key.as_str() > after))
            .filter_map(|((_, _, key), slot)| slot.live(now).map(|entry| (key.clone(), entry)))
            .take(limit)
            .collect())
    }
}
