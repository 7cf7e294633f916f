//! The limits of one key: its windows, its calls in flight, its pause, and the queue of those who wait.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    cell::{Cell, WindowSnapshot},
    shared::{FleetQuotas, SharedQuota},
};
use crate::{
    clock::{Clock, Instant},
    error::{Error, ErrorKind, Result, Retry},
    resilience::{keyed::Idle, policy::LimitPolicy, retry_after},
    spec::LimitSpec,
};

/// No header has told how many calls are left.
const UNTOLD: u64 = u64::MAX;

/// The limits of one key.
#[derive(Debug)]
pub struct LimitGate {
    cells: Box<[Cell]>,
    /// The windows as a fleet counts them, if it does.
    shared: Option<Box<SharedQuota>>,
    in_flight: Option<(Arc<Semaphore>, u32)>,
    /// Nanoseconds since `epoch` before which nothing is sent.
    paused_until: AtomicU64,
    remaining: AtomicU64,
    waiting: AtomicUsize,
    /// Held by the first in the queue while it waits, so that turns are taken in order and only one task watches the clock.
    turn: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
    epoch: Instant,
    max_wait: Duration,
}

/// The limits of one key at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateSnapshot {
    /// The windows.
    pub windows: Vec<WindowSnapshot>,
    /// Calls in flight.
    pub in_flight: u32,
    /// The most calls in flight, if limited.
    pub concurrent: Option<u32>,
    /// Calls waiting for their turn.
    pub waiting: usize,
    /// How long nothing is sent because the vendor asked us to wait.
    pub paused_for: Option<Duration>,
    /// Calls left as the vendor's last header told.
    pub remaining: Option<u64>,
}

/// A call in flight; its place is free again when this is dropped.
#[derive(Debug, Default)]
#[must_use = "hold it while the call is in flight"]
pub struct LimitPermit {
    pub(super) places: [Option<OwnedSemaphorePermit>; 2],
    pub(super) more: Vec<OwnedSemaphorePermit>,
    pub(super) waited: Duration,
}

impl LimitPermit {
    /// How long the call waited for its turn.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn keep(&mut self, place: OwnedSemaphorePermit) {
        match self.places.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(place),
            None => self.more.push(place),
        }
    }
}

impl LimitGate {
    /// A gate for one key of `spec`.
    pub fn new(spec: &LimitSpec, policy: &LimitPolicy, clock: Arc<dyn Clock>) -> Self {
        let epoch = clock.now();
        Self {
            cells: spec.windows.iter().map(|window| Cell::new(*window, policy, clock.clone())).collect(),
            shared: None,
            in_flight: spec.concurrent.map(|most| (Arc::new(Semaphore::new(most.max(1) as usize)), most.max(1))),
            paused_until: AtomicU64::new(0),
            remaining: AtomicU64::new(UNTOLD),
            waiting: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::new(()),
            clock,
            epoch,
            max_wait: policy.max_wait,
        }
    }

    /// The same gate, counted by a fleet. `whose` tells its quota from all others.
    pub(super) fn in_fleet(mut self, spec: &LimitSpec, policy: &LimitPolicy, fleet: &FleetQuotas, whose: &str) -> Self {
        self.shared = Some(Box::new(SharedQuota::new(spec, policy, fleet, whose)));
        self
    }

    pub(super) fn shared(&self) -> Option<&SharedQuota> {
        self.shared.as_deref()
    }

    /// A turn was taken elsewhere; noted here for the health page, where no more can be taken than there is.
    pub(super) fn count(&self) {
        for cell in &self.cells {
            cell.take();
        }
    }

    /// Waits for a turn, no longer than the policy's longest wait or the deadline.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] with the time after which to try again, as soon as it is clear that it would take longer.
    pub async fn acquire(self: &Arc<Self>, deadline: Option<Instant>) -> Result<LimitPermit> {
        acquire(std::slice::from_ref(self), None, &|| Duration::ZERO, deadline).await
    }

    /// Runs a call when its turn has come. Works on any async function.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`], or whatever the call reports.
    pub async fn run<T>(self: &Arc<Self>, call: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.acquire(None).await?;
        let result = call.await;
        if let Err(error) = &result
            && error.kind() == ErrorKind::Throttled
            && let Some(delay) = error.retry_after()
        {
            self.pause(delay);
        }
        drop(permit);
        result
    }

    /// Sends nothing for this long (at most a day), because the vendor asked for it. Never shortens a longer pause.
    pub fn pause(&self, delay: Duration) {
        let delay = delay.min(retry_after::LONGEST);
        let until = self.clock.now().saturating_duration_since(self.epoch).saturating_add(delay);
        self.paused_until.fetch_max(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// Takes note of how many calls the vendor says are left. None left means a pause until `reset_in`, or for the shortest
    /// window (at most 10 s) if the vendor does not say.
    pub fn observe(&self, remaining: u64, reset_in: Option<Duration>) {
        self.observed(remaining, reset_in);
    }

    /// As [`LimitGate::observe`]; gives the pause that it made.
    pub(super) fn observed(&self, remaining: u64, reset_in: Option<Duration>) -> Option<Duration> {
        self.remaining.store(remaining, Ordering::Relaxed);
        (remaining == 0).then(|| {
            let shortest = self.cells.iter().map(|cell| cell.window().per).min().unwrap_or(Duration::from_secs(1));
            let delay = reset_in.unwrap_or(shortest.min(Duration::from_secs(10)));
            self.pause(delay);
            delay
        })
    }

    /// The limits at this moment.
    pub fn snapshot(&self) -> GateSnapshot {
        let pause = self.pause_left();
        let remaining = self.remaining.load(Ordering::Relaxed);
        GateSnapshot {
            windows: self.cells.iter().map(Cell::snapshot).collect(),
            in_flight: self
                .in_flight
                .as_ref()
                .map_or(0, |(free, most)| most.saturating_sub(u32::try_from(free.available_permits()).unwrap_or(*most))),
            concurrent: self.in_flight.as_ref().map(|(_, most)| *most),
            waiting: self.waiting.load(Ordering::Relaxed),
            paused_for: (!pause.is_zero()).then_some(pause),
            remaining: (remaining != UNTOLD).then_some(remaining),
        }
    }

    fn pause_left(&self) -> Duration {
        match self.paused_until.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            until => Duration::from_nanos(until).saturating_sub(self.clock.now().saturating_duration_since(self.epoch)),
        }
    }

    /// How long until a call may be sent, taking nothing.
    fn look(&self) -> Duration {
        self.cells.iter().map(Cell::look).fold(self.pause_left(), Duration::max)
    }

    /// Takes one call from every window. A window that another caller emptied since [`LimitGate::look`] makes us wait again;
    /// what was taken from the others is then lost, which errs on the vendor's side.
    fn take(&self) -> Duration {
        self.cells.iter().map(Cell::take).fold(Duration::ZERO, Duration::max)
    }

    fn try_place(&self, permit: &mut LimitPermit) -> bool {
        match &self.in_flight {
            None => true,
            Some((places, _)) => places.clone().try_acquire_owned().map(|place| permit.keep(place)).is_ok(),
        }
    }

    async fn place(&self, permit: &mut LimitPermit) -> Result<()> {
        if let Some((places, _)) = &self.in_flight {
            let place = places.clone().acquire_owned().await;
            permit.keep(place.map_err(|error| Error::internal("a concurrency limit was closed").with_source(error))?);
        }
        Ok(())
    }
}

impl Idle for LimitGate {
    fn is_idle(&self) -> bool {
        let nobody = self.waiting.load(Ordering::Relaxed) == 0
            && self.in_flight.as_ref().is_none_or(|(free, most)| free.available_permits() >= *most as usize);
        let full = self.cells.iter().all(Cell::is_idle) && self.shared.as_ref().is_none_or(|quota| quota.is_idle());
        nobody && self.pause_left().is_zero() && full
    }
}

/// Counts a waiting caller for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize) -> (Self, usize) {
        let before = count.fetch_add(1, Ordering::AcqRel);
        (Self(count), before)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits until all `gates` let the call through. The first is the call's own and orders the queue. With a `fleet`, their windows are its.
pub(super) async fn acquire(
    gates: &[Arc<LimitGate>],
    fleet: Option<&FleetQuotas>,
    pause: &(dyn Fn() -> Duration + Sync),
    deadline: Option<Instant>,
) -> Result<LimitPermit> {
    let Some(own) = gates.first() else { return Ok(LimitPermit::default()) };
    let mut permit = LimitPermit::default();
    // Whoever comes while others wait joins the queue.
    if own.waiting.load(Ordering::Acquire) == 0 && pause().is_zero() {
        if gates.iter().all(|gate| gate.try_place(&mut permit)) {
            match fleet {
                None if try_take(gates).is_zero() => return Ok(permit),
                None => {}
                Some(fleet) => return ask_first(gates, own, fleet, pause, deadline, permit).await,
            }
        }
        permit = LimitPermit::default();
    }
    queue(gates, own, fleet, pause, deadline, permit).await
}

/// Takes one call from every window of every gate if all have one, or says how long to wait.
fn try_take(gates: &[Arc<LimitGate>]) -> Duration {
    let take = || gates.iter().map(|gate| gate.take()).fold(Duration::ZERO, Duration::max);
    match gates {
        // With one window, taking is looking.
        [only] if only.cells.len() <= 1 => match only.pause_left() {
            Duration::ZERO => take(),
            pause => pause,
        },
        _ => match ready(gates) {
            Duration::ZERO => take(),
            wait => wait,
        },
    }
}

fn ready(gates: &[Arc<LimitGate>]) -> Duration {
    gates.iter().map(|gate| gate.look()).fold(Duration::ZERO, Duration::max)
}

/// The pauses of the gates alone, where the windows are a fleet's.
fn paused(gates: &[Arc<LimitGate>]) -> Duration {
    gates.iter().map(|gate| gate.pause_left()).fold(Duration::ZERO, Duration::max)
}

/// A call with nobody before it in this process asks the fleet at once, and joins the queue if its turn has not come. On the heap, as [`queue`].
fn ask_first<'a>(
    gates: &'a [Arc<LimitGate>],
    own: &'a LimitGate,
    fleet: &'a FleetQuotas,
    pause: &'a (dyn Fn() -> Duration + Sync),
    deadline: Option<Instant>,
    mut permit: LimitPermit,
) -> BoxFuture<'a, Result<LimitPermit>> {
    Box::pin(async move {
        if paused(gates).is_zero() {
            let start = own.clock.now();
            let taken = match deadline {
                None => fleet.take(gates, Duration::ZERO).await,
                Some(deadline) => match tokio::time::timeout_at(deadline, fleet.take(gates, Duration::ZERO)).await {
                    Ok(taken) => taken,
                    Err(_) => return Err(overloaded(Duration::ZERO)),
                },
            };
            // A pause that began while the store was asked holds for this call too; its turn is given up.
            if taken.is_ok_and(|after| after.is_zero()) && pause().is_zero() && paused(gates).is_zero() {
                permit.waited = own.clock.now().saturating_duration_since(start);
                return Ok(permit);
            }
        }
        drop(permit);
        wait_in_line(gates, own, Some(fleet), pause, deadline, LimitPermit::default()).await
    })
}

/// Waits in line. A future of its own on the heap, so that the many calls that need not wait do not carry its size.
fn queue<'a>(
    gates: &'a [Arc<LimitGate>],
    own: &'a LimitGate,
    fleet: Option<&'a FleetQuotas>,
    pause: &'a (dyn Fn() -> Duration + Sync),
    deadline: Option<Instant>,
    permit: LimitPermit,
) -> BoxFuture<'a, Result<LimitPermit>> {
    Box::pin(wait_in_line(gates, own, fleet, pause, deadline, permit))
}

async fn wait_in_line(
    gates: &[Arc<LimitGate>],
    own: &LimitGate,
    fleet: Option<&FleetQuotas>,
    pause: &(dyn Fn() -> Duration + Sync),
    deadline: Option<Instant>,
    mut permit: LimitPermit,
) -> Result<LimitPermit> {
    let start = own.clock.now();
    let patience = deadline.map_or(own.max_wait, |deadline| deadline.saturating_duration_since(start).min(own.max_wait));
    let (_waiting, ahead) = Waiting::join(&own.waiting);
    let interval = match fleet {
        None => gates.iter().flat_map(|gate| &gate.cells).map(Cell::interval).max().unwrap_or_default(),
        Some(fleet) => fleet.interval(gates),
    };
    let ready = || if fleet.is_none() { ready(gates) } else { paused(gates) };
    let estimate = ready().max(pause()).saturating_add(interval.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX)));
    if estimate > patience {
        return Err(overloaded(estimate));
    }
    let turn = async {
        let _turn = own.turn.lock().await;
        for gate in gates {
            gate.place(&mut permit).await?;
        }
        loop {
            let spent = own.clock.now().saturating_duration_since(start);
            // Told how long to wait, or that the turn is taken and comes after so long.
            let (wait, taken) = match (pause().max(if fleet.is_none() { Duration::ZERO } else { paused(gates) }), fleet) {
                (Duration::ZERO, None) => (try_take(gates), false),
                (Duration::ZERO, Some(fleet)) => match fleet.take(gates, patience.saturating_sub(spent)).await {
                    Ok(after) => (after, true),
                    Err(wait) => (wait, false),
                },
                (wait, _) => (wait.max(ready()), false),
            };
            if wait.is_zero() && !taken {
                return Ok(());
            }
            if spent.saturating_add(wait) > patience {
                // A share is looked at more often than it lets a call through.
                return Err(overloaded(wait.max(fleet.map_or(Duration::ZERO, |fleet| fleet.between(gates)))));
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            // A pause that began meanwhile holds for a turn that was taken before; the turn is given up.
            if taken && pause().is_zero() && paused(gates).is_zero() {
                return Ok(());
            }
        }
    };
    match tokio::time::timeout(patience, turn).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(overloaded(ready().max(interval))),
    }
    permit.waited = own.clock.now().saturating_duration_since(start);
    Ok(permit)
}

fn overloaded(after: Duration) -> Error {
    // A place in flight gets free at no known time; nobody should ask again at once.
    let after = after.max(Duration::from_millis(100));
    Error::new(ErrorKind::Overloaded, "the call would wait longer for its rate or concurrency limit than it may").with_retry(Retry::After(after))
}
