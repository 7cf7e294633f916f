//! OAuth 2.0: getting tokens, keeping them, replacing them in time.
//!
//! Here: the client credentials grant (RFC 6749 §4.4). Flows with a person are not handled and say so.

mod authorize;
mod client_credentials;
mod discovery;
mod exchange;
mod jwt;
mod refusal;
mod request;
mod slot;
mod template;
mod token;

pub use authorize::{
    AUTHORIZE_URL_SETTING, AuthorizeAsk, AuthorizeRequest, RedirectAnswer, authorize_request, new_state, read_redirect, redirect_state,
};
pub(crate) use client_credentials::ClientCredentials;
pub use discovery::{Discovery, ServerMetadata, issuer};

/// The connection setting that replaces the manifest's token URL, for sandboxes, sovereign clouds and self-hosted vendors.
pub const TOKEN_URL_SETTING: &str = "token_url";

#[cfg(test)]
mod tests;
