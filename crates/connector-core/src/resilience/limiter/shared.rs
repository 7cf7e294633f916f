//! Quotas that a fleet counts together: asks the shared store for each turn, and uses this process's share of a quota while there is no store.
//!
//! Owns the change from one to the other, in both directions without a burst: a share starts empty when the store is lost, the store's cells are
//! empty when it is used again, and all processes come back at the same moment ([`SharedTurn::Settling`]). Refuses to let more through because
//! something is out of reach.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use super::{cell::Cell, gate::LimitGate};
use crate::{
    clock::{Clock, Instant},
    error::Error,
    fleet::{MOST_LEAD, SharedAsk, SharedCell, SharedLimits, SharedTurn},
    resilience::policy::LimitPolicy,
    spec::LimitSpec,
};

/// A store that breaks its word and does not answer is given up after this long.
const PATIENCE: Duration = Duration::from_millis(250);
/// While shares are used, a waiting call looks at least this often whether the store is back.
const LOOK: Duration = Duration::from_millis(250);
/// Not yet: no call was made by a share.
const NEVER: u64 = 0;

/// `integration_shared_limits_lost_total`: how often this process went over to its share.
const LOST: &str = "integration_shared_limits_lost_total";

/// What the limiters of one process share with the rest of its fleet.
#[derive(Debug)]
pub struct FleetQuotas {
    store: Arc<dyn SharedLimits>,
    processes: u32,
    clock: Arc<dyn Clock>,
    epoch: Instant,
    /// How often this process went over to its share or came back. Odd: it uses its share.
    turns: AtomicU64,
    /// Nanoseconds since `epoch` when this process last went over to its share.
    left: AtomicU64,
    /// Nanoseconds since `epoch` until which the store settles and is not asked.
    settles: AtomicU64,
    /// Nanoseconds since `epoch` of the last call made by a share that the store does not know of.
    strayed: AtomicU64,
}

/// Who counts the quotas of this process at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counting {
    /// The fleet's store: limits are exact over all processes.
    Shared,
    /// This process, by its share: the store is out of reach, or settles.
    Share,
}

impl FleetQuotas {
    /// Quotas counted in `store`. `processes`: the most processes the fleet ever has; without the store each uses this part of every quota.
    pub fn new(store: Arc<dyn SharedLimits>, processes: u32, clock: Arc<dyn Clock>) -> Self {
        let epoch = clock.now();
        Self {
            store,
            processes: processes.max(1),
            clock,
            epoch,
            turns: AtomicU64::new(0),
            left: AtomicU64::new(0),
            settles: AtomicU64::new(0),
            strayed: AtomicU64::new(NEVER),
        }
    }

    /// Who counts at the moment, for health pages.
    pub fn counting(&self) -> Counting {
        if is_away(self.turns.load(Ordering::Acquire)) { Counting::Share } else { Counting::Shared }
    }

    /// The most processes the fleet has.
    pub fn processes(&self) -> u32 {
        self.processes
    }

    /// Now, in nanoseconds since `epoch`; never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn settling(&self) -> Duration {
        match self.settles.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            until => Duration::from_nanos(until.saturating_sub(self.now())),
        }
    }

    /// The store counts (again).
    fn back(&self) {
        let turns = self.turns.load(Ordering::Acquire);
        if is_away(turns) && self.turns.compare_exchange(turns, turns + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            tracing::info!(target: "connectors::limits", "the fleet's shared limits are used again");
        }
    }

    /// The store does not count; shares do. `error`: why, if not because it settles.
    fn away(&self, error: Option<&Error>) {
        let turns = self.turns.load(Ordering::Acquire);
        if is_away(turns) {
            return;
        }
        self.left.fetch_max(self.now(), Ordering::AcqRel);
        if self.turns.compare_exchange(turns, turns + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            metrics::counter!(LOST).increment(1);
            match error {
                Some(error) => tracing::warn!(
                    target: "connectors::limits", %error, processes = self.processes,
                    "the fleet's shared limits are out of reach; this process uses its share of each quota"
                ),
                None => {
                    tracing::info!(target: "connectors::limits", "the fleet's shared limits begin to count; until then this process uses its share")
                }
            }
        }
    }

    /// Takes a turn from all gates. Zero of `Ok`: go; a time of `Ok`: the turn is taken, go then. `Err`: nothing was taken, look again then.
    pub(super) async fn take(&self, gates: &[Arc<LimitGate>], lead: Duration) -> Result<Duration, Duration> {
        if gates.iter().all(|gate| gate.shared().is_none_or(|quota| quota.cells.is_empty())) {
            return Ok(Duration::ZERO);
        }
        let settling = self.settling();
        if !settling.is_zero() {
            return self.by_share(gates, false).map_err(|wait| wait.min(settling));
        }
        let cells;
        let cells = match gates {
            [only] => only.shared().map_or(&[][..], |quota| &quota.cells),
            _ => {
                cells = gates.iter().filter_map(|gate| gate.shared()).flat_map(|quota| quota.cells.iter().cloned()).collect::<Vec<_>>();
                &cells
            }
        };
        let strayed = self.strayed.load(Ordering::Acquire);
        let stray = (strayed != NEVER).then(|| Duration::from_nanos(self.now().saturating_sub(strayed)));
        let ask = SharedAsk { cells, lead: lead.min(MOST_LEAD), stray };
        let answer = tokio::time::timeout(PATIENCE, self.store.take(&ask)).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::new(crate::ErrorKind::Timeout, "the store of shared limits does not answer")));
        if answer.is_ok() && strayed != NEVER {
            // It knows now; a call that went astray meanwhile is told next time.
            let _later_one = self.strayed.compare_exchange(strayed, NEVER, Ordering::AcqRel, Ordering::Acquire).is_err();
        }
        match answer {
            Ok(SharedTurn::Taken(after)) => {
                self.back();
                gates.iter().for_each(|gate| gate.count());
                Ok(after)
            }
            Ok(SharedTurn::Refused(after)) => {
                self.back();
                Err(after.max(Duration::from_micros(1)))
            }
            Ok(SharedTurn::Settling(left)) => {
                self.settles.fetch_max(self.now().saturating_add(nanos(left)), Ordering::AcqRel);
                self.away(None);
                self.by_share(gates, false).map_err(|wait| wait.min(left.max(Duration::from_micros(1))))
            }
            Err(error) => {
                self.away(Some(&error));
                self.by_share(gates, true)
            }
        }
    }

    /// Takes a turn from the shares of all gates.
    fn by_share(&self, gates: &[Arc<LimitGate>], stray: bool) -> Result<Duration, Duration> {
        let turns = self.turns.load(Ordering::Acquire);
        let ago = Duration::from_nanos(self.now().saturating_sub(self.left.load(Ordering::Acquire)));
        for quota in gates.iter().filter_map(|gate| gate.shared()) {
            // What the fleet made of the burst before is not known, so a share starts with none.
            if quota.emptied.swap(turns, Ordering::AcqRel) != turns {
                quota.share.iter().for_each(|cell| cell.empty(ago));
            }
        }
        let shares = || gates.iter().filter_map(|gate| gate.shared()).flat_map(|quota| quota.share.iter());
        let wait = match shares().map(Cell::look).max().unwrap_or_default() {
            Duration::ZERO => shares().map(Cell::take).max().unwrap_or_default(),
            wait => wait,
        };
        if !wait.is_zero() {
            return Err(wait.min(LOOK));
        }
        if stray {
            self.strayed.fetch_max(self.now(), Ordering::AcqRel);
        }
        gates.iter().for_each(|gate| gate.count());
        Ok(Duration::ZERO)
    }

    /// The time between two calls by this process's share, if that is what it uses.
    pub(super) fn between(&self, gates: &[Arc<LimitGate>]) -> Duration {
        if self.counting() == Counting::Share { self.interval(gates) } else { Duration::ZERO }
    }

    /// The time between two calls of one process when nothing is left to burst.
    pub(super) fn interval(&self, gates: &[Arc<LimitGate>]) -> Duration {
        let quotas = gates.iter().filter_map(|gate| gate.shared());
        match self.counting() {
            Counting::Shared => quotas.flat_map(|quota| &quota.cells).map(|cell| cell.interval).max().unwrap_or_default(),
            Counting::Share => quotas.flat_map(|quota| &quota.share).map(Cell::interval).max().unwrap_or_default(),
        }
    }
}

fn is_away(turns: u64) -> bool {
    turns % 2 == 1
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The windows of one gate as a fleet counts them, and this process's share of them.
#[derive(Debug)]
pub(super) struct SharedQuota {
    cells: Box<[SharedCell]>,
    share: Box<[Cell]>,
    /// The `turns` for which the share was last emptied.
    emptied: AtomicU64,
}

impl SharedQuota {
    /// The windows of `spec` for what `whose` names.
    pub(super) fn new(spec: &LimitSpec, policy: &LimitPolicy, fleet: &FleetQuotas, whose: &str) -> Self {
        let share: Box<[Cell]> = spec.windows.iter().map(|window| Cell::share(*window, policy, fleet.processes, fleet.clock.clone())).collect();
        let cell = |share: &Cell| Cell::new(share.window(), policy, fleet.clock.clone()).shared(whose, share, fleet.processes);
        Self { cells: share.iter().map(cell).collect(), share, emptied: AtomicU64::new(0) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.share.iter().all(Cell::is_idle)
    }
}
