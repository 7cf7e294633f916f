//! A hub behind a real socket, a client that writes bytes as they are, and witnesses: the store, the logs, the counters.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use connector_core::{
    Actor, TenantId,
    clock::ManualClock,
    state::{EventFilter, Store, StoredEvent},
};
use connector_hub::{
    http::{
        App,
        server::{Drained, Server, Settings},
    },
    keys::{KeyOrder, Keys},
};
use connector_runtime::{HubConfig, Role, Runtime};
use connector_state::MemoryState;
use hmac::{Hmac, KeyInit as _, Mac as _};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use url::Url;

/// The hub's wall clock, in Unix seconds.
pub(crate) const NOW: u64 = 1_795_230_000;
/// What must never be seen again: it is in secrets and in payloads.
pub(crate) const CANARY: &str = "canary-5e1f";
/// Bytes a webhook's body may have.
pub(crate) const CAP: usize = 1 << 20;
pub(crate) const CRM: &str = "/api/v1/webhooks/crm/support";
pub(crate) const STANDARD: &str = "/api/v1/webhooks/standard/support";

const CRM_MANIFEST: &str = r#"
connector: webhook
id: crm
name: CRM
version: 0.1.0
doc: A vendor made for tests.
base_url: https://crm.example.com
auth: [ { type: api_key, header: X-Key, key_env: CRM_KEY } ]
webhook:
  verify: { kind: hmac_sha256, header: X-Signature, timestamp: X-Timestamp, message: "{timestamp}.{body}" }
  event_id: .id
  event_type: .type
tools:
  - name: crm_note
    doc: Leaves a note.
    method: GET
    path: /notes/{id}
    headers: { X-Note: "{note}" }
    params:
      - { name: id, type: string, required: true, doc: Which one. }
      - { name: note, type: string, required: true, doc: The note. }
    example: { args: { id: "1", note: x }, reply: { id: "7" } }
"#;
const STANDARD_MANIFEST: &str = r#"
connector: webhook
id: standard
name: Standard
version: 0.1.0
doc: A vendor that signs as Standard Webhooks says.
base_url: https://standard.example.com
auth: [ { type: none } ]
webhook: { verify: { scheme: standard_webhooks } }
tools:
  - { name: standard_me, doc: Tells who., method: GET, path: /me, example: { reply: { id: "7" } } }
"#;
const CONFIG: &str = r#"
public_url: https://hub.example
server: { hosts: [hub.internal], trusted_proxies: [203.0.113.0/24], drain_delay: 100ms }
egress: { allow_loopback: true }
connections:
  crm: { connector: crm, base_url: "http://VENDOR", egress_allow: [loopback], credential: { key: "${KEY}" }, webhook: { secrets: ["${SECRET}"] } }
  crm-b: { connector: crm, tenant: b, credential: { key: "${KEY}" }, webhook: { secrets: ["${OTHER}"] } }
  standard: { connector: standard, webhook: { secrets: ["${STANDARD}"] } }
"#;

pub(crate) fn secret() -> String {
    format!("{CANARY}-secret-of-the-vendor")
}

pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: ManualClock,
    pub(crate) seen: Seen,
    pub(crate) app: App,
    /// How often somebody connected to the vendor.
    pub(crate) vendor: Arc<AtomicUsize>,
    logs: Logs,
    keys: Keys,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Drained>>,
    _witnesses: (metrics::LocalRecorderGuard<'static>, tracing::subscriber::DefaultGuard),
    _dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(':').filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()))
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        // Both witness this thread only, and a test has just one.
        let seen: &'static Seen = Box::leak(Box::default());
        let logs = Logs::default();
        let writer = logs.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).with_ansi(false).finish();
        let witnesses = (metrics::set_default_local_recorder(seen), tracing::subscriber::set_default(subscriber));
        let dir = tempfile::tempdir().unwrap();
        let (vendor, at) = vendor().await;
        let mut config = HubConfig::parse("hub.yaml", &CONFIG.replace("VENDOR", &at.to_string())).unwrap();
        for (name, text) in [("crm.yaml", CRM_MANIFEST), ("standard.yaml", STANDARD_MANIFEST)] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            config.manifests.push(path);
        }
        let public = Url::parse("https://hub.example").unwrap();
        let mut settings = Settings::of(&config, Some(&public), |_| None).unwrap();
        change(&mut settings);
        let env = |name: &str| match name {
            "KEY" => Some(format!("{CANARY}-key")),
            "SECRET" => Some(secret()),
            "OTHER" => Some(format!("{CANARY}-of-another-tenant")),
            "STANDARD" => Some(format!("whsec_{}", BASE64_STANDARD.encode(secret()))),
            _ => None,
        };
        let clock = ManualClock::at_unix(NOW);
        let store: Arc<dyn Store> = Arc::new(MemoryState::new(Arc::new(clock.clone())));
        let runtime = Runtime::builder().config(config).env(env).store(store.clone()).clock(Arc::new(clock.clone())).build().await.unwrap();
        let app = App::new(runtime.clone(), None, Some(public));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = Server::new(listener, app.clone(), settings);
        let running = tokio::spawn(server.run(async move {
            // A test that ends without asking drops the sender, and the server with it.
            drop(stopped.await);
        }));
        let keys = Keys::new(store.clone());
        let (stop, running) = (Some(stop), Some(running));
        Self { address, runtime, store, clock, seen: seen.clone(), app, vendor, logs, keys, stop, running, _witnesses: witnesses, _dir: dir }
    }

    pub(crate) async fn key(&self, role: Role) -> String {
        let order = KeyOrder { tenant: TenantId::default(), role, workspaces: vec!["*".into()], name: None, by: Actor::System };
        self.keys.create(order).await.unwrap().1.expose_secret().to_owned()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own; gives the first answer.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Reply {
        let (mut from, mut to) = self.connect().await.into_split();
        let bytes = bytes.to_vec();
        // A hub that refuses does not read on; what could not be sent does not matter.
        let writing = tokio::spawn(async move { (to.write_all(&bytes).await.is_ok(), to) });
        let reply = read_reply(&mut from, &mut Vec::new()).await;
        writing.abort();
        reply.expect("an answer")
    }

    /// The same, and everything else that came until the hub closed; `None` if it did not close.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> (Reply, Option<Vec<u8>>) {
        let (mut from, mut to) = self.connect().await.into_split();
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move {
            // A hub that refuses does not read on; what could not be sent does not matter.
            drop(to.write_all(&bytes).await);
            to
        });
        let mut seen = Vec::new();
        let reply = read_reply(&mut from, &mut seen).await.unwrap_or_else(|| panic!("no answer: {}", seen.escape_ascii()));
        let closed = tokio::time::timeout(Duration::from_millis(500), from.read_to_end(&mut seen)).await.is_ok();
        drop(writing.await);
        (reply, closed.then_some(seen))
    }

    /// A signed delivery.
    pub(crate) fn delivery(body: &[u8]) -> Vec<u8> {
        Self::signed(body, NOW, &[])
    }

    pub(crate) fn signed(body: &[u8], at: u64, more: &[(&str, &str)]) -> Vec<u8> {
        let signature = sign(&secret(), &[at.to_string().as_bytes(), b".", body].concat());
        let mut headers = vec![("x-timestamp".to_owned(), at.to_string()), ("x-signature".to_owned(), signature)];
        headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        request("POST", CRM, &headers, body)
    }

    /// Sends a delivery that must be refused: this status and body, nothing kept, nothing told, little work.
    pub(crate) async fn refuses(&self, bytes: &[u8], status: u16, body: &str) {
        let kept = self.kept().await.len();
        let before = cpu();
        let reply = self.send(bytes).await;
        let took = cpu() - before;
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{}", bytes[..bytes.len().min(300)].escape_ascii());
        // The budget is 50 ms; a build without optimisation, with the client in the same thread, gets ten times that.
        let most = if cfg!(debug_assertions) { 500 } else { 50 };
        assert!(took < Duration::from_millis(most), "{took:?} of CPU for {}", bytes[..bytes.len().min(200)].escape_ascii());
        assert_eq!(self.kept().await.len(), kept, "something was kept");
        self.told_nothing(&reply);
    }

    /// Neither an answer nor the logs repeat a secret or a payload.
    pub(crate) fn told_nothing(&self, reply: &Reply) {
        assert!(!format!("{reply:?}").contains(CANARY), "{reply:?}");
        let logs = self.logs();
        assert!(!logs.contains(CANARY), "{}", logs.lines().find(|line| line.contains(CANARY)).unwrap());
    }

    pub(crate) fn logs(&self) -> String {
        String::from_utf8_lossy(&self.logs.0.lock().unwrap()).into_owned()
    }

    pub(crate) async fn kept(&self) -> Vec<StoredEvent> {
        self.store.events(&TenantId::default(), EventFilter::default()).await.unwrap()
    }

    /// Asks the server to stop.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn drained(&mut self) -> Drained {
        self.running.take().unwrap().await.unwrap()
    }
}

/// A vendor that hangs up on everybody, and counts them.
async fn vendor() -> (Arc<AtomicUsize>, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counting = count.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    (count, address)
}

/// The CPU time of this thread, which runs the hub and the client.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

pub(crate) fn sign(secret: &str, message: &[u8]) -> String {
    hex::encode(mac(secret, message))
}

pub(crate) fn mac(secret: &str, message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// A request with `Host` and `Content-Length`.
pub(crate) fn request(method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: hub.example\r\n");
    if !body.is_empty() || method == "POST" {
        text += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn bearer(key: &str) -> (String, String) {
    ("authorization".to_owned(), format!("Bearer {key}"))
}

/// Reads one answer; `seen` keeps what came after it. `None`: the connection ended before.
pub(crate) async fn read_reply(from: &mut (impl tokio::io::AsyncRead + Unpin), seen: &mut Vec<u8>) -> Option<Reply> {
    let reading = async {
        loop {
            if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(seen[..end].to_vec()).unwrap();
                let mut reply = Reply { status: head[9..12].parse().unwrap(), head, body: String::new() };
                let length = reply.header("content-length").map_or(0, |text| text.parse().unwrap());
                if seen.len() >= end + 4 + length {
                    reply.body = String::from_utf8(seen[end + 4..end + 4 + length].to_vec()).unwrap();
                    seen.drain(..end + 4 + length);
                    return Some(reply);
                }
            }
            match from.read_buf(seen).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer in time")
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What was counted.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<String, f64>>>);

impl Seen {
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

struct One(Seen, String);

impl One {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = all.entry(self.1.clone()).or_default();
        *value = change(*value);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a test counts little")]
impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|value| value + by as f64);
    }

    fn absolute(&self, to: u64) {
        self.change(|_| to as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }

    fn set(&self, to: f64) {
        self.change(|_| to);
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(One(self.clone(), named(key))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(One(self.clone(), named(key))))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn named(key: &Key) -> String {
    let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}
