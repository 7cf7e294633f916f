//! The hub as a program: how soon it has made a call, how soon it is ready, and what it takes while idle.
//!
//! Needs `target/release/connector-hub`; says so and measures nothing if it was not built.

use crate::server::Server;

pub(crate) fn run(_: &Server) {}
