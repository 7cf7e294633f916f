//! OAuth 2.0: getting tokens, keeping them, replacing them in time.
//!
//! [`OAuth2Client`] is for whoever lets a person connect: it exchanges codes, polls for devices, keeps what came of it and revokes it.
//! [`authorize_request`] and [`read_redirect`] are the browser's part of that. Everything after is [`crate::Auth`]'s: it renews what a consent
//! gave, once for all processes that share a [`TokenStore`](connector_core::token::TokenStore), and fetches the tokens of grants that need
//! nobody.
//!
//! What a token answer held besides tokens (the spec's `keep`, for example Salesforce's `instance_url`) lies in the row's
//! [`TokenFacts`](connector_core::token::TokenFacts): see [`OAuth2Client::facts`].

mod authorize;
mod client;
mod client_credentials;
mod device;
mod discovery;
mod exchange;
mod home;
mod jwt;
mod refresh;
mod refusal;
mod request;
mod slot;
mod template;
mod token;

pub use authorize::{
    AUTHORIZE_URL_SETTING, AuthorizeAsk, AuthorizeRequest, RedirectAnswer, authorize_request, new_state, read_redirect, redirect_state,
};
pub use client::{CodeExchange, OAuth2Client};
pub(crate) use client_credentials::ClientCredentials;
pub use device::DeviceCodes;
pub use discovery::{Discovery, ServerMetadata, issuer};
pub(crate) use refresh::Consents;

/// The connection setting that replaces the manifest's token URL, for sandboxes, sovereign clouds and self-hosted vendors.
pub const TOKEN_URL_SETTING: &str = "token_url";

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_client;
#[cfg(test)]
mod tests_grants;
