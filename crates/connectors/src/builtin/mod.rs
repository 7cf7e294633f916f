//! The connectors that are compiled in, as data: what the runtime builds its registry from.

mod generated;

use std::sync::Arc;

use connector_manifest::{Hooks, Manifest};

pub use generated::builtins;

/// A built-in connector: its manifest and its own Rust, neither of them made before somebody asks.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// Its id: crate suffix, feature, tool prefix.
    pub id: &'static str,
    /// Its manifest.
    pub manifest: fn() -> Arc<Manifest>,
    /// Its hooks.
    pub hooks: fn() -> Hooks,
}
