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
    Error, Result,
    webhook::{HandshakeReply, IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use connector_webhook::schemes::{self, Proof as _, SlackV0};
use http::header;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

/// How slash commands and interactions are written.
const FORM: &str = "application/x-www-form-urlencoded";

/// Verifies Slack's deliveries with the shared scheme `slack_v0` and reads all their formats. Secrets are the app's signing secrets.
#[derive(Debug, Clone, Default)]
pub struct SlackSignature(SlackV0);

impl WebhookVerifier for SlackSignature {
    fn scheme(&self) -> &'static str {
        "slack_signature"
    }

    fn media_types(&self) -> &'static [&'static str] {
        &[FORM]
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Ingress> {
        schemes::usable(secrets)?;
        self.0.prove(request, secrets, now)?;
        // Slack's retry headers (X-Slack-Retry-Num, X-Slack-Retry-Reason) are not looked at: the event's id tells a repeat.
        if let Some(reply) = self.0.handshake(request) {
            return Ok(Ingress::Handshake(reply));
        }
        let form = request
            .header(header::CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM)));
        if form { form_event(request.body) } else { json_event(request.body) }
    }
}

fn json_event(body: &Bytes) -> Result<Ingress> {
    let whole: Value = serde_json::from_slice(body).map_err(|error| Error::invalid("the delivery is genuine but is not JSON").with_source(error))?;
    if whole["type"] == "url_verification" {
        return Err(Error::invalid("the handshake is genuine but its challenge cannot be echoed"));
    }
    event_callback(whole).map(|event| Ingress::Events(vec![event]))
}

/// An event as the Events API and Socket Mode both wrap it.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] if it is not an object.
pub(crate) fn event_callback(mut whole: Value) -> Result<IncomingEvent> {
    // The old shared token proves nothing and is nobody's business.
    whole.as_object_mut().ok_or_else(|| Error::invalid("the delivery is genuine but is no event"))?.shift_remove("token");
    let text = |pointer: &str| whole.pointer(pointer).and_then(Value::as_str);
    // A channel is a text in most events and an object where it was changed.
    let channel = text("/event/channel").or_else(|| text("/event/channel/id")).or_else(|| text("/event/item/channel"));
    let team = text("/team_id").unwrap_or_default();
    // That events were left out is told once a minute and has no id of its own.
    let limited = || whole.get("minute_rate_limited").and_then(Value::as_u64).map(|minute| format!("app_rate_limited:{team}:{minute}"));
    Ok(IncomingEvent {
        id: text("/event_id").map(str::to_owned).or_else(limited),
        event_type: name(text("/event/type").or_else(|| text("/type"))),
        occurred_at: ["event_time", "minute_rate_limited"]
            .iter()
            .find_map(|key| whole.get(key)?.as_u64())
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
        order_key: channel.map(|channel| format!("{team}:{channel}")),
        payload: Bytes::from(whole.to_string()),
    })
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
        return interaction(payload).map(|event| Ingress::Events(vec![event]));
    }
    slash_command(pairs).map(|event| Ingress::Events(vec![event]))
}

/// A pressed button, a sent form, a shortcut.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] if it is not an object.
pub(crate) fn interaction(mut payload: Value) -> Result<IncomingEvent> {
    payload.as_object_mut().ok_or_else(|| Error::invalid("the delivery is genuine but is no interaction"))?.shift_remove("token");
    let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str);
    // A closed form has no trigger; it closes once.
    let closed = || text("/view/id").map(|view| format!("{}:{view}:{}", text("/type").unwrap_or_default(), text("/view/hash").unwrap_or_default()));
    let id = text("/trigger_id").map(str::to_owned).or_else(closed);
    let event = json!({ "type": "interaction", "interaction_type": payload["type"], "payload": payload });
    Ok(event_of("interaction", id, &event))
}

/// A use of a slash command, with its fields as they came.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] if no command is named.
pub(crate) fn slash_command(mut fields: Map<String, Value>) -> Result<IncomingEvent> {
    if !fields.get("command").is_some_and(Value::is_string) {
        return Err(Error::invalid("the delivery is genuine but is neither an event, a slash command nor an interaction"));
    }
    let trigger = fields.get("trigger_id").and_then(Value::as_str).map(str::to_owned);
    fields.shift_remove("token");
    fields.insert("type".into(), "slash_command".into());
    Ok(event_of("slash_command", trigger, &Value::Object(fields)))
}

fn event_of(kind: &'static str, id: Option<String>, event: &Value) -> IncomingEvent {
    IncomingEvent { id, event_type: kind.into(), occurred_at: None, order_key: None, payload: Bytes::from(event.to_string()) }
}

fn reply(text: &str) -> HandshakeReply {
    HandshakeReply { status: 200, content_type: "text/plain; charset=utf-8", body: Bytes::copy_from_slice(text.as_bytes()) }
}
