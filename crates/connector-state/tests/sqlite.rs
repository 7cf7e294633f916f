//! What only the SQLite backend promises: durability, group commit, locks, refusals, tamper evidence.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]
#![cfg(feature = "sqlite")]

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{
    ErrorKind, TenantId,
    state::{Appended, AuditFilter, AuditLog as _, Condition, EventFilter, EventLog as _, JobQueue as _, Namespace, StateStore as _},
};
use connector_state::SqliteState;
use connector_testkit::state_suite::{audit_record, new_event, new_job};
use rusqlite::Connection;

fn acme() -> TenantId {
    TenantId::from("acme")
}

fn open(folder: &Path) -> SqliteState {
    SqliteState::open(folder.join("state.db")).unwrap()
}

fn raw(folder: &Path) -> Connection {
    Connection::open(folder.join("state.db")).unwrap()
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = acme();
    let state = open(folder.path());
    let stored = state.put(Namespace::new(&tenant, "tokens"), "k", Bytes::from_static(b"v"), Condition::Any, None).await.unwrap();
    let appended = state.append(vec![new_event("e1", "1")]).await.unwrap();
    state.audit(vec![audit_record("acme", "op", "main")]).await.unwrap();
    drop(state);
    assert!(!folder.path().join("state.db-wal").exists(), "a clean end folds the log into the file");

    let state = open(folder.path());
    let entry = state.get(Namespace::new(&tenant, "tokens"), "k").await.unwrap().unwrap();
    assert_eq!(connector_core::state::PutOutcome::Stored(entry.version), stored);
    let [Appended::New { seq, .. }] = appended[..] else { panic!("{appended:?}") };
    assert_eq!(state.append(vec![new_event("e1", "1")]).await.unwrap(), [Appended::Duplicate { seq }]);
    assert_eq!(state.claim("events", 1, Duration::from_secs(60)).await.unwrap().len(), 1);
    assert_eq!(state.audit_tail(&tenant, AuditFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    for n in 0..20 {
        state.append(vec![new_event(&format!("e{n}"), "1")]).await.unwrap();
    }
    // A copy of the files as they lie on the disk now is what the next process finds after SIGKILL: no shutdown ran on them.
    let after = tempfile::tempdir().unwrap();
    for file in ["state.db", "state.db-wal"] {
        std::fs::copy(folder.path().join(file), after.path().join(file)).unwrap();
    }
    let found = open(after.path());
    assert_eq!(found.events(&acme(), EventFilter::default()).await.unwrap().len(), 20);
    assert_eq!(found.depth("events").await.unwrap().pending, 20);
}

#[tokio::test]
async fn concurrent_operations_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(open(folder.path()));
    let before = state.stats();
    // One thread runs all of them up to their first wait, so that they meet in the writer's queue.
    let writes = (0..256).map(|n| {
        let state = state.clone();
        async move { state.append(vec![new_event(&format!("e{n}"), "1")]).await.unwrap() }
    });
    let appended = futures_util::future::join_all(writes).await;
    assert!(appended.iter().all(|one| matches!(one[..], [Appended::New { .. }])));
    let after = state.stats();
    assert_eq!(after.operations - before.operations, 256);
    assert!(after.commits - before.commits <= 32, "256 operations took {} commits", after.commits - before.commits);
}

#[tokio::test]
async fn a_failing_operation_does_not_spoil_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(open(folder.path()));
    raw(folder.path())
        .execute_batch("CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.event_id = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    let writes = ["a", "bad", "b"].map(|id| {
        let state = state.clone();
        async move { state.append(vec![new_event("first", "1"), new_event(id, "1")]).await }
    });
    let results = futures_util::future::join_all(writes).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Internal);
    let kept = state.events(&acme(), EventFilter::default()).await.unwrap();
    assert_eq!(kept.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), ["first", "a", "b"]);
    assert_eq!(kept[0].duplicates, 1, "the failed one left nothing behind, not even a count");
}

#[tokio::test]
async fn two_handles_on_one_file_share_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let [Appended::New { seq, .. }] = one.append(vec![new_event("e1", "1")]).await.unwrap()[..] else { panic!("it is new") };
    assert_eq!(two.append(vec![new_event("e1", "1")]).await.unwrap(), [Appended::Duplicate { seq }]);
    let job = two.claim("events", 1, Duration::from_secs(60)).await.unwrap().remove(0);
    assert!(one.claim("events", 1, Duration::from_secs(60)).await.unwrap().is_empty());
    assert!(one.complete(&job).await.unwrap());
    let tenant = acme();
    let leases = Namespace::new(&tenant, "leases");
    let outcomes = tokio::join!(
        one.put(leases, "k", Bytes::from_static(b"1"), Condition::Absent, None),
        two.put(leases, "k", Bytes::from_static(b"2"), Condition::Absent, None)
    );
    assert_eq!([outcomes.0.unwrap(), outcomes.1.unwrap()].iter().filter(|outcome| outcome.is_stored()).count(), 1);
}

#[tokio::test]
async fn reads_go_on_while_another_program_holds_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    let other = raw(folder.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // `join` starts the write first; the read is answered before the write can be.
    let (written, ()) = tokio::join!(state.enqueue(new_job("waits")), async {
        assert_eq!(state.events(&acme(), EventFilter::default()).await.unwrap().len(), 1);
        assert_eq!(state.depth("outbox").await.unwrap().pending, 0);
        other.execute_batch("COMMIT").unwrap();
    });
    written.unwrap();
    assert_eq!(state.depth("outbox").await.unwrap().pending, 1);
}

#[test]
fn a_newer_schema_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    raw(folder.path()).execute("UPDATE connectors_schema SET version = 99", []).unwrap();
    let error = SqliteState::open(folder.path().join("state.db")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.message(),
        "the state file has schema version 99, but this program knows versions up to 4; use the newer program, or restore the backup made before the upgrade"
    );
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, "this is a letter, not a database, and it is longer than one header".repeat(20)).unwrap();
    let error = SqliteState::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("damaged or not a state file"), "{error}");
    let error = SqliteState::open(folder.path().join("no/such/folder/state.db")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("check that its folder exists"), "{error}");
}

#[tokio::test]
async fn a_damaged_page_is_found_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path());
    for n in 0..200 {
        state.append(vec![new_event(&format!("e{n}"), &"x".repeat(2000))]).await.unwrap();
    }
    drop(state);
    let path = folder.path().join("state.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // Every page after the schema: whatever the layout is, some of them are index or table pages.
    for page in bytes.chunks_mut(4096).skip(40).step_by(3) {
        page[..64].fill(0xA5);
    }
    std::fs::write(&path, bytes).unwrap();
    let error = SqliteState::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("damaged"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let state = open(folder.path());
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    for file in ["state.db", "state.db-wal"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn tampering_with_the_trail_shows_where() {
    for (change, first_bad) in [
        ("UPDATE audit SET record = replace(record, 'op3', 'op9') WHERE seq = 3", Some(3)),
        ("DELETE FROM audit WHERE seq = 2", Some(3)),
        ("DELETE FROM audit WHERE seq = 5", Some(5)),
        ("UPDATE audit SET hash = 'zz' WHERE seq = 4", Some(4)),
        ("UPDATE audit SET seq = 99 WHERE seq = 1; UPDATE audit SET seq = 1 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 99", Some(1)),
        ("SELECT 1", None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let state = open(folder.path());
        state.audit((1..=5).map(|n| audit_record("acme", &format!("op{n}"), "main")).collect()).await.unwrap();
        raw(folder.path()).execute_batch(change).unwrap();
        let report = state.audit_verify(&acme()).await.unwrap();
        assert_eq!(report.first_bad, first_bad, "{change}");
    }
}
