//! What a vendor's webhook must prove before anything is believed. There is no default verifier: a connector without one cannot receive.

use std::{fmt::Debug, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};
use secrecy::SecretString;

use crate::error::Result;

/// A delivery as it arrived, before anything is parsed.
#[derive(Debug, Clone, Copy)]
pub struct RawWebhook<'a> {
    /// The method.
    pub method: &'a Method,
    /// The public URL the vendor called, rebuilt from the configured public base, never from the `Host` header.
    pub url: &'a str,
    /// The query string without `?`, as it arrived.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The raw body: signatures are over these bytes.
    pub body: &'a Bytes,
}

impl RawWebhook<'_> {
    /// A header as text, if it is there once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    }
}

/// What a verified delivery is.
#[derive(Debug, Clone, PartialEq)]
pub enum Ingress {
    /// The vendor checks that the address is ours; answer exactly this.
    Handshake(HandshakeReply),
    /// Events, to be persisted before the 2xx.
    Events(Vec<IncomingEvent>),
}

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeReply {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// One event inside a verified delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct IncomingEvent {
    /// The vendor's id of the event, built from what the vendor documents as unique. `None`: the pipeline uses a hash of the payload and flags it.
    pub id: Option<String>,
    /// Its kind, as the connector's events are named (`message.created`); unknown kinds keep the vendor's own name.
    pub event_type: Arc<str>,
    /// When it happened, by the vendor's clock.
    pub occurred_at: Option<SystemTime>,
    /// Events with the same key are handled in order.
    pub order_key: Option<String>,
    /// The event as JSON.
    pub payload: Bytes,
}

/// Proves that a delivery comes from the vendor.
pub trait WebhookVerifier: Debug + Send + Sync + 'static {
    /// The name of the scheme, for health and documentation.
    fn scheme(&self) -> &'static str;

    /// The media types of bodies this verifier reads besides JSON, in lower case and without parameters, such as
    /// `application/x-www-form-urlencoded`. A genuine delivery of any other type is refused with 415; none are read by default.
    fn media_types(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a delivery that was kept is answered with, where the vendor wants more than a 2xx (an `<Ack>` in an envelope).
    fn acknowledgement(&self) -> Option<HandshakeReply> {
        None
    }

    /// Checks the raw bytes against any of the secrets (two may be valid during a rotation), in constant time and within the replay window.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Denied`] if nothing proves it, with context `reason` = `missing`, `malformed`, `mismatch` or `stale`;
    /// [`crate::ErrorKind::Invalid`] if it is genuine but unreadable; [`crate::ErrorKind::Config`] if `secrets` is empty.
    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Ingress>;
}
