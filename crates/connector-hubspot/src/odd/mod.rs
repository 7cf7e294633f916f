//! What HubSpot does that no manifest can say, one named hook per oddity. Everything else is data.

pub(crate) mod associations;
pub(crate) mod batch_207;
pub(crate) mod ensure_property;
pub(crate) mod helpers;
pub(crate) mod import_subscriptions;
pub(crate) mod search_windows;
pub(crate) mod signature;
pub(crate) mod upsert;
