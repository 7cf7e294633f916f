//! Messages to subscribers over WebSocket: `GET /api/v1/ws`. The same messages as `/api/v1/stream`, one JSON text frame each.
//!
//! Owns the few things a client may say: `{"resume": 17, "topics": ["ticket.*"]}`. Refuses frames that are longer, other or more than that,
//! and pages of other sites.

use std::time::Duration;

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use connector_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use url::Url;

use super::{
    App,
    caller::Caller,
    problem::Problem,
    stream::{Ask, End, HEARTBEAT, STALL, Subscription, Told, still_good, stopping, topics, with_seq},
};

/// The longest frame a client may send, in bytes.
const MOST_FRAME: usize = 16 * 1024;
/// What a client may say between two heartbeats; each may mean reading the log again.
const MOST_ASKS: u32 = 20;
/// A client that says nothing for this long, not even a pong, is gone.
const SILENT: Duration = Duration::from_secs(45);

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    resume: Option<u64>,
    topics: Option<Vec<String>>,
}

pub(super) async fn upgrade(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    ask: Ask,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if !same_origin(&headers, app.public_url().ok()) {
        return Err(Error::new(ErrorKind::Denied, "a page of another site must not open this stream").into());
    }
    let upgrade = upgrade.map_err(|_| {
        let error =
            Error::invalid("this is a WebSocket: send `Connection: Upgrade`, `Upgrade: websocket` and version 13; `/api/v1/stream` is plain HTTP");
        Problem::with_status(error, StatusCode::UPGRADE_REQUIRED)
    })?;
    let subscription = ask.subscribe(&app, &caller).await?;
    Ok(upgrade
        .max_message_size(MOST_FRAME)
        .max_frame_size(MOST_FRAME)
        .on_upgrade(|socket| async move { serve(app, caller, subscription, socket).await.count() }))
}

/// Programs send no `Origin`; browsers always do, and only pages of the hub itself may connect.
fn same_origin(headers: &HeaderMap, public: Option<&Url>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
    match (origin, public) {
        (Some(origin), Some(public)) => origin.origin().is_tuple() && origin.origin() == public.origin(),
        _ => false,
    }
}

async fn serve(app: App, caller: Caller, mut subscription: Subscription, mut socket: WebSocket) -> End {
    let end = talk(&app, &caller, &mut subscription, &mut socket).await;
    let (code, reason) = match end {
        End::Gone => return end,
        End::Slow => (close_code::POLICY, "you do not read"),
        End::Revoked => (close_code::POLICY, "the key is no longer good"),
        End::Stopping => (close_code::AWAY, "the hub stops; connect again"),
        End::Failed => (close_code::ERROR, "the messages cannot be read at the moment; connect again"),
        End::Refused => (close_code::POLICY, "send text frames like {\"resume\": 17, \"topics\": [\"ticket.*\"]}, not too many"),
    };
    // Whoever does not listen is cut off when the socket is dropped.
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let _unheard = tokio::time::timeout(Duration::from_secs(1), socket.send(close)).await.is_err();
    end
}

async fn talk(app: &App, caller: &Caller, subscription: &mut Subscription, socket: &mut WebSocket) -> End {
    let mut stopped = app.streams().ended();
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    let mut heard = tokio::time::Instant::now();
    let mut asks = 0;
    let hello = json!({ "hello": { "seq": subscription.position() } });
    if let Some(end) = say(socket, Message::text(hello.to_string())).await {
        return end;
    }
    loop {
        let message = tokio::select! {
            biased;
            () = stopping(&mut stopped) => return End::Stopping,
            said = socket.recv() => {
                heard = tokio::time::Instant::now();
                match said {
                    Some(Ok(Message::Text(text))) => {
                        asks += 1;
                        if asks > MOST_ASKS {
                            return End::Refused;
                        }
                        match obey(subscription, &text).await {
                            Ok(()) => {}
                            Err(error) if error.kind() == ErrorKind::Invalid => return End::Refused,
                            Err(_) => return End::Failed,
                        }
                        continue;
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Binary(_))) => return End::Refused,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
                }
            }
            _ = beat.tick() => {
                if heard.elapsed() > SILENT {
                    return End::Gone;
                }
                match still_good(app, caller).await {
                    Ok(true) => {}
                    Ok(false) => return End::Revoked,
                    Err(end) => return end,
                }
                asks = 0;
                Message::Ping(axum::body::Bytes::new())
            }
            told = subscription.next() => match told {
                Ok(Told::Message(wire)) => Message::text(with_seq(&wire)),
                Ok(Told::Gap { after, first }) => Message::text(json!({ "gap": { "after": after, "first": first } }).to_string()),
                Err(error) => {
                    tracing::warn!(%error, "a stream ends: the messages to subscribers cannot be read");
                    return End::Failed;
                }
            },
        };
        if let Some(end) = say(socket, message).await {
            return end;
        }
    }
}

/// Does what the client says.
async fn obey(subscription: &mut Subscription, text: &str) -> Result<()> {
    let wish: Wish = serde_json::from_str(text).map_err(|_| Error::invalid("that is not what a client may say"))?;
    if let Some(wanted) = &wish.topics {
        subscription.wanted.topics = topics(wanted.iter().map(String::as_str))?;
    }
    match wish.resume {
        Some(after) => subscription.resume(after).await,
        None => Ok(()),
    }
}

/// Sends a frame. Some: the stream is over.
async fn say(socket: &mut WebSocket, message: Message) -> Option<End> {
    match tokio::time::timeout(STALL, socket.send(message)).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(End::Gone),
        Err(_) => Some(End::Slow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hubs_own_pages_may_connect() {
        let public: Url = "https://hub.example".parse().unwrap();
        let asked = |origin: &str, public: Option<&Url>| same_origin(&HeaderMap::from_iter([(header::ORIGIN, origin.parse().unwrap())]), public);
        assert!(same_origin(&HeaderMap::new(), Some(&public)));
        assert!(asked("https://hub.example", Some(&public)) && asked("https://hub.example:443", Some(&public)));
        for foreign in
            ["http://hub.example", "https://hub.example:8443", "https://evil.example", "https://hub.example.evil.example", "null", "data:x"]
        {
            assert!(!asked(foreign, Some(&public)), "{foreign}");
        }
        assert!(!asked("https://hub.example", None));
    }
}
