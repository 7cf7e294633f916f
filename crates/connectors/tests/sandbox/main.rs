//! Every connector over real HTTP against the stateful fakes of its vendor: each operation is called at least once, and what happened is
//! judged by the sandbox's own ledger, never by what the client believes.
//!
//! Passing here says that a connector keeps to the published descriptions the fakes were written from; it says nothing about an account
//! at a vendor.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod cmdb;
mod exactly_once;
mod faults;
mod hubspot;
mod msgraph;
mod receiver;
mod subscriptions;
mod world;
