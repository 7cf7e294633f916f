#![doc = include_str!("../README.md")]

mod client;
pub mod generated;
mod odd;

use std::sync::Arc;

use connector_core::{Result, auth::AuthProvider, transport::Transport};
use connector_manifest::{Engine, Hooks};

pub use client::{HubSpot, HubSpotBuilder};
pub use generated::{manifest, models, ops};
pub use odd::signature::HubSpotSignature;

/// The connector's id: crate suffix, feature, folder and tool prefix.
pub const ID: &str = "hubspot";

/// What HubSpot does that the manifest cannot say. Webhooks must be signed with v3; see [`HubSpotSignature::with_legacy`] for older apps.
pub fn hooks() -> Hooks {
    Hooks::new()
        .native("ensure_property", odd::ensure_property::EnsureProperty)
        .native("read_all_associations", odd::associations::ReadAllAssociations)
        .native("import_subscriptions", odd::import_subscriptions::ImportSubscriptions)
        .native("company_tier", odd::helpers::CompanyTier)
        .native("is_prospect", odd::helpers::IsProspect)
        .native("deal_context", odd::helpers::DealContext)
        .native("upsert_contact", odd::upsert::UpsertOne("hubspot_batch_upsert_contacts"))
        .native("upsert_company", odd::upsert::UpsertOne("hubspot_batch_upsert_companies"))
        .native("upsert_deal", odd::upsert::UpsertOne("hubspot_batch_upsert_deals"))
        .native("upsert_ticket", odd::upsert::UpsertOne("hubspot_batch_upsert_tickets"))
        .partial(odd::batch_207::item_errors)
        .delta(odd::search_windows::SearchWindows)
        .webhook(HubSpotSignature::new())
}

/// The connector itself, without retries, limits or breakers around it: for a runtime that brings its own.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if manifest and hooks do not fit, which a test rules out.
pub fn engine(transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>) -> Result<Engine> {
    Engine::builder(manifest()).hooks(hooks()).transport(transport).auth(auth).build()
}
