//! A circuit breaker: when a host keeps failing, calls to it are refused at once until one probe has succeeded.
//!
//! It opens after a number of failures in a row, or when a share of the calls in a sliding window failed. Client errors,
//! authentication and throttling are answers and never count. One caller at a time may probe; a probe that is cancelled gives
//! its place back at once, one that hangs loses it when its lease ends. Refusals read one atomic word and take no lock.

mod core;
mod set;
mod window;

/// Where the state machine gets its atomics from; a model checker supplies its own.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use self::{
    core::{Core, Entry, Phase},
    window::Window,
};
use super::{keyed::Idle, policy::BreakerPolicy};
use crate::{
    clock::{Clock, Instant, Rng, SystemClock, ThreadRng},
    error::{Error, ErrorKind, Result, Retry},
};

pub use set::Breakers;

/// How long a probe may take where nothing else is said.
const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// What a call tells about the health of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host did what it was asked.
    Success,
    /// The host answered, but with a refusal (4xx). Never counts while closed; as a probe it proves the host alive.
    Answered,
    /// The host failed.
    Failure,
    /// Nothing is known: the call was throttled, refused locally or given up.
    Ignored,
}

impl Outcome {
    /// What a result tells.
    pub fn of<T>(result: &Result<T>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(error) => match error.kind() {
                kind if kind.counts_in_breaker() => Self::Failure,
                ErrorKind::AuthExpired
                | ErrorKind::Forbidden
                | ErrorKind::NotFound
                | ErrorKind::Invalid
                | ErrorKind::Conflict
                | ErrorKind::CursorExpired
                | ErrorKind::Partial => Self::Answered,
                _ => Self::Ignored,
            },
        }
    }
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One probe is under way; other calls are refused.
    HalfOpen,
    /// Calls are refused.
    Open,
}

impl BreakerState {
    /// 0 closed, 1 half-open, 2 open; the value of the metric `integration_breaker_state`.
    pub fn as_gauge(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// A breaker at one moment, for health pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerSnapshot {
    /// The state.
    pub state: BreakerState,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Calls in the sliding window.
    pub calls: u64,
    /// Failed calls in the sliding window.
    pub failures: u64,
    /// How often it has opened.
    pub trips: u64,
    /// How long until the next probe may go, while open or half-open.
    pub retry_after: Option<Duration>,
}

/// One host's breaker.
#[derive(Debug)]
pub struct Breaker {
    core: Core,
    window: Window,
    consecutive: AtomicU32,
    failed_probes: AtomicU32,
    trips: AtomicU64,
    policy: BreakerPolicy,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    epoch: Instant,
}

impl Breaker {
    /// A closed breaker with the real clock.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self::with_clock(policy, SystemClock::shared(), Arc::new(ThreadRng))
    }

    /// A closed breaker.
    pub fn with_clock(policy: BreakerPolicy, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        let epoch = clock.now();
        Self {
            core: Core::new(),
            window: Window::new(policy.window),
            consecutive: AtomicU32::new(0),
            failed_probes: AtomicU32::new(0),
            trips: AtomicU64::new(0),
            policy,
            clock,
            rng,
            epoch,
        }
    }

    fn now(&self) -> u64 {
        micros(self.clock.now().saturating_duration_since(self.epoch))
    }

    /// Asks to make a call. A probe's permit expires after `lease`, the longest the call may take.
    ///
    /// # Errors
    /// [`ErrorKind::CircuitOpen`] with the time after which to try again.
    pub fn try_acquire(&self, lease: Duration) -> Result<Permit<'_>> {
        self.try_acquire_with(|| lease)
    }

    /// As [`Breaker::try_acquire`], asking for the lease only when it matters.
    pub(crate) fn try_acquire_with(&self, lease: impl FnOnce() -> Duration) -> Result<Permit<'_>> {
        // A closed breaker needs no clock.
        if let Phase::Closed { generation } = self.core.phase() {
            return Ok(Permit { breaker: self, generation, probe: false, open: true });
        }
        let now = self.now();
        match self.core.enter(now, micros(lease())) {
            Entry::Pass { generation } => Ok(Permit { breaker: self, generation, probe: false, open: true }),
            Entry::Probe { generation } => Ok(Permit { breaker: self, generation, probe: true, open: true }),
            Entry::Refuse { until } => Err(Error::new(ErrorKind::CircuitOpen, "the circuit breaker is open after repeated failures of the host")
                .with_retry(Retry::After(Duration::from_micros(until - now)))),
        }
    }

    /// Makes a call unless the breaker is open, and counts how it went. Works on any async function.
    ///
    /// # Errors
    /// [`ErrorKind::CircuitOpen`], or whatever the call reports.
    pub async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.try_acquire(DEFAULT_LEASE)?;
        let result = call.await;
        permit.finish(Outcome::of(&result));
        result
    }

    /// The state.
    pub fn state(&self) -> BreakerState {
        match self.core.phase() {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// The state with its counts.
    pub fn snapshot(&self) -> BreakerSnapshot {
        let now = self.now();
        let totals = self.window.totals(now);
        let retry_after = match self.core.phase() {
            Phase::Closed { .. } => None,
            Phase::Open { until } | Phase::HalfOpen { until } => Some(Duration::from_micros(until.saturating_sub(now))),
        };
        BreakerSnapshot {
            state: self.state(),
            consecutive_failures: self.consecutive.load(Ordering::Relaxed),
            calls: totals.calls,
            failures: totals.failures,
            trips: self.trips.load(Ordering::Relaxed),
            retry_after,
        }
    }

    /// A result while closed.
    fn count(&self, generation: u64, failed: bool) -> Option<BreakerState> {
        if self.core.phase() != (Phase::Closed { generation }) {
            // It began before the breaker opened and says nothing new.
            return None;
        }
        let now = self.now();
        self.window.add(now, failed);
        if !failed {
            if self.consecutive.load(Ordering::Relaxed) != 0 {
                self.consecutive.store(0, Ordering::Relaxed);
            }
            return None;
        }
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let totals = self.window.totals(now);
        let rate_is_bad =
            totals.calls >= u64::from(self.policy.min_calls) && totals.failures * 100 >= totals.calls * u64::from(self.policy.failure_percent);
        if consecutive < self.policy.threshold && !rate_is_bad {
            return None;
        }
        if !self.core.trip(generation, now.saturating_add(self.reset_after(0))) {
            return None;
        }
        self.opened();
        Some(BreakerState::Open)
    }

    /// What a probe found.
    fn conclude(&self, generation: u64, outcome: Outcome) -> Option<BreakerState> {
        match outcome {
            Outcome::Success | Outcome::Answered => {
                if !self.core.close(generation) {
                    return None;
                }
                self.failed_probes.store(0, Ordering::Relaxed);
                Some(BreakerState::Closed)
            }
            Outcome::Failure => {
                let failed = self.failed_probes.load(Ordering::Relaxed).saturating_add(1);
                if !self.core.reopen(generation, self.now().saturating_add(self.reset_after(failed))) {
                    return None;
                }
                self.failed_probes.store(failed, Ordering::Relaxed);
                self.opened();
                Some(BreakerState::Open)
            }
            Outcome::Ignored => self.core.release(generation).then_some(BreakerState::Open),
        }
    }

    fn opened(&self) {
        self.trips.fetch_add(1, Ordering::Relaxed);
        self.consecutive.store(0, Ordering::Relaxed);
        self.window.clear();
    }

    /// The reset time after so many failed probes, in microseconds.
    fn reset_after(&self, failed_probes: u32) -> u64 {
        let doubled = super::backoff::ceiling(self.policy.reset, self.policy.max_reset, failed_probes);
        let jitter = f64::from(self.policy.jitter_percent) / 100.0 * (2.0 * self.rng.unit() - 1.0);
        micros(doubled.mul_f64(1.0 + jitter).min(self.policy.max_reset))
    }
}

impl Idle for Breaker {
    fn is_idle(&self) -> bool {
        let closed = matches!(self.core.phase(), Phase::Closed { .. });
        closed && self.consecutive.load(Ordering::Relaxed) == 0 && self.window.totals(self.now()).calls == 0
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The right to make one call. Dropped without an outcome (a cancelled call) it counts nothing and gives a probe's place back.
#[derive(Debug)]
#[must_use = "report how the call went, or nothing is counted"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    generation: u64,
    probe: bool,
    open: bool,
}

impl Permit<'_> {
    /// Whether this call is the one probe of a half-open breaker.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Reports how the call went. Gives the breaker's new state if that changed it.
    pub fn finish(mut self, outcome: Outcome) -> Option<BreakerState> {
        self.open = false;
        match (self.probe, outcome) {
            (true, _) => self.breaker.conclude(self.generation, outcome),
            (false, Outcome::Success) => self.breaker.count(self.generation, false),
            (false, Outcome::Failure) => self.breaker.count(self.generation, true),
            (false, Outcome::Answered | Outcome::Ignored) => None,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.open && self.probe {
            self.breaker.core.release(self.generation);
        }
    }
}
