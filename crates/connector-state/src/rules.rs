//! What every backend decides the same way: the job that stands for an event, defaults of listings, hashes of payloads.

use connector_core::state::{JobError, NewEvent, NewJob, StoredEvent};
use sha2::{Digest as _, Sha256};

/// Attempts an event gets: the first, and one for each of the seven waits of the outbox schedule (5 s … 24 h).
pub const EVENT_MAX_ATTEMPTS: u32 = 8;

/// How many rows a listing shows when nothing is said.
pub(crate) const DEFAULT_LIMIT: usize = 100;

/// The queue that events are handled from.
pub(crate) const EVENTS: &str = "events";

/// Databases have no unsigned numbers; ours stay far below the difference.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The way back from [`int`].
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// `limit`, or the default for 0.
pub(crate) fn limit_or_default(limit: usize) -> usize {
    if limit == 0 { DEFAULT_LIMIT } else { limit }
}

/// The digest that tells a repeated delivery from another one with the same id.
pub(crate) fn payload_hash(event: &NewEvent) -> [u8; 32] {
    event.digest.unwrap_or_else(|| Sha256::digest(&event.payload).into())
}

/// The digest that an event's id is unique by. Every part is preceded by its length, so that no two triples are the same bytes.
#[cfg(feature = "postgres")]
pub(crate) fn dedupe_hash(event: &NewEvent) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [event.tenant.as_str(), &event.connection, &event.event_id] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The key of the job that stands for an event.
pub(crate) fn event_job_key(seq: u64) -> String {
    format!("event:{seq}")
}

/// A kept event as it came, for the job that handles it once more.
pub(crate) fn again(event: StoredEvent) -> NewEvent {
    let StoredEvent { tenant, workspace, connector, connection, event_id, event_type, order_key, flags, payload, received_at, .. } = event;
    NewEvent { tenant, workspace, connector, connection, event_id, event_type, order_key, flags, payload, digest: None, received_at }
}

/// The job that handles an event.
///
/// The order key is prefixed with the connection: two accounts may both number their records from 1.
pub(crate) fn event_job(event: &NewEvent, seq: u64) -> NewJob {
    NewJob {
        tenant: event.tenant.clone(),
        workspace: event.workspace.clone(),
        queue: EVENTS.into(),
        subject: format!("{} {}", event.connector, event.event_type),
        key: Some(event_job_key(seq)),
        order_key: event.order_key.as_ref().map(|key| format!("{}:{key}", event.connection)),
        payload: seq.to_string().into_bytes().into(),
        not_before: 0,
        max_attempts: EVENT_MAX_ATTEMPTS,
    }
}

/// Why a job whose worker vanished on the last attempt is dead.
pub(crate) fn lease_lost() -> JobError {
    JobError {
        kind: connector_core::ErrorKind::Timeout,
        message: "the worker did not finish before its lease ran out, and no attempts are left".to_owned(),
    }
}
