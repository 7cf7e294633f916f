//! What happens when the server restarts, fills up, turns read-only, is locked, or the network breaks between a commit and its answer.
//! Each test has a server of its own.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]
#![cfg(all(feature = "postgres", unix))]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, TenantId,
    error::Retry,
    state::{Appended, AuditLog as _, Condition, EventFilter, EventLog as _, JobQueue as _, Namespace, StateStore as _},
};
use connector_state::{PostgresOptions, PostgresState};
use connector_testkit::state_suite::{audit_record, new_event, new_job};
use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use self::support::{private::Private, raw, within_ten_seconds};

fn acme() -> TenantId {
    TenantId::from("acme")
}

async fn connect(url: &str) -> Result<PostgresState, Error> {
    PostgresState::connect(&SecretString::from(url)).await
}

/// Passing, with a delay and a word on what to do.
fn passes(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::Transient | ErrorKind::Overloaded | ErrorKind::Timeout), "{error:?}");
    assert!(matches!(error.retry(), Retry::After(_)), "{error:?}");
}

fn outcome_is_unknown(error: &Error) -> bool {
    error.context().iter().any(|(key, value)| *key == "outcome" && value == "unknown")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_survived_and_a_crash_loses_nothing_that_was_acknowledged() {
    let Some(mut server) = Private::start(&[]).await else { return };
    let (one, two) = (Arc::new(connect(&server.url()).await.unwrap()), connect(&server.url()).await.unwrap());
    let mut acknowledged = Vec::new();
    for crash in [false, true] {
        let mut wakes = two.wakes();
        wakes.changed().await.unwrap();
        // Work goes on while the server goes down.
        let writer = tokio::spawn({
            let one = one.clone();
            async move {
                let mut kept = Vec::new();
                for n in 0..1_000_000 {
                    let id = format!("{crash}-{n}");
                    match one.append(vec![new_event(&id, "1")]).await {
                        Ok(_) => kept.push(id),
                        Err(error) => return (kept, error),
                    }
                }
                panic!("the server did not go down")
            }
        });
        within_ten_seconds("the first appends", || async { (one.depth("events").await.unwrap().pending > 50).then_some(()) }).await;
        if crash {
            server.crash()
        } else {
            server.stop()
        }
        let (kept, error) = writer.await.unwrap();
        acknowledged.extend(kept);
        passes(&error);
        let tenant = acme();
        for error in [
            one.append(vec![new_event("down", "1")]).await.unwrap_err(),
            one.events(&tenant, EventFilter::default()).await.unwrap_err(),
            one.claim("events", 1, Duration::from_secs(1)).await.unwrap_err(),
            one.audit(vec![audit_record("acme", "op", "main")]).await.unwrap_err(),
            one.put(Namespace::new(&tenant, "tokens"), "k", Bytes::new(), Condition::Any, None).await.unwrap_err(),
            connect(&server.url()).await.unwrap_err(),
        ] {
            passes(&error);
            assert!(error.message().contains("PostgreSQL server"), "{error}");
        }

        server.up().await;
        let back = Instant::now();
        within_ten_seconds("appending again", || async { one.append(vec![new_event(&format!("{crash}-up"), "1")]).await.ok() }).await;
        within_ten_seconds("claiming again", || async { two.claim("none", 1, Duration::from_secs(1)).await.ok() }).await;
        wakes.mark_unchanged();
        within_ten_seconds("hearing again", || async {
            one.enqueue(new_job("heard")).await.unwrap();
            wakes.has_changed().unwrap().then_some(())
        })
        .await;
        assert!(back.elapsed() < Duration::from_secs(10), "recovery took {:?}", back.elapsed());
    }
    let raw = raw(&server.url()).await.unwrap();
    let events = "SELECT event_id, (SELECT count(*) FROM connectors.jobs AS j WHERE j.event_seq = e.seq) FROM connectors.events AS e";
    let kept: std::collections::HashMap<String, i64> = raw.query(events, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    for id in &acknowledged {
        assert_eq!(kept.get(id), Some(&1), "{id} was acknowledged");
    }
    assert!(kept.values().all(|jobs| *jobs == 1), "no event is there without its job");
    assert!(acknowledged.len() > 50);
}

/// A way to the server that can swallow answers: the statement gets there, the answer does not come back, the connection breaks.
async fn lossy_way(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let swallow = Arc::new(AtomicBool::new(false));
    let lossy = swallow.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let lossy = lossy.clone();
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { drop(tokio::io::copy(&mut from_client, &mut to_server).await) });
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    if lossy.load(Ordering::SeqCst) || to_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (own, swallow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_lost_is_reported_as_an_unknown_outcome() {
    let Some(server) = Private::start(&[]).await else { return };
    let (way, swallow) = lossy_way(server.port()).await;
    let state = connect(&format!("postgres://postgres@127.0.0.1:{way}/postgres")).await.unwrap();
    // Statements are prepared, so that what is lost is the answer to the work itself.
    state.append(vec![new_event("before", "1")]).await.unwrap();
    state.enqueue(new_job("before")).await.unwrap();
    let mut keyed = new_job("keyed");
    keyed.key = Some("k0".to_owned());
    state.enqueue(keyed.clone()).await.unwrap();

    swallow.store(true, Ordering::SeqCst);
    let error = state.append(vec![new_event("lost", "1")]).await.unwrap_err();
    passes(&error);
    assert!(outcome_is_unknown(&error), "{error:?}");
    swallow.store(false, Ordering::SeqCst);
    // It was done, and saying it again does no harm.
    let again = within_ten_seconds("the second append", || async { state.append(vec![new_event("lost", "1")]).await.ok() }).await;
    assert!(matches!(again[..], [Appended::Duplicate { .. }]), "{again:?}");
    assert_eq!(state.depth("events").await.unwrap().pending, 2, "one job for each");

    swallow.store(true, Ordering::SeqCst);
    let error = state.enqueue(new_job("twice")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unknown, Retry::Never), "without a key it must not be repeated blindly");
    swallow.store(false, Ordering::SeqCst);
    within_ten_seconds("reading again", || async { state.depth("outbox").await.ok() }).await;
    // A connection that broke unused is found by the pool; the listener's is of no concern here.
    swallow.store(true, Ordering::SeqCst);
    keyed.key = Some("k1".to_owned());
    let error = state.enqueue(keyed.clone()).await.unwrap_err();
    passes(&error);
    assert!(outcome_is_unknown(&error));
    swallow.store(false, Ordering::SeqCst);
    within_ten_seconds("the keyed job", || async { state.enqueue(keyed.clone()).await.ok() }).await;
    let jobs = raw(&server.url()).await.unwrap().query("SELECT subject FROM connectors.jobs WHERE key = 'k1'", &[]).await.unwrap();
    assert_eq!(jobs.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_is_refused_and_used_again_when_it_takes_writes() {
    let Some(server) = Private::start(&[]).await else { return };
    let state = connect(&server.url()).await.unwrap();
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    assert_eq!(state.events(&acme(), EventFilter::default()).await.unwrap().len(), 1);
    let admin = raw(&server.url()).await.unwrap();
    let switch = async |on: &str| {
        admin.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only TO {on}")).await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    switch("on").await;
    // A duplicate is a write as well, and leaves no second event if it comes before the switch is heard.
    let error = within_ten_seconds("turning read-only", || async { state.append(vec![new_event("e1", "1")]).await.err() }).await;
    passes(&error);
    assert!(error.message().contains("read-only"), "{error}");
    assert!(!outcome_is_unknown(&error), "it was refused, nothing was done");
    assert_eq!(state.events(&acme(), EventFilter::default()).await.unwrap().len(), 1, "reads go on over what is open");
    let error = connect(&server.url()).await.unwrap_err();
    passes(&error);
    assert!(error.message().contains("name the primary"), "{error}");
    let error = state.append(vec![new_event("e1", "1")]).await.unwrap_err();
    assert!(error.message().contains("name the primary"), "the session was given up, another server is looked for: {error}");
    switch("off").await;
    within_ten_seconds("writing again", || async { state.append(vec![new_event("e2", "1")]).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_free_connection_is_waited_for() {
    let Some(server) = Private::start(&["max_connections=12", "superuser_reserved_connections=2"]).await else { return };
    let admin = raw(&server.url()).await.unwrap();
    admin.batch_execute("CREATE ROLE hub LOGIN; CREATE SCHEMA connectors AUTHORIZATION hub").await.unwrap();
    let url = format!("postgres://hub@127.0.0.1:{}/postgres", server.port());
    let state = connect(&url).await.unwrap();
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    let mut hogs = Vec::new();
    while let Ok(hog) = raw(&url).await {
        hogs.push(hog);
    }
    assert_eq!(state.append(vec![new_event("e1", "1")]).await.unwrap().len(), 1, "a connection that is there goes on");
    let error = connect(&url).await.unwrap_err();
    passes(&error);
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.message().contains("max_connections"), "{error}");
    let error = state.depth("events").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    hogs.clear();
    within_ten_seconds("reading", || async { state.depth("events").await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_waited_for_and_a_cancelled_wait_is_said() {
    let Some(server) = Private::start(&[]).await else { return };
    let state = Arc::new(connect(&server.url()).await.unwrap());
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    let (holder, admin) = (raw(&server.url()).await.unwrap(), raw(&server.url()).await.unwrap());
    let blocked = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'connectors'";
    for cancel in [false, true] {
        holder.batch_execute("BEGIN; LOCK TABLE connectors.events").await.unwrap();
        let append = tokio::spawn({
            let state = state.clone();
            async move { state.append(vec![new_event(&format!("{cancel}"), "1")]).await }
        });
        let pid: i32 = within_ten_seconds("the wait", || async { Some(admin.query_opt(blocked, &[]).await.unwrap()?.get(0)) }).await;
        if cancel {
            admin.query_one("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
            let error = append.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Overloaded);
            assert!(!outcome_is_unknown(&error));
            passes(&error);
            holder.batch_execute("COMMIT").await.unwrap();
        } else {
            holder.batch_execute("COMMIT").await.unwrap();
            append.await.unwrap().unwrap();
        }
    }
    assert_eq!(state.events(&acme(), EventFilter::default()).await.unwrap().len(), 2);
    state.append(vec![new_event("true", "1")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_forget_is_refused() {
    let Some(server) = Private::start(&["fsync=off"]).await else { return };
    let error = connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("fsync=off"), "{error}");
    for (url, words) in [
        (format!("postgres://postgres@127.0.0.1:{}/nothing", server.port()), "no such database"),
        (format!("postgres://nobody@127.0.0.1:{}/postgres", server.port()), "refused the user"),
    ] {
        let error = connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_told_what_is_missing() {
    let Some(server) = Private::start(&[]).await else { return };
    let admin = raw(&server.url()).await.unwrap();
    admin.batch_execute("CREATE ROLE guest LOGIN").await.unwrap();
    admin.batch_execute("CREATE DATABASE narrow ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").await.unwrap();
    let guest = format!("postgres://guest@127.0.0.1:{}/postgres", server.port());
    let error = connect(&guest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("must own the schema"), "{error}");
    let error = connect(&format!("postgres://postgres@127.0.0.1:{}/narrow", server.port())).await.unwrap_err();
    assert!(error.message().contains("UTF-8"), "{error}");
    // With the schema made by somebody else it needs no right to create one.
    admin.batch_execute("CREATE SCHEMA connectors AUTHORIZATION guest").await.unwrap();
    connect(&guest).await.unwrap().append(vec![new_event("e1", "1")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_checks_the_chain_and_the_name() {
    let Some(mut server) = Private::start(&[]).await else { return };
    let plain = format!("postgres://postgres@localhost:{}/postgres", server.port());
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = server.write("server.crt", &pair.cert.pem());
    let key = server.write("server.key", &pair.signing_key.serialize_pem());
    let stranger = server.write("stranger.crt", &other.cert.pem());

    let trusting = format!("{plain}?sslmode=verify-full&sslrootcert={}", certificate.display());
    let error = connect(&trusting).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("offers no TLS"), "{error}");

    server.stop();
    server.set(&["ssl=on", &format!("ssl_cert_file={}", certificate.display()), &format!("ssl_key_file={}", key.display())]);
    server.up().await;
    let state = connect(&trusting).await.unwrap();
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    let admin = raw(&server.url()).await.unwrap();
    let row = admin
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE s.ssl) FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a USING (pid)
             WHERE a.application_name = 'connectors'",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, i64>(0) >= 2, "a writer and the listener");
    assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "every connection is encrypted");
    for url in [format!("{plain}?sslmode=require&sslrootcert={}", stranger.display()), trusting.replace("localhost:", "127.0.0.1:")] {
        let error = connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.message().contains("certificate"), "{error}");
    }
    assert!(PostgresState::connect_with(&SecretString::from(trusting), PostgresOptions::default().schema("second")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_replica_needs_no_restart() {
    let Some(mut primary) = Private::start(&[]).await else { return };
    let Some(replica) = primary.replica().await else { return };
    let error = connect(&replica.url()).await.unwrap_err();
    passes(&error);
    assert!(error.message().contains("read-only"), "{error}");

    let both = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", replica.port(), primary.port());
    let state = connect(&both).await.unwrap();
    state.append(vec![new_event("e1", "1")]).await.unwrap();
    let reader = raw(&replica.url()).await.unwrap();
    within_ten_seconds("replication", || async { reader.query_opt("SELECT 1 FROM connectors.jobs", &[]).await.ok().flatten() }).await;

    primary.stop();
    passes(&state.append(vec![new_event("e2", "1")]).await.unwrap_err());
    reader.query_one("SELECT pg_promote()", &[]).await.unwrap();
    let promoted = Instant::now();
    within_ten_seconds("appending there", || async { state.append(vec![new_event("e2", "1")]).await.ok() }).await;
    let kept = state.events(&acme(), EventFilter::default()).await.unwrap();
    assert_eq!(kept.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), ["e1", "e2"]);
    assert_eq!(state.claim("events", 5, Duration::from_secs(60)).await.unwrap().len(), 2);
    assert!(promoted.elapsed() < Duration::from_secs(10));
}
