//! The governed call path as callers see it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod approvals;
mod cache;
mod connect;
mod custom;
mod fixture;
mod fleet;
mod idempotency;
mod keys;
mod outbox;
mod path;
mod reauth;
mod rotation;
mod rules;
mod rules_world;
mod signin;
