//! A client for one HubSpot account, for programs that use this crate alone. Owns putting engine, layers and connection together;
//! a hub does that itself.

use std::sync::Arc;

use connector_core::{
    CallCx, Client, Result,
    auth::AuthProvider,
    layer::{StackParts, stack},
    transport::Transport,
};
use connector_manifest::{ConnectionOptions, Engine, connection};
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
#[derive(Debug, Default)]
pub struct HubSpotBuilder {
    token: Option<SecretString>,
    options: ConnectionOptions,
    transport: Option<Arc<dyn Transport>>,
    auth: Option<Arc<dyn AuthProvider>>,
    parts: Option<StackParts>,
}

impl HubSpotBuilder {
    /// The private app token or service key.
    #[must_use]
    pub fn token(mut self, token: impl Into<SecretString>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Where the API is, if not at `https://api.hubapi.com`.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.options.base_url = Some(url.into());
        self
    }

    /// The account's IANA time zone: daily allowances reset at its midnight.
    #[must_use]
    pub fn timezone(mut self, zone: impl Into<String>) -> Self {
        self.options.settings.insert("timezone".into(), zone.into());
        self
    }

    /// How requests are sent, if not by the shared HTTP transport.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// How requests are authenticated, if not with the token.
    #[must_use]
    pub fn auth(mut self, auth: Arc<dyn AuthProvider>) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Retries, limits, breakers and the clock, if not the defaults.
    #[must_use]
    pub fn resilience(mut self, parts: StackParts) -> Self {
        self.parts = Some(parts);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a base URL that is none, or if there is no transport and the feature `http` is off.
    pub fn build(mut self) -> Result<HubSpot> {
        let manifest = manifest();
        let transport = self.take_transport()?;
        let auth = self.take_auth(&transport)?;
        let lookup = |name: &str| std::env::var(name).ok();
        let connection = connection(&manifest, ID, std::mem::take(&mut self.options), &lookup)?;
        let parts = self.parts.unwrap_or_default();
        let engine = Engine::builder(manifest).hooks(hooks()).transport(transport).auth(auth).clock(parts.clock.clone()).build()?;
        let engine = Arc::new(engine);
        let layered = stack::inner(engine.clone(), &parts);
        engine.set_outer(Arc::downgrade(&layered));
        Ok(HubSpot { client: Client::new(layered, CallCx::new(Arc::new(connection))) })
    }

    #[cfg(feature = "http")]
    fn take_transport(&mut self) -> Result<Arc<dyn Transport>> {
        match self.transport.take() {
            Some(transport) => Ok(transport),
            None => Ok(connector_http::HttpTransport::shared()?),
        }
    }

    #[cfg(not(feature = "http"))]
    fn take_transport(&mut self) -> Result<Arc<dyn Transport>> {
        self.transport
            .take()
            .ok_or_else(|| connector_core::Error::config("without the feature `http`, a HubSpot client needs a transport: `builder().transport(..)`"))
    }

    #[cfg(feature = "http")]
    fn take_auth(&mut self, transport: &Arc<dyn Transport>) -> Result<Arc<dyn AuthProvider>> {
        use connector_core::credential::{Credential, CredentialStore, MemoryCredentials};
        use connector_http::{Auth, AuthDeps, EnvCredentials};

        if let Some(auth) = self.auth.take() {
            return Ok(auth);
        }
        let manifest = manifest();
        let store: Arc<dyn CredentialStore> = match self.token.take() {
            Some(token) => Arc::new(MemoryCredentials::with(ID, Credential::new([("token", token)]))),
            None => Arc::new(EnvCredentials::for_specs(ID, &manifest.auth)),
        };
        Ok(Auth::for_spec(&manifest.auth, store, AuthDeps::new(transport.clone())))
    }

    #[cfg(not(feature = "http"))]
    fn take_auth(&mut self, _: &Arc<dyn Transport>) -> Result<Arc<dyn AuthProvider>> {
        self.auth
            .take()
            .ok_or_else(|| connector_core::Error::config("without the feature `http`, a HubSpot client needs a provider: `builder().auth(..)`"))
    }
}
