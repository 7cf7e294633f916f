//! What events bring about: rules at work, under keys that make each effect happen once.
//!
//! Owns the order (every fitting rule, every step), the marks of what is done, and what waits for an approval. Refuses to know how an effect
//! is brought about: calls go through [`Runtime::call`](crate::Runtime::call), deliveries and alerts through their queues.

mod approved;
mod marks;
mod rules;
mod run;
mod tasks;
mod worker;

pub(crate) use approved::{Parked, ParkedWork, QUEUE as PARKED_QUEUE};
pub(crate) use marks::{Mark, Marks, Outcome};
pub(crate) use rules::{Rules, Words, shown};
pub(crate) use run::Effects;
pub(crate) use worker::{Attempt, Worker, attempts};

/// How long what was done for an event is remembered: as long as idempotency keys and the dedupe of events.
pub(crate) const EFFECT_TTL: std::time::Duration = crate::idempotency::KEY_TTL;

/// How often a queue of these is looked at when nobody wakes its worker. Their work is woken, so this is for what falls due and for other hubs.
pub(crate) const POLL: std::time::Duration = std::time::Duration::from_secs(5);
