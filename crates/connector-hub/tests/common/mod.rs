//! What the tests of the hub share: the command line in a folder of its own, and a hub in this process with two tenants.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and one that cannot go on should panic")]

pub(crate) mod hub;
pub(crate) mod vendor;
pub(crate) mod world;
