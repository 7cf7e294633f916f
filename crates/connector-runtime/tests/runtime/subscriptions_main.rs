//! Subscriptions against the stateful Graph of the sandbox, over real HTTP on loopback, with wall time moved by hand.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod subscriptions;
mod subscriptions_30d;
mod subscriptions_vendors;
mod subscriptions_world;
