//! Durable appends: one after the other, and 64 at a time sharing commits. The ratio between the two is the figure.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail this way")]

use std::sync::Arc;

use connector_core::state::EventLog as _;
use connector_state::SqliteState;
use connector_testkit::state_suite::new_event;
use divan::{Bencher, counter::ItemsCount};

/// Events in one round.
const EVENTS: usize = 256;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 8, 64], sample_count = 10, sample_size = 1)]
fn append(bencher: Bencher<'_, '_>, concurrent: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(SqliteState::open(folder.path().join("state.db")).unwrap());
    let payload = "x".repeat(2_048);
    let round = std::sync::atomic::AtomicUsize::new(0);
    bencher.counter(ItemsCount::new(EVENTS)).bench(|| {
        let round = round.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let events: Vec<_> = (0..EVENTS).map(|n| new_event(&format!("{round}-{n}"), &payload)).collect();
        runtime.block_on(async {
            for group in events.chunks(concurrent) {
                let appends = group.iter().map(|event| state.append(vec![event.clone()]));
                for appended in futures_util::future::join_all(appends).await {
                    appended.unwrap();
                }
            }
        });
    });
}
