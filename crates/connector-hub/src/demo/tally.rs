//! What happened so far, counted for the progress line and the closing table.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::book::Outcome;

/// Counters everybody may raise.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages that were delivered into the mailbox.
    pub(super) delivered: AtomicU64,
    pub(super) tickets: AtomicU64,
    pub(super) comments: AtomicU64,
    pub(super) replies: AtomicU64,
    pub(super) links: AtomicU64,
    /// Facts a vendor could not tell in time; the message was handled without them.
    pub(super) missed: AtomicU64,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// Milliseconds from the notification to the last effect.
    times: Mutex<Vec<u64>>,
}

/// Counts one.
pub(super) fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Tally {
    /// A message is finished.
    pub(super) fn finished(&self, outcome: Outcome, millis: u64) {
        let name = match outcome {
            Outcome::Ticket => "ticket",
            Outcome::Comment => "comment",
            Outcome::Automatic => "automatic",
            Outcome::Copy => "copy",
            Outcome::Gone => "gone",
        };
        *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push(millis);
    }

    /// How many messages are finished.
    pub(super) fn handled(&self) -> u64 {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Messages by what became of them.
    pub(super) fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time within which this share of the messages was finished, in milliseconds.
    pub(super) fn percentile(&self, percent: usize) -> u64 {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(at).copied().unwrap_or(0)
    }
}

/// A counter's value.
pub(super) fn of(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let tally = Tally::default();
        assert_eq!(tally.percentile(50), 0);
        (1..=100).for_each(|millis| tally.finished(Outcome::Ticket, millis));
        assert_eq!((tally.percentile(50), tally.percentile(95), tally.percentile(100)), (50, 95, 100));
        assert_eq!((tally.handled(), tally.outcomes()["ticket"]), (100, 100));
    }
}
