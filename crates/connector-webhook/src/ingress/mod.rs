//! From a raw delivery to a 2xx, for any HTTP server: size → proof → handshake or events → shape → dedupe → one durable write → answer.
//!
//! Owns the order and the answers. Refuses to parse what is not proven, to acknowledge what is not durable, and to tell a sender why a
//! proof failed.

mod answer;
mod dedupe;
pub mod handshake;
pub mod route;
mod schema;
mod verify;

use std::{sync::Arc, time::Duration};

use connector_core::{
    clock::{Clock, unix_millis},
    context::{TenantId, WorkspaceId},
    error::{Error, Result},
    spec::ConnectorSpec,
    state::{Appended, EventLog, NewEvent},
    webhook::{IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use metrics::counter;
use secrecy::SecretString;
use serde_json::Value;

use self::schema::SchemaCache;
pub use self::{
    answer::{IngressAnswer, Outcome},
    schema::{EventSchemas, Verdict},
};
use crate::{dispatch::Waker, json, schemes};

/// Flag of an event whose dedupe key is a digest of its payload.
pub const NO_EVENT_ID: &str = "no_event_id";
/// Flag of an event of a kind that the connector does not declare.
pub const UNKNOWN_TYPE: &str = "unknown_type";
/// Flag of an event that came in by a scheme that proves only the sender.
pub const LEGACY_SCHEME: &str = "legacy_scheme";
/// Flag of an event that has not the declared shape.
pub const SCHEMA_VIOLATION: &str = "schema_violation";
/// Flag of an event whose declared shape could not be checked, because the schema itself cannot be used.
pub const SCHEMA_UNCHECKED: &str = "schema_unchecked";

/// How much a delivery may hold. They can be lowered; the defaults are the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressLimits {
    /// Bytes of body: 1 MiB. A server should stop reading there, too.
    pub body: usize,
    /// Headers: 100.
    pub headers: usize,
    /// Bytes of all headers: 32 KiB.
    pub header_bytes: usize,
    /// Events in one delivery: 1,000.
    pub events: usize,
    /// How long the durable write may take before the vendor is told to come again: 2.5 s, so that the answer is in time for the
    /// strictest vendors (3 s).
    pub persist: Duration,
}

impl Default for IngressLimits {
    fn default() -> Self {
        Self { body: 1 << 20, headers: 100, header_bytes: 32 << 10, events: 1_000, persist: Duration::from_millis(2_500) }
    }
}

/// What is done with proven events that are not as they should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Keep and flag them: the vendor may have changed its format, and an event kept can be handled later.
    #[default]
    Keep,
    /// Refuse the delivery.
    Refuse,
}

/// The secrets that prove what comes in over one connection.
#[derive(Debug, Clone)]
pub struct ConnectionKeys {
    /// The connection's id, the scope of its events' ids.
    pub connection: Arc<str>,
    /// The secrets that are valid now.
    pub secrets: Vec<SecretString>,
}

/// Whose webhook it is and how it is checked.
#[derive(Debug, Clone, Copy)]
pub struct IngressTarget<'a> {
    /// The tenant that the events are for.
    pub tenant: &'a TenantId,
    /// The workspace that the events are for.
    pub workspace: &'a WorkspaceId,
    /// The connector that they come through.
    pub connector: &'a Arc<ConnectorSpec>,
    /// The connector's proof.
    pub verifier: &'a dyn WebhookVerifier,
    /// What may prove a delivery, by connection. The first connection that does is the one that the events came over.
    pub keys: &'a [ConnectionKeys],
    /// What happens to events that have not the declared shape.
    pub schema: Strictness,
    /// What happens to bodies that do not say they are JSON. Keep it for vendors whose verifier reads other formats.
    pub content_type: Strictness,
}

impl<'a> IngressTarget<'a> {
    /// A target that keeps events whatever their shape and refuses bodies that say they are something else than JSON.
    pub fn new(
        tenant: &'a TenantId,
        workspace: &'a WorkspaceId,
        connector: &'a Arc<ConnectorSpec>,
        verifier: &'a dyn WebhookVerifier,
        keys: &'a [ConnectionKeys],
    ) -> Self {
        Self { tenant, workspace, connector, verifier, keys, schema: Strictness::Keep, content_type: Strictness::Refuse }
    }
}

/// The pipeline. One serves every connector.
#[derive(Debug)]
pub struct IngressPipeline {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    limits: IngressLimits,
    schemas: SchemaCache,
    waker: Waker,
}

impl IngressPipeline {
    /// A pipeline that persists to `log` and measures replay windows by `clock`.
    pub fn new(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, limits: IngressLimits) -> Self {
        Self { log, clock, limits, schemas: SchemaCache::default(), waker: Waker::default() }
    }

    /// Wakes this dispatcher whenever an event was persisted.
    #[must_use]
    pub fn waking(mut self, waker: Waker) -> Self {
        self.waker = waker;
        self
    }

    /// The caps, for the server that reads the request.
    pub fn limits(&self) -> IngressLimits {
        self.limits
    }

    /// Takes one delivery. A 2xx means that its events are durable.
    pub async fn receive(&self, target: &IngressTarget<'_>, request: RawWebhook<'_>) -> IngressAnswer {
        let answer = match self.judge(target, &request) {
            Ok((_, Ingress::Handshake(reply))) => reply.into(),
            Ok((connection, Ingress::Events(events))) => self.persist(target, connection, events).await,
            Err(answer) => answer,
        };
        self.note(target, &answer);
        answer
    }

    /// Everything up to the write: nothing here waits or changes anything.
    fn judge<'t>(&self, target: &IngressTarget<'t>, request: &RawWebhook<'_>) -> Result<(&'t Arc<str>, Ingress), IngressAnswer> {
        let refused = |error: Error| {
            let outcome = verify::refused(&error);
            tracing::warn!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, outcome = outcome.as_str(), %error, "a delivery was refused");
            match outcome {
                Outcome::Misconfigured => IngressAnswer::later(outcome, RETRY_LATER),
                outcome => IngressAnswer::of(outcome),
            }
        };
        verify::admissible(request, &self.limits).map_err(IngressAnswer::of)?;
        let (connection, proven) = self.prove(target, request).map_err(refused)?;
        if let Ingress::Events(events) = &proven {
            if target.content_type == Strictness::Refuse && !verify::says_json(request) {
                return Err(IngressAnswer::of(Outcome::NotJson));
            }
            if events.len() > self.limits.events {
                return Err(refused(Error::invalid("the delivery holds too many events").with_context("events", events.len().to_string())));
            }
            self.shape(request, events).map_err(refused)?;
        }
        Ok((connection, proven))
    }

    /// The connection whose secrets prove the delivery. If none does, the refusal that says most: that it was signed with a wrong secret is true
    /// of all but one connection even when it is genuine.
    fn prove<'t>(&self, target: &IngressTarget<'t>, request: &RawWebhook<'_>) -> Result<(&'t Arc<str>, Ingress)> {
        let mut refusal = None;
        for keys in target.keys {
            let proven = schemes::usable(&keys.secrets).and_then(|()| target.verifier.verify(request, &keys.secrets, self.clock.wall()));
            match proven {
                Ok(ingress) => return Ok((&keys.connection, ingress)),
                Err(error) if refusal.is_none() || verify::refused(&error) != Outcome::WrongProof => refusal = Some(error),
                Err(_) => {}
            }
        }
        Err(refusal.map_or_else(|| schemes::usable(&[]).err(), Some).unwrap_or_else(|| Error::internal("a delivery was neither proven nor refused")))
    }

    /// A body that is JSON is checked as a whole, since that is what was signed; otherwise what the verifier made of it.
    fn shape(&self, request: &RawWebhook<'_>, events: &[IncomingEvent]) -> Result<()> {
        let first = request.body.iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(first, Some(b'{' | b'[')) {
            return json::check(request.body);
        }
        events.iter().try_for_each(|event| json::check(&event.payload))
    }

    async fn persist(&self, target: &IngressTarget<'_>, connection: &Arc<str>, incoming: Vec<IncomingEvent>) -> IngressAnswer {
        let events = match self.prepare(target, connection, incoming) {
            Ok(events) => events,
            Err(outcome) => return IngressAnswer::of(outcome),
        };
        let written = tokio::time::timeout(self.limits.persist, self.log.append(events)).await;
        let appended = match written {
            Ok(Ok(appended)) => appended,
            Ok(Err(error)) => {
                tracing::error!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, %error, "a delivery could not be persisted");
                return IngressAnswer::later(Outcome::NotPersisted, error.retry_after().unwrap_or(RETRY_LATER));
            }
            Err(_) => {
                tracing::error!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, "persisting a delivery took too long");
                return IngressAnswer::later(Outcome::NotPersisted, RETRY_SOON);
            }
        };
        if appended.iter().any(|one| matches!(one, Appended::New { .. })) {
            self.waker.wake();
        }
        let outcome = if appended.iter().any(|one| matches!(one, Appended::Mismatch { .. })) {
            Outcome::Mismatch
        } else if !appended.is_empty() && appended.iter().all(|one| matches!(one, Appended::Duplicate { .. })) {
            Outcome::Duplicate
        } else {
            Outcome::Accepted
        };
        IngressAnswer { events: appended, ..IngressAnswer::of(outcome) }
    }

    fn prepare(&self, target: &IngressTarget<'_>, connection: &Arc<str>, incoming: Vec<IncomingEvent>) -> Result<Vec<NewEvent>, Outcome> {
        let received_at = unix_millis(self.clock.wall());
        let schemas = self
            .schemas
            .of(target.connector)
            .inspect_err(|error| tracing::error!(target: "connectors::webhook", connector = %target.connector.id, %error, "events cannot be checked"))
            .ok();
        let legacy = target.verifier.scheme() == schemes::BEARER;
        incoming
            .into_iter()
            .map(|event| {
                let mut flags = Vec::new();
                let mut flag = |name: &str| flags.push(name.to_owned());
                let (event_id, made) = dedupe::key(event.id.as_deref(), &event.payload);
                if made {
                    flag(NO_EVENT_ID);
                }
                if legacy {
                    flag(LEGACY_SCHEME);
                }
                let payload: Value = serde_json::from_slice(&event.payload).map_err(|_| Outcome::Invalid)?;
                match schemas.as_ref().map(|schemas| schemas.check(&event.event_type, &payload)) {
                    Some(Verdict::Fits) => {}
                    Some(Verdict::Undeclared) => flag(UNKNOWN_TYPE),
                    Some(Verdict::Differs(path)) => {
                        tracing::warn!(target: "connectors::webhook", connector = %target.connector.id, event_type = %event.event_type, path, "an event has not the declared shape");
                        if target.schema == Strictness::Refuse {
                            return Err(Outcome::Invalid);
                        }
                        flag(SCHEMA_VIOLATION);
                    }
                    None => flag(SCHEMA_UNCHECKED),
                }
                Ok(NewEvent {
                    tenant: target.tenant.clone(),
                    workspace: target.workspace.clone(),
                    connector: target.connector.id.clone(),
                    connection: connection.clone(),
                    event_id,
                    event_type: event.event_type,
                    order_key: event.order_key,
                    flags,
                    payload: event.payload,
                    digest: None,
                    received_at,
                })
            })
            .collect()
    }

    /// Counts events one by one, and deliveries without events once.
    fn note(&self, target: &IngressTarget<'_>, answer: &IngressAnswer) {
        let count = |outcome: Outcome| {
            counter!("integration_webhook_events_total", "connector" => target.connector.id.to_string(), "outcome" => outcome.as_str()).increment(1);
        };
        for appended in &answer.events {
            match appended {
                Appended::New { .. } => count(Outcome::Accepted),
                Appended::Duplicate { .. } => count(Outcome::Duplicate),
                Appended::Mismatch { seq } => {
                    tracing::error!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, seq, "an event came again with another payload; the first one stands");
                    count(Outcome::Mismatch);
                }
            }
        }
        if answer.events.is_empty() {
            count(answer.outcome);
        }
    }
}

/// When a vendor should try again after a fault that somebody has to repair.
const RETRY_LATER: Duration = Duration::from_secs(30);
/// When a vendor should try again after we were too slow.
const RETRY_SOON: Duration = Duration::from_secs(5);
