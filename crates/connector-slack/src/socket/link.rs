//! One Socket Mode connection, from its handshake to its end.

use std::{sync::Arc, time::Duration};

use connector_core::{Error, ErrorKind, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};
use url::Url;

use super::{Envelope, Sink, Told, is_set, tls};

/// The longest message that is read, in bytes. Slack's are far below.
const LONGEST: usize = 4 * 1024 * 1024;
/// The hosts that Slack's addresses lie under.
const DOMAINS: [&str; 2] = [".slack.com", ".slack-gov.com"];

/// A connection that said `hello`.
pub(super) type Stream = WebSocketStream<tls::Socket>;

/// A frame from Slack.
#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    envelope_id: Option<String>,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    retry_attempt: Option<u32>,
    reason: Option<String>,
}

/// Connects to an address Slack gave out and waits for `hello`. The address authorises by itself: it is in no error and no log.
pub(super) async fn connect(tls: &tls::Connector, base: &Url, address: &str) -> Result<Stream> {
    let url = Url::parse(address).map_err(|_| Error::protocol("Slack's address for the Socket Mode connection is not a URL"))?;
    let host = url.host_str().unwrap_or_default();
    let slack = url.scheme() == "wss" && url.port().is_none() && DOMAINS.iter().any(|domain| host.ends_with(domain));
    // A sandbox is where the connection's own address is, and then without TLS only if that is, too.
    let scheme = if base.scheme() == "https" { "wss" } else { "ws" };
    let own = url.scheme() == scheme && url.host_str() == base.host_str() && url.port_or_known_default() == base.port_or_known_default();
    if !(slack || own) {
        return Err(Error::new(ErrorKind::Denied, "the Socket Mode connection was to be opened to a host that is not Slack's; it was not"));
    }
    let socket = tls.open(&url).await?;
    let failed = |error: &tungstenite::Error| {
        let kind = if matches!(error, tungstenite::Error::Io(_)) { ErrorKind::NotSent } else { ErrorKind::Protocol };
        // The error of the handshake may quote the request, whose address is a secret: only its class is told.
        Error::new(kind, "Slack did not take the Socket Mode connection").with_context("why", class(error))
    };
    let request = url.as_str().into_client_request().map_err(|error| failed(&error))?;
    let config = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let (mut stream, _) = client_async_with_config(request, socket, Some(config)).await.map_err(|error| failed(&error))?;
    while let Some(message) = stream.next().await {
        match message.map_err(|error| failed(&error))? {
            Message::Text(text) => {
                let frame: Frame = serde_json::from_str(&text).map_err(|_| Error::protocol("Slack's first word on the connection cannot be read"))?;
                return match frame.kind.as_str() {
                    "hello" => Ok(stream),
                    "disconnect" if frame.reason.as_deref() == Some("link_disabled") => {
                        Err(Error::config("Socket Mode is switched off for the app; switch it on in the app's settings, or use a webhook"))
                    }
                    _ => Err(Error::protocol("Slack's first word on the connection was not `hello`")),
                };
            }
            Message::Close(_) => break,
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::Transient, "Slack ended the Socket Mode connection before it said `hello`"))
}

fn class(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(response) => format!("status {}", response.status().as_u16()),
        tungstenite::Error::Io(error) => error.kind().to_string(),
        tungstenite::Error::Tls(_) => "TLS".to_owned(),
        tungstenite::Error::Protocol(_) => "protocol".to_owned(),
        tungstenite::Error::Capacity(_) => "a message is too long".to_owned(),
        _ => "closed".to_owned(),
    }
}

/// Serves a connection until it ends or is retired. Envelopes are handled one after the other, so their order is kept.
pub(super) async fn serve(
    number: u64,
    mut stream: Stream,
    sink: Arc<dyn Sink>,
    tell: mpsc::UnboundedSender<Told>,
    mut retired: watch::Receiver<bool>,
    silence: Duration,
) -> u64 {
    let mut asked = false;
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout(silence / 2, stream.next()) => message,
            // Nothing is in hand here: what was taken is acknowledged, the rest Slack sends over the next connection.
            () = is_set(&mut retired) => {
                stream.close(None).await.ok();
                return number;
            }
        };
        let text = match message {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Close(_)))) | Ok(None) => return number,
            // Answers to pings are sent by the protocol itself.
            Ok(Some(Ok(_))) => {
                asked = false;
                continue;
            }
            Ok(Some(Err(error))) => {
                tracing::warn!(target: "connectors::slack", why = class(&error), "a Socket Mode connection broke");
                return number;
            }
            Err(_) if asked => {
                tracing::warn!(target: "connectors::slack", "nothing is heard on a Socket Mode connection any more; another is opened");
                return number;
            }
            Err(_) => {
                asked = true;
                if stream.send(Message::Ping(tungstenite::Bytes::new())).await.is_err() {
                    return number;
                }
                continue;
            }
        };
        asked = false;
        let Ok(frame) = serde_json::from_str::<Frame>(&text) else {
            tracing::warn!(target: "connectors::slack", "a frame that cannot be read was left unacknowledged");
            continue;
        };
        match (frame.kind.as_str(), frame.envelope_id) {
            ("disconnect", _) => {
                let what = if frame.reason.as_deref() == Some("link_disabled") { Told::Disabled } else { Told::Refresh(number) };
                // Nobody listens any more once the client ends.
                tell.send(what).ok();
            }
            (_, Some(id)) => {
                let retry_attempt = frame.retry_attempt.unwrap_or_default();
                let envelope = Envelope { id: id.clone(), kind: frame.kind, payload: frame.payload, retry_attempt };
                match sink.accept(envelope).await {
                    Ok(()) => {
                        if stream.send(Message::text(json!({ "envelope_id": id }).to_string())).await.is_err() {
                            return number;
                        }
                    }
                    Err(error) => tracing::warn!(target: "connectors::slack", %error, "an envelope could not be kept; Slack sends it again"),
                }
            }
            _ => {}
        }
    }
}
