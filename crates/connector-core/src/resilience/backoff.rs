//! How long to wait before the next send: full jitter, `U(0, min(cap, base · 2^k))`, as a [`backon`] backoff.
//!
//! backon's own exponential backoff adds jitter on top of the delay and owns its randomness; this one spreads from zero and
//! draws from the injected [`Rng`].

use std::{sync::Arc, time::Duration};

use crate::clock::{Rng, ThreadRng};

/// The longest delay before send `k + 2`: `min(cap, base · 2^k)`. Overflow gives `cap`.
pub fn ceiling(base: Duration, cap: Duration, k: u32) -> Duration {
    let doubled = 1u32.checked_shl(k).and_then(|factor| base.checked_mul(factor));
    if base.is_zero() { Duration::ZERO } else { doubled.map_or(cap, |doubled| doubled.min(cap)) }
}

/// One delay drawn uniformly from zero to [`ceiling`].
pub fn full_jitter(base: Duration, cap: Duration, k: u32, rng: &dyn Rng) -> Duration {
    let ceiling = ceiling(base, cap, k);
    Duration::try_from_secs_f64(ceiling.as_secs_f64() * rng.unit()).map_or(ceiling, |delay| delay.min(ceiling))
}

/// Builds [`FullJitter`]; usable wherever backon takes a [`backon::BackoffBuilder`].
#[derive(Debug, Clone)]
pub struct FullJitterBuilder {
    base: Duration,
    cap: Duration,
    retries: usize,
    rng: Arc<dyn Rng>,
}

impl FullJitterBuilder {
    /// Delays from `base` doubling to `cap`, for as many retries as asked for.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, retries: usize::MAX, rng: Arc::new(ThreadRng) }
    }

    /// Ends after this many delays.
    #[must_use]
    pub fn with_retries(mut self, retries: usize) -> Self {
        self.retries = retries;
        self
    }

    /// Draws from this source.
    #[must_use]
    pub fn with_rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = rng;
        self
    }
}

impl backon::BackoffBuilder for FullJitterBuilder {
    type Backoff = FullJitter;

    fn build(self) -> FullJitter {
        FullJitter { builder: self, k: 0 }
    }
}

/// Gives one delay after the other.
#[derive(Debug, Clone)]
pub struct FullJitter {
    builder: FullJitterBuilder,
    k: u32,
}

impl Iterator for FullJitter {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let FullJitterBuilder { base, cap, retries, rng } = &self.builder;
        if usize::try_from(self.k).unwrap_or(usize::MAX) >= *retries {
            return None;
        }
        let delay = full_jitter(*base, *cap, self.k, &**rng);
        self.k = self.k.saturating_add(1);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder as _;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::clock::SeededRng;

    /// Always draws the same number.
    #[derive(Debug)]
    struct Fixed(f64);

    impl Rng for Fixed {
        fn unit(&self) -> f64 {
            self.0
        }
    }

    proptest! {
        #[test]
        fn a_delay_never_leaves_its_range(base_ms in 0u64..600_000, cap_ms in 0u64..600_000, k in 0u32..200, unit in 0.0f64..1.0) {
            let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
            let exact = u128::from(base_ms).checked_shl(k.min(100)).unwrap_or(u128::MAX).min(u128::from(cap_ms));
            prop_assert_eq!(ceiling(base, cap, k).as_millis(), if base_ms == 0 { 0 } else { exact });
            let delay = full_jitter(base, cap, k, &Fixed(unit));
            prop_assert!(delay <= ceiling(base, cap, k));
            let expected = ceiling(base, cap, k).as_secs_f64() * unit;
            prop_assert!((delay.as_secs_f64() - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn overflow_gives_the_cap() {
        assert_eq!(ceiling(Duration::MAX, Duration::from_secs(10), 199), Duration::from_secs(10));
        assert_eq!(ceiling(Duration::from_secs(u64::MAX), Duration::MAX, 3), Duration::MAX);
        assert!(full_jitter(Duration::MAX, Duration::MAX, 40, &Fixed(0.999_999)) <= Duration::MAX);
    }

    #[test]
    fn a_thousand_clients_spread_out() {
        let rng = SeededRng::new(7);
        let mut bins = [0u32; 10];
        for _ in 0..1_000 {
            let delay = full_jitter(Duration::from_secs(1), Duration::from_secs(10), 0, &rng);
            bins[usize::try_from(delay.as_millis() / 100).unwrap()] += 1;
        }
        assert!(bins.iter().all(|count| *count < 300), "{bins:?}");
    }

    #[test]
    fn the_builder_ends_after_its_retries() {
        let builder = FullJitterBuilder::new(Duration::from_millis(100), Duration::from_millis(350)).with_retries(4).with_rng(Arc::new(Fixed(0.5)));
        let delays: Vec<u128> = builder.build().map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [50, 100, 175, 175]);
    }
}
