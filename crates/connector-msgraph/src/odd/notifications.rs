//! Graph's change and lifecycle notifications. <https://learn.microsoft.com/graph/change-notifications-delivery-webhooks>
//!
//! There is no signature. What proves a delivery is the clientState in each item: it must be one of the connection's webhook secrets.
//! Owns the validation handshake, the comparing in constant time, and the ids by which a repeated delivery is seen. Refuses to let the
//! clientState into an event.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result,
    webhook::{HandshakeReply, IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::args::text;

/// A validation token is some dozens of bytes; nobody gets more echoed.
const LONGEST_TOKEN: usize = 4096;
/// Repeats of an item that carries no version are told apart by when they arrive.
const SAME_ARRIVAL: Duration = Duration::from_secs(300);

/// Verifies deliveries by their clientState.
#[derive(Debug, Default)]
pub struct ClientState {
    dropped: AtomicU64,
}

impl ClientState {
    /// How many items were dropped because their clientState was wrong or missing.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn denied(reason: &'static str, message: &'static str) -> Error {
    Error::new(ErrorKind::Denied, message).with_context("reason", reason)
}

impl WebhookVerifier for ClientState {
    fn scheme(&self) -> &'static str {
        "client_state"
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Ingress> {
        if secrets.is_empty() {
            return Err(Error::config("notifications of Graph cannot be verified: the connection has no webhook secret (the clientState)"));
        }
        if let Some((_, token)) = url::form_urlencoded::parse(request.query.as_bytes()).find(|(name, _)| name == "validationToken") {
            return handshake(&token);
        }
        let body: Value = serde_json::from_slice(request.body)
            .map_err(|_| denied("malformed", "the delivery is not JSON, so nothing proves where it comes from"))?;
        let Some(Value::Array(items)) = body.get("value") else {
            return Err(denied("malformed", "the delivery has no list of notifications"));
        };
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            if !proven(item, secrets) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            events.push(event(item, now)?);
        }
        let dropped = items.len() - events.len();
        if dropped > 0 {
            tracing::warn!(dropped, kept = events.len(), "notifications with a wrong clientState were dropped");
        }
        if events.is_empty() && dropped > 0 {
            let missing = items.iter().all(|item| text(item, "clientState").is_none());
            let reason = if missing { "missing" } else { "mismatch" };
            return Err(denied(reason, "no notification of the delivery carries the connection's clientState"));
        }
        Ok(Ingress::Events(events))
    }
}

/// The token back, decoded and otherwise untouched, as plain text. <https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#notificationurl-validation>
fn handshake(token: &str) -> Result<Ingress> {
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        return Err(denied("malformed", "the validation token has an unusable length"));
    }
    let body = Bytes::copy_from_slice(token.as_bytes());
    Ok(Ingress::Handshake(HandshakeReply { status: 200, content_type: "text/plain", body }))
}

/// Whether the item carries one of the secrets. All are compared, and each in constant time.
fn proven(item: &Value, secrets: &[SecretString]) -> bool {
    let given = text(item, "clientState").unwrap_or_default().as_bytes();
    let equal = secrets.iter().map(|secret| secret.expose_secret().as_bytes()).filter(|secret| !secret.is_empty());
    let any = equal.fold(subtle::Choice::from(0), |any, secret| any | secret.ct_eq(given));
    bool::from(any)
}

fn event(item: &Value, now: SystemTime) -> Result<IncomingEvent> {
    let subscription = text(item, "subscriptionId").unwrap_or_default();
    let data = item.get("resourceData");
    let resource = data.and_then(|data| text(data, "id"));
    let (event_type, id, order_key) = if let Some(lifecycle) = text(item, "lifecycleEvent") {
        // The same lifecycle event may come again for the same subscription and then is news.
        let id = format!("{subscription}:{lifecycle}:{}", arrival(now));
        (format!("lifecycle.{}", snake(lifecycle)), id, Some(subscription.to_owned()))
    } else {
        let change = text(item, "changeType").unwrap_or("unknown");
        let version = data.and_then(|data| text(data, "@odata.etag")).map(str::to_owned);
        // Deletions carry no version. The item's own id is optional; without either, a repeat within minutes counts as the same.
        let version = version.or_else(|| text(item, "id").map(str::to_owned)).unwrap_or_else(|| arrival(now).to_string());
        let what = resource.or_else(|| text(item, "resource")).unwrap_or_default();
        (format!("{}.{change}", kind(data)), format!("{subscription}:{what}:{change}:{version}"), resource.map(str::to_owned))
    };
    let mut shown = item.clone();
    if let Some(map) = shown.as_object_mut() {
        map.remove("clientState");
    }
    let payload = serde_json::to_vec(&shown).map_err(|error| Error::internal("a notification cannot be written as JSON").with_source(error))?;
    Ok(IncomingEvent { id: Some(id), event_type: event_type.into(), occurred_at: None, order_key, payload: payload.into() })
}

/// `message` for `#Microsoft.Graph.Message`.
fn kind(data: Option<&Value>) -> String {
    let name = data.and_then(|data| text(data, "@odata.type")).and_then(|name| name.rsplit('.').next());
    name.map_or_else(|| "message".to_owned(), str::to_lowercase)
}

/// `subscription_removed` for `subscriptionRemoved`.
fn snake(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len() + 4), |mut snake, c| {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}

fn arrival(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / SAME_ARRIVAL.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};
    use serde_json::json;

    const NOW: Duration = Duration::from_secs(1_795_219_200);

    fn verify(verifier: &ClientState, query: &str, body: &Value) -> Result<Ingress> {
        let body = Bytes::from(body.to_string());
        let headers = HeaderMap::new();
        let request = RawWebhook { method: &Method::POST, url: "https://hub.example/g", query, headers: &headers, body: &body };
        verifier.verify(&request, &["old-secret-0123456".into(), "new-secret-0123456".into()], UNIX_EPOCH + NOW)
    }

    fn item(state: &str, change: &str, etag: &str) -> Value {
        json!({ "subscriptionId": "s1", "clientState": state, "changeType": change, "resource": "Users/u/Messages/m1",
            "resourceData": { "@odata.type": "#Microsoft.Graph.Message", "@odata.etag": etag, "id": "m1" } })
    }

    #[test]
    fn the_validation_token_is_echoed_decoded_as_plain_text() {
        let Ok(Ingress::Handshake(reply)) = verify(&ClientState::default(), "validationToken=Validation%3A+a%2Bb%26c%20%3Cx%3E", &Value::Null) else {
            panic!("no handshake");
        };
        assert_eq!((reply.status, reply.content_type, &reply.body[..]), (200, "text/plain", &b"Validation: a+b&c <x>"[..]));
    }

    #[test]
    fn either_secret_counts_and_foreign_items_are_dropped_and_counted() {
        let verifier = ClientState::default();
        let body = json!({ "value": [item("new-secret-0123456", "created", "e1"), item("wrong", "created", "e2"), item("old-secret-0123456", "updated", "e3")] });
        let Ok(Ingress::Events(events)) = verify(&verifier, "", &body) else { panic!("no events") };
        let seen: Vec<_> = events.iter().map(|event| (&*event.event_type, event.id.as_deref().unwrap(), event.order_key.as_deref())).collect();
        assert_eq!(seen, [("message.created", "s1:m1:created:e1", Some("m1")), ("message.updated", "s1:m1:updated:e3", Some("m1"))]);
        assert_eq!(verifier.dropped(), 1);
        assert!(events.iter().all(|event| !String::from_utf8_lossy(&event.payload).contains("secret")));
    }

    #[test]
    fn a_delivery_that_nothing_proves_is_denied() {
        for (body, reason) in [
            (json!({ "value": [item("wrong", "created", "e")] }), "mismatch"),
            (json!({ "value": [{ "subscriptionId": "s1", "changeType": "created" }] }), "missing"),
            (json!({ "value": [item("", "created", "e")] }), "missing"),
            (json!({ "values": [] }), "malformed"),
            (json!([]), "malformed"),
        ] {
            let error = verify(&ClientState::default(), "", &body).unwrap_err();
            assert_eq!((error.kind(), error.context_value("reason")), (ErrorKind::Denied, Some(reason)), "{body}");
        }
    }

    #[test]
    fn an_empty_secret_never_proves_anything() {
        let body = Bytes::from(json!({ "value": [item("", "created", "e")] }).to_string());
        let headers = HeaderMap::new();
        let request = RawWebhook { method: &Method::POST, url: "u", query: "", headers: &headers, body: &body };
        assert_eq!(ClientState::default().verify(&request, &["".into()], UNIX_EPOCH).unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(ClientState::default().verify(&request, &[], UNIX_EPOCH).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn lifecycle_events_have_their_own_names_and_come_again() {
        let lifecycle = |name: &str| json!({ "value": [{ "subscriptionId": "s1", "clientState": "old-secret-0123456", "lifecycleEvent": name }] });
        let names: Vec<_> = ["reauthorizationRequired", "subscriptionRemoved", "missed"]
            .iter()
            .map(|name| match verify(&ClientState::default(), "", &lifecycle(name)) {
                Ok(Ingress::Events(events)) => events[0].event_type.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["lifecycle.reauthorization_required", "lifecycle.subscription_removed", "lifecycle.missed"]);
        let at = |seconds| event(&lifecycle("missed")["value"][0], UNIX_EPOCH + NOW + Duration::from_secs(seconds)).unwrap().id;
        assert_eq!(at(0), at(10));
        assert_ne!(at(0), at(600));
    }
}
