//! Graph's change and lifecycle notifications. <https://learn.microsoft.com/graph/change-notifications-delivery-webhooks>
//!
//! There is no signature. What proves a delivery is the clientState in each item: it must be one of the connection's webhook secrets.
//! Owns the validation handshake, the comparing in constant time, and the ids by which a repeated delivery is seen. Refuses to let the
//! clientState into an event.
//!
//! Encrypted content (`encryptedContent`) is opened with the feature `rich-notifications` and a private key (PEM) among the connection's
//! secrets, and then stands in the event as `decryptedContent`. Otherwise it stays as it came, and `decryption` says why: fetch the item by id.

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
#[cfg(feature = "rich-notifications")]
use super::rich;

/// A validation token is some dozens of bytes; nobody gets more echoed.
const LONGEST_TOKEN: usize = 4096;
/// Repeats of an item that carries no version are told apart by when they arrive.
const SAME_ARRIVAL: Duration = Duration::from_secs(300);

/// Verifies deliveries by their clientState.
#[derive(Debug, Default)]
pub struct ClientState {
    dropped: AtomicU64,
    #[cfg(feature = "rich-notifications")]
    signing: rich::SigningKeys,
}

impl ClientState {
    /// With Microsoft's signing keys, without which validation tokens cannot be checked and encrypted content stays closed.
    #[cfg(feature = "rich-notifications")]
    #[must_use]
    pub fn with_signing_keys(mut self, keys: rich::SigningKeys) -> Self {
        self.signing = keys;
        self
    }

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
        if !secrets.iter().any(|secret| !is_private_key(secret)) {
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
        let opener = self.opener(&body, secrets, now);
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            if !proven(item, secrets) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            events.push(event(item, now, &opener)?);
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

/// Whether a secret is a private key for encrypted content rather than a clientState.
fn is_private_key(secret: &SecretString) -> bool {
    secret.expose_secret().contains("-----BEGIN PRIVATE KEY-----")
}

/// Opens the encrypted content of a delivery's items, or knows why it must stay closed.
struct Opener(#[cfg(feature = "rich-notifications")] std::result::Result<Vec<rich::PrivateKey>, rich::Closed>);

#[cfg(feature = "rich-notifications")]
impl ClientState {
    fn opener(&self, delivery: &Value, secrets: &[SecretString], now: SystemTime) -> Opener {
        let encrypted = delivery["value"].as_array().is_some_and(|items| items.iter().any(|item| item.get("encryptedContent").is_some()));
        let keys: Vec<_> = secrets.iter().filter(|secret| encrypted && is_private_key(secret)).collect();
        let keys: Vec<_> = keys.into_iter().filter_map(|secret| rich::PrivateKey::from_pem(secret.expose_secret())).collect();
        if keys.is_empty() {
            return Opener(Err("the connection has no usable private key (webhook_private_key, PKCS#8 in PEM)"));
        }
        Opener(rich::tokens(delivery, &self.signing, &keys, connector_core::clock::unix_seconds(now)).map(|()| keys))
    }
}

#[cfg(not(feature = "rich-notifications"))]
impl ClientState {
    #[allow(clippy::unused_self, reason = "the same call with and without the feature")]
    fn opener(&self, _: &Value, _: &[SecretString], _: SystemTime) -> Opener {
        Opener()
    }
}

impl Opener {
    #[cfg(feature = "rich-notifications")]
    fn open(&self, content: &Value) -> std::result::Result<Value, &'static str> {
        self.0.as_ref().map_err(|why| *why).and_then(|keys| rich::open(content, keys))
    }

    #[cfg(not(feature = "rich-notifications"))]
    #[allow(clippy::unused_self, reason = "the same call with and without the feature")]
    fn open(&self, _: &Value) -> std::result::Result<Value, &'static str> {
        Err("this build cannot open encrypted content (feature rich-notifications)")
    }
}

/// Whether the item carries one of the secrets. All are compared, and each in constant time.
fn proven(item: &Value, secrets: &[SecretString]) -> bool {
    let given = text(item, "clientState").unwrap_or_default().as_bytes();
    let states = secrets.iter().filter(|secret| !is_private_key(secret));
    let equal = states.map(|secret| secret.expose_secret().as_bytes()).filter(|secret| !secret.is_empty());
    let any = equal.fold(subtle::Choice::from(0), |any, secret| any | secret.ct_eq(given));
    bool::from(any)
}

fn event(item: &Value, now: SystemTime, opener: &Opener) -> Result<IncomingEvent> {
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
        // Drives and lists tell only that something changed, and not what: two of those are two. Reading a delta once too often does no harm.
        let unversioned = || match resource {
            Some(_) => arrival(now).to_string(),
            None => now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string(),
        };
        let version = version.or_else(|| text(item, "id").map(str::to_owned)).unwrap_or_else(unversioned);
        let what = resource.or_else(|| text(item, "resource")).unwrap_or_default();
        (format!("{}.{change}", kind(data)), format!("{subscription}:{what}:{change}:{version}"), resource.map(str::to_owned))
    };
    let mut shown = item.clone();
    if let Some(map) = shown.as_object_mut() {
        map.remove("clientState");
        if let Some(content) = map.get("encryptedContent").filter(|content| !content.is_null()) {
            match opener.open(content) {
                Ok(open) => {
                    map.insert("decryptedContent".into(), open);
                    map.remove("encryptedContent");
                }
                Err(why) => {
                    tracing::warn!(why, "the content of a notification stays closed; fetch the item by its id");
                    map.insert("decryption".into(), why.into());
                }
            }
        }
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
        let opener = ClientState::default().opener(&Value::Null, &[], UNIX_EPOCH);
        let at = |seconds| event(&lifecycle("missed")["value"][0], UNIX_EPOCH + NOW + Duration::from_secs(seconds), &opener).unwrap().id;
        assert_eq!(at(0), at(10));
        assert_ne!(at(0), at(600));
    }

    fn rich_item() -> Value {
        let vector: Value = serde_json::from_str(include_str!("rich/fixtures/vector.json")).unwrap();
        let mut rich = item("old-secret-0123456", "created", "e1");
        rich["tenantId"] = "22222222-2222-4222-8222-222222222222".into();
        rich["encryptedContent"] = vector["content"].clone();
        json!({ "value": [rich], "validationTokens": [vector["tokens"]["good"]] })
    }

    #[test]
    fn encrypted_content_that_cannot_be_opened_is_kept_and_says_why() {
        let Ok(Ingress::Events(events)) = verify(&ClientState::default(), "", &rich_item()) else { panic!("no events") };
        let kept: Value = serde_json::from_slice(&events[0].payload).unwrap();
        assert!(kept["encryptedContent"]["data"].is_string() && kept["decryption"].is_string(), "{kept}");
        assert_eq!((&*events[0].event_type, events[0].id.as_deref()), ("message.created", Some("s1:m1:created:e1")));
    }

    #[cfg(feature = "rich-notifications")]
    #[test]
    fn encrypted_content_is_opened_for_the_app_with_the_key() {
        let vector: Value = serde_json::from_str(include_str!("rich/fixtures/vector.json")).unwrap();
        let keys = rich::SigningKeys::default();
        keys.set(vector["jwks"].to_string().as_bytes());
        let verifier = ClientState::default().with_signing_keys(keys);
        let kind = "PRIVATE KEY";
        let key = format!(
            "app-id: 11111111-1111-4111-8111-111111111111\n-----BEGIN {kind}-----\n{}-----END {kind}-----\n",
            include_str!("rich/fixtures/test_only_key.b64")
        );
        let run = |body: Value, key: &str| {
            let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_string()));
            let request = RawWebhook { method: &Method::POST, url: "u", query: "", headers: &headers, body: &body };
            let Ok(Ingress::Events(events)) = verifier.verify(&request, &["old-secret-0123456".into(), key.into()], UNIX_EPOCH + NOW) else {
                panic!("no events")
            };
            serde_json::from_slice::<Value>(&events[0].payload).unwrap()
        };
        let open = run(rich_item(), &key);
        assert_eq!((&open["decryptedContent"], open.get("encryptedContent")), (&vector["plain"], None));
        assert!(!open.to_string().contains("PRIVATE"));
        // A token of another app: the notification is kept, its content closed.
        let mut other = rich_item();
        other["validationTokens"] = json!([vector["tokens"]["other_app"]]);
        assert_eq!(run(other, &key)["decryption"], "a validation token is for another app");
        // A private key is no clientState.
        let (headers, body) = (HeaderMap::new(), Bytes::from(json!({ "value": [item(&key, "created", "e")] }).to_string()));
        let request = RawWebhook { method: &Method::POST, url: "u", query: "", headers: &headers, body: &body };
        assert_eq!(verifier.verify(&request, &[key.as_str().into()], UNIX_EPOCH + NOW).unwrap_err().kind(), ErrorKind::Config);
        let refused = verifier.verify(&request, &["old-secret-0123456".into(), key.as_str().into()], UNIX_EPOCH + NOW).unwrap_err();
        assert_eq!(refused.context_value("reason"), Some("mismatch"));
    }

    #[test]
    fn every_word_of_a_drive_or_a_list_counts_because_it_does_not_say_what_changed() {
        let told = |at: Duration| {
            let item = json!({ "subscriptionId": "s1", "clientState": "new-secret-0123456", "changeType": "updated", "resource": "drives/d/root",
                "resourceData": { "@odata.type": "#Microsoft.Graph.DriveItem" } });
            let (headers, body) = (HeaderMap::new(), Bytes::from(json!({ "value": [item] }).to_string()));
            let request = RawWebhook { method: &Method::POST, url: "https://hub.example/g", query: "", headers: &headers, body: &body };
            let ingress = ClientState::default().verify(&request, &["new-secret-0123456".into()], UNIX_EPOCH + at).unwrap();
            let Ingress::Events(events) = ingress else { panic!("not events") };
            (events[0].event_type.to_string(), events[0].id.clone())
        };
        let (kind, first) = told(NOW);
        assert_eq!(kind, "driveitem.updated");
        assert_ne!(first, told(NOW + Duration::from_secs(1)).1);
    }
}
