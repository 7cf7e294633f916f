//! A custom connector from a YAML file, from the file to the vendor and back.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{ErrorKind, Result, TenantId, state::StoredEvent, webhook::RawWebhook};
use connector_runtime::{CallOutcome, CallRequest, EventHandler, HubConfig, Outcome, Runtime, config::EgressConfig};
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

const ERP: &str = r#"
connector: webhook
name: "Internal ERP"
base_url: "https://erp.internal.company.com/api"
auth:
  type: bearer
  token_env: ERP_API_TOKEN
webhook:
  verify: { scheme: bearer }
  event_id: .id
  event_type: .event
events:
  stock.changed: { match: { .event: stock.changed }, invalidates: ["stock:{sku}"] }
tools:
  - name: erp_get_inventory
    doc: Stock of one article.
    method: GET
    path: /inventory
    query: { sku: "{sku}" }
    params:
      - { name: sku, type: string, required: true, doc: The article. }
    response_map:
      quantity: .data.quantity_on_hand
      location: .data.warehouse
    cache: { ttl: 5m, tags: ["stock:{sku}"] }
  - name: erp_create_po
    doc: Order something.
    method: POST
    path: /purchase-orders
    approval_required: true
    body:
      vendor_id: "{vendor_id}"
      items: "{items}"
      total: "{total}"
"#;

fn params(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("an object") };
    map
}

fn env(base: String) -> impl Fn(&str) -> Option<String> + Send + Sync + 'static {
    move |name| match name {
        "ERP_API_TOKEN" => Some("erp-canary".into()),
        "ERP_SYSTEM_BASE_URL" => Some(base.clone()),
        "ERP_SYSTEM_WEBHOOK_SECRET" => Some("hook-canary".into()),
        _ => None,
    }
}

fn config(folder: &Path) -> HubConfig {
    let egress = EgressConfig { allow_loopback: true, allow: Vec::new() };
    HubConfig { manifests: vec![folder.to_owned()], egress, ..HubConfig::default() }
}

#[derive(Debug)]
struct Tell(tokio::sync::mpsc::UnboundedSender<String>);

#[async_trait]
impl EventHandler for Tell {
    async fn handle(&self, event: &StoredEvent, _: u32) -> Result<()> {
        self.0.send(event.event_type.to_string()).unwrap();
        Ok(())
    }
}

async fn deliver(runtime: &Runtime, connector: &str, secret: Option<&str>, body: &str) -> connector_runtime::IngressAnswer {
    let mut headers = HeaderMap::new();
    if let Some(secret) = secret {
        headers.insert("authorization", format!("Bearer {secret}").parse().unwrap());
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    let raw = RawWebhook { method: &Method::POST, url: "https://hub.example/x", query: "", headers: &headers, body: &body };
    runtime.receive(&TenantId::default(), connector, "default", raw).await
}

#[tokio::test]
async fn a_file_is_a_connector_from_the_call_to_the_webhook() {
    let mut server = mockito::Server::new_async().await;
    let stock = |quantity: u32| json!({ "data": { "quantity_on_hand": quantity, "warehouse": "B" } }).to_string();
    let inventory = server
        .mock("GET", "/inventory?sku=A-1")
        .match_header("authorization", "Bearer erp-canary")
        .with_body(stock(5))
        .expect(2)
        .create_async()
        .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("erp-system.yaml"), ERP).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let builder = Runtime::builder().config(config(folder.path())).env(env(server.url())).on_event(Arc::new(Tell(tell)));
    let runtime = builder.build().await.unwrap();
    assert_eq!(runtime.problems(), []);
    let tasks = runtime.start();

    let get = || CallRequest::new("erp_get_inventory", params(json!({ "sku": "A-1" })));
    let read = async || runtime.call(get()).await.unwrap().into_reply().unwrap().body.to_value().unwrap();
    assert_eq!(read().await, json!({ "quantity": 5, "location": "B" }));
    assert_eq!(read().await["quantity"], 5);

    let CallOutcome::DryRun(request) = runtime.call(get().dry_run()).await.unwrap() else { panic!("a dry run sends nothing") };
    assert_eq!((request.method.as_str(), request.url.strip_prefix(&server.url())), ("GET", Some("/inventory?sku=A-1")));
    assert_eq!(request.headers["authorization"], "REDACTED");
    let order = CallRequest::new("erp_create_po", params(json!({ "vendor_id": "v", "items": [1], "total": 9.5 })));
    assert!(matches!(runtime.call(order).await.unwrap(), CallOutcome::PendingApproval { .. }));

    let event = r#"{"id": "e1", "event": "stock.changed", "sku": "A-1"}"#;
    assert_eq!(deliver(&runtime, "erp-system", Some("wrong"), event).await.outcome, Outcome::WrongProof);
    assert_eq!(deliver(&runtime, "erp-system", Some("hook-canary"), event).await.outcome, Outcome::Accepted);
    assert_eq!(deliver(&runtime, "erp-system", Some("hook-canary"), event).await.outcome, Outcome::Duplicate);
    assert_eq!(told.recv().await.as_deref(), Some("stock.changed"));
    read().await;
    inventory.assert_async().await;

    let stranger = deliver(&runtime, "nothing", Some("hook-canary"), event).await;
    let unsigned = deliver(&runtime, "nothing", None, event).await;
    assert_eq!((stranger.status, &stranger), (404, &unsigned));

    let stats = runtime.stats();
    assert_eq!((stats.calls_made, stats.calls_saved.cache, stats.duplicates_dropped, stats.events_accepted), (2, 1, 1, 1));
    assert!(tasks.shutdown(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_reload_takes_a_new_version_over_and_keeps_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("erp-system.yaml");
    std::fs::write(&file, ERP).unwrap();
    let runtime = Runtime::builder().config(config(folder.path())).env(env("http://127.0.0.1:9".into())).build().await.unwrap();
    let tools = || runtime.registry().operations().map(|(_, op)| op.name.to_string()).collect::<Vec<_>>();
    assert_eq!(tools(), ["erp_get_inventory", "erp_create_po"]);
    assert!(!runtime.reload().await.unwrap());

    std::fs::write(&file, ERP.replace("erp_create_po", "erp_order")).unwrap();
    assert!(runtime.reload().await.unwrap());
    assert_eq!(tools(), ["erp_get_inventory", "erp_order"]);

    std::fs::write(&file, ERP.replace("method: GET", "methud: GET")).unwrap();
    assert!(!runtime.reload().await.unwrap());
    assert_eq!(tools(), ["erp_get_inventory", "erp_order"]);
    let problems = runtime.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].kept.as_deref(), Some("erp-system"));
    let shown = problems[0].diagnostics.to_string();
    assert!(shown.contains("erp-system.yaml:17:5:") && shown.contains("did you mean `method`?"), "{shown}");

    std::fs::write(&file, ERP).unwrap();
    assert!(runtime.reload().await.unwrap());
    assert_eq!(runtime.problems(), []);
    std::fs::remove_file(&file).unwrap();
    assert!(!runtime.reload().await.unwrap(), "an editor may only be replacing it");
    assert!(runtime.reload().await.unwrap());
    assert_eq!(tools(), [""; 0]);
}

#[tokio::test]
async fn the_seeds_own_file_works_byte_for_byte() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("CONNECTORS_SHARED").map_or_else(|| root.join("../shared"), Into::into);
    let found = std::fs::read_dir(shared.join("seeds")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut texts = found.filter_map(|path| std::fs::read_to_string(path).ok());
    let Some(seed) = texts.find(|text| text.contains("# integrations/custom/erp-system.yaml")) else {
        assert!(std::env::var_os("CI").is_none(), "the seeds are absent");
        eprintln!("skipped: the folder with the seeds is not beside the workspace");
        return;
    };
    let start = seed.find("# integrations/custom/erp-system.yaml").unwrap();
    let file = seed[start..].split("```").next().unwrap();
    let mut server = mockito::Server::new_async().await;
    let reply = json!({ "data": { "quantity_on_hand": 5, "warehouse": "B" } }).to_string();
    server.mock("GET", "/inventory?sku=A-1").match_header("authorization", "Bearer erp-canary").with_body(reply).create_async().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("erp-system.yaml"), file).unwrap();
    let runtime = Runtime::builder().config(config(folder.path())).env(env(server.url())).build().await.unwrap();
    assert_eq!(runtime.problems(), []);
    let reply = runtime.call(CallRequest::new("erp_get_inventory", params(json!({ "sku": "A-1" })))).await.unwrap().into_reply().unwrap();
    assert_eq!(reply.body.to_value().unwrap(), json!({ "quantity": 5, "location": "B" }));
    let order = CallRequest::new("erp_create_po", params(json!({ "vendor_id": "v", "items": [{ "sku": "A-1" }], "total": 9.5 })));
    let CallOutcome::DryRun(request) = runtime.call(order.dry_run()).await.unwrap() else { panic!("a dry run sends nothing") };
    assert_eq!(request.body, json!({ "vendor_id": "v", "items": [{ "sku": "A-1" }], "total": 9.5 }));
}

#[tokio::test]
async fn what_a_missing_variable_stops_is_said_and_the_rest_works() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("erp-system.yaml"), ERP.replace("https://erp.internal.company.com/api", "https://${ERP_HOST}/api")).unwrap();
    let runtime = Runtime::builder().config(config(folder.path())).env(|_| None).build().await.unwrap();
    assert!(runtime.problems()[0].diagnostics.to_string().contains("ERP_HOST"), "{:?}", runtime.problems());
    let error = runtime.call(CallRequest::new("erp_get_inventory", Map::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
