//! The event log: an event is written here, once, before the vendor is told that it arrived.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use super::JobId;
use crate::{
    context::{TenantId, WorkspaceId},
    error::Result,
};

/// An event to be kept.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The tenant it is for.
    pub tenant: TenantId,
    /// The workspace it is for.
    pub workspace: WorkspaceId,
    /// The connector it came through.
    pub connector: Arc<str>,
    /// The connection whose secret proved it.
    pub connection: Arc<str>,
    /// The dedupe key: unique per (tenant, connection).
    pub event_id: String,
    /// Its kind.
    pub event_type: Arc<str>,
    /// Events with the same key are handled in order.
    pub order_key: Option<String>,
    /// Oddities to show a person (`no_event_id`, `unknown_type`, `legacy_scheme`).
    pub flags: Vec<String>,
    /// The event as JSON.
    pub payload: Bytes,
    /// What tells a repeated delivery from another one under the same id, if `payload` does not: whoever seals payloads gives the same bytes
    /// another look each time. `None`: SHA-256 of `payload`.
    pub digest: Option<[u8; 32]>,
    /// Unix milliseconds of arrival.
    pub received_at: u64,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new and queued.
    New {
        /// Its sequence number.
        seq: u64,
        /// The job that will handle it.
        job: JobId,
    },
    /// It was there already, with the same payload.
    Duplicate {
        /// The first one's sequence number.
        seq: u64,
    },
    /// Its id was there already with another payload; the first one wins.
    Mismatch {
        /// The first one's sequence number.
        seq: u64,
    },
}

/// A kept event.
#[derive(Debug, Clone, Serialize)]
pub struct StoredEvent {
    /// Its place in the log, growing.
    pub seq: u64,
    /// The tenant.
    pub tenant: TenantId,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The connector.
    pub connector: Arc<str>,
    /// The connection.
    pub connection: Arc<str>,
    /// The dedupe key.
    pub event_id: String,
    /// Its kind.
    pub event_type: Arc<str>,
    /// The ordering key.
    pub order_key: Option<String>,
    /// Oddities.
    pub flags: Vec<String>,
    /// The payload, kept out of listings.
    #[serde(skip)]
    pub payload: Bytes,
    /// Unix milliseconds of arrival.
    pub received_at: u64,
    /// How often the same event came again.
    pub duplicates: u64,
}

/// Which events to list.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only this connector's.
    pub connector: Option<String>,
    /// Only this kind.
    pub event_type: Option<String>,
    /// Only events after this sequence number.
    pub after: Option<u64>,
    /// At most this many (0: 100).
    pub limit: usize,
    /// Without their payloads, which are empty then: a page of large events would be hundreds of megabytes.
    pub heads: bool,
}

/// The event log.
#[async_trait]
pub trait EventLog: Debug + Send + Sync + 'static {
    /// Writes the events, their dedupe keys and one job each on queue `events` in one transaction, and returns once it is durable.
    /// The job's payload is the event's sequence number in decimal.
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>>;

    /// One event.
    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>>;

    /// Events, oldest first.
    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>>;

    /// Queues an event once more. `None` if there is no such event.
    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>>;

    /// Forgets events and their dedupe keys that arrived before this time (Unix milliseconds) and whose work is done. Returns how many.
    async fn prune_events(&self, before: u64) -> Result<u64>;
}
