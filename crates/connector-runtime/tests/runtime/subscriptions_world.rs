//! A sandbox, a hub that is told of its changes, and the record of what the hub handled.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Result, TenantId,
    clock::{Clock, ManualClock},
    layer::Layer,
    state::{JobFilter, JobState, Store, StoredEvent},
    webhook::RawWebhook,
};
use connector_runtime::{EventHandler, HubConfig, Runtime, RuntimeTasks};
use connector_sandbox::{FaultProfile, NotedChange, RetrySchedule, Sandbox, known};
use connector_state::SqliteState;
use connector_vault::{Vault, key::LocalKey};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Simulated time starts here.
pub(crate) const START: u64 = 1_795_219_200;

/// A change as the hub's handler was told of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Handled {
    pub(crate) change: String,
    pub(crate) id: String,
    pub(crate) etag: Option<String>,
    pub(crate) found: bool,
}

/// Remembers every event that was told.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) handled: Mutex<Vec<Handled>>,
    pub(crate) hub: Mutex<Vec<(String, Value)>>,
}

#[async_trait]
impl EventHandler for Book {
    async fn handle(&self, event: &StoredEvent, _: u32) -> Result<()> {
        let payload: Value = serde_json::from_slice(&event.payload).unwrap();
        if event.event_type.starts_with("hub.") || event.event_type.starts_with("lifecycle.") {
            self.hub.lock().unwrap().push((event.event_type.to_string(), payload));
            return Ok(());
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.handled.lock().unwrap().push(Handled {
            change: event.event_type.strip_prefix("message.").unwrap().to_owned(),
            id: text(&payload["resourceData"]["id"]).unwrap(),
            etag: text(&payload["resourceData"]["@odata.etag"]),
            found: event.flags.iter().any(|flag| flag == "catch_up"),
        });
        Ok(())
    }
}

/// Takes notifications in front of any number of hubs, one after the other.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) url: String,
    hubs: Arc<Mutex<Vec<Runtime>>>,
    pub(crate) closed: Arc<AtomicBool>,
    pub(crate) handshakes: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hubs: Arc<Mutex<Vec<Runtime>>> = Arc::default();
        let (closed, handshakes): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (behind, shut, seen) = (hubs.clone(), closed.clone(), handshakes.clone());
        let task = tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((socket, _)) = listener.accept().await {
                turn += 1;
                let hub = {
                    let hubs = behind.lock().unwrap();
                    hubs.get(turn % hubs.len().max(1)).cloned()
                };
                let Some(hub) = hub.filter(|_| !shut.load(Ordering::SeqCst)) else { continue };
                let seen = seen.clone();
                // A caller that goes away is no concern of the next one.
                tokio::spawn(async move { serve(socket, &hub, &seen).await.unwrap_or_default() });
            }
        });
        Self { url, hubs, closed, handshakes, task }
    }

    pub(crate) fn lead_to(&self, hub: &Runtime) {
        self.hubs.lock().unwrap().push(hub.clone());
    }
}

async fn serve(mut socket: TcpStream, hub: &Runtime, handshakes: &AtomicUsize) -> std::io::Result<()> {
    let mut read = Vec::new();
    let (head, body) = loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:").and_then(|length| length.trim().parse::<usize>().ok());
        let length = head.lines().find_map(length).unwrap_or(0);
        if read.len() >= end + 4 + length {
            break (head, Bytes::copy_from_slice(&read[end + 4..end + 4 + length]));
        }
    };
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or("/").to_owned();
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value.trim())) {
            headers.append(name, value);
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    if query.contains("validationToken") {
        handshakes.fetch_add(1, Ordering::SeqCst);
    }
    let mut parts = path.rsplit('/');
    let (workspace, connector) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let raw = RawWebhook { method: &http::Method::POST, url: &target, query, headers: &headers, body: &body };
    let answer = hub.receive(&TenantId::default(), connector, workspace, raw).await;
    let head = format!(
        "HTTP/1.1 {} X\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&answer.body).await?;
    socket.shutdown().await
}

/// A hub's configuration: one mailbox, its inbox watched.
pub(crate) fn config(door: &Door) -> HubConfig {
    let text = r#"
connections:
  msgraph:
    connector: msgraph
    base_url: "${SANDBOX_URL}/msgraph/v1.0"
    settings:
      tenant_id: "${AZURE_TENANT_ID}"
      token_url: "${SANDBOX_URL}/msgraph/${AZURE_TENANT_ID}/oauth2/v2.0/token"
      mailbox: "${MAILBOX}"
    credential: { client_id: "${AZURE_CLIENT_ID}", client_secret: "${AZURE_CLIENT_SECRET}" }
    egress_allow: [loopback]
egress: { allow_loopback: true }
resilience:
  retry: { max_attempts: 6, base_delay_ms: 1, max_delay_ms: 2, throttle_base_ms: 1, throttle_max_ms: 2 }
  breaker: { threshold: 1000, min_calls: 10000 }
subscriptions:
  - { connection: msgraph, kind: messages }
"#;
    let mut config = HubConfig::parse("hub.yaml", text).unwrap();
    config.public_url = Some(door.url.clone());
    config
}

/// Everything together.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sandbox: Sandbox,
    pub(crate) door: Door,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) book: Arc<Book>,
    pub(crate) config: HubConfig,
}

/// A hub. Its events are handled once it is started; the test calls its look at the subscriptions.
pub(crate) struct Hub {
    pub(crate) runtime: Runtime,
    _tasks: Option<RuntimeTasks>,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        Self::with_faults(seed, FaultProfile::none()).await
    }

    pub(crate) async fn with_faults(seed: u64, faults: FaultProfile) -> Self {
        let clock = Arc::new(ManualClock::at_unix(START));
        let dyn_clock: Arc<dyn Clock> = clock.clone();
        // What could not be delivered is not sent again: every lost notification must be found another way.
        let schedule = RetrySchedule { attempts: 1, base: Duration::from_millis(1) };
        let builder = Sandbox::builder().vendor("msgraph").seed(seed).faults(faults).clock(dyn_clock.clone()).notification_retries(schedule);
        let sandbox = builder.start("127.0.0.1:0").await.unwrap();
        let door = Door::open().await;
        let config = config(&door);
        Self { store: Arc::new(SqliteState::open_in_memory_with(dyn_clock).unwrap()), clock, sandbox, door, book: Arc::default(), config }
    }

    /// One more hub over the same store, with its background work going on.
    pub(crate) async fn running_hub(&self) -> Hub {
        let mut hub = self.hub().await;
        hub._tasks = Some(hub.runtime.start());
        hub
    }

    /// One more hub over the same store.
    pub(crate) async fn hub(&self) -> Hub {
        self.hub_with(None).await
    }

    /// One more hub, with a layer around its connectors.
    pub(crate) async fn hub_with(&self, layer: Option<Arc<dyn Layer>>) -> Hub {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let key = LocalKey::new(Some("k1"), bytes.into(), "the test").unwrap();
        let vault = Vault::builder(self.store.clone()).key(Arc::new(key)).clock(clock.clone()).open().await.unwrap();
        let values: BTreeMap<&str, String> = [
            ("SANDBOX_URL", format!("http://{}", self.sandbox.addr())),
            ("AZURE_TENANT_ID", known::GRAPH_TENANT.to_owned()),
            ("AZURE_CLIENT_ID", known::GRAPH_CLIENT_ID.to_owned()),
            ("AZURE_CLIENT_SECRET", known::GRAPH_CLIENT_SECRET.to_owned()),
            ("MAILBOX", known::GRAPH_MAILBOX.to_owned()),
        ]
        .into();
        let runtime = Runtime::builder()
            .builtin("msgraph", connector_msgraph::manifest(), connector_msgraph::hooks())
            .config(self.config.clone())
            .env(move |name| values.get(name).cloned())
            .store(self.store.clone())
            .vault(vault)
            .clock(clock)
            .on_event(self.book.clone())
            .outer_layers(layer)
            .build()
            .await
            .unwrap();
        self.door.lead_to(&runtime);
        Hub { runtime, _tasks: None }
    }

    /// Moves time on.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// A message arrives. Gives its immutable id.
    pub(crate) fn arrive(&self, n: usize) -> String {
        let text =
            format!("From: a@client.example\r\nTo: s@contoso.example\r\nSubject: No {n}\r\nMessage-ID: <m{n}@client.example>\r\n\r\nIt burns.\r\n");
        self.sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", text.as_bytes()).unwrap();
        self.sandbox.msgraph().ids_in(known::GRAPH_MAILBOX, "inbox").pop().unwrap()
    }

    /// What really changed in the inbox.
    pub(crate) fn truth(&self) -> Vec<NotedChange> {
        let inbox = self.sandbox.msgraph().folder_id(known::GRAPH_MAILBOX, "inbox").unwrap();
        self.sandbox.msgraph().changes().into_iter().filter(|change| change.folder == inbox).collect()
    }

    /// Waits until every notification is delivered and every event handled.
    pub(crate) async fn settle(&self) {
        self.sandbox.settled().await;
        let open = |state| JobFilter { queue: Some("events".into()), state: Some(state), after: None, limit: 1 };
        // As long as a busy machine may take; it ends as soon as there is nothing left.
        for _ in 0..30_000 {
            let ready = self.store.jobs(&TenantId::default(), open(JobState::Pending)).await.unwrap();
            let leased = self.store.jobs(&TenantId::default(), open(JobState::Leased)).await.unwrap();
            if ready.is_empty() && leased.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let left = self.store.jobs(&TenantId::default(), JobFilter { state: None, limit: 5, ..open(JobState::Pending) }).await.unwrap();
        panic!("events are still not handled: {left:?}");
    }

    pub(crate) fn handled(&self) -> Vec<Handled> {
        self.book.handled.lock().unwrap().clone()
    }
}

impl Hub {
    pub(crate) async fn tend(&self) -> connector_runtime::SubscriptionsTended {
        self.runtime.tend_subscriptions().await.unwrap()
    }

    pub(crate) async fn only(&self) -> connector_runtime::SubscriptionView {
        let all = self.runtime.subscriptions(&TenantId::default()).await.unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }
}
