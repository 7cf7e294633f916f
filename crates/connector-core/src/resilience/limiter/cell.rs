//! One published window as a governor cell that can be looked at before it is taken from.
//!
//! Several windows hold at once; taking from one and then being refused by the next would waste calls. governor decides, but
//! its state lives here, so that the same decision can be asked for without its effect, and shown on a health page.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{Quota, RateLimiter, clock::Clock as GovernorClock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore};
use serde::Serialize;

use crate::{
    clock::{Clock, Instant},
    fleet::SharedCell,
    resilience::policy::LimitPolicy,
    spec::Window,
};

/// Whether a decision takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mode {
    Look,
    Take,
}

/// The theoretical arrival time of GCRA, in nanoseconds since the cell was made; 0 before the first call.
#[derive(Debug, Default, Clone)]
struct Arrival(Arc<AtomicU64>);

impl StateStore for Arrival {
    type Key = Mode;

    fn measure_and_replace<T, F, E>(&self, mode: &Mode, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let (value, next) = decide((seen != 0).then(|| Nanos::new(seen)))?;
            if *mode == Mode::Look {
                return Ok(value);
            }
            match self.0.compare_exchange_weak(seen, next.as_u64(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(value),
                Err(changed) => seen = changed,
            }
        }
    }
}

/// Our clock as governor's, so that `tokio::time::pause` moves it.
#[derive(Debug, Clone)]
struct CellClock {
    clock: Arc<dyn Clock>,
    epoch: Instant,
}

impl GovernorClock for CellClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(nanos(self.clock.now().saturating_duration_since(self.epoch)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One window of one key.
#[derive(Debug)]
pub(super) struct Cell {
    limiter: RateLimiter<Mode, Arrival, CellClock, NoOpMiddleware<Nanos>>,
    arrival: Arrival,
    clock: CellClock,
    quota: Quota,
    window: Window,
    allowed: u32,
}

/// One window at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowSnapshot {
    /// The published window (`100/10s`).
    pub window: Window,
    /// How many calls of it we use.
    pub allowed: u32,
    /// How many could be made at this moment.
    pub ready: u32,
}

/// The quota that keeps `burst + rate · W` within the used share of a window, and that share.
fn quota(window: Window, policy: &LimitPolicy) -> (Quota, u32) {
    let share = |percent: u32| u32::try_from(u64::from(window.limit) * u64::from(percent.min(100)) / 100).unwrap_or(window.limit);
    let allowed = share(policy.percent).max(1);
    // At least half stays rate, or a full burst would be followed by a silence of a whole window.
    let burst = share(policy.burst_percent).clamp(1, (allowed / 2).max(1));
    let period = match allowed - burst {
        // One call per window: a little more than the window, so that none of its edges sees two.
        0 => window.per + Duration::from_millis(1),
        rest => Duration::from_nanos(nanos(window.per).div_ceil(u64::from(rest))),
    };
    let quota = Quota::with_period(period.max(Duration::from_nanos(1))).unwrap_or_else(|| Quota::per_hour(NonZeroU32::MIN));
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    (quota.allow_burst(burst), allowed)
}

/// The part of [`quota`] that each of `processes` may use by itself: all parts together stay within the burst, the rate and the used share of the
/// window. Where a window allows fewer calls than there are processes, no part of it is a whole call; then each process makes one call in as many
/// windows as keep the fleet's rate, and only the rate is kept, not every single window.
fn share(window: Window, policy: &LimitPolicy, processes: u32) -> (Quota, u32) {
    let (whole, allowed) = quota(window, policy);
    let processes = processes.max(1);
    let (part, burst) = (allowed / processes, (whole.burst_size().get() / processes).max(1));
    let burst = burst.min((part / 2).max(1));
    let at_rate = whole.replenish_interval().saturating_mul(processes);
    let period = match part.saturating_sub(burst) {
        0 if part == 0 => window.per.saturating_mul(processes.div_ceil(allowed)) + Duration::from_millis(1),
        0 => window.per + Duration::from_millis(1),
        rest => Duration::from_nanos(nanos(window.per).div_ceil(u64::from(rest))),
    };
    let quota = Quota::with_period(period.max(at_rate).max(Duration::from_nanos(1))).unwrap_or_else(|| Quota::per_hour(NonZeroU32::MIN));
    (quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)), part)
}

impl Cell {
    pub(super) fn new(window: Window, policy: &LimitPolicy, clock: Arc<dyn Clock>) -> Self {
        Self::with(window, quota(window, policy), clock)
    }

    /// One of `processes` parts of the window.
    pub(super) fn share(window: Window, policy: &LimitPolicy, processes: u32, clock: Arc<dyn Clock>) -> Self {
        Self::with(window, share(window, policy, processes), clock)
    }

    /// The cell as the store of a fleet of so many processes counts it. `share`: the part of one of them.
    pub(super) fn shared(&self, whose: &str, share: &Self, processes: u32) -> SharedCell {
        let key = format!("{whose}\u{1f}{}", String::from(self.window)).into();
        let shares = share.quota.burst_size().get().saturating_mul(processes);
        SharedCell { key, interval: self.interval(), burst: self.quota.burst_size().get(), shares }
    }

    fn with(window: Window, (quota, allowed): (Quota, u32), clock: Arc<dyn Clock>) -> Self {
        let arrival = Arrival::default();
        let epoch = clock.now();
        let clock = CellClock { clock, epoch };
        let limiter = RateLimiter::new(quota, arrival.clone(), clock.clone());
        Self { limiter, arrival, clock, quota, window, allowed }
    }

    /// How long until a call may be made; zero means now. Takes nothing.
    pub(super) fn look(&self) -> Duration {
        self.ask(Mode::Look)
    }

    /// Takes one call, or says how long to wait.
    pub(super) fn take(&self) -> Duration {
        self.ask(Mode::Take)
    }

    /// As if everything that can be taken at once had been taken so long ago.
    pub(super) fn empty(&self, ago: Duration) {
        let full = nanos(self.interval()).saturating_mul(u64::from(self.quota.burst_size().get()));
        let arrival = self.clock.now().as_u64().saturating_add(full).saturating_sub(nanos(ago));
        self.arrival.0.fetch_max(arrival, Ordering::AcqRel);
    }

    fn ask(&self, mode: Mode) -> Duration {
        match self.limiter.check_key(&mode) {
            Ok(()) => Duration::ZERO,
            // Never zero, or a caller would take "wait no time" for "go".
            Err(not_until) => not_until.wait_time_from(self.clock.now()).max(Duration::from_nanos(1)),
        }
    }

    /// The time between two calls once the burst is used up.
    pub(super) fn interval(&self) -> Duration {
        self.quota.replenish_interval()
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// How far in the future the next free slot of an empty bucket lies; zero if it is as good as new.
    fn backlog(&self) -> Duration {
        let arrival = self.arrival.0.load(Ordering::Acquire);
        Duration::from_nanos(arrival.saturating_sub(self.clock.now().as_u64()))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.backlog().is_zero()
    }

    pub(super) fn snapshot(&self) -> WindowSnapshot {
        let interval = nanos(self.interval()).max(1);
        let used = u32::try_from(nanos(self.backlog()).div_ceil(interval)).unwrap_or(u32::MAX);
        WindowSnapshot { window: self.window, allowed: self.allowed, ready: self.quota.burst_size().get().saturating_sub(used) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn cell(window: &str) -> Cell {
        Cell::new(window.parse().unwrap(), &LimitPolicy::default(), SystemClock::shared())
    }

    #[tokio::test(start_paused = true)]
    async fn ninety_per_cent_is_used_ten_of_it_at_once() {
        let cell = cell("100/10s");
        assert_eq!(cell.snapshot(), WindowSnapshot { window: "100/10s".parse().unwrap(), allowed: 90, ready: 10 });
        (0..10).for_each(|_| assert_eq!(cell.take(), Duration::ZERO));
        assert_eq!(cell.look(), Duration::from_millis(125));
        assert_eq!(cell.snapshot().ready, 0);
        tokio::time::advance(Duration::from_millis(125)).await;
        assert_eq!((cell.look(), cell.look(), cell.take()), (Duration::ZERO, Duration::ZERO, Duration::ZERO));
        assert!(cell.take() > Duration::ZERO && !cell.is_idle());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(cell.is_idle());
        assert_eq!(cell.snapshot().ready, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_emptied_cell_begins_after_one_interval() {
        let cell = cell("100/10s");
        cell.empty(Duration::ZERO);
        assert_eq!(cell.take(), Duration::from_millis(125));
        tokio::time::advance(Duration::from_millis(125)).await;
        assert_eq!((cell.take(), cell.look()), (Duration::ZERO, Duration::from_millis(125)));
    }

    #[test]
    fn all_shares_together_are_no_more_than_the_whole() {
        for (window, processes) in ["1/1s", "2/1s", "7/1s", "100/10s", "250000/1d", "1000/10s"]
            .into_iter()
            .flat_map(|window| (1..=64).map(move |processes| (window, processes)))
        {
            let window: Window = window.parse().unwrap();
            let (whole, allowed) = quota(window, &LimitPolicy::default());
            let (part, calls) = share(window, &LimitPolicy::default(), processes);
            assert!(part.replenish_interval() >= whole.replenish_interval() * processes.min(allowed), "{window:?} {processes}");
            let most = u64::from(part.burst_size().get()) + nanos(window.per) / nanos(part.replenish_interval());
            match allowed >= processes {
                // GCRA lets `burst + W / T` through in a window that is open at one end.
                true => assert!(most <= u64::from(calls) && calls * processes <= allowed, "{window:?} {processes}"),
                false => assert!(part.replenish_interval() * allowed >= window.per * processes, "{window:?} {processes}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_smallest_windows_still_allow_one_call() {
        for window in ["1/1s", "2/1s"] {
            let cell = cell(window);
            assert_eq!(cell.take(), Duration::ZERO);
            assert!(cell.take() >= Duration::from_secs(1));
        }
    }
}
