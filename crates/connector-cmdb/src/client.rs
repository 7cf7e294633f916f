//! A client for one CMDB, for programs that use this crate alone. Owns putting engine, layers and connection together; a hub does that itself.

use std::sync::Arc;

use connector_core::{
    CallCx, Client, Result,
    auth::AuthProvider,
    layer::{StackParts, stack},
    transport::Transport,
};
use connector_manifest::{ConnectionOptions, Engine, connection};
use secrecy::SecretString;

use crate::{ID, hooks_with, manifest};

/// A CMDB. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cmdb {
    client: Client,
}

impl Cmdb {
    /// A client for the CMDB at `base_url`, read through `profile` (`netbox`, `servicenow`), with a bearer token.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a base URL that is none, or if TLS cannot be set up.
    #[cfg(feature = "http")]
    pub fn new(profile: &str, base_url: &str, token: impl Into<SecretString>) -> Result<Self> {
        Self::builder().profile(profile).base_url(base_url).credential([("token", token.into())]).build()
    }

    /// A client from the environment: `CMDB_BASE_URL`, `CMDB_PROFILE`, and `CMDB_TOKEN`, `CMDB_KEY`, `CMDB_USERNAME` and `CMDB_PASSWORD`,
    /// or `CMDB_CLIENT_ID` and `CMDB_CLIENT_SECRET`.
    ///
    /// # Errors
    /// As [`Cmdb::new`]. A missing credential surfaces with the first call, named.
    #[cfg(feature = "http")]
    pub fn from_env() -> Result<Self> {
        Self::builder().build()
    }

    /// Starts to put a client together.
    pub fn builder() -> CmdbBuilder {
        CmdbBuilder::default()
    }

    /// A client over a connector that was put together elsewhere, for example by a runtime.
    pub fn from_client(client: Client) -> Self {
        Self { client }
    }

    /// The untyped client: calls by name, other contexts.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// Puts a [`Cmdb`] together. Mistakes come out of [`CmdbBuilder::build`].
#[derive(Debug, Default)]
pub struct CmdbBuilder {
    credential: Vec<(&'static str, SecretString)>,
    options: ConnectionOptions,
    profiles: Vec<String>,
    transport: Option<Arc<dyn Transport>>,
    auth: Option<Arc<dyn AuthProvider>>,
    parts: Option<StackParts>,
}

impl CmdbBuilder {
    /// The profile: `netbox`, `servicenow`, or one added by [`CmdbBuilder::add_profile`].
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.options.settings.insert("profile".into(), name.into());
        self
    }

    /// A further profile as YAML; see `profiles/README.md`. One of the same name as a built-in one replaces it.
    #[must_use]
    pub fn add_profile(mut self, yaml: impl Into<String>) -> Self {
        self.profiles.push(yaml.into());
        self
    }

    /// Where the CMDB is.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.options.base_url = Some(url.into());
        self
    }

    /// The fields of the credential: `token`; `key`; `username` and `password`; or `client_id` and `client_secret`.
    #[must_use]
    pub fn credential(mut self, fields: impl IntoIterator<Item = (&'static str, SecretString)>) -> Self {
        self.credential = fields.into_iter().collect();
        self
    }

    /// How requests are sent, if not by the shared HTTP transport.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// How requests are authenticated, if not with the credential.
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
    /// [`connector_core::ErrorKind::Config`] for a base URL or a profile that is none, or if there is no transport and the feature `http` is off.
    pub fn build(mut self) -> Result<Cmdb> {
        let manifest = manifest();
        let transport = self.take_transport()?;
        let auth = self.take_auth(&transport)?;
        let lookup = |name: &str| std::env::var(name).ok();
        let connection = connection(&manifest, ID, std::mem::take(&mut self.options), &lookup)?;
        let hooks = hooks_with(self.profiles.iter().map(String::as_str))?;
        let parts = self.parts.unwrap_or_default();
        let engine = Engine::builder(manifest).hooks(hooks).transport(transport).auth(auth).clock(parts.clock.clone()).build()?;
        let engine = Arc::new(engine);
        let layered = stack::inner(engine.clone(), &parts);
        engine.set_outer(Arc::downgrade(&layered));
        Ok(Cmdb { client: Client::new(layered, CallCx::new(Arc::new(connection))) })
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
            .ok_or_else(|| connector_core::Error::config("without the feature `http`, a CMDB client needs a transport: `builder().transport(..)`"))
    }

    #[cfg(feature = "http")]
    fn take_auth(&mut self, transport: &Arc<dyn Transport>) -> Result<Arc<dyn AuthProvider>> {
        use connector_core::credential::{Credential, CredentialStore, MemoryCredentials};
        use connector_http::{Auth, AuthDeps, EnvCredentials};

        if let Some(auth) = self.auth.take() {
            return Ok(auth);
        }
        let manifest = manifest();
        let fields = std::mem::take(&mut self.credential);
        let store: Arc<dyn CredentialStore> = if fields.is_empty() {
            Arc::new(EnvCredentials::for_specs(ID, &manifest.auth))
        } else {
            Arc::new(MemoryCredentials::with(ID, Credential::new(fields)))
        };
        Ok(Auth::for_spec(&manifest.auth, store, AuthDeps::new(transport.clone())))
    }

    #[cfg(not(feature = "http"))]
    fn take_auth(&mut self, _: &Arc<dyn Transport>) -> Result<Arc<dyn AuthProvider>> {
        self.auth
            .take()
            .ok_or_else(|| connector_core::Error::config("without the feature `http`, a CMDB client needs a provider: `builder().auth(..)`"))
    }
}
