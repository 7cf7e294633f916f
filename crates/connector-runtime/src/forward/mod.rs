//! Forwarding: events and alerts to configured endpoints, signed, from a queue, under ids that stay.
//!
//! Owns the endpoints, the queue and switching an endpoint off that asks for it. The signature and what an answer means are
//! `connector_webhook::outbound`'s; where requests may go is the egress guard's.

mod endpoints;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::{Clock, unix_seconds},
    state::{Condition, Job, Namespace, NewJob, PutOutcome, Store, StoredEvent},
    transport::Transport,
};
use connector_webhook::{
    dispatch::DispatchPolicy,
    outbound::{Delivered, Delivery, MAX_PAYLOAD, Sender},
    rules::AlertLevel,
    work::Waker,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use endpoints::{Endpoints, Receiver};

use crate::{
    Runtime,
    alerts::Alert,
    canonical,
    config::AlertOn,
    effects::{Attempt, EFFECT_TTL, POLL, attempts},
};

/// The queue.
pub const QUEUE: &str = "forward";
/// The part of the store that says which endpoints are switched off.
const NAMESPACE: &str = "endpoints";

/// A delivery as the queue keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    endpoint: String,
    id: String,
    body: String,
}

/// That an endpoint is switched off, as long as it has this address.
#[derive(Debug, Serialize, Deserialize)]
struct Off {
    address: String,
    /// Unix seconds.
    since: u64,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The receiver has it.
    Taken,
    /// The receiver asked never to be called again, and is switched off.
    Gone {
        /// Unix seconds.
        since: u64,
    },
    /// The receiver was switched off before.
    Off,
}

/// The endpoints and their queue.
#[derive(Debug)]
pub(crate) struct Forward {
    endpoints: Endpoints,
    sender: Sender,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    pub(crate) policy: DispatchPolicy,
    pub(crate) waker: Waker,
}

impl Forward {
    pub(crate) fn new(endpoints: Endpoints, transport: Arc<dyn Transport>, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        // A receiver that hangs holds its place for 20 s; more places keep the others going.
        let policy = DispatchPolicy { queue: QUEUE.into(), concurrency: 16, poll: POLL, ..DispatchPolicy::default() };
        Self { endpoints, sender: Sender::new(transport, clock.clone()), store, clock, policy, waker: Waker::default() }
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Queues an event for an endpoint. The same key again is the same delivery.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is too long to be forwarded; whatever the state store reports.
    pub(crate) async fn enqueue(&self, event: &StoredEvent, endpoint: &str, body: &Value, key: String) -> Result<()> {
        let body = body.to_string();
        if body.len() > MAX_PAYLOAD {
            let most = MAX_PAYLOAD / 1024;
            return Err(Error::invalid(format!("a forwarded event may have {most} KiB; choose what is sent with `data`")));
        }
        let parcel = Parcel { endpoint: endpoint.to_owned(), id: key.clone(), body };
        let payload = serde_json::to_vec(&parcel).map_err(|error| Error::internal("a delivery cannot be written").with_source(error))?;
        let job = NewJob {
            tenant: event.tenant.clone(),
            workspace: event.workspace.clone(),
            queue: QUEUE.into(),
            subject: format!("{} {} to {endpoint}", event.connector, event.event_type),
            key: Some(key),
            order_key: None,
            payload: payload.into(),
            not_before: 0,
            max_attempts: attempts(&self.policy),
        };
        self.store.enqueue(job).await?;
        self.waker.wake();
        Ok(())
    }

    /// Sends once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such endpoint any more; otherwise as [`Sender::send`], and whatever the state store reports.
    pub(crate) async fn send(&self, endpoint: &str, id: &str, body: Bytes) -> Result<Sent> {
        let receiver = self.endpoints.get(endpoint)?;
        if self.is_off(receiver).await? {
            return Ok(Sent::Off);
        }
        let delivery = Delivery { id: id.to_owned(), payload: body };
        match self.sender.send(&receiver.cx, &receiver.endpoint, &delivery).await? {
            Delivered::Taken => Ok(Sent::Taken),
            Delivered::Gone => {
                let since = self.switch_off(receiver).await?;
                Ok(Sent::Gone { since })
            }
        }
    }

    async fn is_off(&self, receiver: &Receiver) -> Result<bool> {
        let Some(entry) = self.store.get(Namespace::new(&receiver.tenant, NAMESPACE), &receiver.name).await? else { return Ok(false) };
        let off: Off =
            serde_json::from_slice(&entry.value).map_err(|error| Error::internal("the state of an endpoint cannot be read").with_source(error))?;
        Ok(off.address == receiver.address)
    }

    /// Switches an endpoint off. Gives since when it is, which another delivery of the same moment may have said.
    async fn switch_off(&self, receiver: &Receiver) -> Result<u64> {
        let off = Off { address: receiver.address.clone(), since: unix_seconds(self.clock.wall()) };
        let value = serde_json::to_vec(&off).map_err(|error| Error::internal("the state of an endpoint cannot be written").with_source(error))?;
        let (place, value) = (Namespace::new(&receiver.tenant, NAMESPACE), Bytes::from(value));
        if let PutOutcome::Refused(Some(entry)) = self.store.put(place, &receiver.name, value.clone(), Condition::Absent, None).await? {
            if let Ok(known) = serde_json::from_slice::<Off>(&entry.value)
                && known.address == receiver.address
            {
                return Ok(known.since);
            }
            self.store.put(place, &receiver.name, value, Condition::Any, None).await?;
        }
        tracing::error!(endpoint = receiver.name, "the receiver of forwarded events answered 410 and is switched off");
        Ok(off.since)
    }

    /// Switches an endpoint on again. `false`: it was not off.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such endpoint; whatever the state store reports.
    pub(crate) async fn switch_on(&self, tenant: &TenantId, endpoint: &str) -> Result<bool> {
        let receiver = self.endpoints.get(endpoint)?;
        if receiver.tenant != *tenant {
            return Err(Endpoints::missing(endpoint));
        }
        self.store.delete(Namespace::new(tenant, NAMESPACE), endpoint, Condition::Any).await
    }

    /// Switches the endpoint of a dead letter on again: whoever sends that again wants it to arrive.
    pub(crate) async fn revived(&self, job: &Job) {
        let Ok(parcel) = serde_json::from_slice::<Parcel>(&job.payload) else { return };
        match self.switch_on(&job.tenant, &parcel.endpoint).await {
            Ok(true) => tracing::info!(endpoint = parcel.endpoint, "an endpoint is switched on again"),
            Ok(false) => {}
            Err(error) => tracing::warn!(endpoint = parcel.endpoint, %error, "an endpoint could not be switched on again"),
        }
    }

    /// The alert that says that an endpoint was switched off at that time: one, however many deliveries met it.
    pub(crate) fn gone(&self, endpoint: &str, since: u64) -> Result<Alert> {
        let receiver = self.endpoints.get(endpoint)?;
        let since = since.to_string();
        let key = canonical::hex_digest(&[receiver.tenant.as_str().as_bytes(), endpoint.as_bytes(), receiver.address.as_bytes(), since.as_bytes()]);
        Ok(Alert {
            tenant: receiver.tenant.clone(),
            workspace: connector_core::WorkspaceId::default(),
            kind: AlertOn::EndpointOff,
            level: AlertLevel::Warning,
            text: format!(
                "endpoint `{endpoint}` answered 410 and is switched off; give it another address, or retry one of its dead letters to switch it on"
            ),
            key: format!("off_{}", key.get(..40).unwrap_or(&key)),
        })
    }
}

/// One delivery from the queue.
#[derive(Debug)]
pub(crate) struct ForwardWork {
    pub(crate) runtime: Runtime,
}

#[async_trait]
impl Attempt for ForwardWork {
    async fn attempt(&self, job: &Job) -> Result<()> {
        let parcel: Parcel =
            serde_json::from_slice(&job.payload).map_err(|error| Error::internal("a queued delivery cannot be read").with_source(error))?;
        let forward = &self.runtime.0.forward;
        let sent = forward.send(&parcel.endpoint, &parcel.id, parcel.body.into()).await;
        let outcome = match &sent {
            Ok(Sent::Taken) => "taken",
            Ok(_) => "off",
            Err(_) => "failed",
        };
        metrics::counter!("integration_forwarded_total", "endpoint" => parcel.endpoint.clone(), "outcome" => outcome).increment(1);
        match sent? {
            Sent::Taken => return Ok(()),
            Sent::Gone { since } => self.runtime.0.alerts.raise(&forward.gone(&parcel.endpoint, since)?, Some(EFFECT_TTL)).await?,
            Sent::Off => {}
        }
        let endpoint = &parcel.endpoint;
        Err(Error::new(ErrorKind::NotFound, format!("endpoint `{endpoint}` is switched off, because it answered 410; retry this to switch it on")))
    }
}
