//! The data keys of one tenant that this process has open: the one that seals now, those that were asked for, the key of digests.
//!
//! What is on the way of every payload takes one shared lock for a few instructions and asks nobody. Keys are wiped when the last user lets go.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use super::row::{CHUNK, MOST_AGE};
use crate::{aead::Cipher, key::DataKey};

/// Data keys of a tenant that are kept open. One a day is made, so this is two months of them.
const MOST_OPEN: usize = 64;
/// A key that could not be replaced in time goes on for this many milliseconds at most, counted from when it was made.
pub(super) const MOST_OVERDUE: u64 = 7 * MOST_AGE;
/// How long it is left alone before its replacement is tried again, in milliseconds.
const AGAIN: u64 = 60_000;

/// The data key that seals now.
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) cipher: Arc<Cipher>,
    made_at: u64,
    /// Unix milliseconds after which somebody looks for another one.
    due: AtomicU64,
    /// Seals that are still ours.
    left: AtomicI64,
}

impl Current {
    pub(super) fn new(number: u64, cipher: Arc<Cipher>, made_at: u64) -> Self {
        let left = AtomicI64::new(i64::try_from(CHUNK).unwrap_or(i64::MAX));
        Self { number, cipher, made_at, due: AtomicU64::new(made_at.saturating_add(MOST_AGE)), left }
    }

    /// Takes one of the seals.
    fn take(&self) -> bool {
        self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

#[derive(Default)]
struct Known {
    current: Option<Arc<Current>>,
    opened: HashMap<u64, Arc<Cipher>>,
    digest: Option<Arc<DataKey>>,
}

/// One tenant's.
#[derive(Default)]
pub(super) struct Ring {
    known: RwLock<Known>,
    /// Held while a key is fetched or made, so that many who need it cost one opening.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// Unix milliseconds of the last use.
    used: AtomicU64,
}

impl Ring {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn touch(&self, now: u64) {
        self.used.store(now, Ordering::Relaxed);
    }

    pub(super) fn idle_since(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The key to seal with, and one seal of it. `None`: there is none, it is due, or its seals are used up.
    pub(super) fn take(&self, now: u64) -> Option<Arc<Current>> {
        let current = self.read().current.clone()?;
        (now < current.due.load(Ordering::Relaxed) && current.take()).then_some(current)
    }

    /// The key before, where no other one can be had: sealing goes on for a while, and a new key is looked for again in a minute.
    pub(super) fn take_overdue(&self, now: u64) -> Option<Arc<Current>> {
        let current = self.read().current.clone()?;
        let end = current.made_at.saturating_add(MOST_OVERDUE);
        if now >= end || !current.take() {
            return None;
        }
        current.due.store(now.saturating_add(AGAIN).min(end), Ordering::Relaxed);
        Some(current)
    }

    pub(super) fn set_current(&self, current: Arc<Current>) {
        self.remember(current.number, current.cipher.clone());
        self.write().current = Some(current);
    }

    pub(super) fn opened(&self, number: u64) -> Option<Arc<Cipher>> {
        self.read().opened.get(&number).cloned()
    }

    pub(super) fn remember(&self, number: u64, cipher: Arc<Cipher>) {
        let mut known = self.write();
        if known.opened.len() >= MOST_OPEN
            && let Some(oldest) = known.opened.keys().min().copied()
        {
            known.opened.remove(&oldest);
        }
        known.opened.insert(number, cipher);
    }

    pub(super) fn forget(&self, number: u64) {
        self.write().opened.remove(&number);
    }

    pub(super) fn digest(&self) -> Option<Arc<DataKey>> {
        self.read().digest.clone()
    }

    pub(super) fn set_digest(&self, key: Arc<DataKey>) {
        self.write().digest = Some(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_seals_until_it_is_due_or_used_up_and_a_week_if_there_is_no_other() {
        let ring = Ring::default();
        assert!(ring.take(0).is_none() && ring.take_overdue(0).is_none());
        ring.set_current(Arc::new(Current::new(1, Arc::new(Cipher::new(&[1; 32])), 1_000)));
        assert!(ring.take(1_000 + MOST_AGE - 1).is_some());
        let late = 1_000 + MOST_AGE;
        assert!(ring.take(late).is_none());
        assert!(ring.take_overdue(late).is_some());
        assert!(ring.take(late + AGAIN - 1).is_some() && ring.take(late + AGAIN).is_none());
        let end = 1_000 + MOST_OVERDUE;
        assert!(ring.take_overdue(end - 1).is_some());
        assert!(ring.take(end).is_none() && ring.take_overdue(end).is_none());

        ring.set_current(Arc::new(Current::new(2, Arc::new(Cipher::new(&[2; 32])), 1_000)));
        for _ in 0..CHUNK {
            assert!(ring.take(1_000).is_some());
        }
        assert!(ring.take(1_000).is_none() && ring.take_overdue(1_000).is_none());
        assert!(ring.opened(1).is_some());
    }

    #[test]
    fn only_the_newest_keys_stay_open() {
        let ring = Ring::default();
        for number in 0..MOST_OPEN as u64 + 3 {
            ring.remember(number, Arc::new(Cipher::new(&[1; 32])));
        }
        assert!(ring.opened(2).is_none() && ring.opened(3).is_some());
        ring.forget(3);
        assert!(ring.opened(3).is_none());
    }
}
