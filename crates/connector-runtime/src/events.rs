//! Events here: what happens to a persisted one (stale cache entries are dropped first, then the program's own handler sees it), and those
//! the hub itself has to tell.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use connector_core::{
    Error, Result, TenantId, WorkspaceId,
    clock::{Clock, unix_millis},
    state::{Appended, EventLog, NewEvent, StoredEvent},
};
use connector_webhook::dispatch::{EventHandler, Waker};
use serde_json::Value;

use crate::{cache::Cache, catalogue::Catalogue, tags};

/// The connection that the hub's own events come over. No connection can be called so.
const HUB: &str = "$hub";

/// The chain of handlers of the runtime's dispatcher.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) catalogue: Arc<ArcSwap<Catalogue>>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) handler: Option<Arc<dyn EventHandler>>,
}

impl Events {
    /// Drops the replies that the event makes stale. Doing it twice does no harm.
    fn invalidate(&self, event: &StoredEvent) -> Result<()> {
        let catalogue = self.catalogue.load();
        let Some(connector) = catalogue.registry.get(&event.connector) else { return Ok(()) };
        let Some(kind) = connector.spec().events.iter().find(|kind| kind.name == event.event_type) else { return Ok(()) };
        if kind.invalidates.is_empty() {
            return Ok(());
        }
        let payload: Value =
            serde_json::from_slice(&event.payload).map_err(|error| Error::internal("a stored event is not JSON").with_source(error))?;
        for template in &kind.invalidates {
            match tags::of_event(template, &payload) {
                Some(tag) => self.cache.invalidate(&event.tenant, &event.connector, &tag),
                None => {
                    tracing::debug!(connector = %event.connector, event_type = %event.event_type, template, "an event names nothing to invalidate")
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl EventHandler for Events {
    async fn handle(&self, event: &StoredEvent, attempt: u32) -> Result<()> {
        self.invalidate(event)?;
        match &self.handler {
            Some(handler) => handler.handle(event, attempt).await,
            None => Ok(()),
        }
    }
}

/// Something the hub itself has to tell, once.
pub(crate) struct HubEvent<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) workspace: WorkspaceId,
    /// The connector it is about.
    pub(crate) connector: &'a str,
    pub(crate) event_type: &'a str,
    /// Told once under this id.
    pub(crate) event_id: String,
    /// What it is about (a credential): events about the same thing are handled in order.
    pub(crate) about: &'a str,
    /// Never a secret.
    pub(crate) payload: Value,
}

/// Writes the hub's own events into the log, from where they are dispatched like a vendor's.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) waker: Waker,
}

impl Teller {
    /// `true`: it was not told before.
    pub(crate) async fn tell(&self, event: HubEvent<'_>) -> Result<bool> {
        let new = NewEvent {
            tenant: event.tenant.clone(),
            workspace: event.workspace,
            connector: event.connector.into(),
            connection: HUB.into(),
            event_id: event.event_id,
            event_type: event.event_type.into(),
            order_key: Some(format!("credential:{}", event.about)),
            flags: Vec::new(),
            payload: event.payload.to_string().into(),
            digest: None,
            received_at: unix_millis(self.clock.wall()),
        };
        let appended = self.log.append(vec![new]).await?;
        let is_new = matches!(appended.first(), Some(Appended::New { .. }));
        if is_new {
            self.waker.wake();
        }
        Ok(is_new)
    }
}
