//! The governed call path as callers see it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod alerts;
mod approvals;
mod cache;
mod cache_by_webhook;
mod connect;
mod custom;
mod fixture;
mod fleet;
mod forward;
mod idempotency;
mod keys;
mod outbox;
mod path;
mod reauth;
mod rotation;
mod rules;
mod rules_guide;
mod rules_world;
mod sealed;
mod signin;
mod views;
