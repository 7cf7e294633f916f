//! Socket Mode against the fake's own WebSocket server: what is acknowledged and when, what comes again, how one connection follows another.
#![cfg(feature = "socket-mode")]
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Client, Error, ErrorKind, Result, TenantId, WorkspaceId,
    auth::{AuthProvider, CredentialUse},
    clock::{SeededRng, SystemClock},
    state::{Appended, EventFilter, Store, StoredEvent},
    transport::Head,
    webhook::IncomingEvent,
};
use connector_http::{EgressPolicy, HttpTransport};
use connector_manifest::{ConnectionOptions, connection};
use connector_runtime::{HubConfig, Runtime, config::ConnectionConfig};
use connector_sandbox::{Sandbox, known};
use connector_slack::{
    ID, Slack, engine, manifest,
    socket::{Envelope, Sink, SocketMode, SocketPolicy},
};
use connector_state::MemoryState;
use http::{HeaderValue, header};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

#[derive(Debug)]
struct Fixed(&'static str);

#[async_trait]
impl AuthProvider for Fixed {
    async fn authorize(&self, _: &CallCx, head: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        head.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", self.0)).unwrap());
        Ok(CredentialUse::FIXED)
    }

    async fn rejected(&self, _: &CallCx, _: &CredentialUse) -> Result<bool> {
        Ok(false)
    }
}

/// A client without limits of its own: connections are opened as often as the test wants.
fn client(base: &str, token: &'static str) -> Slack {
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let engine = engine(Arc::new(transport), Arc::new(Fixed(token))).unwrap();
    let options = ConnectionOptions { base_url: Some(base.to_owned()), ..ConnectionOptions::default() };
    let cx = CallCx::new(Arc::new(connection(&manifest(), ID, options, &|_| None).unwrap()));
    Slack::from_client(Client::new(Arc::new(engine), cx))
}

/// Keeps what comes in a runtime, as a hub does it.
#[derive(Debug)]
struct ToRuntime {
    runtime: Runtime,
    /// Fails while it is set, as a full disk does.
    broken: AtomicBool,
    refused: AtomicUsize,
}

#[async_trait]
impl Sink for ToRuntime {
    async fn accept(&self, envelope: Envelope) -> Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Transient, "the disk is full"));
        }
        self.runtime.accept_events(&"acme".into(), &"support".into(), "chat", envelope.events()?).await.map(drop)
    }
}

struct World {
    sandbox: Sandbox,
    store: Arc<dyn Store>,
    sink: Arc<ToRuntime>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl World {
    async fn start() -> Self {
        let sandbox = Sandbox::builder().vendor(ID).start("127.0.0.1:0").await.unwrap();
        let clock = SystemClock::shared();
        let store: Arc<dyn Store> = Arc::new(MemoryState::new(clock.clone()));
        let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
        let connector = Arc::new(engine(Arc::new(transport), Arc::new(Fixed(known::SLACK_BOT_TOKEN))).unwrap());
        let mut chat = ConnectionConfig::new(ID);
        chat.base_url = Some(sandbox.base_url(ID));
        chat.tenant = Some("acme".into());
        chat.workspaces = vec!["support".into()];
        let config = HubConfig { connections: [("chat".to_owned(), chat)].into(), ..HubConfig::default() };
        let runtime = Runtime::builder().connector(connector).config(config).env(|_| None).clock(clock).store(store.clone()).build().await.unwrap();
        let sink = Arc::new(ToRuntime { runtime, broken: AtomicBool::new(false), refused: AtomicUsize::new(0) });
        let policy = SocketPolicy { first_wait: Duration::from_millis(10), longest_wait: Duration::from_millis(50), ..SocketPolicy::default() };
        let mode = SocketMode::new(client(&sandbox.base_url(ID), known::SLACK_APP_TOKEN), sink.clone()).unwrap();
        let mode = mode.with_policy(policy).with_rng(Arc::new(SeededRng::new(7)));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move { mode.run(stopped).await });
        let world = Self { sandbox, store, sink, stop, task };
        world.until("a connection", || world.sandbox.slack().sockets() == 1).await;
        world
    }

    /// Waits for what a real socket brings about; ends the test after ten seconds.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to {what}");
    }

    fn acked(&self) -> usize {
        self.sandbox.slack().acked().len()
    }

    async fn kept(&self) -> Vec<StoredEvent> {
        self.store.events(&"acme".into(), EventFilter::default()).await.unwrap()
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
        let slack = self.sandbox.slack();
        for _ in 0..500 {
            if slack.sockets() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the connection was left open");
    }
}

#[tokio::test]
async fn events_commands_and_presses_are_kept_and_then_acknowledged() {
    let world = World::start().await;
    let slack = world.sandbox.slack();
    let ts = slack.say("U0ANN", "C0OPS", "deploy?", None).unwrap();
    slack.slash_command("U0ANN", "C0OPS", "/hub", "status HUB-7");
    slack.press("U0ANN", "C0OPS", &ts, "approve", "act_01J9");
    world.until("three acknowledgements", || world.acked() == 3).await;
    let kept = world.kept().await;
    let kinds: Vec<&str> = kept.iter().map(|event| &*event.event_type).collect();
    assert_eq!(kinds, ["message_received", "slash_command", "interaction"]);
    assert!(kept.iter().all(|event| &*event.connection == "chat" && event.workspace.as_str() == "support" && event.flags.is_empty()));
    let command: Value = serde_json::from_slice(&kept[1].payload).unwrap();
    assert_eq!((command["text"].as_str(), command.get("token")), (Some("status HUB-7"), None));
    assert!(slack.acked().iter().all(|acked| acked.answer.is_null()));
    world.end().await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_acknowledged_and_comes_again() {
    let world = World::start().await;
    let slack = world.sandbox.slack();
    world.sink.broken.store(true, Ordering::SeqCst);
    slack.say("U0ANN", "C0OPS", "important", None).unwrap();
    world.until("a refusal", || world.sink.refused.load(Ordering::SeqCst) == 1).await;
    assert_eq!((world.acked(), world.kept().await.len()), (0, 0));
    world.sink.broken.store(false, Ordering::SeqCst);
    slack.resend_unacknowledged();
    world.until("the acknowledgement", || world.acked() == 1).await;
    assert_eq!(slack.acked()[0].retry_attempt, 1);
    assert_eq!(world.kept().await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn the_same_event_in_another_envelope_is_acknowledged_and_kept_once() {
    let world = World::start().await;
    let slack = world.sandbox.slack();
    slack.say("U0ANN", "C0OPS", "once", None).unwrap();
    world.until("the acknowledgement", || world.acked() == 1).await;
    let envelope = slack.acked().remove(0);
    let again = Envelope { id: "another".into(), kind: envelope.kind.into(), payload: envelope.payload, retry_attempt: 1 };
    world.sink.accept(again).await.unwrap();
    assert_eq!(world.kept().await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn the_new_connection_is_open_before_the_old_one_ends() {
    let world = World::start().await;
    let slack = world.sandbox.slack();
    for round in 1..=3_usize {
        slack.ask_to_reconnect(if round == 1 { "warning" } else { "refresh_requested" });
        slack.say("U0ANN", "C0OPS", "meanwhile", None).unwrap();
        world.until("the next connection alone", || slack.sockets_opened() == round as u64 + 1 && slack.sockets() == 1).await;
        slack.say("U0ANN", "C0OPS", "afterwards", None).unwrap();
        world.until("both acknowledgements", || world.acked() == round * 2).await;
    }
    assert_eq!(world.kept().await.len(), 6);
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_followed_by_another_and_nothing_is_lost() {
    let world = World::start().await;
    let slack = world.sandbox.slack();
    for round in 1..=5_usize {
        slack.cut_sockets(true);
        slack.say("U0ANN", "C0OPS", &format!("message {round}"), None).unwrap();
        world.until("the acknowledgement", || world.acked() == round).await;
    }
    assert_eq!(world.kept().await.len(), 5);
    assert!(slack.sockets_opened() >= 2);
    world.end().await;
}

#[tokio::test]
async fn what_coming_back_cannot_mend_ends_it() {
    let world = World::start().await;
    world.sandbox.slack().ask_to_reconnect("link_disabled");
    let error = tokio::time::timeout(Duration::from_secs(10), world.task).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("switched off"), "{error}");
    // A bot token opens no connection.
    let mode = SocketMode::new(client(&world.sandbox.base_url(ID), known::SLACK_BOT_TOKEN), world.sink.clone()).unwrap();
    let (_stop, stopped) = watch::channel(false);
    let error = mode.run(stopped).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Forbidden, Some("not_allowed_token_type")));
}

#[tokio::test]
async fn events_belong_to_a_connection_that_the_workspace_may_use() {
    let world = World::start().await;
    let event = IncomingEvent {
        id: Some("Ev1".into()),
        event_type: "message_received".into(),
        occurred_at: None,
        order_key: None,
        payload: Bytes::from_static(br#"{"type":"event_callback","event":{"type":"message"}}"#),
    };
    let accept = async |tenant: &str, workspace: &str, connection: &str, event: &IncomingEvent| {
        let (tenant, workspace) = (TenantId::from(tenant), WorkspaceId::from(workspace));
        world.sink.runtime.accept_events(&tenant, &workspace, connection, vec![event.clone()]).await
    };
    for (tenant, workspace, connection) in [("globex", "support", "chat"), ("acme", "sales", "chat"), ("acme", "support", "mail")] {
        assert_eq!(accept(tenant, workspace, connection, &event).await.unwrap_err().kind(), ErrorKind::NotFound, "{tenant} {workspace} {connection}");
    }
    assert!(matches!(accept("acme", "support", "chat", &event).await.unwrap()[..], [Appended::New { .. }]));
    assert!(matches!(accept("acme", "support", "chat", &event).await.unwrap()[..], [Appended::Duplicate { .. }]));
    let unreadable = IncomingEvent { id: Some("Ev2".into()), payload: Bytes::from_static(b"{"), ..event };
    assert_eq!(accept("acme", "support", "chat", &unreadable).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(world.kept().await.len(), 1);
    world.end().await;
}
