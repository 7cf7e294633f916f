//! State per key that cleans up after itself: a value that has gone back to what a fresh one would be is forgotten.

use std::{
    borrow::Borrow,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

use crate::hash::BuildFolded;

/// How many new keys are let in between two sweeps.
const SWEEP_EVERY: usize = 256;

/// Whether forgetting a value would change nothing.
pub(crate) trait Idle {
    fn is_idle(&self) -> bool;
}

/// Values by key, shared.
#[derive(Debug)]
pub(crate) struct Keyed<K: Eq + Hash, T> {
    map: DashMap<K, Arc<T>, BuildFolded>,
    new: AtomicUsize,
}

impl<K: Eq + Hash, T> Default for Keyed<K, T> {
    fn default() -> Self {
        Self { map: DashMap::default(), new: AtomicUsize::new(0) }
    }
}

impl<K: Eq + Hash + Clone, T: Idle> Keyed<K, T> {
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<Arc<T>>
    where
        K: Borrow<Q>,
    {
        self.map.get(key).map(|value| value.clone())
    }

    /// What `look` makes of the value, if there is one; quicker than sharing it.
    pub(crate) fn with<R>(&self, key: &K, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.map.get(key).map(|value| look(&value))
    }

    pub(crate) fn get_or_insert(&self, key: &K, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(found) = self.get(key) {
            return found;
        }
        if self.new.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.sweep();
        }
        self.map.entry(key.clone()).or_insert_with(|| Arc::new(make())).clone()
    }

    /// As [`Keyed::get_or_insert`], but `None` if that would make more than `cap` keys even after a sweep.
    pub(crate) fn insert_within(&self, key: &K, cap: usize, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        if self.map.len() >= cap {
            // Sweeping walks every key, so a flood of new keys must not make each of them pay for it.
            if !self.new.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
                return None;
            }
            self.sweep();
            if self.map.len() >= cap {
                return None;
            }
        }
        Some(self.get_or_insert(key, make))
    }

    fn sweep(&self) {
        // A value somebody holds may be about to change.
        self.map.retain(|_, value| Arc::strong_count(value) > 1 || !value.is_idle());
    }

    pub(crate) fn for_each(&self, mut f: impl FnMut(&K, &T)) {
        for entry in &self.map {
            f(entry.key(), entry.value());
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Value(bool);

    impl Idle for Value {
        fn is_idle(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn idle_values_are_forgotten_busy_and_held_ones_stay() {
        let keyed: Keyed<usize, Value> = Keyed::default();
        let held = keyed.get_or_insert(&0, || Value(true));
        keyed.get_or_insert(&1, || Value(false));
        (2..10 * SWEEP_EVERY).for_each(|key| drop(keyed.get_or_insert(&key, || Value(true))));
        assert!(keyed.len() <= SWEEP_EVERY + 2, "{}", keyed.len());
        assert!(Arc::ptr_eq(&held, &keyed.get_or_insert(&0, || Value(true))));
        assert!(keyed.get(&1).is_some());
    }

    #[test]
    fn a_cap_holds_while_nothing_is_idle() {
        let keyed: Keyed<usize, Value> = Keyed::default();
        let admitted = (0..10_000).filter(|key| keyed.insert_within(key, 50, || Value(false)).is_some()).count();
        assert_eq!((admitted, keyed.len()), (50, 50));
    }
}
