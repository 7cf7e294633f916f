//! The behaviour every state backend must show, written once against the ports of `connector_core::state`.
//!
//! Each function takes a way to make a fresh, empty store that measures time by the given clock, and panics at the first difference.
//! Refuses to know a backend: what only one of them promises (reopening, locks, files) is tested beside it.
#![allow(clippy::unwrap_used, reason = "this is test code, in a library only so that every backend can run it")]

mod audit;
mod events;
mod jobs;
mod kv;
mod ordering;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use connector_core::{
    clock::{Clock, Instant},
    state::{NewEvent, NewJob, Store},
};

pub use audit::{audit, record as audit_record};
pub use events::events;
pub use jobs::jobs;
pub use kv::kv;

/// A clock whose monotonic and wall time a test moves together, because one backend expires by the first and another by the second.
#[derive(Debug)]
pub struct SuiteClock {
    start: Instant,
    offset_ms: AtomicU64,
}

/// Where the suite's wall time starts: Unix milliseconds.
pub const START_MS: u64 = 1_795_230_000_000;

impl SuiteClock {
    /// Starts at [`START_MS`].
    pub fn shared() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), offset_ms: AtomicU64::new(0) })
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        self.offset_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// The wall time in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        START_MS + self.offset_ms.load(Ordering::SeqCst)
    }
}

impl Clock for SuiteClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.offset_ms.load(Ordering::SeqCst))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.now_ms())
    }
}

/// A fresh store and the clock it runs by.
fn fresh(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) -> (Arc<dyn Store>, Arc<SuiteClock>) {
    let clock = SuiteClock::shared();
    (make(clock.clone()), clock)
}

/// An event of tenant `acme` through connector `crm`.
pub fn new_event(id: &str, payload: &str) -> NewEvent {
    NewEvent {
        tenant: "acme".into(),
        workspace: "support".into(),
        connector: "crm".into(),
        connection: "crm_main".into(),
        event_id: id.to_owned(),
        event_type: "contact.created".into(),
        order_key: None,
        flags: Vec::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        digest: None,
        received_at: START_MS,
    }
}

/// A job of tenant `acme` on queue `outbox` with three attempts.
pub fn new_job(subject: &str) -> NewJob {
    NewJob {
        tenant: "acme".into(),
        workspace: "support".into(),
        queue: "outbox".into(),
        subject: subject.to_owned(),
        key: None,
        order_key: None,
        payload: Bytes::from_static(b"{}"),
        not_before: 0,
        max_attempts: 3,
    }
}
