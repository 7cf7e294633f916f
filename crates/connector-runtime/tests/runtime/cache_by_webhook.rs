//! From a signed delivery to a fresh read: what an event makes stale is not answered from the cache, not even if it was being fetched.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Result, TenantId,
    clock::SystemClock,
    state::StoredEvent,
    transport::{Body, Request, Response, Transport},
    webhook::RawWebhook,
};
use connector_runtime::{CallRequest, EventHandler, HubConfig, Outcome, Runtime};
use connector_webhook::outbound::{Delivery, Endpoint, Sender};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::rules_world::{Receiver, SECRET};

const ERP: &str = r#"
connector: webhook
name: ERP
base_url: https://erp.example
webhook:
  verify: { scheme: standard_webhooks }
events:
  stock.changed: { match: { .type: stock.changed }, invalidates: ["stock:{data.sku}"] }
  price.changed: { match: { .type: price.changed } }
tools:
  - name: erp_stock
    doc: Stock of one article.
    method: GET
    path: /stock/{sku}
    params: [{ name: sku, type: string, required: true, doc: The article. }]
    cache: { ttl: 5m, tags: ["stock:{sku}"] }
"#;

const HUB: &str = r#"
rules:
  - { name: prices, on: erp.price.changed, do: [{ invalidate: ["stock:{payload.data.sku}"] }] }
"#;

/// The ERP: answers with how often it was asked, and can be held up.
#[derive(Debug, Default)]
struct Erp {
    asked: AtomicUsize,
    hold: Mutex<Option<Arc<Notify>>>,
    arrived: Notify,
}

#[async_trait]
impl Transport for Erp {
    async fn send(&self, _: &CallCx, _: Request) -> Result<Response> {
        let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let hold = self.hold.lock().unwrap().take();
        if let Some(hold) = hold {
            self.arrived.notify_one();
            hold.notified().await;
        }
        let body = Body::Bytes(json!({ "quantity": n }).to_string().into());
        Ok(http::Response::builder().header("content-type", "application/json").body(body).unwrap())
    }
}

#[derive(Debug)]
struct Tell(mpsc::UnboundedSender<String>);

#[async_trait]
impl EventHandler for Tell {
    async fn handle(&self, event: &StoredEvent, _: u32) -> Result<()> {
        self.0.send(event.event_type.to_string()).unwrap();
        Ok(())
    }
}

struct Bench {
    erp: Arc<Erp>,
    runtime: Runtime,
    told: mpsc::UnboundedReceiver<String>,
    _tasks: connector_runtime::RuntimeTasks,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("erp.yaml"), ERP).unwrap();
        let mut config = HubConfig::parse("hub.yaml", HUB).unwrap();
        config.manifests = vec![folder.path().to_owned()];
        let (erp, (tell, told)) = (Arc::new(Erp::default()), mpsc::unbounded_channel());
        let builder = Runtime::builder().config(config).transport(erp.clone()).on_event(Arc::new(Tell(tell)));
        let runtime = builder.env(|name| (name == "ERP_WEBHOOK_SECRET").then(|| SECRET.to_owned())).build().await.unwrap();
        assert_eq!((runtime.problems(), runtime.rule_problems()), (vec![], vec![]));
        let tasks = runtime.start();
        Self { erp, runtime, told, _tasks: tasks, _folder: folder }
    }

    async fn read(&self, sku: &str) -> Value {
        let params = json!({ "sku": sku }).as_object().unwrap().clone();
        let reply = self.runtime.call(CallRequest::new("erp_stock", params)).await.unwrap().into_reply().unwrap();
        reply.body.to_value().unwrap()["quantity"].clone()
    }

    /// Delivers an event, signed by our own sender, and waits until it is handled.
    async fn deliver(&mut self, id: &str, kind: &str, sku: &str) {
        let (headers, body) = signed(id, kind, sku).await;
        let raw = RawWebhook { method: &Method::POST, url: "https://hub.example/x", query: "", headers: &headers, body: &body };
        let answer = self.runtime.receive(&TenantId::default(), "erp", "default", raw).await;
        assert_eq!(answer.outcome, Outcome::Accepted);
        assert_eq!(self.told.recv().await.as_deref(), Some(kind));
    }
}

async fn signed(id: &str, kind: &str, sku: &str) -> (HeaderMap, Bytes) {
    let receiver = Arc::new(Receiver::default());
    let cx = CallCx::new(Arc::new(connector_core::Connection::new("x", "https://x.example").unwrap()));
    let endpoint = Endpoint::new("https://hub.example/x", vec![SECRET.into()]).unwrap();
    let payload = json!({ "type": kind, "timestamp": "2027-01-15T08:00:00Z", "data": { "sku": sku } }).to_string().into();
    Sender::new(receiver.clone(), SystemClock::shared()).send(&cx, &endpoint, &Delivery { id: id.into(), payload }).await.unwrap();
    let (head, body) = receiver.seen().remove(0);
    (head.headers, body)
}

#[tokio::test]
async fn after_an_event_the_next_read_is_fresh_and_others_stay_kept() {
    let mut bench = Bench::new().await;
    assert_eq!((bench.read("A").await, bench.read("B").await), (json!(1), json!(2)));
    assert_eq!((bench.read("A").await, bench.read("B").await), (json!(1), json!(2)));
    bench.deliver("d1", "stock.changed", "A").await;
    assert_eq!((bench.read("A").await, bench.read("B").await), (json!(3), json!(2)));
    // What the connector does not declare, a rule can say.
    bench.deliver("d2", "price.changed", "B").await;
    assert_eq!((bench.read("A").await, bench.read("B").await), (json!(3), json!(4)));
    assert_eq!(bench.runtime.stats().rule_steps, 1);
}

#[tokio::test]
async fn an_event_that_comes_while_the_read_is_under_way_counts() {
    let mut bench = Bench::new().await;
    let hold = Arc::new(Notify::new());
    *bench.erp.hold.lock().unwrap() = Some(hold.clone());
    let runtime = bench.runtime.clone();
    let read = tokio::spawn(async move {
        let params = json!({ "sku": "A" }).as_object().unwrap().clone();
        runtime.call(CallRequest::new("erp_stock", params)).await.unwrap().into_reply().unwrap().body.to_value().unwrap()
    });
    bench.erp.arrived.notified().await;
    bench.deliver("d1", "stock.changed", "A").await;
    hold.notify_one();
    assert_eq!(read.await.unwrap()["quantity"], 1, "who asked before the change may get the old answer");
    assert_eq!(bench.read("A").await, 2, "nobody after it does");
    assert_eq!(bench.read("A").await, 2);
}

#[tokio::test]
async fn what_one_hub_forwards_another_takes_once() {
    // The rule of one hub, the ingress of another.
    let mut bench = Bench::new().await;
    bench.read("A").await;
    let (headers, body) = signed("d1", "stock.changed", "A").await;
    let raw = || RawWebhook { method: &Method::POST, url: "https://hub.example/x", query: "", headers: &headers, body: &body };
    let mut outcomes = BTreeMap::new();
    for _ in 0..10 {
        let answer = bench.runtime.receive(&TenantId::default(), "erp", "default", raw()).await;
        *outcomes.entry(format!("{:?}", answer.outcome)).or_insert(0) += 1;
    }
    assert_eq!(outcomes, [("Accepted".to_owned(), 1), ("Duplicate".to_owned(), 9)].into());
    assert_eq!(bench.told.recv().await.as_deref(), Some("stock.changed"));
    assert_eq!(bench.read("A").await, 2);
}
