//! The breaker's state machine in one atomic word, without clocks or locks.
//!
//! The word holds the state (2 bits), a generation (14 bits) that grows whenever a probe is let through, and a time in
//! microseconds (48 bits, nine years). Results that carry an older generation change nothing, so a late answer from before
//! an outage cannot close or open anything. The atomic comes from the parent module, so that a model checker can supply its own.

use super::atomic::{AtomicU64, Ordering};

const STATE_SHIFT: u32 = 62;
const GENERATION_SHIFT: u32 = 48;
const GENERATION_MASK: u64 = (1 << 14) - 1;
const TIME_MASK: u64 = (1 << GENERATION_SHIFT) - 1;

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Closed: go on.
    Pass { generation: u64 },
    /// This caller alone may go on; everybody waits for what it finds.
    Probe { generation: u64 },
    /// Not before this time.
    Refuse { until: u64 },
}

/// The state as one would show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Closed { generation: u64 },
    Open { until: u64 },
    HalfOpen { until: u64 },
}

#[derive(Debug)]
pub(crate) struct Core(AtomicU64);

fn pack(state: u64, generation: u64, time: u64) -> u64 {
    (state << STATE_SHIFT) | ((generation & GENERATION_MASK) << GENERATION_SHIFT) | time.min(TIME_MASK)
}

fn unpack(word: u64) -> (u64, u64, u64) {
    (word >> STATE_SHIFT, (word >> GENERATION_SHIFT) & GENERATION_MASK, word & TIME_MASK)
}

impl Core {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(pack(CLOSED, 0, 0)))
    }

    /// Asks to go on at `now`. A probe that has not reported by `now + lease` is given up and another caller may probe.
    pub(crate) fn enter(&self, now: u64, lease: u64) -> Entry {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (state, generation, until) = unpack(word);
            if state == CLOSED {
                return Entry::Pass { generation };
            }
            if now < until {
                return Entry::Refuse { until };
            }
            let generation = (generation + 1) & GENERATION_MASK;
            let probing = pack(HALF_OPEN, generation, now.saturating_add(lease.max(1)));
            match self.0.compare_exchange(word, probing, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Entry::Probe { generation },
                Err(changed) => word = changed,
            }
        }
    }

    /// Opens a closed breaker until `until`. `false` if another caller was first or the result is stale.
    pub(crate) fn trip(&self, generation: u64, until: u64) -> bool {
        self.replace(CLOSED, generation, pack(OPEN, generation, until))
    }

    /// The probe succeeded. `false` if its permit had expired.
    pub(crate) fn close(&self, generation: u64) -> bool {
        self.replace(HALF_OPEN, generation, pack(CLOSED, generation, 0))
    }

    /// The probe failed. `false` if its permit had expired.
    pub(crate) fn reopen(&self, generation: u64, until: u64) -> bool {
        self.replace(HALF_OPEN, generation, pack(OPEN, generation, until))
    }

    /// The probe went away without finding anything; the next caller may probe at once.
    pub(crate) fn release(&self, generation: u64) -> bool {
        self.replace(HALF_OPEN, generation, pack(OPEN, generation, 0))
    }

    fn replace(&self, state: u64, generation: u64, next: u64) -> bool {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (now_state, now_generation, _) = unpack(word);
            if (now_state, now_generation) != (state, generation) {
                return false;
            }
            match self.0.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(changed) => word = changed,
            }
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match unpack(self.0.load(Ordering::Acquire)) {
            (CLOSED, generation, _) => Phase::Closed { generation },
            (OPEN, _, until) => Phase::Open { until },
            (_, _, until) => Phase::HalfOpen { until },
        }
    }
}
