//! Messages to subscribers over Server-Sent Events: `GET /api/v1/stream`.
//!
//! Owns what a client says (topics, workspace, where to go on) and the pace: a client that does not read is let go, so that it costs a bounded
//! buffer and nobody else anything.

mod feed;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response, Sse, sse::Event},
};
use connector_core::{Error, ErrorKind, Result};
use connector_runtime::TopicPattern;
use futures_util::stream;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

pub(in crate::http) use feed::Streams;
pub use feed::{MOST_PER_KEY, MOST_SUBSCRIBERS};
pub(in crate::http) use feed::{Subscription, Told, Wanted};

use super::{App, caller::Caller, problem::Problem};

/// So often something is said when there is nothing to say, so that proxies keep the connection and a dead one is found.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that takes nothing for this long is let go.
pub(super) const STALL: Duration = Duration::from_secs(10);
/// Messages that wait for a client to read them.
const BUFFER: usize = 64;
/// After this time a browser connects again.
const RECONNECT: Duration = Duration::from_secs(2);
/// Patterns in one request.
const MOST_TOPICS: usize = 32;
/// The query, in words.
const SHAPE: &str = "?topic=ticket.*&topic=…&workspace=…&after=NUMBER, all optional";

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client went away.
    Gone,
    /// The client did not read.
    Slow,
    /// The key is no longer good.
    Revoked,
    /// The hub stops.
    Stopping,
    /// The store cannot be read.
    Failed,
    /// The client did what it must not.
    Refused,
}

impl End {
    pub(super) fn count(self) {
        let reason = match self {
            Self::Gone => "gone",
            Self::Slow => "slow",
            Self::Revoked => "revoked",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Refused => "refused",
        };
        metrics::counter!("integration_stream_ends_total", "reason" => reason).increment(1);
    }
}

/// What a client asked to hear.
#[derive(Debug, Default)]
pub(super) struct Ask {
    topics: Vec<TopicPattern>,
    workspace: Option<String>,
    after: Option<u64>,
}

impl Ask {
    fn read(query: &str, headers: &HeaderMap) -> Result<Self> {
        let refuse = || Error::invalid(format!("the query must be {SHAPE}"));
        let mut ask = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "topic" => ask.topics.extend(topics(value.split(','))?),
                "workspace" => ask.workspace = Some(value.into_owned()),
                "after" => ask.after = Some(value.parse().map_err(|_| refuse())?),
                _ => return Err(refuse()),
            }
        }
        if ask.topics.len() > MOST_TOPICS {
            return Err(too_many());
        }
        // A browser that connects again says where it was; that is newer than the address it was given.
        if let Some(last) = headers.get("last-event-id").filter(|last| !last.is_empty()) {
            let last = last.to_str().ok().and_then(|last| last.parse().ok());
            ask.after = Some(last.ok_or_else(|| Error::invalid("`Last-Event-ID` must be a number that this stream has sent"))?);
        }
        Ok(ask)
    }

    /// A subscription of this caller.
    pub(super) async fn subscribe(self, app: &App, caller: &Caller) -> Result<Subscription, Problem> {
        let workspaces = match &self.workspace {
            Some(workspace) => vec![caller.workspace(Some(workspace))?.as_str().to_owned()],
            None => caller.workspaces().to_vec(),
        };
        let wanted = Wanted { topics: self.topics, workspaces };
        let subscribed = app.streams().subscribe(caller.tenant(), caller.key_id(), wanted, self.after).await;
        subscribed.map_err(|error| match error.kind() {
            ErrorKind::Overloaded => Problem::with_status(error, StatusCode::SERVICE_UNAVAILABLE),
            _ => error.into(),
        })
    }
}

impl FromRequestParts<App> for Ask {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> std::result::Result<Self, Self::Rejection> {
        Ok(Self::read(parts.uri.query().unwrap_or_default(), &parts.headers)?)
    }
}

/// Topics as a client wrote them.
pub(super) fn topics<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<TopicPattern>> {
    let found = texts.map(TopicPattern::parse).take(MOST_TOPICS + 1).collect::<Result<Vec<_>>>()?;
    if found.len() > MOST_TOPICS { Err(too_many()) } else { Ok(found) }
}

fn too_many() -> Error {
    Error::invalid(format!("at most {MOST_TOPICS} topics; `*` stands for any word"))
}

pub(super) async fn sse(State(app): State<App>, caller: Caller, ask: Ask) -> Result<Response, Problem> {
    let subscription = ask.subscribe(&app, &caller).await?;
    let (out, read) = mpsc::channel::<Event>(BUFFER);
    tokio::spawn(async move { serve(app, caller, subscription, out).await.count() });
    let events = stream::unfold(read, |mut read| async move { read.recv().await.map(|event| (Ok::<_, Infallible>(event), read)) });
    let mut response = Sse::new(events).into_response();
    // Proxies that collect a reply before they pass it on would collect for ever.
    response.headers_mut().insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn serve(app: App, caller: Caller, mut subscription: Subscription, out: mpsc::Sender<Event>) -> End {
    let mut stopped = app.streams().ended();
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    // An id without data is remembered by browsers: whoever is cut off before the first message goes on from here.
    let hello = Event::default().comment("connected").retry(RECONNECT).id(subscription.position().to_string());
    if let Some(end) = give(&out, hello).await {
        return end;
    }
    loop {
        let event = tokio::select! {
            biased;
            () = stopping(&mut stopped) => {
                // Whoever does not read will not read this either.
                drop(out.try_send(Event::default().comment("the hub stops; connect again")));
                return End::Stopping;
            }
            () = out.closed() => return End::Gone,
            _ = beat.tick() => {
                match still_good(&app, &caller).await {
                    Ok(true) => {}
                    Ok(false) => {
                        drop(out.try_send(Event::default().comment("the key is no longer good")));
                        return End::Revoked;
                    }
                    Err(end) => return end,
                }
                Event::default().comment("").id(subscription.position().to_string())
            }
            told = subscription.next() => match told {
                Ok(Told::Message(wire)) => Event::default().id(wire.seq.to_string()).event(&wire.topic).data(&wire.json),
                Ok(Told::Gap { after, first }) => Event::default()
                    .id(first.saturating_sub(1).to_string())
                    .event("gap")
                    .data(json!({ "after": after, "first": first }).to_string()),
                Err(error) => {
                    tracing::warn!(%error, "a stream ends: the messages to subscribers cannot be read");
                    drop(out.try_send(Event::default().comment("the messages cannot be read at the moment; connect again")));
                    return End::Failed;
                }
            },
        };
        if let Some(end) = give(&out, event).await {
            return end;
        }
    }
}

/// Hands an event on. Some: the stream is over.
async fn give(out: &mpsc::Sender<Event>, event: Event) -> Option<End> {
    match out.send_timeout(event, STALL).await {
        Ok(()) => None,
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => Some(End::Slow),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => Some(End::Gone),
    }
}

/// Returns when all streams must end.
pub(super) async fn stopping(stopped: &mut watch::Receiver<bool>) {
    // Without anybody who could stop it, it goes on.
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether the key that opened the stream still opens anything.
pub(super) async fn still_good(app: &App, caller: &Caller) -> Result<bool, End> {
    app.keys().stands(caller.tenant(), caller.key_id()).await.map_err(|error| {
        tracing::warn!(%error, "a stream ends: nobody can tell whether its key is still good");
        End::Failed
    })
}

/// For tests and the WebSocket: the shared line of a message with its number.
pub(super) fn with_seq(wire: &Arc<feed::Wire>) -> String {
    format!("{{\"seq\":{},{}", wire.seq, &wire.json[1..])
}
