//! What only the PostgreSQL backend promises: several processes on one database, the server's clock, group commit, refusals, tamper evidence.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]
#![cfg(all(feature = "postgres", unix))]

mod support;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use connector_core::{
    ErrorKind, TenantId,
    clock::{Clock, ManualClock, SystemClock, unix_millis},
    state::{
        Appended, AuditFilter, AuditLog as _, Condition, EventFilter, EventLog as _, JobError, JobQueue as _, JobState, Namespace, StateStore as _,
    },
};
use connector_state::{PostgresOptions, PostgresState};
use connector_testkit::state_suite::{audit_record, new_event, new_job};
use futures_util::future::join_all;
use secrecy::SecretString;

use self::support::{Schemas, within_ten_seconds};

const LEASE: Duration = Duration::from_secs(60);

fn acme() -> TenantId {
    TenantId::from("acme")
}

fn failed() -> JobError {
    JobError { kind: ErrorKind::Transient, message: "it did not work".to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_duplicates_at_two_hubs_are_one_event() {
    let Some(schemas) = Schemas::find().await else { return };
    let (_, one, two) = schemas.pair().await;
    let appends = (0..64).map(|n| {
        let state = if n % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move { state.append(vec![new_event("e1", "1")]).await.unwrap()[0] })
    });
    let outcomes: Vec<Appended> = join_all(appends).await.into_iter().map(Result::unwrap).collect();
    let new: Vec<_> = outcomes.iter().filter(|one| matches!(one, Appended::New { .. })).collect();
    let duplicates = outcomes.iter().filter(|one| matches!(one, Appended::Duplicate { .. })).count();
    assert_eq!((new.len(), duplicates), (1, 63));
    assert_eq!(one.depth("events").await.unwrap().pending, 1);
    assert_eq!(two.events(&acme(), EventFilter::default()).await.unwrap()[0].duplicates, 63);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_share_events_in_another_order_do_not_block_each_other() {
    let Some(schemas) = Schemas::find().await else { return };
    let (_, one, two) = schemas.pair().await;
    for round in 0..20 {
        let ids: Vec<String> = (0..40).map(|n| format!("{round}-{n}")).collect();
        let forwards = ids.iter().map(|id| new_event(id, "1")).collect::<Vec<_>>();
        let backwards = forwards.iter().rev().cloned().collect::<Vec<_>>();
        let (first, second) = tokio::join!(one.append(forwards), two.append(backwards));
        let is_new = |appended: &&Appended| matches!(appended, Appended::New { .. });
        let new = first.unwrap().iter().filter(is_new).count() + second.unwrap().iter().filter(is_new).count();
        assert_eq!(new, 40);
    }
    assert_eq!(one.depth("events").await.unwrap().pending, 800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_two_hubs_never_claim_the_same_job() {
    let Some(schemas) = Schemas::find().await else { return };
    let (_, one, two) = schemas.pair().await;
    let events = (0..300).map(|n| {
        let mut event = new_event(&n.to_string(), "1");
        event.order_key = (n % 3 == 0).then(|| (n % 12).to_string());
        event
    });
    one.append(events.collect()).await.unwrap();
    let done = Arc::new(std::sync::Mutex::new(Vec::new()));
    let busy = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let workers = (0..8).map(|n| {
        let state = if n % 2 == 0 { one.clone() } else { two.clone() };
        let (done, busy) = (done.clone(), busy.clone());
        tokio::spawn(async move {
            while done.lock().unwrap().len() < 300 {
                for job in state.claim("events", 9, LEASE).await.unwrap() {
                    if let Some(lane) = &job.order_key {
                        assert!(busy.lock().unwrap().insert(lane.clone()), "two of lane {lane} at once");
                    }
                    done.lock().unwrap().push(job.id.0);
                    if let Some(lane) = &job.order_key {
                        busy.lock().unwrap().remove(lane);
                    }
                    assert!(state.complete(&job).await.unwrap());
                }
            }
        })
    });
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    let mut all = done.lock().unwrap().clone();
    assert_eq!(all.len(), 300);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 300, "a job was given out twice");
}

#[tokio::test]
async fn a_lease_excludes_the_other_hub_and_fences_the_late_one() {
    let Some(schemas) = Schemas::find().await else { return };
    let (schema, one, two) = schemas.pair().await;
    one.enqueue(new_job("once")).await.unwrap();
    let slow = one.claim("outbox", 1, LEASE).await.unwrap().remove(0);
    assert!(two.claim("outbox", 1, LEASE).await.unwrap().is_empty());
    // The lease runs out.
    let raw = schemas.raw(&schema).await;
    raw.execute("UPDATE jobs SET due_at = due_at - 60000", &[]).await.unwrap();
    let quick = two.claim("outbox", 1, LEASE).await.unwrap().remove(0);
    assert_eq!(quick.id, slow.id);
    assert!(!one.complete(&slow).await.unwrap());
    assert!(!one.retry(&slow, 0, failed()).await.unwrap());
    assert!(two.complete(&quick).await.unwrap());
    let tenant = acme();
    let leases = Namespace::new(&tenant, "leases");
    let (a, b) = tokio::join!(
        one.put(leases, "k", Bytes::from_static(b"1"), Condition::Absent, Some(LEASE)),
        two.put(leases, "k", Bytes::from_static(b"2"), Condition::Absent, Some(LEASE))
    );
    assert_eq!([a.unwrap(), b.unwrap()].iter().filter(|outcome| outcome.is_stored()).count(), 1);
}

#[tokio::test]
async fn a_wrong_clock_steals_no_lease_and_moves_no_retry() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    let right = schemas.open(&schema).await;
    for minutes in [-10_i64, 10] {
        let now = unix_millis(SystemClock.wall());
        let wrong = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_millis(now.saturating_add_signed(minutes * 60_000)));
        let options = PostgresOptions::default().schema(&schema).clock(Arc::new(wrong.clone()));
        let skewed = PostgresState::connect_with(&schemas.secret(), options).await.unwrap();
        let id = right.enqueue(new_job("one")).await.unwrap().id();
        let job = right.claim("outbox", 1, LEASE).await.unwrap().remove(0);
        assert!(skewed.claim("outbox", 1, LEASE).await.unwrap().is_empty(), "{minutes} min: the lease is by the server's clock");
        let tenant = acme();
        let leases = Namespace::new(&tenant, "leases");
        assert!(right.put(leases, "k", Bytes::new(), Condition::Any, Some(LEASE)).await.unwrap().is_stored());
        assert!(!skewed.put(leases, "k", Bytes::new(), Condition::Absent, Some(LEASE)).await.unwrap().is_stored());
        // A minute from now by a clock that is ten minutes off is a minute from now.
        assert!(skewed.retry(&job, unix_millis(wrong.wall()) + 60_000, failed()).await.unwrap());
        let raw = schemas.raw(&schema).await;
        let row = raw.query_one("SELECT due_at - now_ms(NULL) FROM jobs WHERE id = $1", &[&i64::try_from(id.0).unwrap()]).await.unwrap();
        let wait: i64 = row.get(0);
        assert!((50_000..=60_000).contains(&wait), "{minutes} min off, it waits {wait} ms");
        raw.execute("DELETE FROM jobs", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_waits_for_a_number_that_is_drawn_and_not_committed() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    let state = schemas.open(&schema).await;
    state.append(vec![new_event("before", "1")]).await.unwrap();
    let slow = schemas.raw(&schema).await;
    slow.batch_execute("BEGIN").await.unwrap();
    slow.execute(
        "SELECT * FROM append_events(NULL, 'events', 8, '{acme}', '{support}', '{crm}', '{slow}', '{t}', '{NULL}', '{[]}', '{x}', '{h}', '{1}',
                                     '{dedupe}', '{s}', '{NULL}', '{crm_main}')",
        &[],
    )
    .await
    .unwrap();
    state.append(vec![new_event("after", "1")]).await.unwrap();
    let seen = async || {
        let events = state.events(&acme(), EventFilter::default()).await.unwrap();
        events.into_iter().map(|event| event.event_id).collect::<Vec<_>>()
    };
    assert_eq!(seen().await, ["before"], "a later number may not overtake an earlier one");
    slow.batch_execute("COMMIT").await.unwrap();
    assert_eq!(seen().await, ["before", "slow", "after"]);

    // One that is undone leaves a gap, and nobody waits for it.
    slow.batch_execute("BEGIN").await.unwrap();
    slow.execute("SELECT pg_advisory_xact_lock_shared(lock_class('events'), lock_word(last_value)) FROM events_seq", &[]).await.unwrap();
    slow.query("SELECT nextval('events_seq')", &[]).await.unwrap();
    slow.batch_execute("ROLLBACK").await.unwrap();
    state.append(vec![new_event("last", "1")]).await.unwrap();
    assert_eq!(seen().await, ["before", "slow", "after", "last"]);
}

#[tokio::test]
async fn the_numbers_of_locks_may_pass_thirty_two_bits() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    let state = schemas.open(&schema).await;
    let raw = schemas.raw(&schema).await;
    let mut kept = 0;
    for last in [i64::from(i32::MAX) - 1, i64::from(u32::MAX) - 1, 3 * i64::from(u32::MAX)] {
        raw.execute("SELECT setval('events_seq', $1)", &[&last]).await.unwrap();
        for _ in 0..4 {
            kept += 1;
            state.append(vec![new_event(&kept.to_string(), "1")]).await.unwrap();
            assert_eq!(state.events(&acme(), EventFilter::default()).await.unwrap().len(), kept, "after {last}");
        }
        let holder = schemas.raw(&schema).await;
        holder.batch_execute("BEGIN").await.unwrap();
        let lock = "SELECT pg_advisory_xact_lock_shared(lock_class('events'), lock_word(last_value)) FROM events_seq";
        holder.execute(lock, &[]).await.unwrap();
        assert_eq!(state.events(&acme(), EventFilter::default()).await.unwrap().len(), kept, "what was there before the lock is seen");
        holder.batch_execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_hub_hears_that_another_one_queued_work() {
    let Some(schemas) = Schemas::find().await else { return };
    let (_, one, two) = schemas.pair().await;
    let mut wakes = two.wakes();
    // Listening begins with a wake of its own.
    wakes.changed().await.unwrap();
    let other = schemas.open(&schemas.name()).await;
    for n in 0..3 {
        wakes.mark_unchanged();
        other.append(vec![new_event(&n.to_string(), "1")]).await.unwrap();
        if n == 0 {
            one.append(vec![new_event("e", "1")]).await.unwrap();
        } else {
            one.enqueue(new_job("j")).await.unwrap();
        }
        tokio::time::timeout(Duration::from_secs(5), wakes.changed()).await.unwrap().unwrap();
    }
    let mut own = two.wakes();
    two.enqueue(new_job("own")).await.unwrap();
    assert!(own.has_changed().unwrap(), "the own process hears it at once");
    own.mark_unchanged();
}

#[tokio::test]
async fn hubs_that_start_together_migrate_once() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    let secret = schemas.secret();
    let opened = join_all((0..6).map(|_| PostgresState::connect_with(&secret, PostgresOptions::default().schema(&schema)))).await;
    for state in opened {
        state.unwrap().append(vec![new_event("e1", "1")]).await.unwrap();
    }
    let raw = schemas.raw(&schema).await;
    let versions: Vec<i32> = raw.query("SELECT version FROM connectors_schema", &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(versions, [1]);

    raw.execute("UPDATE connectors_schema SET version = 99", &[]).await.unwrap();
    let error = PostgresState::connect_with(&secret, PostgresOptions::default().schema(&schema)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.message(),
        "the database has schema version 99, but this program knows versions up to 1; use the newer program, or restore the backup made before the upgrade"
    );
}

#[tokio::test]
async fn concurrent_operations_share_commits() {
    let Some(schemas) = Schemas::find().await else { return };
    let state = schemas.open(&schemas.name()).await;
    let before = state.stats();
    let appended = join_all((0..256).map(|n| state.append(vec![new_event(&n.to_string(), "1")]))).await;
    assert!(appended.iter().all(|one| matches!(one.as_deref(), Ok([Appended::New { .. }]))));
    let after = state.stats();
    assert_eq!(after.operations - before.operations, 256);
    assert!(after.commits - before.commits <= 32, "256 operations took {} commits", after.commits - before.commits);
    let jobs = state.claim("events", 256, LEASE).await.unwrap();
    let completed = join_all(jobs.iter().map(|job| state.complete(job))).await;
    assert!(completed.into_iter().all(Result::unwrap));
    assert!(state.stats().commits - after.commits <= 32);
    join_all((0..50).map(|n| state.audit(vec![audit_record("acme", &n.to_string(), "main"), audit_record("other", "op", "main")]))).await;
    assert_eq!(state.audit_verify(&acme()).await.unwrap().checked, 50);
    assert_eq!(state.audit_verify(&acme()).await.unwrap().first_bad, None);
    assert!(state.stats().commits - before.commits <= 70, "{:?}", state.stats());
}

#[tokio::test]
async fn a_failing_operation_does_not_spoil_its_neighbours() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    let state = schemas.open(&schema).await;
    let raw = schemas.raw(&schema).await;
    raw.batch_execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the row says hunter2'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.event_id = 'bad') EXECUTE FUNCTION refuse()",
    )
    .await
    .unwrap();
    let results = join_all(["a", "bad", "b"].map(|id| state.append(vec![new_event("first", "1"), new_event(id, "1")]))).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(!format!("{error} {error:?}").contains("hunter2"), "a server's text may quote a row: {error:?}");
    let kept = state.events(&acme(), EventFilter::default()).await.unwrap();
    assert_eq!(kept.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), ["first", "a", "b"]);
    assert_eq!(kept[0].duplicates, 1, "the failed one left nothing behind, not even a count");
    assert_eq!(state.depth("events").await.unwrap().pending, 3);
}

#[tokio::test]
async fn two_hubs_write_one_chain() {
    let Some(schemas) = Schemas::find().await else { return };
    let (_, one, two) = schemas.pair().await;
    let entries = join_all((0..40).map(|n| {
        let state = if n % 2 == 0 { &one } else { &two };
        let tenants = if n % 3 == 0 { ["acme", "other"] } else { ["other", "acme"] };
        state.audit(tenants.map(|tenant| audit_record(tenant, &n.to_string(), "main")).to_vec())
    }));
    assert!(entries.await.into_iter().all(|one| one.is_ok()));
    for tenant in [acme(), TenantId::from("other")] {
        let report = one.audit_verify(&tenant).await.unwrap();
        assert_eq!((report.checked, report.first_bad), (40, None));
    }
}

#[tokio::test]
async fn tampering_with_the_trail_shows_where() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    let state = schemas.open(&schema).await;
    let raw = schemas.raw(&schema).await;
    for (n, (change, first_bad)) in [
        ("UPDATE audit SET record = replace(record, 'op3', 'op9') WHERE seq = 3 AND tenant = ", Some(3)),
        ("DELETE FROM audit WHERE seq = 2 AND tenant = ", Some(3)),
        ("DELETE FROM audit WHERE seq = 5 AND tenant = ", Some(5)),
        ("UPDATE audit SET hash = 'zz' WHERE seq = 4 AND tenant = ", Some(4)),
        ("UPDATE audit_head SET seq = 4 WHERE tenant = ", Some(5)),
        ("DELETE FROM audit_head WHERE tenant = ", Some(1)),
        ("INSERT INTO audit SELECT tenant, 6, hash, record, operation, connection FROM audit WHERE seq = 5 AND tenant = ", Some(6)),
        ("SELECT 1 WHERE 'x' <> ", None),
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = format!("t{n}");
        state.audit((1..=5).map(|n| audit_record(&tenant, &format!("op{n}"), "main")).collect()).await.unwrap();
        raw.batch_execute(&format!("{change}'{tenant}'")).await.unwrap();
        let report = state.audit_verify(&TenantId::from(tenant.as_str())).await.unwrap();
        assert_eq!(report.first_bad, first_bad, "{change}");
        let tail = state.audit_tail(&TenantId::from(tenant.as_str()), AuditFilter { limit: 1, ..AuditFilter::default() }).await.unwrap();
        assert_eq!(tail.len(), 1);
    }
}

#[tokio::test]
async fn a_long_chain_is_checked_in_portions() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    let state = schemas.open(&schema).await;
    state.audit((0..2_500).map(|n| audit_record("acme", &n.to_string(), "main")).collect()).await.unwrap();
    let report = state.audit_verify(&acme()).await.unwrap();
    assert_eq!((report.checked, report.first_bad), (2_500, None));
    schemas.raw(&schema).await.execute("UPDATE audit SET record = record || ' ' WHERE seq = 2100", &[]).await.unwrap();
    assert_eq!(state.audit_verify(&acme()).await.unwrap().first_bad, Some(2_100));
}

#[tokio::test]
async fn a_replay_and_a_pruning_do_not_lose_the_job() {
    let Some(schemas) = Schemas::find().await else { return };
    let (_, one, two) = schemas.pair().await;
    for round in 0..20 {
        let mut event = new_event(&round.to_string(), "1");
        event.received_at = 1;
        let [Appended::New { seq, .. }] = one.append(vec![event]).await.unwrap()[..] else { panic!("it is new") };
        let job = one.claim("events", 1, LEASE).await.unwrap().remove(0);
        assert!(one.complete(&job).await.unwrap());
        let (tenant, pruned_before) = (acme(), 2);
        let (replayed, pruned) = tokio::join!(one.replay(&tenant, seq), two.prune_events(pruned_before));
        match replayed.unwrap() {
            Some(id) => {
                assert_eq!(pruned.unwrap(), 0, "an event with an open job stays");
                assert_eq!(one.job(&tenant, id).await.unwrap().unwrap().state, JobState::Pending);
                assert!(one.event(&tenant, seq).await.unwrap().is_some());
                let job = one.claim("events", 1, LEASE).await.unwrap().remove(0);
                assert!(one.complete(&job).await.unwrap());
                assert_eq!(one.prune_events(pruned_before).await.unwrap(), 1);
            }
            None => assert_eq!(pruned.unwrap(), 1),
        }
    }
}

#[tokio::test]
async fn commits_are_flushed_whatever_the_server_prefers() {
    let Some(schemas) = Schemas::find().await else { return };
    let schema = schemas.name();
    // The URL asks for less than is promised.
    let separator = if schemas.url.contains('?') { '&' } else { '?' };
    let url = SecretString::from(format!("{}{separator}options=-csynchronous_commit%3Doff", schemas.url));
    let state = PostgresState::connect_with(&url, PostgresOptions::default().schema(&schema)).await.unwrap();
    let raw = schemas.raw(&schema).await;
    raw.batch_execute(
        "CREATE TABLE seen (setting text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
         CREATE TRIGGER note BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await
    .unwrap();
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    let seen: String = raw.query_one("SELECT setting FROM seen", &[]).await.unwrap().get(0);
    assert_eq!(seen, "on");
}

#[tokio::test]
async fn a_terminated_session_is_replaced() {
    let Some(schemas) = Schemas::find().await else { return };
    let (schema, one, two) = schemas.pair().await;
    let mut wakes = two.wakes();
    wakes.changed().await.unwrap();
    one.append(vec![new_event("e1", "1")]).await.unwrap();
    one.depth("events").await.unwrap();
    let raw = schemas.raw(&schema).await;
    // Whoever has said something about this schema, and the listeners.
    let ended = raw
        .query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND application_name = 'connectors' AND query LIKE '%' || (SELECT oid FROM pg_namespace WHERE nspname = $1) || '%'",
            &[&schema],
        )
        .await
        .unwrap();
    assert!(!ended.is_empty(), "the listeners are there");
    wakes.mark_unchanged();
    within_ten_seconds("listening again", || async { wakes.has_changed().unwrap().then_some(()) }).await;
    wakes.mark_unchanged();
    // The first notification may meet the sender's own broken listener; it is said again over the next one.
    one.append(vec![new_event("e2", "1")]).await.unwrap();
    within_ten_seconds("the wake", || async { wakes.has_changed().unwrap().then_some(()) }).await;
}

#[tokio::test]
async fn nothing_shows_the_url() {
    let Some(schemas) = Schemas::find().await else { return };
    let url = SecretString::from(schemas.url.replace('@', ":hunter2@"));
    let state = PostgresState::connect_with(&url, PostgresOptions::default().schema(schemas.name())).await.unwrap();
    let shown = format!("{state:?}");
    assert!(shown.contains("schema") && !shown.contains("hunter2"), "{shown}");
    for name in ["Upper", "a\"b", "", "pg_mine"] {
        let error = PostgresState::connect_with(&url, PostgresOptions::default().schema(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    let error = PostgresState::connect_with(&url, PostgresOptions::default().connections(4)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_key_that_is_too_long_for_the_index_is_refused_by_name() {
    let Some(schemas) = Schemas::find().await else { return };
    let state = schemas.open(&schemas.name()).await;
    let tenant = acme();
    let tokens = Namespace::new(&tenant, "tokens");
    let error = state.put(tokens, &"k".repeat(3_000), Bytes::new(), Condition::Any, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(state.get(tokens, &"k".repeat(3_000)).await.unwrap(), None);
    let longest: String = (0..1_900).map(|n| char::from(b'a' + u8::try_from((n * n + 7 * n) % 26).unwrap())).collect();
    assert!(state.put(tokens, &longest, Bytes::new(), Condition::Absent, None).await.unwrap().is_stored());
    assert!(state.get(tokens, &longest).await.unwrap().is_some());
}
