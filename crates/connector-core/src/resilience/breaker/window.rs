//! Successes and failures of the last while, in ten buckets of atomics: precise to a tenth of the window.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const BUCKETS: usize = 10;
const COUNT_MASK: u64 = 0xffff;

/// Each bucket packs the number of the time slice it counts (32 bits), failures (16) and successes (16, both saturating).
#[derive(Debug)]
pub(super) struct Window {
    buckets: [AtomicU64; BUCKETS],
    slice_micros: u64,
}

/// What the window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) failures: u64,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let slice_micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX) / BUCKETS as u64;
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), slice_micros: slice_micros.max(1) }
    }

    /// Slices are numbered from 1, so that a bucket never used matches none.
    fn slice(&self, now_micros: u64) -> u64 {
        (now_micros / self.slice_micros + 1) & 0xffff_ffff
    }

    pub(super) fn add(&self, now_micros: u64, failed: bool) {
        let slice = self.slice(now_micros);
        let index = usize::try_from(slice % BUCKETS as u64).unwrap_or(0);
        let bucket = &self.buckets[index];
        let mut word = bucket.load(Ordering::Relaxed);
        loop {
            let (failures, successes) = if word >> 32 == slice { ((word >> 16) & COUNT_MASK, word & COUNT_MASK) } else { (0, 0) };
            let failures = (failures + u64::from(failed)).min(COUNT_MASK);
            let successes = (successes + u64::from(!failed)).min(COUNT_MASK);
            let next = (slice << 32) | (failures << 16) | successes;
            match bucket.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => word = changed,
            }
        }
    }

    pub(super) fn totals(&self, now_micros: u64) -> Totals {
        let now = self.slice(now_micros);
        let mut totals = Totals::default();
        for bucket in &self.buckets {
            let word = bucket.load(Ordering::Relaxed);
            let age = now.wrapping_sub(word >> 32) & 0xffff_ffff;
            if word != 0 && age < BUCKETS as u64 {
                let failures = (word >> 16) & COUNT_MASK;
                totals.failures += failures;
                totals.calls += failures + (word & COUNT_MASK);
            }
        }
        totals
    }

    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let window = Window::new(Duration::from_secs(30));
        window.add(SECOND, true);
        window.add(16 * SECOND, false);
        assert_eq!(window.totals(29 * SECOND), Totals { calls: 2, failures: 1 });
        assert_eq!(window.totals(31 * SECOND), Totals { calls: 1, failures: 0 });
        window.add(61 * SECOND, true);
        assert_eq!(window.totals(61 * SECOND), Totals { calls: 1, failures: 1 });
        window.clear();
        assert_eq!(window.totals(61 * SECOND), Totals::default());
    }

    #[test]
    fn counts_saturate() {
        let window = Window::new(Duration::from_secs(30));
        (0..70_000).for_each(|_| window.add(0, false));
        assert_eq!(window.totals(0), Totals { calls: COUNT_MASK, failures: 0 });
    }
}
