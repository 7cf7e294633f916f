//! How many deliveries wait for the store, and how many bytes they hold. Beyond the caps nobody waits.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use metrics::{Gauge, gauge};

/// The line before the store.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Line>);

struct Line {
    most: usize,
    most_bytes: usize,
    count: AtomicUsize,
    bytes: AtomicUsize,
    gauge: Gauge,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("count", &self.count).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A delivery's place in the line, left when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    line: Arc<Line>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        let gauge = gauge!("integration_ingress_waiting");
        Self(Arc::new(Line { most, most_bytes, count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), gauge }))
    }

    /// `None`: there is no room.
    pub(super) fn enter(&self, bytes: usize) -> Option<Place> {
        let line = &self.0;
        let (count, before) = (line.count.fetch_add(1, Relaxed), line.bytes.fetch_add(bytes, Relaxed));
        line.gauge.increment(1.0);
        // Dropping it gives back what was counted. One that is alone always fits.
        let place = Place { line: line.clone(), bytes };
        (count < line.most && (before == 0 || before + bytes <= line.most_bytes)).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.count.fetch_sub(1, Relaxed);
        self.line.bytes.fetch_sub(self.bytes, Relaxed);
        self.line.gauge.decrement(1.0);
    }
}
