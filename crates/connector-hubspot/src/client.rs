//! A client for one HubSpot account, for programs that use this crate alone. Owns the words HubSpot's users know; putting the client
//! together is [`ClientBuilder`]'s.

use std::sync::Arc;

use connector_core::{Client, Result, auth::AuthProvider, credential::Credential, layer::StackParts, transport::Transport};
use connector_manifest::{ClientBuilder, process_env};
use secrecy::SecretString;

use crate::{ID, hooks, manifest};

/// A HubSpot account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HubSpot {
    client: Client,
}

impl HubSpot {
    /// A client with a private app token or service key.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if TLS cannot be set up.
    #[cfg(feature = "http")]
    pub fn new(token: impl Into<SecretString>) -> Result<Self> {
        Self::builder().token(token).build()
    }

    /// A client whose token is in the environment variable `HUBSPOT_API_KEY`. `HUBSPOT_BASE_URL` changes where the API is.
    ///
    /// # Errors
    /// As [`HubSpot::new`]. A missing variable surfaces with the first call, named.
    #[cfg(feature = "http")]
    pub fn from_env() -> Result<Self> {
        Self::builder().build()
    }

    /// Starts to put a client together.
    pub fn builder() -> HubSpotBuilder {
        HubSpotBuilder::default()
    }

    /// A client over a connector that was put together elsewhere, for example by a runtime.
    pub fn from_client(client: Client) -> Self {
        Self { client }
    }

    /// The untyped client: calls by name, other contexts.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The support tier of the sender with this address: what their primary company's `tier` or `hub_tier` says, `standard` otherwise.
    ///
    /// # Errors
    /// Whatever the connector reports. An unknown address is no error.
    pub async fn tier_of(&self, email: &str) -> Result<String> {
        Ok(self.company_tier().with(|operation| operation.email(email)).await?.tier)
    }

    /// Whether the sender with this address has an open deal and has not bought yet.
    ///
    /// # Errors
    /// Whatever the connector reports. An unknown address is no error.
    pub async fn is_prospect_by_email(&self, email: &str) -> Result<bool> {
        Ok(self.is_prospect().with(|operation| operation.email(email)).await?.prospect)
    }
}

/// Puts a [`HubSpot`] together. Mistakes come out of [`HubSpotBuilder::build`].
#[derive(Debug)]
pub struct HubSpotBuilder(ClientBuilder);

impl Default for HubSpotBuilder {
    fn default() -> Self {
        let builder = ClientBuilder::new(ID, manifest(), hooks()).env(process_env);
        #[cfg(feature = "http")]
        let builder = builder.ports(connector_http::standalone);
        Self(builder)
    }
}

impl HubSpotBuilder {
    /// The private app token or service key. Used with the feature `http`; without it, [`HubSpotBuilder::auth`] is what counts.
    #[must_use]
    pub fn token(self, token: impl Into<SecretString>) -> Self {
        Self(self.0.secret(Credential::new([("token", token.into())])))
    }

    /// Where the API is, if not at `https://api.hubapi.com`.
    #[must_use]
    pub fn base_url(self, url: impl Into<String>) -> Self {
        Self(self.0.base_url(url))
    }

    /// The account's IANA time zone: daily allowances reset at its midnight.
    #[must_use]
    pub fn timezone(self, zone: impl Into<String>) -> Self {
        Self(self.0.setting("timezone", zone))
    }

    /// How requests are sent, if not by the shared HTTP transport.
    #[must_use]
    pub fn transport(self, transport: Arc<dyn Transport>) -> Self {
        Self(self.0.transport(transport))
    }

    /// How requests are authenticated, if not with the token.
    #[must_use]
    pub fn auth(self, auth: Arc<dyn AuthProvider>) -> Self {
        Self(self.0.auth(auth))
    }

    /// Retries, limits, breakers and the clock, if not the defaults.
    #[must_use]
    pub fn resilience(self, parts: StackParts) -> Self {
        Self(self.0.resilience(parts))
    }

    /// The client.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a base URL that is none, or if there is no transport or provider and the feature `http`
    /// is off.
    pub fn build(self) -> Result<HubSpot> {
        self.0.build().map(HubSpot::from_client)
    }
}
