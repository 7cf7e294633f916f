//! From a signed delivery over the SQLite store to a handler, and what is counted on the way.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use common::{Bench, NOW, SECRET, URL, described, headers, signed_at, spec};
use connector_core::{
    Result, TenantId,
    clock::ManualClock,
    state::{JobFilter, JobQueue as _, JobState, StoredEvent},
    webhook::RawWebhook,
};
use connector_state::SqliteState;
use connector_webhook::{
    dispatch::{DispatchPolicy, Dispatcher, EventHandler},
    ingress::{ConnectionKeys, IngressLimits, IngressPipeline, IngressTarget},
    schemes,
};
use http::Method;
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use secrecy::SecretString;
use tokio::sync::{mpsc, watch};

#[derive(Debug)]
struct Forward(mpsc::UnboundedSender<String>);

#[async_trait]
impl EventHandler for Forward {
    async fn handle(&self, event: &StoredEvent, _: u32) -> Result<()> {
        self.0.send(event.event_id.clone()).unwrap();
        Ok(())
    }
}

#[tokio::test]
async fn a_delivery_reaches_its_handler_without_waiting_for_a_poll() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at_unix(NOW));
    let state = Arc::new(SqliteState::open_with(folder.path().join("state.db"), clock.clone()).unwrap());
    let (sender, mut handled) = mpsc::unbounded_channel();
    // Nobody looks by itself within an hour: only the waker can bring the event to its handler.
    let policy = DispatchPolicy { poll: std::time::Duration::from_secs(3_600), ..DispatchPolicy::default() };
    let dispatcher = Dispatcher::new(state.clone(), state.clone(), Arc::new(Forward(sender)), clock.clone()).with_policy(policy);
    let pipeline = IngressPipeline::new(state.clone(), clock, IngressLimits::default()).waking(dispatcher.waker());
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(async move { dispatcher.run(stopped).await });

    let verifier = schemes::verifier(&described(), &[]).unwrap();
    let (tenant, workspace, spec) = (TenantId::from("acme"), "support".into(), spec(Vec::new()));
    let keys = [ConnectionKeys { connection: "crm".into(), secrets: vec![SecretString::from(SECRET)] }];
    let target = IngressTarget::new(&tenant, &workspace, &spec, &*verifier, &keys);
    for n in 0..20 {
        let body = Bytes::from(format!(r#"{{"id":"e{n}"}}"#));
        let headers = headers(&signed_at(NOW, &body));
        let request = RawWebhook { method: &Method::POST, url: URL, query: "", headers: &headers, body: &body };
        assert_eq!(pipeline.receive(&target, request).await.status, 202);
    }
    let mut ids = Vec::new();
    while ids.len() < 20 {
        ids.push(handled.recv().await.unwrap());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    stop.send(true).unwrap();
    task.await.unwrap();
    let done = JobFilter { state: Some(JobState::Done), ..JobFilter::default() };
    assert_eq!(state.jobs(&tenant, done).await.unwrap().len(), 20);
}

/// Adds up counters by their labels.
#[derive(Debug, Clone, Default)]
struct Sums(Arc<Mutex<BTreeMap<String, u64>>>);

struct Sum(Sums, String);

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Sums {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(|label| label.value().to_owned()).collect();
        Counter::from_arc(Arc::new(Sum(self.clone(), format!("{} {}", key.name(), labels.join(" ")))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn every_outcome_is_counted_by_its_name() {
    let sums = Sums::default();
    let _guard = metrics::set_default_local_recorder(&sums);
    let bench = Bench::new(&described());
    bench.deliver(br#"[{"id":"a"},{"id":"b"}]"#).await;
    bench.deliver(br#"{"id":"a"}"#).await;
    bench.deliver(br#"{"id":"a","changed":1}"#).await;
    bench.send(b"{}", &[]).await;
    bench.send(b"{}", &signed_at(NOW - 301, b"{}")).await;
    let counted: Vec<_> = sums.0.lock().unwrap().iter().map(|(name, count)| format!("{name} {count}")).collect();
    let expected = ["accepted 2", "duplicate 1", "mismatch 1", "missing_proof 1", "valid-signature-but-stale 1"];
    assert_eq!(counted, expected.map(|line| format!("integration_webhook_events_total crm {line}")));
}
