#![doc = include_str!("../README.md")]

mod client;
pub mod generated;
mod odd;
pub mod soql;
pub mod sosl;

use std::sync::Arc;

use connector_core::{Result, auth::AuthProvider, transport::Transport};
use connector_manifest::{Engine, Hooks};

pub use client::{Salesforce, SalesforceBuilder};
pub use generated::{manifest, models, ops};
pub use odd::outbound::OutboundMessages;

/// The connector's id: crate suffix, feature and folder. Its tools start with `sf_`.
pub const ID: &str = "salesforce";

/// What Salesforce does that the manifest cannot say.
pub fn hooks() -> Hooks {
    Hooks::new()
        .prepare("soql", odd::prepare::soql)
        .prepare("soql_job", odd::prepare::soql_job)
        .prepare("sosl", odd::prepare::sosl)
        .prepare("http_dates", odd::prepare::http_dates)
        .prepare("time_span", odd::prepare::time_span)
        .prepare("upsert", odd::prepare::upsert)
        .prepare("collection", odd::prepare::collection)
        .prepare("campaign_member", odd::prepare::campaign_member)
        .prepare("composite", odd::composite::composite)
        .prepare("composite_batch", odd::composite::batch)
        .prepare("composite_graph", odd::composite::graph)
        .native("list_versions", odd::org::ListVersions)
        .native("current_user", odd::org::CurrentUser)
        .native("bulk_query", odd::bulk_query::BulkQuery)
        .native("bulk_load", odd::bulk_load::BulkLoad)
        .partial(odd::outcomes::failed_items)
        .delta(odd::replication::Replication::default())
        .webhook(OutboundMessages)
}

/// The connector itself, without retries, limits or breakers around it: for a runtime that brings its own.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if manifest and hooks do not fit, which a test rules out.
pub fn engine(transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>) -> Result<Engine> {
    Engine::builder(manifest()).hooks(hooks()).transport(transport).auth(auth).build()
}
