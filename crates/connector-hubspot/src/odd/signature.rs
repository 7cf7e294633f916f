//! Whether a delivery comes from HubSpot: signature v3, and v1/v2 where somebody opted in to schemes without a timestamp.
//!
//! Owns the bytes that are signed and the split of a delivery into events. Refuses to guess the public URL: it is part of what is signed and
//! comes from configuration.
//!
//! <https://developers.hubspot.com/docs/guides/apps/authentication/validating-requests>

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result,
    clock::unix_millis,
    webhook::{IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, value::RawValue};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A v3 signature is good for this long before and after its timestamp.
const TOLERANCE_MS: u64 = 300_000;
/// HubSpot sends at most 100 events at once; far more is not HubSpot.
const MOST_EVENTS: usize = 1_000;

/// Verifies HubSpot's webhooks. Secrets are the app's client secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct HubSpotSignature {
    legacy: bool,
}

impl HubSpotSignature {
    /// Accepts v3 only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts v1 and v2 as well. They have no timestamp, so a recorded delivery can be replayed for as long as events are not deduplicated.
    #[must_use]
    pub fn with_legacy(mut self) -> Self {
        self.legacy = true;
        self
    }
}

impl WebhookVerifier for HubSpotSignature {
    fn scheme(&self) -> &'static str {
        "hubspot_v3"
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Ingress> {
        if secrets.is_empty() {
            return Err(Error::config("no webhook secret is configured for HubSpot; it is the app's client secret"));
        }
        match (request.header("x-hubspot-signature-v3"), request.header("x-hubspot-signature")) {
            (Some(signature), _) => v3(request, signature, secrets, now)?,
            (None, Some(signature)) if self.legacy => legacy(request, signature, secrets)?,
            (None, Some(_)) => return Err(denied("missing", "the delivery has only a v1 or v2 signature, which this connection does not accept")),
            (None, None) => return Err(denied("missing", "the delivery has no HubSpot signature")),
        }
        events(request.body).map(Ingress::Events)
    }
}

/// `base64(HMAC-SHA256(secret, METHOD + URI + body + timestamp))`, compared in constant time.
fn v3(request: &RawWebhook<'_>, signature: &str, secrets: &[SecretString], now: SystemTime) -> Result<()> {
    let timestamp =
        request.header("x-hubspot-request-timestamp").ok_or_else(|| denied("missing", "the delivery has no X-HubSpot-Request-Timestamp"))?;
    let sent: u64 = timestamp.parse().map_err(|_| denied("malformed", "X-HubSpot-Request-Timestamp is not a number of milliseconds"))?;
    let given = STANDARD.decode(signature).map_err(|_| denied("malformed", "X-HubSpot-Signature-v3 is not base64"))?;
    // The documentation has HubSpot undo some escapes of the URL before signing; its own client libraries sign the URL as it is. Where the two
    // differ either will do: both need the secret.
    let decoded = signed_url(request.url);
    let urls = [decoded.as_str(), request.url];
    let urls = if decoded == request.url { &urls[..1] } else { &urls[..] };
    let signs = |secret: &SecretString, url: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
        for part in [request.method.as_str().as_bytes(), url.as_bytes(), request.body, timestamp.as_bytes()] {
            mac.update(part);
        }
        mac.verify_slice(&given).is_ok()
    };
    let genuine = secrets.iter().any(|secret| urls.iter().any(|url| signs(secret, url)));
    if !genuine {
        return Err(denied("mismatch", "the signature does not fit the delivery; check the client secret and the configured public URL"));
    }
    if unix_millis(now).abs_diff(sent) > TOLERANCE_MS {
        return Err(denied("stale", "the signature is genuine but its timestamp is more than 5 minutes off; it is a replay or a clock is wrong"));
    }
    Ok(())
}

/// `hex(SHA-256(secret + [METHOD + URI] + body))`; v2 has the part in brackets.
fn legacy(request: &RawWebhook<'_>, signature: &str, secrets: &[SecretString]) -> Result<()> {
    let given = hex::decode(signature).map_err(|_| denied("malformed", "X-HubSpot-Signature is not hexadecimal"))?;
    let (v1, v2) = match request.header("x-hubspot-signature-version") {
        Some("v1") => (true, false),
        Some("v2") => (false, true),
        Some(_) => return Err(denied("malformed", "X-HubSpot-Signature-Version is neither v1 nor v2")),
        None => (true, true),
    };
    let digest = |secret: &SecretString, with_request: bool| {
        let mut hash = Sha256::new();
        hash.update(secret.expose_secret());
        if with_request {
            hash.update(request.method.as_str());
            hash.update(request.url);
        }
        hash.update(request.body);
        hash.finalize()
    };
    let fits = |secret: &SecretString, with_request: bool| bool::from(digest(secret, with_request).as_slice().ct_eq(&given));
    if secrets.iter().any(|secret| (v2 && fits(secret, true)) || (v1 && fits(secret, false))) {
        return Ok(());
    }
    Err(denied("mismatch", "the signature does not fit the delivery; check the client secret and the configured public URL"))
}

/// The URL as HubSpot signs it: these escapes are undone before signing, all others stay.
fn signed_url(url: &str) -> String {
    const UNDONE: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    // One pass: what an escape turns into is never read as the start of another.
    let mut decoded = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let undone = UNDONE.iter().find(|(escape, _)| rest.starts_with(escape));
        let (text, length) = undone.map_or(("%", 1), |(escape, text)| (*text, escape.len()));
        decoded.push_str(text);
        rest = &rest[length..];
    }
    decoded.push_str(rest);
    decoded
}

/// The events of a delivery: an array of up to 100, or one alone.
fn events(body: &Bytes) -> Result<Vec<IncomingEvent>> {
    let unreadable = |error: serde_json::Error| Error::invalid("the delivery is genuine but is not JSON").with_source(error);
    let whole: &RawValue = serde_json::from_slice(body).map_err(unreadable)?;
    let parts: Vec<&RawValue> = if whole.get().starts_with('[') { serde_json::from_str(whole.get()).map_err(unreadable)? } else { vec![whole] };
    if parts.len() > MOST_EVENTS {
        return Err(Error::invalid("the delivery is genuine but holds more events than HubSpot sends at once"));
    }
    parts.into_iter().map(|part| event(body, part)).collect()
}

fn event(body: &Bytes, part: &RawValue) -> Result<IncomingEvent> {
    let fields: Value = serde_json::from_str(part.get()).map_err(|error| Error::invalid("an event cannot be read").with_source(error))?;
    if !fields.is_object() {
        return Err(Error::invalid("the delivery is genuine but one of its events is not an object"));
    }
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let kind = text("subscriptionType").unwrap_or_default();
    // eventId alone is not guaranteed to be unique, and a link has no objectId but its two ends.
    let object = text("objectId").or_else(|| text("fromObjectId")).unwrap_or_default();
    let id = text("eventId").zip(text("portalId")).map(|(event, portal)| {
        let occurred = text("occurredAt").unwrap_or_default();
        let far = text("toObjectId").map(|to| format!("-{to}")).unwrap_or_default();
        format!("{portal}:{kind}:{object}{far}:{event}:{occurred}")
    });
    Ok(IncomingEvent {
        id,
        event_type: event_name(&kind, text("objectTypeId").as_deref()).into(),
        occurred_at: fields.get("occurredAt").and_then(Value::as_u64).map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis)),
        // Portals share one target URL, so an object is only told apart together with its portal.
        order_key: text("portalId").filter(|_| !object.is_empty()).map(|portal| format!("{portal}:{object}")),
        payload: same_each_time(fields, body.slice_ref(part.get().as_bytes())),
    })
}

/// The event without the number of the attempt: a redelivery must be recognised as the same event with the same content.
fn same_each_time(mut fields: Value, as_it_came: Bytes) -> Bytes {
    match fields.as_object_mut().and_then(|map| map.shift_remove("attemptNumber")) {
        Some(_) => Bytes::from(fields.to_string()),
        None => as_it_came,
    }
}

/// `contact.creation`, or `object.creation` of type `0-1`, as this connector names it; unknown kinds keep HubSpot's name.
fn event_name(kind: &str, object_type: Option<&str>) -> String {
    let Some((object, change)) = kind.split_once('.') else { return kind.to_owned() };
    let object = match (object, object_type) {
        ("object", Some("0-1")) => "contact",
        ("object", Some("0-2")) => "company",
        ("object", Some("0-3")) => "deal",
        ("object", Some("0-5")) => "ticket",
        (object @ ("contact" | "company" | "deal" | "ticket"), _) => object,
        _ => return kind.to_owned(),
    };
    let change = match change {
        "creation" => "created",
        "deletion" => "deleted",
        "propertyChange" => "updated",
        "merge" => "merged",
        "restore" => "restored",
        "associationChange" => "association_changed",
        "privacyDeletion" => "privacy_deleted",
        _ => return kind.to_owned(),
    };
    format!("{object}.{change}")
}

fn denied(reason: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::Denied, message).with_context("reason", reason)
}

#[cfg(test)]
mod tests;
