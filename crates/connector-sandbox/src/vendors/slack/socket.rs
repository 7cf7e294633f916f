//! Socket Mode: single-use addresses, `hello`, envelopes that want an ack, `disconnect`. What was not acked when its connection ended is
//! sent again on another one. <https://docs.slack.dev/apis/events-api/using-socket-mode>

use super::{APP, Slack};
use crate::exchange::Req;
use crate::ledger::lock;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, handshake::derive_accept_key, protocol::Role};

/// Seconds a connection is said to live.
const LIFETIME: u64 = 3600;
/// Connections of one app at a time.
const MOST: usize = 10;

/// What an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Event,
    Command,
    Interaction,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Event => "events_api",
            Self::Command => "slash_commands",
            Self::Interaction => "interactive",
        }
    }
}

/// An envelope the app acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Acked {
    /// Its id.
    pub envelope_id: String,
    /// `events_api`, `slash_commands` or `interactive`.
    pub kind: &'static str,
    /// What it held.
    pub payload: Value,
    /// How often it had been sent before.
    pub retry_attempt: u32,
    /// What the app answered with it, if anything.
    pub answer: Value,
}

/// What goes to a connection.
#[derive(Debug)]
enum Out {
    Frame(Value),
    Close,
}

/// An envelope on its way.
#[derive(Clone, Debug)]
struct Pending {
    work: Work,
    payload: Value,
    attempt: u32,
    link: u64,
}

/// Everything about the app's connections.
#[derive(Debug, Default)]
pub(super) struct Sockets(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    tickets: BTreeSet<String>,
    links: BTreeMap<u64, mpsc::UnboundedSender<Out>>,
    /// Which connection is next.
    turn: VecDeque<u64>,
    pending: BTreeMap<String, Pending>,
    /// What no connection was there for any more.
    waiting: VecDeque<(Work, Value, u32)>,
    acked: Vec<Acked>,
    opened: u64,
}

impl Inner {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Sends an envelope to the connection whose turn it is.
    fn send(&mut self, work: Work, payload: Value, attempt: u32) {
        let Some(link) = self.turn.pop_front() else { return self.waiting.push_back((work, payload, attempt)) };
        self.turn.push_back(link);
        let number = self.next();
        let envelope_id = format!("5a2b0c1e-0000-4000-8000-{number:012}");
        let frame = json!({"envelope_id": envelope_id, "type": work.name(), "payload": payload, "accepts_response_payload": work != Work::Event,
            "retry_attempt": attempt, "retry_reason": if attempt > 0 { "timeout" } else { "" }});
        self.pending.insert(envelope_id, Pending { work, payload, attempt, link });
        if let Some(sender) = self.links.get(&link) {
            // A connection that just ended gives its envelopes back by itself.
            sender.send(Out::Frame(frame)).ok();
        }
    }

    fn lost(&mut self, link: u64) {
        self.links.remove(&link);
        self.turn.retain(|one| *one != link);
        let (back, pending) = std::mem::take(&mut self.pending).into_iter().partition(|(_, one)| one.link == link);
        self.pending = pending;
        let back: BTreeMap<String, Pending> = back;
        for one in back.into_values() {
            self.send(one.work, one.payload, one.attempt + 1);
        }
    }
}

impl Sockets {
    /// Whether the app uses Socket Mode; then the work is on its way.
    pub(super) fn take(&self, work: Work, payload: &Value) -> bool {
        let mut inner = lock(&self.0);
        // Once a connection was open the app is in Socket Mode: what happens between two connections waits for the next.
        if inner.opened == 0 {
            return false;
        }
        inner.send(work, payload.clone(), 0);
        true
    }
}

impl Slack {
    /// `apps.connections.open`.
    pub(super) fn open_socket(&self, req: &Req) -> Value {
        let mut inner = lock(&self.sockets.0);
        let ticket = format!("sandbox-link-{:06}", inner.next());
        inner.tickets.insert(ticket.clone());
        let base = req.base.replacen("http", "ws", 1);
        json!({"url": format!("{base}/link/?ticket={ticket}&app_id={APP}")})
    }

    /// How many connections are open.
    pub fn sockets(&self) -> usize {
        lock(&self.sockets.0).links.len()
    }

    /// How many connections were ever opened.
    pub fn sockets_opened(&self) -> u64 {
        lock(&self.sockets.0).opened
    }

    /// What was acknowledged, in the order of the acknowledgements.
    pub fn acked(&self) -> Vec<Acked> {
        lock(&self.sockets.0).acked.clone()
    }

    /// Tells every open connection that it will end: `warning`, `refresh_requested` or `link_disabled`. It goes on until it is cut.
    pub fn ask_to_reconnect(&self, reason: &str) {
        for sender in lock(&self.sockets.0).links.values() {
            sender.send(Out::Frame(json!({"type": "disconnect", "reason": reason, "debug_info": {"host": "sandbox"}}))).ok();
        }
    }

    /// Ends the oldest connection (or all), as the server does after a while. What it had not acknowledged is sent again.
    pub fn cut_sockets(&self, all: bool) {
        for sender in lock(&self.sockets.0).links.values().take(if all { usize::MAX } else { 1 }) {
            sender.send(Out::Close).ok();
        }
    }

    /// Sends everything again that was not acknowledged, as Slack does after three seconds.
    pub fn resend_unacknowledged(&self) {
        let mut inner = lock(&self.sockets.0);
        for one in std::mem::take(&mut inner.pending).into_values() {
            inner.send(one.work, one.payload, one.attempt + 1);
        }
    }

    fn acknowledged(&self, frame: &str) {
        let Ok(ack) = serde_json::from_str::<Value>(frame) else { return };
        let Some(envelope_id) = ack["envelope_id"].as_str() else { return };
        let mut inner = lock(&self.sockets.0);
        if let Some(Pending { work, payload, attempt, .. }) = inner.pending.remove(envelope_id) {
            let answer = ack["payload"].clone();
            inner.acked.push(Acked { envelope_id: envelope_id.to_owned(), kind: work.name(), payload, retry_attempt: attempt, answer });
        }
    }
}

/// Whether a request wants to become a connection.
pub(crate) fn wants_link(request: &Request) -> bool {
    let upgrades = request.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    upgrades && request.uri().path().trim_end_matches('/') == "/slack/link"
}

/// Answers it; the connection lives on by itself until either side ends it or the sandbox is gone.
pub(crate) fn link(slack: &Arc<Slack>, mut request: Request) -> Response {
    let plain = |status: StatusCode| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    };
    let ticket = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).find(|(name, _)| name == "ticket");
    let ticket = ticket.map(|(_, ticket)| ticket.into_owned()).unwrap_or_default();
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes())) else {
        return plain(StatusCode::BAD_REQUEST);
    };
    let (id, frames) = {
        let mut inner = lock(&slack.sockets.0);
        // An address is good once.
        if !inner.tickets.remove(&ticket) {
            return plain(StatusCode::FORBIDDEN);
        }
        if inner.links.len() >= MOST {
            return plain(StatusCode::TOO_MANY_REQUESTS);
        }
        (inner.next(), mpsc::unbounded_channel())
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let weak = Arc::downgrade(slack);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
                run(weak, id, stream, frames).await;
            }
            Err(error) => tracing::debug!(%error, "a connection of the fake Slack was not upgraded"),
        }
    });
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    if let Ok(key) = key.parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    response
}

type Frames = (mpsc::UnboundedSender<Out>, mpsc::UnboundedReceiver<Out>);

async fn run(slack: Weak<Slack>, id: u64, mut stream: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, (sender, mut frames): Frames) {
    let text = |value: &Value| Message::text(value.to_string());
    let open = slack.upgrade().map(|slack| lock(&slack.sockets.0).links.len() + 1).unwrap_or_default();
    let hello = json!({"type": "hello", "num_connections": open, "connection_info": {"app_id": APP},
        "debug_info": {"host": "sandbox", "approximate_connection_time": LIFETIME}});
    if stream.send(text(&hello)).await.is_err() {
        return;
    }
    if let Some(slack) = slack.upgrade() {
        let mut inner = lock(&slack.sockets.0);
        inner.links.insert(id, sender);
        inner.turn.push_back(id);
        inner.opened += 1;
        for (work, payload, attempt) in std::mem::take(&mut inner.waiting) {
            inner.send(work, payload, attempt);
        }
    }
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(Out::Frame(frame)) => {
                    if stream.send(text(&frame)).await.is_err() {
                        break;
                    }
                }
                // `None`: the sandbox is gone.
                Some(Out::Close) | None => {
                    stream.close(None).await.ok();
                    break;
                }
            },
            message = stream.next() => match message {
                Some(Ok(Message::Text(frame))) => {
                    if let Some(slack) = slack.upgrade() {
                        slack.acknowledged(&frame);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    if let Some(slack) = slack.upgrade() {
        lock(&slack.sockets.0).lost(id);
    }
}
