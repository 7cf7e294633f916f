//! Durable appends: one after the other, and 64 at a time sharing commits. The ratio between the two is the figure. SQLite always,
//! PostgreSQL in the same run if a server answers at `CONNECTORS_TEST_POSTGRES`, port 15432 or port 5432.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail this way")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use connector_core::state::EventLog;
use connector_state::SqliteState;
use connector_testkit::state_suite::new_event;
use divan::{Bencher, counter::ItemsCount};
use tokio::runtime::Runtime;

#[cfg(all(feature = "postgres", unix))]
#[path = "../tests/support/mod.rs"]
mod support;

/// Events in one round.
const EVENTS: usize = 256;

fn main() {
    divan::main();
}

fn rounds(bencher: Bencher<'_, '_>, runtime: &Runtime, state: &Arc<dyn EventLog>, concurrent: usize) {
    let payload = "x".repeat(2_048);
    let round = AtomicUsize::new(0);
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let round = round.fetch_add(1, Ordering::Relaxed);
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

#[divan::bench(args = [1, 8, 64, 256], sample_count = 10, sample_size = 1)]
fn sqlite(bencher: Bencher<'_, '_>, concurrent: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state: Arc<dyn EventLog> = Arc::new(SqliteState::open(folder.path().join("state.db")).unwrap());
    rounds(bencher, &runtime, &state, concurrent);
}

#[cfg(all(feature = "postgres", unix))]
#[divan::bench(args = [1, 8, 64, 256], sample_count = 10, sample_size = 1)]
fn postgres(bencher: Bencher<'_, '_>, concurrent: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(schemas) = runtime.block_on(support::Schemas::find()) else { return };
    let state: Arc<dyn EventLog> = Arc::new(runtime.block_on(schemas.open(&schemas.name())));
    rounds(bencher, &runtime, &state, concurrent);
}
