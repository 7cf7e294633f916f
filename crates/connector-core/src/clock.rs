//! Time and chance, injected: every wait, expiry and jitter in this workspace asks these traits.
//!
//! Monotonic time is tokio's, so `tokio::time::pause` moves it in tests; wall time is only for signatures and absolute
//! expiries that a vendor names.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

pub use tokio::time::Instant;

/// A source of time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Monotonic time for waits, windows and breakers.
    fn now(&self) -> Instant;
    /// Wall time for signature windows and expiries a vendor gave as a date.
    fn wall(&self) -> SystemTime;
}

/// The real clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The real clock behind an [`Arc`], as most configurations want it.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock whose wall time a test sets and moves; monotonic time stays tokio's (pause it with `tokio::time::pause`).
#[derive(Debug, Clone)]
pub struct ManualClock {
    wall: Arc<Mutex<SystemTime>>,
}

impl ManualClock {
    /// Starts at this wall time.
    pub fn at(wall: SystemTime) -> Self {
        Self { wall: Arc::new(Mutex::new(wall)) }
    }

    /// Starts this many seconds after the Unix epoch.
    pub fn at_unix(seconds: u64) -> Self {
        Self::at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Moves the wall time forward.
    pub fn advance(&self, by: Duration) {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since the Unix epoch; times before it count as 0.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Milliseconds since the Unix epoch; times before it count as 0.
pub fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// A source of jitter. Not for secrets.
pub trait Rng: Debug + Send + Sync + 'static {
    /// A number uniformly in `0.0..1.0`.
    fn unit(&self) -> f64;
}

/// Thread-local randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadRng;

impl Rng for ThreadRng {
    fn unit(&self) -> f64 {
        fastrand::f64()
    }
}

/// A seeded source, so that a run can be repeated.
#[derive(Debug)]
pub struct SeededRng(Mutex<fastrand::Rng>);

impl SeededRng {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Rng for SeededRng {
    fn unit(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}
