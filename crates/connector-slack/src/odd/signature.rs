//! Whether a delivery comes from Slack, and what it is: an event, a slash command or an interaction.
//!
//! Owns the signature and the three shapes. Refuses to read anything before it is proven, the handshake included.
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result,
    clock::unix_seconds,
    webhook::{HandshakeReply, IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use url::form_urlencoded;

/// A signature is good for this long before and after its timestamp.
const TOLERANCE: u64 = 300;
/// The longest challenge that is echoed.
const MAX_CHALLENGE: usize = 1024;

/// Verifies Slack's deliveries. Secrets are the app's signing secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct SlackSignature;

impl WebhookVerifier for SlackSignature {
    fn scheme(&self) -> &'static str {
        "slack_signature"
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Ingress> {
        if secrets.is_empty() || secrets.iter().any(|secret| secret.expose_secret().trim().is_empty()) {
            return Err(Error::config("no webhook secret is configured for Slack, or one is empty; it is the app's signing secret"));
        }
        prove(request, secrets, now)?;
        let form = request.header(header::CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        if form { form_event(request.body) } else { json_event(request.body) }
    }
}

/// `v0=hex(HMAC-SHA256(secret, "v0:" + timestamp + ":" + body))`, compared in constant time.
fn prove(request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<()> {
    let signature = request.header("x-slack-signature").ok_or_else(|| denied("missing"))?;
    let timestamp = request.header("x-slack-request-timestamp").ok_or_else(|| denied("missing"))?;
    let is_time = !timestamp.is_empty() && timestamp.len() <= 12 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let sent: u64 = timestamp.parse().ok().filter(|_| is_time).ok_or_else(|| denied("malformed"))?;
    let given = signature.strip_prefix("v0=").and_then(|text| hex::decode(text).ok()).ok_or_else(|| denied("malformed"))?;
    let signs = |secret: &SecretString| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
        for part in [&b"v0:"[..], timestamp.as_bytes(), b":", request.body] {
            mac.update(part);
        }
        mac.verify_slice(&given).is_ok()
    };
    // All of them, whichever fits.
    if !secrets.iter().map(signs).fold(false, |any, one| any | one) {
        return Err(denied("mismatch"));
    }
    if unix_seconds(now).abs_diff(sent) > TOLERANCE {
        return Err(denied("stale"));
    }
    Ok(())
}

fn denied(reason: &'static str) -> Error {
    Error::new(ErrorKind::Denied, "nothing proves that the delivery comes from Slack").with_context("reason", reason)
}

/// Events and the handshake.
fn json_event(body: &Bytes) -> Result<Ingress> {
    let whole: Value = serde_json::from_slice(body).map_err(|error| Error::invalid("the delivery is genuine but is not JSON").with_source(error))?;
    let text = |pointer: &str| whole.pointer(pointer).and_then(Value::as_str);
    if text("/type") == Some("url_verification") {
        let challenge = text("/challenge")
            .filter(|text| !text.is_empty() && text.len() <= MAX_CHALLENGE && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        let challenge = challenge.ok_or_else(|| Error::invalid("the handshake is genuine but its challenge cannot be echoed"))?;
        return Ok(Ingress::Handshake(reply(challenge)));
    }
    // A channel is a text in most events and an object where it was changed.
    let channel = text("/event/channel").or_else(|| text("/event/channel/id")).or_else(|| text("/event/item/channel"));
    Ok(Ingress::Events(vec![IncomingEvent {
        id: text("/event_id").map(str::to_owned),
        event_type: name(text("/event/type").or_else(|| text("/type"))),
        occurred_at: whole.get("event_time").and_then(Value::as_u64).map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        order_key: channel.map(|channel| format!("{}:{channel}", text("/team_id").unwrap_or_default())),
        payload: body.clone(),
    }]))
}

/// The kinds as this connector names them; others keep Slack's name.
fn name(kind: Option<&str>) -> Arc<str> {
    match kind {
        Some("message") => "message_received",
        Some("channel_archive") => "channel_archived",
        Some("channel_rename") => "channel_renamed",
        Some("team_join") => "member_joined",
        Some(other) => other,
        None => "unknown",
    }
    .into()
}

/// Slash commands and interactions come as forms.
fn form_event(body: &Bytes) -> Result<Ingress> {
    let pairs: Map<String, Value> = form_urlencoded::parse(body).map(|(key, value)| (key.into_owned(), value.into_owned().into())).collect();
    let text = |key: &str| pairs.get(key).and_then(Value::as_str);
    if text("ssl_check") == Some("1") {
        return Ok(Ingress::Handshake(reply("")));
    }
    if let Some(payload) = text("payload") {
        let payload: Value = serde_json::from_str(payload)
            .map_err(|error| Error::invalid("the interaction is genuine but its payload is not JSON").with_source(error))?;
        let trigger = payload["trigger_id"].as_str().map(str::to_owned);
        let event = json!({ "type": "interaction", "interaction_type": payload["type"], "payload": payload });
        return Ok(Ingress::Events(vec![event_of("interaction", trigger, &event)]));
    }
    if text("command").is_none() {
        return Err(Error::invalid("the delivery is genuine but is neither an event, a slash command nor an interaction"));
    }
    let trigger = text("trigger_id").map(str::to_owned);
    let mut fields = pairs.clone();
    // The old shared token proves nothing and is nobody's business.
    fields.remove("token");
    fields.insert("type".into(), "slash_command".into());
    Ok(Ingress::Events(vec![event_of("slash_command", trigger, &Value::Object(fields))]))
}

fn event_of(kind: &'static str, id: Option<String>, event: &Value) -> IncomingEvent {
    IncomingEvent { id, event_type: kind.into(), occurred_at: None, order_key: None, payload: Bytes::from(event.to_string()) }
}

fn reply(text: &str) -> HandshakeReply {
    HandshakeReply { status: 200, content_type: "text/plain; charset=utf-8", body: Bytes::copy_from_slice(text.as_bytes()) }
}
