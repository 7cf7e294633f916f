//! The governed call path as callers see it.

mod approvals;
mod cache;
mod custom;
mod fixture;
mod idempotency;
mod outbox;
mod path;
