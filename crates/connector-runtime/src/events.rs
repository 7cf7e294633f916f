//! What happens to a persisted event here: stale cache entries are dropped first, then the program's own handler sees it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use connector_core::{Error, Result, state::StoredEvent};
use connector_webhook::dispatch::EventHandler;
use serde_json::Value;

use crate::{cache::Cache, catalogue::Catalogue, tags};

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
