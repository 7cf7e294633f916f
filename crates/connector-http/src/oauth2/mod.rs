//! OAuth 2.0: getting tokens, keeping them, replacing them in time.
//!
//! Here: the client credentials grant (RFC 6749 §4.4). Flows with a person are not handled and say so.

mod client_credentials;
mod request;
mod slot;
mod template;
mod token;

pub(crate) use client_credentials::ClientCredentials;

/// The connection setting that replaces the manifest's token URL, for sandboxes, sovereign clouds and self-hosted vendors.
pub const TOKEN_URL_SETTING: &str = "token_url";

#[cfg(test)]
mod tests;
