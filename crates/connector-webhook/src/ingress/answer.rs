//! What the vendor is told. Refusals of one status are word for word the same, so that a stranger learns nothing from them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{state::Appended, webhook::HandshakeReply};

/// The content type of our own answers.
const JSON: &str = "application/json";

/// What became of a delivery or an event. The name is the `outcome` label of `integration_webhook_events_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Persisted and queued.
    Accepted,
    /// Seen before, same payload.
    Duplicate,
    /// Seen before with another payload: forged, or a defect of the vendor. The first one stands.
    Mismatch,
    /// The vendor checked the address.
    Handshake,
    /// No proof.
    MissingProof,
    /// A proof that cannot be read.
    MalformedProof,
    /// A proof that proves nothing.
    WrongProof,
    /// Genuine, but outside the replay window: a replay, or somebody's clock is wrong.
    Stale,
    /// The body is over the cap.
    TooLarge,
    /// The headers are over the cap.
    HeadersTooLarge,
    /// The body is packed.
    Encoded,
    /// The body is of a kind that the verifier does not read.
    NotJson,
    /// The body did not arrive in time.
    TooSlow,
    /// Genuine, but not readable or not in the shape it should have.
    Invalid,
    /// It could not be made durable; the vendor must send it again.
    NotPersisted,
    /// There is no room for it at the moment; the vendor must send it again.
    Overloaded,
    /// No secret, or another fault of ours.
    Misconfigured,
    /// There is no such webhook.
    NotFound,
}

impl Outcome {
    /// How many there are.
    pub(super) const COUNT: usize = Self::NotFound as usize + 1;

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Mismatch => "mismatch",
            Self::Handshake => "handshake",
            Self::MissingProof => "missing_proof",
            Self::MalformedProof => "malformed_proof",
            Self::WrongProof => "wrong_proof",
            Self::Stale => "valid-signature-but-stale",
            Self::TooLarge => "too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Encoded => "encoded",
            Self::NotJson => "not_json",
            Self::TooSlow => "too_slow",
            Self::Invalid => "invalid",
            Self::NotPersisted => "not_persisted",
            Self::Overloaded => "overloaded",
            Self::Misconfigured => "misconfigured",
            Self::NotFound => "not_found",
        }
    }

    fn status(self) -> u16 {
        match self {
            Self::Accepted | Self::Duplicate => 202,
            Self::Handshake => 200,
            Self::Mismatch => 409,
            Self::MissingProof | Self::MalformedProof | Self::WrongProof | Self::Stale => 401,
            Self::TooLarge => 413,
            Self::HeadersTooLarge => 431,
            Self::Encoded | Self::NotJson => 415,
            Self::TooSlow => 408,
            Self::Invalid => 400,
            Self::NotPersisted | Self::Overloaded | Self::Misconfigured => 503,
            Self::NotFound => 404,
        }
    }

    fn body(self) -> &'static str {
        match self.status() {
            200 | 202 => r#"{"status":"accepted"}"#,
            400 => r#"{"status":"invalid"}"#,
            401 => r#"{"status":"unauthorized"}"#,
            404 => r#"{"status":"not_found"}"#,
            408 => r#"{"status":"timeout"}"#,
            409 => r#"{"status":"conflict"}"#,
            413 => r#"{"status":"too_large"}"#,
            415 => r#"{"status":"unsupported"}"#,
            431 => r#"{"status":"headers_too_large"}"#,
            _ => r#"{"status":"try_again"}"#,
        }
    }
}

/// What to answer, for any HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressAnswer {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// The `Retry-After` header, in whole seconds.
    pub retry_after: Option<u64>,
    /// Why, for the caller's own log; not part of the answer.
    pub outcome: Outcome,
    /// What became of each event, in the delivery's order; not part of the answer.
    pub events: Vec<Appended>,
    /// The connection whose secret proved the delivery, if one did; not part of the answer.
    pub connection: Option<Arc<str>>,
}

impl IngressAnswer {
    /// The answer for this outcome.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            status: outcome.status(),
            content_type: JSON,
            body: Bytes::from_static(outcome.body().as_bytes()),
            retry_after: None,
            outcome,
            events: Vec::new(),
            connection: None,
        }
    }

    /// As [`IngressAnswer::of`], to be tried again after `delay`.
    pub(super) fn later(outcome: Outcome, delay: Duration) -> Self {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        Self { retry_after: Some(seconds.max(1)), ..Self::of(outcome) }
    }
}

impl From<HandshakeReply> for IngressAnswer {
    fn from(reply: HandshakeReply) -> Self {
        Self { status: reply.status, content_type: reply.content_type, body: reply.body, ..Self::of(Outcome::Handshake) }
    }
}
