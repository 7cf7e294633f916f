//! Schemes of single vendors that are a described HMAC and a little more: a time inside the signed body, a batch format, a bare token.
//!
//! Header ids that no signature covers are not taken as event ids: whoever replays a delivery could change them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use connector_core::{
    error::{Error, Result},
    webhook::{HandshakeReply, IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use connector_manifest::{
    model::{MacAlgorithm, MacEncoding},
    select::Path,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{HmacScheme, Proof, Proven, denied, header, mac, reader, time, usable};
use crate::ingress::handshake;

/// A proof whose time stands in the signed body and not in a header.
#[derive(Debug)]
pub(super) struct FreshBody {
    name: &'static str,
    proof: HmacScheme,
    at: Path,
    /// How far from now it may be, in both directions.
    tolerance: Duration,
    /// Whether a proven body is only the vendor's check of the address.
    handshake: Option<fn(&[u8]) -> bool>,
}

impl FreshBody {
    fn new(name: &'static str, proof: HmacScheme, at: &str, tolerance: Duration) -> Result<Self> {
        Ok(Self { name, proof: proof.named(name).build()?, at: Path::parse(at).map_err(Error::config)?, tolerance, handshake: None })
    }

    /// Linear: hex over the body; the SDK takes deliveries of the last minute only.
    // https://linear.app/developers/webhooks and the SDK's `webhooks/client.ts`
    pub(super) fn linear() -> Result<Self> {
        let proof = HmacScheme::new(MacAlgorithm::HmacSha256, "linear-signature", "{body}")?;
        Self::new("linear", proof, ".webhookTimestamp", Duration::from_secs(60))
    }

    /// Notion: the verification token is the key. Deliveries are retried for about a day.
    // https://developers.notion.com/reference/webhooks
    pub(super) fn notion() -> Result<Self> {
        let proof = HmacScheme::new(MacAlgorithm::HmacSha256, "x-notion-signature", "{body}")?.prefixed("sha256=");
        Ok(Self { handshake: Some(handshake::is_notion_verification), ..Self::new("notion", proof, ".timestamp", DAY)? })
    }

    /// Jira's admin webhooks. The window is ours: the vendor sets none and retries for hours.
    // https://developer.atlassian.com/cloud/jira/platform/webhooks/
    pub(super) fn jira() -> Result<Self> {
        let proof = HmacScheme::new(MacAlgorithm::HmacSha256, "x-hub-signature", "{body}")?.prefixed("sha256=");
        Self::new("jira", proof, ".timestamp", DAY)
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Proof for FreshBody {
    fn scheme(&self) -> &'static str {
        self.name
    }

    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Proven> {
        let proven = self.proof.prove(request, secrets, now)?;
        // Genuine from here on. A body without a time (Notion's first message, Jira with `excludeBody`) has only the dedupe against replay.
        let at = serde_json::from_slice::<Value>(request.body).ok().and_then(|body| reader::moment(self.at.get(&body)?));
        match at {
            Some(at) if !time::fresh(at, now, self.tolerance) => Err(denied("stale")),
            _ => Ok(proven),
        }
    }

    fn handshake(&self, request: &RawWebhook<'_>) -> Option<HandshakeReply> {
        (self.handshake?)(request.body).then(|| HandshakeReply { status: 200, content_type: "text/plain; charset=utf-8", body: Bytes::new() })
    }
}

/// Zendesk: base64 over timestamp and body, with nothing between them.
// https://developer.zendesk.com/documentation/webhooks/verifying/
#[derive(Debug)]
pub(super) struct Zendesk(HmacScheme);

impl Zendesk {
    pub(super) fn new() -> Result<Self> {
        let proof = HmacScheme::new(MacAlgorithm::HmacSha256, "x-zendesk-webhook-signature", "{timestamp}{body}")?
            .named("zendesk")
            .encoded(MacEncoding::Base64)
            .fresh_by("x-zendesk-webhook-signature-timestamp", time::TOLERANCE)?;
        Ok(Self(proof.build()?))
    }
}

impl Proof for Zendesk {
    fn scheme(&self) -> &'static str {
        self.0.scheme()
    }

    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Proven> {
        self.0.prove(request, secrets, now)
    }

    fn refuses(&self, secret: &SecretString) -> Option<&'static str> {
        (secret.expose_secret() == ZENDESK_TEST_SECRET)
            .then_some("the webhook secret is the one of Zendesk's test button, which everybody knows; store the webhook's own")
    }
}

/// The fixed secret of Zendesk's "test webhook" button: everybody knows it.
const ZENDESK_TEST_SECRET: &str = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==";

/// NetBox and Nautobot event rules: SHA-512 in hex over the body.
// https://netboxlabs.com/docs/netbox/integrations/webhooks/
pub(super) fn netbox() -> Result<HmacScheme> {
    HmacScheme::new(MacAlgorithm::HmacSha512, "x-hook-signature", "{body}")?.named("netbox").build()
}

/// Intuit (QuickBooks): base64 over the body; the body is an array of CloudEvents, or the older tree of notifications.
// https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks
#[derive(Debug)]
pub(super) struct Intuit(HmacScheme);

impl Intuit {
    pub(super) fn new() -> Result<Self> {
        let proof = HmacScheme::new(MacAlgorithm::HmacSha256, "intuit-signature", "{body}")?;
        Ok(Self(proof.named("intuit").encoded(MacEncoding::Base64).build()?))
    }
}

impl WebhookVerifier for Intuit {
    fn scheme(&self) -> &'static str {
        "intuit"
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Ingress> {
        usable(secrets)?;
        self.0.prove(request, secrets, now)?;
        let body: Value = serde_json::from_slice(request.body).map_err(|_| Error::invalid("the body is not JSON"))?;
        match &body {
            Value::Array(events) => events.iter().map(intuit_cloud_event).collect::<Result<_>>().map(Ingress::Events),
            Value::Object(_) => Ok(Ingress::Events(intuit_notifications(&body))),
            _ => Err(Error::invalid("the body is neither a list of CloudEvents nor a tree of notifications")),
        }
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn intuit_cloud_event(event: &Value) -> Result<IncomingEvent> {
    let (id, kind) = (text(event, "id"), text(event, "type"));
    if kind.is_empty() {
        return Err(Error::invalid("an element of the list is not a CloudEvent: it has no `type`"));
    }
    let entity = kind.split('.').nth(1).unwrap_or_default();
    Ok(IncomingEvent {
        id: (!id.is_empty()).then(|| format!("{}:{id}", text(event, "intuitaccountid"))),
        event_type: kind.into(),
        occurred_at: event.get("time").and_then(reader::moment),
        order_key: Some(format!("{}:{entity}:{}", text(event, "intuitaccountid"), text(event, "intuitentityid"))),
        payload: Bytes::from(event.to_string()),
    })
}

/// Each changed entity is an event of its own, named as the CloudEvents are.
fn intuit_notifications(body: &Value) -> Vec<IncomingEvent> {
    let list = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut events = Vec::new();
    for notification in list(body, "/eventNotifications") {
        let realm = text(&notification, "realmId").to_owned();
        for entity in list(&notification, "/dataChangeEvent/entities") {
            let (name, id, operation) = (text(&entity, "name"), text(&entity, "id"), text(&entity, "operation"));
            let done = match operation {
                "Create" => "created",
                "Update" => "updated",
                "Delete" => "deleted",
                "Merge" => "merged",
                "Void" => "voided",
                "Emailed" => "emailed",
                other => other,
            };
            let mut payload = entity.as_object().cloned().unwrap_or_else(Map::new);
            payload.insert("realmId".into(), json!(realm));
            events.push(IncomingEvent {
                id: Some([&realm, name, id, operation, text(&entity, "lastUpdated")].join(":")),
                event_type: format!("qbo.{}.{done}.v1", name.to_ascii_lowercase()).into(),
                occurred_at: entity.get("lastUpdated").and_then(reader::moment),
                order_key: Some(format!("{realm}:{}:{id}", name.to_ascii_lowercase())),
                payload: Bytes::from(Value::Object(payload).to_string()),
            });
        }
    }
    events
}

/// Google's push channels: no signature, an empty body, and the token that the channel was made with. The event is in the headers.
// https://developers.google.com/workspace/calendar/api/guides/push
#[derive(Debug, Clone, Copy)]
pub(super) struct GoogleChannel;

impl WebhookVerifier for GoogleChannel {
    fn scheme(&self) -> &'static str {
        "google_channel"
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], _now: SystemTime) -> Result<Ingress> {
        usable(secrets)?;
        let digest = |text: &str| Sha256::digest(text.as_bytes()).to_vec();
        let token = header(request, "x-goog-channel-token")?;
        let known: Vec<_> = secrets.iter().map(|secret| digest(secret.expose_secret())).collect();
        if !mac::any_equal(&[digest(token)], &known) {
            return Err(denied("mismatch"));
        }
        let channel = header(request, "x-goog-channel-id")?;
        let number = header(request, "x-goog-message-number")?;
        let resource = header(request, "x-goog-resource-id")?;
        let state = header(request, "x-goog-resource-state")?;
        if channel.len() > 64 || number.len() > 20 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(denied("malformed"));
        }
        if state == "sync" {
            return Ok(Ingress::Handshake(HandshakeReply { status: 200, content_type: "text/plain; charset=utf-8", body: Bytes::new() }));
        }
        let more = |name: &str| request.header(name).map(Value::from);
        let payload = json!({
            "channel_id": channel, "message_number": number, "resource_id": resource, "resource_state": state,
            "resource_uri": more("x-goog-resource-uri"), "changed": more("x-goog-changed"), "expiration": more("x-goog-channel-expiration"),
        });
        Ok(Ingress::Events(vec![IncomingEvent {
            id: Some(format!("{channel}:{number}")),
            event_type: format!("channel.{state}").into(),
            occurred_at: None,
            order_key: Some(resource.to_owned()),
            payload: Bytes::from(payload.to_string()),
        }]))
    }
}
