//! What the pipeline keeps of each connector, so that a delivery costs one look: its events' compiled schemas and its counters.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use connector_core::spec::ConnectorSpec;
use metrics::{Counter, counter};

use super::{EventSchemas, Outcome};

/// One connector.
#[derive(Debug)]
pub(super) struct Known {
    /// Holding it keeps its address from being used again, by which a newer one is told from it.
    spec: Arc<ConnectorSpec>,
    /// `None`: they cannot be used, which was said aloud.
    pub(super) schemas: Option<EventSchemas>,
    counters: [OnceLock<Counter>; Outcome::COUNT],
}

impl Known {
    fn new(spec: &Arc<ConnectorSpec>) -> Self {
        let schemas = EventSchemas::compile(spec)
            .inspect_err(|error| tracing::error!(target: "connectors::webhook", connector = %spec.id, %error, "events cannot be checked"))
            .ok();
        Self { spec: spec.clone(), schemas, counters: [const { OnceLock::new() }; Outcome::COUNT] }
    }

    /// Counts what became of one event or delivery.
    pub(super) fn count(&self, outcome: Outcome) {
        let made = || counter!("integration_webhook_events_total", "connector" => self.spec.id.to_string(), "outcome" => outcome.as_str());
        self.counters[outcome as usize].get_or_init(made).increment(1);
    }
}

/// All connectors that received something, each anew when its spec is replaced.
#[derive(Debug, Default)]
pub(super) struct AllKnown(Mutex<HashMap<Arc<str>, Arc<Known>>>);

impl AllKnown {
    pub(super) fn of(&self, spec: &Arc<ConnectorSpec>) -> Arc<Known> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&spec.id)
            && Arc::ptr_eq(&known.spec, spec)
        {
            return known.clone();
        }
        let known = Arc::new(Known::new(spec));
        all.insert(spec.id.clone(), known.clone());
        known
    }
}
