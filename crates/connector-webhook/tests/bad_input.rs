//! What the pipeline does about bodies of other kinds, a store that is slow, and clocks that are wrong.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use common::{Bench, NOW, described, sign, signed_at};
use connector_core::{
    Result, TenantId,
    clock::ManualClock,
    state::{Appended, EventFilter, EventLog, JobId, NewEvent, StoredEvent},
    webhook::{IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use connector_state::MemoryState;
use connector_webhook::ingress::{CLOCK_SUSPECT, IngressLimits, IngressPipeline, Outcome};
use secrecy::SecretString;
use tokio::sync::Semaphore;

/// Reads forms, and makes an event out of whatever is in one.
#[derive(Debug)]
struct Forms {
    payload: &'static str,
}

impl WebhookVerifier for Forms {
    fn scheme(&self) -> &'static str {
        "forms"
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["application/x-www-form-urlencoded"]
    }

    fn verify(&self, _: &RawWebhook<'_>, _: &[SecretString], _: SystemTime) -> Result<Ingress> {
        let payload = Bytes::from_static(self.payload.as_bytes());
        Ok(Ingress::Events(vec![IncomingEvent { id: Some("e1".into()), event_type: "x".into(), occurred_at: None, order_key: None, payload }]))
    }
}

fn typed(kind: &str) -> Vec<(String, String)> {
    vec![("content-type".to_owned(), kind.to_owned())]
}

#[tokio::test]
async fn a_verifier_says_which_kinds_of_bodies_it_reads_and_all_others_are_415() {
    let mut bench = Bench::new(&described());
    bench.verifier = Arc::new(Forms { payload: r#"{"command":"/ask"}"# });
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/xml", "application/x-www-form-urlencodedx", ""] {
        assert_eq!(bench.send(b"command=%2Fask", &typed(kind)).await.outcome, Outcome::NotJson, "{kind}");
    }
    for kind in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=UTF-8", "application/json"] {
        assert_eq!(bench.send(b"command=%2Fask", &typed(kind)).await.status, 202, "{kind}");
    }
    assert_eq!(bench.kept().await[0].payload, r#"{"command":"/ask"}"#);
}

#[tokio::test]
async fn what_a_verifier_makes_of_a_body_is_checked_like_a_body() {
    let mut bench = Bench::new(&described());
    for payload in [r#"{"id":1,"id":2}"#, "not json", r#"{"n":1e400}"#, ""] {
        bench.verifier = Arc::new(Forms { payload });
        // Also where the body itself is sound JSON: the event is not a part of it.
        for body in [&b"a=b"[..], b"{}"] {
            let answer = bench.send(body, &typed("application/x-www-form-urlencoded")).await;
            assert_eq!((answer.outcome, answer.connection.as_deref()), (Outcome::Invalid, Some("crm")), "{payload}");
        }
    }
    assert!(bench.kept().await.is_empty());
}

/// Takes its time: each append waits for a permit, then goes on.
#[derive(Debug)]
struct Slow {
    inner: Arc<MemoryState>,
    go: Semaphore,
    asked: AtomicUsize,
}

#[async_trait]
impl EventLog for Slow {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        self.asked.fetch_add(1, SeqCst);
        let _turn = self.go.acquire().await;
        self.inner.append(events).await
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        self.inner.event(tenant, seq).await
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        self.inner.events(tenant, filter).await
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        self.inner.replay(tenant, seq).await
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        self.inner.prune_events(before).await
    }
}

fn slow(limits: IngressLimits) -> (Bench, Arc<Slow>) {
    let mut bench = Bench::new(&described());
    let log = Arc::new(Slow { inner: bench.state.clone(), go: Semaphore::new(0), asked: AtomicUsize::new(0) });
    bench.pipeline = IngressPipeline::new(log.clone(), Arc::new(ManualClock::at_unix(NOW)), limits);
    (bench, log)
}

#[tokio::test(start_paused = true)]
async fn a_late_write_is_not_acknowledged_and_harmless() {
    let (bench, log) = slow(IngressLimits::default());
    let body = br#"{"id":"e1"}"#;
    let begun = tokio::time::Instant::now();
    let answer = bench.deliver(body).await;
    assert_eq!((answer.status, answer.outcome, answer.retry_after), (503, Outcome::NotPersisted, Some(5)));
    assert_eq!(begun.elapsed(), Duration::from_millis(2_500), "in time for vendors that wait three seconds");
    assert!(bench.kept().await.is_empty());
    // The store comes back, and what was given to it becomes durable after all.
    log.go.add_permits(10);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.kept().await.len(), 1);
    assert_eq!(bench.deliver(body).await.outcome, Outcome::Duplicate);
    assert_eq!(bench.kept().await.len(), 1, "what the vendor sent again is the same event");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_cap_nobody_waits_for_the_store() {
    let (bench, log) = slow(IngressLimits { waiting: 3, ..IngressLimits::default() });
    let bodies: Vec<String> = (0..8).map(|n| format!(r#"{{"id":"e{n}"}}"#)).collect();
    let begun = tokio::time::Instant::now();
    let answers = futures_util::future::join_all(bodies.iter().map(|body| bench.deliver(body.as_bytes()))).await;
    let shed: Vec<_> = answers.iter().filter(|answer| answer.outcome == Outcome::Overloaded).collect();
    assert_eq!(shed.len(), 5);
    assert!(shed.iter().all(|answer| (answer.status, answer.retry_after) == (503, Some(1))));
    assert_eq!(answers.iter().filter(|answer| answer.outcome == Outcome::NotPersisted).count(), 3);
    assert_eq!(begun.elapsed(), Duration::from_millis(2_500));
    assert_eq!(log.asked.load(SeqCst), 3, "the store never heard of the others");
    // Those who were told to come again still have their places, as long as the store has their events.
    let begun = tokio::time::Instant::now();
    assert_eq!(bench.deliver(br#"{"id":"e9"}"#).await.outcome, Outcome::Overloaded);
    assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
    log.go.add_permits(10);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.deliver(br#"{"id":"e9"}"#).await.outcome, Outcome::Accepted);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_for_the_store_have_a_cap_too() {
    let (bench, _log) = slow(IngressLimits { waiting_bytes: 1_000, ..IngressLimits::default() });
    let body = |n: usize| format!(r#"{{"id":"e{n}","fill":"{}"}}"#, "x".repeat(600));
    let (first, second) = tokio::join!(async { bench.deliver(body(1).as_bytes()).await }, async { bench.deliver(body(2).as_bytes()).await });
    assert_eq!((first.outcome, second.outcome), (Outcome::NotPersisted, Outcome::Overloaded));
}

#[tokio::test]
async fn only_genuine_deliveries_make_a_clock_suspect() {
    let bench = Bench::new(&described());
    let streak = || bench.pipeline.stale_streak(&"acme".into(), "crm");
    let stale = async || bench.send(b"{}", &signed_at(NOW - 301, b"{}")).await.outcome;
    for n in 1..=CLOCK_SUSPECT {
        assert_eq!(stale().await, Outcome::Stale);
        assert_eq!(streak(), n);
    }
    // A forgery with an old time is not a stale delivery.
    let forged = vec![("x-timestamp".to_owned(), (NOW - 301).to_string()), ("x-signature".to_owned(), sign("another", b"{}"))];
    assert_eq!(bench.send(b"{}", &forged).await.outcome, Outcome::WrongProof);
    assert_eq!(streak(), CLOCK_SUSPECT);
    assert_eq!(bench.deliver(b"{}").await.outcome, Outcome::Accepted);
    assert_eq!(streak(), 0, "in a row");
    assert_eq!(bench.pipeline.stale_streak(&"acme".into(), "other"), 0);
}
