//! Webhooks that a server signs as Stripe does, over a real socket: `localstripe` (a stateful Stripe of an older API) posts to our pipeline
//! behind an HTTP server, and the event of a customer it made is verified and kept once.
//!
//! The server is one of the counterparts that are installed once; each run starts its own on a free port and ends it. It is registered at
//! `POST /_config/webhooks/{name}` with a form of `url`, `secret` and, if wanted, `events[]`; it posts each event one second after it happened,
//! signed with the second of the event, and never again.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail this way and says aloud what it skips")]

mod common;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, response::IntoResponse as _};
use connector_core::{
    clock::{Clock, SystemClock},
    spec::ConnectorSpec,
    state::{EventFilter, Store},
    webhook::WebhookVerifier,
};
use connector_state::MemoryState;
use connector_webhook::{
    custom,
    ingress::{ConnectionKeys, IngressLimits, IngressPipeline, IngressTarget},
    schemes,
};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use secrecy::SecretString;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const SECRET: &str = "whsec_test_of_localstripe";
const MANIFEST: &str = "connector: webhook
name: Billing
base_url: https://api.stripe.com/v1
webhook:
  verify: { scheme: stripe }
events:
  customer.created: { doc: A customer was made., match: { .type: customer.created } }
tools:
  - name: billing_get_customer
    doc: One customer.
    method: GET
    path: /customers/{id}
    params: [{ name: id, type: string, required: true, doc: Its id. }]
";

/// The server; ended with the test.
struct LocalStripe {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for LocalStripe {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl LocalStripe {
    /// `None`, said aloud, where it is not installed (never in CI).
    async fn start() -> Option<Self> {
        let cache = std::env::var_os("CP").map(PathBuf::from).or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            Some(cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?.join("connectors-counterparts"))
        });
        let program = cache.map(|cache| cache.join("venv/bin/localstripe")).filter(|program| program.is_file());
        let Some(program) = program else {
            assert!(std::env::var_os("CI").is_none(), "localstripe is not installed; run the counterparts' setup.sh");
            eprintln!("skipped: localstripe is not installed; run the counterparts' setup.sh");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("[::]:0").await.unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.args(["--from-scratch", "--port", &port.to_string()]).current_dir(folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, _folder: folder };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("localstripe did not listen on port {port} within 10 s");
    }

    async fn post(&self, path: &str, form: &str) -> (u16, String) {
        let more = "Authorization: Bearer sk_test_12345\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        exchange(self.port, path, more, form.as_bytes()).await
    }
}

/// One POST over a connection of its own.
async fn exchange(port: u16, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Our side: the pipeline behind an HTTP server, which also remembers what came in.
struct Hub {
    pipeline: IngressPipeline,
    verifier: Arc<dyn WebhookVerifier>,
    spec: Arc<ConnectorSpec>,
    keys: Vec<ConnectionKeys>,
    arrived: mpsc::UnboundedSender<(HeaderMap, Bytes, u16)>,
}

async fn take(State(hub): State<Arc<Hub>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let url = format!("https://hub.example{uri}");
    let request =
        connector_core::webhook::RawWebhook { method: &method, url: &url, query: uri.query().unwrap_or_default(), headers: &headers, body: &body };
    let (tenant, workspace) = ("acme".into(), "finance".into());
    let target = IngressTarget::new(&tenant, &workspace, &hub.spec, &*hub.verifier, &hub.keys);
    let answer = hub.pipeline.receive(&target, request).await;
    hub.arrived.send((headers.clone(), body.clone(), answer.status)).unwrap();
    (StatusCode::from_u16(answer.status).unwrap(), [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response()
}

/// The headers that count, as they are sent again.
fn resent(headers: &HeaderMap, signature: &str) -> String {
    format!("Content-Type: {}\r\nStripe-Signature: {signature}\r\n", headers["content-type"].to_str().unwrap())
}

#[tokio::test]
async fn a_customer_made_at_localstripe_is_heard_of_once() {
    let Some(stripe) = LocalStripe::start().await else { return };
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let state = Arc::new(MemoryState::new(clock.clone()));
    let connector = custom::from_text("billing.yaml", MANIFEST).unwrap_or_else(|found| panic!("{found}"));
    let spec = Arc::new(connector_manifest::build_spec(&connector.manifest, &connector.id));
    let (arrived, mut deliveries) = mpsc::unbounded_channel();
    let hub = Arc::new(Hub {
        pipeline: IngressPipeline::new(state.clone(), clock, IngressLimits::default()),
        verifier: schemes::verifier(connector.manifest.webhook.as_ref().unwrap(), &spec.events).unwrap(),
        spec,
        keys: vec![ConnectionKeys { connection: "billing".into(), secrets: vec![SecretString::from("whsec_older"), SecretString::from(SECRET)] }],
        arrived,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = "/api/v1/webhooks/billing/finance";
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take).with_state(hub)).await.unwrap() });

    let form = format!("url=http%3A%2F%2F127.0.0.1%3A{port}{}&secret={SECRET}&events[]=customer.created", path.replace('/', "%2F"));
    assert_eq!(stripe.post("/_config/webhooks/hub", &form).await.0, 200);
    let (status, customer) = stripe.post("/v1/customers", "description=Acme&email=ann%40acme.test").await;
    assert_eq!(status, 200, "{customer}");
    let customer: Value = serde_json::from_str(&customer).unwrap();

    let (headers, body, status) = tokio::time::timeout(Duration::from_secs(20), deliveries.recv()).await.unwrap().unwrap();
    assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
    let kept = async || {
        let store: &dyn Store = &*state;
        store.events(&"acme".into(), EventFilter::default()).await.unwrap()
    };
    let events = kept().await;
    assert_eq!(events.len(), 1);
    let payload: Value = serde_json::from_slice(&events[0].payload).unwrap();
    assert_eq!((&*events[0].event_type, &*events[0].connection), ("customer.created", "billing"));
    assert_eq!(events[0].event_id, payload["id"].as_str().unwrap());
    assert!(events[0].event_id.starts_with("evt_"));
    assert_eq!(payload["data"]["object"]["id"], customer["id"]);

    // The same delivery again is known; with one bit changed anywhere it is nobody's.
    let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
    let status = |more: String, body: Vec<u8>| async move { exchange(port, path, &more, &body).await.0 };
    assert_eq!(status(resent(&headers, &signature), body.to_vec()).await, 202);
    let mut changed = body.to_vec();
    changed[body.len() / 2] ^= 1;
    assert_eq!(status(resent(&headers, &signature), changed).await, 401);
    let flipped = if signature.ends_with('0') { "1" } else { "0" };
    assert_eq!(status(resent(&headers, &format!("{}{flipped}", &signature[..signature.len() - 1])), body.to_vec()).await, 401);
    assert_eq!(status(resent(&headers, &signature.replacen("v1=", "v0=", 1)), body.to_vec()).await, 401);
    assert_eq!(kept().await.len(), 1);

    // Registered with another secret, nothing it sends is believed.
    let form = format!("url=http%3A%2F%2F127.0.0.1%3A{port}{}&secret=whsec_of_somebody_else", path.replace('/', "%2F"));
    assert_eq!(stripe.post("/_config/webhooks/hub", &form).await.0, 200);
    assert_eq!(stripe.post("/v1/customers", "description=Other").await.0, 200);
    // Four of our own came in between.
    let mut last = 0;
    for _ in 0..5 {
        last = tokio::time::timeout(Duration::from_secs(20), deliveries.recv()).await.unwrap().unwrap().2;
    }
    assert_eq!(last, 401);
    assert_eq!(kept().await.len(), 1);
    server.abort();
}
