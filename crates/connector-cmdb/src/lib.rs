#![doc = include_str!("../README.md")]

mod changes;
mod client;
pub mod generated;
mod graph;
mod map;
mod neutral;
mod operations;
mod profile;
mod system;
mod walk;

use std::sync::Arc;

use connector_core::{Result, auth::AuthProvider, transport::Transport};
use connector_manifest::{Engine, Hooks};

pub use client::{Cmdb, CmdbBuilder};
pub use generated::{manifest, models, ops};

/// The connector's id: crate suffix, feature, folder and tool prefix.
pub const ID: &str = "cmdb";

/// The neutral operations over the built-in profiles.
pub fn hooks() -> Hooks {
    operations::hooks(Vec::new()).expect("the built-in profiles are sound, a test sees to it")
}

/// The neutral operations over the built-in profiles and these further ones, written in YAML.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] that names what is wrong with a profile: an unknown key, class or placeholder.
pub fn hooks_with<'y>(profiles: impl IntoIterator<Item = &'y str>) -> Result<Hooks> {
    operations::hooks(profiles.into_iter().map(profile::Profile::parse).collect::<Result<_>>()?)
}

/// The JSON Schema (draft 2020-12) of a profile, published as `profiles/profile.schema.json`.
pub fn profile_schema() -> serde_json::Value {
    profile::schema()
}

/// The connector itself, without retries, limits or breakers around it: for a runtime that brings its own.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if manifest and hooks do not fit, which a test rules out.
pub fn engine(transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>) -> Result<Engine> {
    Engine::builder(manifest()).hooks(hooks()).transport(transport).auth(auth).build()
}
