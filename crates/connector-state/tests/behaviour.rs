//! The shared behaviour suite on every backend of this crate.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::sync::Arc;

use connector_core::{clock::Clock, state::Store};
use connector_state::MemoryState;
use connector_testkit::state_suite;

fn memory(clock: Arc<dyn Clock>) -> Arc<dyn Store> {
    Arc::new(MemoryState::new(clock))
}

#[cfg(all(feature = "postgres", unix))]
mod support;

macro_rules! suite {
    ($backend:ident, $make:expr) => {
        mod $backend {
            use super::*;

            #[tokio::test]
            async fn kv() {
                state_suite::kv($make).await;
            }

            #[tokio::test]
            async fn events() {
                state_suite::events($make).await;
            }

            #[tokio::test]
            async fn jobs() {
                state_suite::jobs($make).await;
            }

            #[tokio::test]
            async fn audit() {
                state_suite::audit($make).await;
            }
        }
    };
}

suite!(in_memory, memory);

#[cfg(feature = "sqlite")]
mod on_sqlite {
    use connector_state::SqliteState;

    use super::*;

    fn sqlite_in_memory(clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        Arc::new(SqliteState::open_in_memory_with(clock).unwrap())
    }

    /// Every store gets its own file; the folder goes when the test ends.
    fn files() -> impl Fn(Arc<dyn Clock>) -> Arc<dyn Store> {
        let folder = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        move |clock| {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Arc::new(SqliteState::open_with(folder.path().join(format!("{n}.db")), clock).unwrap())
        }
    }

    suite!(memory, sqlite_in_memory);
    suite!(file, files());
}

#[cfg(all(feature = "postgres", unix))]
mod on_postgres {
    use super::{support::Schemas, *};

    /// Every store gets its own schema; all go when the test ends.
    macro_rules! behaviour {
        ($($name:ident),+) => {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(schemas) = Schemas::find().await else { return };
                state_suite::$name(|clock| Arc::new(schemas.fresh(clock)) as Arc<dyn Store>).await;
            }
        )+};
    }

    behaviour!(kv, events, jobs, audit);
}
