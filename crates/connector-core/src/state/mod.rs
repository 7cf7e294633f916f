//! What must outlive a process, as ports: a key-value store, the event log, the job queue (outbox and dead letters) and the audit trail.
//!
//! Every call names its tenant; there is no default and no way to ask across tenants except where a worker must.
//! `connector-state` implements all of them on SQLite and in memory.

mod audit;
mod event;
mod job;
mod kv;
mod memory;

pub use audit::{AuditFilter, AuditLog, AuditOutcome, AuditRecord, ChainReport, StoredAudit};
pub use event::{Appended, EventFilter, EventLog, NewEvent, StoredEvent};
pub use job::{Enqueued, Job, JobError, JobFilter, JobId, JobQueue, JobState, NewJob, QueueDepth};
pub use kv::{Condition, Entry, Namespace, PutOutcome, StateStore};
pub use memory::MemoryStore;

/// Everything the runtime keeps, in one store.
pub trait Store: StateStore + EventLog + JobQueue + AuditLog {}

impl<T: StateStore + EventLog + JobQueue + AuditLog> Store for T {}
