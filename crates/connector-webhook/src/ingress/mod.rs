//! From a raw delivery to a 2xx, for any HTTP server: size → proof → handshake or events → shape → dedupe → one durable write → answer.
//!
//! Owns the order and the answers. Refuses to parse what is not proven, to acknowledge what is not durable, and to tell a sender why a
//! proof failed.

mod answer;
mod dedupe;
pub mod handshake;
mod known;
pub mod route;
mod schema;
mod skew;
mod verify;
mod waiting;

use std::{sync::Arc, time::Duration};

use connector_core::{
    clock::{Clock, unix_millis},
    context::{TenantId, WorkspaceId},
    error::{Error, Result},
    spec::ConnectorSpec,
    state::{Appended, EventLog, NewEvent},
    webhook::{IncomingEvent, Ingress, RawWebhook, WebhookVerifier},
};
use secrecy::SecretString;

pub use self::{
    answer::{IngressAnswer, Outcome},
    schema::{EventSchemas, Verdict},
    skew::CLOCK_SUSPECT,
};
use self::{
    known::{AllKnown, Known},
    skew::Skew,
    waiting::Waiting,
};
use crate::{json, schemes, work::Waker};

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
    /// Deliveries that may wait for the store at once: 512. Beyond it they are told to come again at once.
    pub waiting: usize,
    /// Bytes of their bodies: 64 MiB.
    pub waiting_bytes: usize,
}

impl Default for IngressLimits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            headers: 100,
            header_bytes: 32 << 10,
            events: 1_000,
            persist: Duration::from_millis(2_500),
            waiting: 512,
            waiting_bytes: 64 << 20,
        }
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
}

impl<'a> IngressTarget<'a> {
    /// A target that keeps events whatever their shape.
    pub fn new(
        tenant: &'a TenantId,
        workspace: &'a WorkspaceId,
        connector: &'a Arc<ConnectorSpec>,
        verifier: &'a dyn WebhookVerifier,
        keys: &'a [ConnectionKeys],
    ) -> Self {
        Self { tenant, workspace, connector, verifier, keys, schema: Strictness::Keep }
    }
}

/// Whose proven events they are and how they are kept.
#[derive(Debug, Clone, Copy)]
pub struct ProvenTarget<'a> {
    /// The tenant that the events are for.
    pub tenant: &'a TenantId,
    /// The workspace that the events are for.
    pub workspace: &'a WorkspaceId,
    /// The connector that they come through.
    pub connector: &'a Arc<ConnectorSpec>,
    /// What happens to events that have not the declared shape.
    pub schema: Strictness,
    /// Whether only the sender is proven, not what it sent: such events are flagged.
    legacy: bool,
}

impl<'a> ProvenTarget<'a> {
    /// A target that keeps events whatever their shape.
    pub fn new(tenant: &'a TenantId, workspace: &'a WorkspaceId, connector: &'a Arc<ConnectorSpec>) -> Self {
        Self { tenant, workspace, connector, schema: Strictness::Keep, legacy: false }
    }
}

impl<'a> From<&IngressTarget<'a>> for ProvenTarget<'a> {
    fn from(target: &IngressTarget<'a>) -> Self {
        let legacy = target.verifier.scheme() == schemes::BEARER;
        Self { tenant: target.tenant, workspace: target.workspace, connector: target.connector, schema: target.schema, legacy }
    }
}

/// The pipeline. One serves every connector.
#[derive(Debug)]
pub struct IngressPipeline {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    limits: IngressLimits,
    known: AllKnown,
    skew: Skew,
    waiting: Waiting,
    waker: Waker,
}

impl IngressPipeline {
    /// A pipeline that persists to `log` and measures replay windows by `clock`.
    pub fn new(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, limits: IngressLimits) -> Self {
        let waiting = Waiting::new(limits.waiting, limits.waiting_bytes);
        Self { log, clock, limits, known: AllKnown::default(), skew: Skew::default(), waiting, waker: Waker::default() }
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

    /// How many deliveries in a row over this connection were genuine and outside the replay window. From [`CLOCK_SUSPECT`] on somebody's clock
    /// is wrong.
    pub fn stale_streak(&self, tenant: &TenantId, connection: &str) -> u32 {
        self.skew.streak(tenant, connection)
    }

    /// Connections whose clock was suspected and whose deliveries are on time again, each told once.
    pub fn take_recovered(&self) -> Vec<(TenantId, Arc<str>)> {
        self.skew.take_recovered()
    }

    /// Takes one delivery. A 2xx means that its events are durable.
    pub async fn receive(&self, target: &IngressTarget<'_>, request: RawWebhook<'_>) -> IngressAnswer {
        let known = self.known.of(target.connector);
        let answer = match self.judge(target, &request) {
            Ok((connection, Ingress::Handshake(reply))) => IngressAnswer { connection: Some(connection.clone()), ..reply.into() },
            Ok((connection, Ingress::Events(events))) => {
                let answer = self.persist(&target.into(), &known, connection, events, request.body.len()).await;
                // Only who was sent a delivery is answered in its own words.
                let answer = match target.verifier.acknowledgement() {
                    Some(reply) if matches!(answer.outcome, Outcome::Accepted | Outcome::Duplicate) => {
                        IngressAnswer { outcome: answer.outcome, events: answer.events, ..reply.into() }
                    }
                    _ => answer,
                };
                IngressAnswer { connection: Some(connection.clone()), ..answer }
            }
            Err(answer) => answer,
        };
        note(&target.into(), &known, &answer);
        answer
    }

    /// Takes events that came in over a connection which we opened ourselves, and which proves them by that. They have the same caps, shape
    /// check, dedupe and durable write as a delivery's; a 2xx means that they are durable.
    pub async fn accept(&self, target: &ProvenTarget<'_>, connection: &Arc<str>, events: Vec<IncomingEvent>) -> IngressAnswer {
        let known = self.known.of(target.connector);
        let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
        let sound = || events.iter().try_for_each(|event| json::check(&event.payload));
        let answer = if events.len() > self.limits.events || events.iter().any(|event| event.payload.len() > self.limits.body) {
            IngressAnswer::of(Outcome::TooLarge)
        } else if let Err(error) = sound() {
            tracing::warn!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, %error, "events of an own connection were refused");
            IngressAnswer::of(Outcome::Invalid)
        } else {
            self.persist(target, &known, connection, events, bytes).await
        };
        let answer = IngressAnswer { connection: Some(connection.clone()), ..answer };
        note(target, &known, &answer);
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
            let proven = |answer: IngressAnswer| IngressAnswer { connection: Some(connection.clone()), ..answer };
            if !verify::is_read(request, target.verifier.media_types()) {
                return Err(proven(IngressAnswer::of(Outcome::NotJson)));
            }
            if events.len() > self.limits.events {
                let error = Error::invalid("the delivery holds too many events").with_context("events", events.len().to_string());
                return Err(proven(refused(error)));
            }
            self.shape(request, events).map_err(|error| proven(refused(error)))?;
        }
        Ok((connection, proven))
    }

    /// The connection whose secrets prove the delivery. If none does, the refusal that says most: that it was signed with a wrong secret is true
    /// of all but one connection even when it is genuine.
    fn prove<'t>(&self, target: &IngressTarget<'t>, request: &RawWebhook<'_>) -> Result<(&'t Arc<str>, Ingress)> {
        let mut refusal = None;
        for keys in target.keys {
            let proven = schemes::usable(&keys.secrets).and_then(|()| target.verifier.verify(request, &keys.secrets, self.clock.wall()));
            let error = match proven {
                Ok(ingress) => {
                    self.skew.fresh(target.tenant, &keys.connection);
                    return Ok((&keys.connection, ingress));
                }
                Err(error) => error,
            };
            let outcome = verify::refused(&error);
            if outcome == Outcome::Stale {
                self.skew.stale(target.tenant, &keys.connection);
            }
            if refusal.is_none() || outcome != Outcome::WrongProof {
                refusal = Some(error);
            }
        }
        Err(refusal.map_or_else(|| schemes::usable(&[]).err(), Some).unwrap_or_else(|| Error::internal("a delivery was neither proven nor refused")))
    }

    /// A body that is JSON is checked as a whole, since that is what was signed, and with it every event that is a part of it; an event that the
    /// verifier made is checked by itself.
    fn shape(&self, request: &RawWebhook<'_>, events: &[IncomingEvent]) -> Result<()> {
        let first = request.body.iter().find(|byte| !byte.is_ascii_whitespace());
        let whole = matches!(first, Some(b'{' | b'['));
        if whole {
            json::check(request.body)?;
        }
        let body = request.body.as_ptr_range();
        let part = |event: &IncomingEvent| {
            let payload = event.payload.as_ptr_range();
            !event.payload.is_empty() && body.start <= payload.start && payload.end <= body.end
        };
        events.iter().filter(|event| !whole || !part(event)).try_for_each(|event| json::check(&event.payload))
    }

    async fn persist(
        &self,
        target: &ProvenTarget<'_>,
        known: &Known,
        connection: &Arc<str>,
        incoming: Vec<IncomingEvent>,
        bytes: usize,
    ) -> IngressAnswer {
        let events = match self.prepare(target, known, connection, incoming) {
            Ok(events) => events,
            Err(outcome) => return IngressAnswer::of(outcome),
        };
        let Some(place) = self.waiting.enter(bytes) else { return IngressAnswer::later(Outcome::Overloaded, RETRY_SHED) };
        let (log, waker) = (self.log.clone(), self.waker.clone());
        let mut write = Box::pin(async move {
            let appended = log.append(events).await;
            if appended.as_ref().is_ok_and(|all| all.iter().any(|one| matches!(one, Appended::New { .. }))) {
                waker.wake();
            }
            drop(place);
            appended
        });
        let appended = match tokio::time::timeout(self.limits.persist, &mut write).await {
            Ok(Ok(appended)) => appended,
            Ok(Err(error)) => {
                tracing::error!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, %error, "a delivery could not be persisted");
                return IngressAnswer::later(Outcome::NotPersisted, error.retry_after().unwrap_or(RETRY_LATER));
            }
            Err(_) => {
                tracing::error!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, "persisting a delivery took too long");
                // It keeps its place in the line until the store is done with it. If it becomes durable after all, what the vendor sends again
                // is a duplicate.
                drop(tokio::spawn(write));
                return IngressAnswer::later(Outcome::NotPersisted, RETRY_SOON);
            }
        };
        let outcome = if appended.iter().any(|one| matches!(one, Appended::Mismatch { .. })) {
            Outcome::Mismatch
        } else if !appended.is_empty() && appended.iter().all(|one| matches!(one, Appended::Duplicate { .. })) {
            Outcome::Duplicate
        } else {
            Outcome::Accepted
        };
        IngressAnswer { events: appended, ..IngressAnswer::of(outcome) }
    }

    fn prepare(
        &self,
        target: &ProvenTarget<'_>,
        known: &Known,
        connection: &Arc<str>,
        incoming: Vec<IncomingEvent>,
    ) -> Result<Vec<NewEvent>, Outcome> {
        let received_at = unix_millis(self.clock.wall());
        incoming
            .into_iter()
            .map(|event| {
                let mut flags = Vec::new();
                let mut flag = |name: &str| flags.push(name.to_owned());
                let (event_id, made) = dedupe::key(event.id.as_deref(), &event.payload);
                if made {
                    flag(NO_EVENT_ID);
                }
                if target.legacy {
                    flag(LEGACY_SCHEME);
                }
                let verdict = known.schemas.as_ref().map(|schemas| schemas.check_bytes(&event.event_type, &event.payload)).transpose();
                match verdict.map_err(|_| Outcome::Invalid)? {
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
}

/// Counts events one by one, and deliveries without events once.
fn note(target: &ProvenTarget<'_>, known: &Known, answer: &IngressAnswer) {
    for appended in &answer.events {
        match appended {
            Appended::New { .. } => known.count(Outcome::Accepted),
            Appended::Duplicate { .. } => known.count(Outcome::Duplicate),
            Appended::Mismatch { seq } => {
                tracing::error!(target: "connectors::webhook", connector = %target.connector.id, tenant = %target.tenant, seq, "an event came again with another payload; the first one stands");
                known.count(Outcome::Mismatch);
            }
        }
    }
    if answer.events.is_empty() {
        known.count(answer.outcome);
    }
}

/// When a vendor should try again after a fault that somebody has to repair.
const RETRY_LATER: Duration = Duration::from_secs(30);
/// When a vendor should try again after we were too slow.
const RETRY_SOON: Duration = Duration::from_secs(5);
/// When a vendor should try again for whom there was no room.
const RETRY_SHED: Duration = Duration::from_secs(1);
