//! A client for one CMDB, for programs that use this crate alone. Owns the words of CMDBs and the further profiles; putting the client
//! together is [`ClientBuilder`]'s.

use std::sync::Arc;

use connector_core::{Client, Result, auth::AuthProvider, credential::Credential, layer::StackParts, transport::Transport};
use connector_manifest::{ClientBuilder, process_env};
use secrecy::SecretString;

use crate::{ID, hooks, hooks_with, manifest};

/// A CMDB. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cmdb {
    client: Client,
}

impl Cmdb {
    /// A client for the CMDB at `base_url`, read through `profile` (`netbox`, `servicenow`, `glpi`, `itop`, `valuemation`), with a bearer token.
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
#[derive(Debug)]
pub struct CmdbBuilder {
    client: ClientBuilder,
    profiles: Vec<String>,
}

impl Default for CmdbBuilder {
    fn default() -> Self {
        let client = ClientBuilder::new(ID, manifest(), hooks()).env(process_env);
        #[cfg(feature = "http")]
        let client = client.ports(connector_http::standalone);
        Self { client, profiles: Vec::new() }
    }
}

impl CmdbBuilder {
    /// The profile: `netbox`, `servicenow`, `glpi`, `itop`, `valuemation`, or one added by [`CmdbBuilder::add_profile`].
    #[must_use]
    pub fn profile(self, name: impl Into<String>) -> Self {
        self.with(|client| client.setting("profile", name))
    }

    /// A further profile as YAML; see `profiles/README.md`. One of the same name as a built-in one replaces it.
    #[must_use]
    pub fn add_profile(mut self, yaml: impl Into<String>) -> Self {
        self.profiles.push(yaml.into());
        self
    }

    /// A setting of the connection that a profile declares, for example `retired_status`.
    #[must_use]
    pub fn setting(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|client| client.setting(name, value))
    }

    /// Where the CMDB is.
    #[must_use]
    pub fn base_url(self, url: impl Into<String>) -> Self {
        self.with(|client| client.base_url(url))
    }

    /// The fields of the credential: `token`; `key`; `username` and `password`; or `client_id` and `client_secret`. Used with the feature
    /// `http`; without it, [`CmdbBuilder::auth`] is what counts.
    #[must_use]
    pub fn credential(self, fields: impl IntoIterator<Item = (&'static str, SecretString)>) -> Self {
        self.with(|client| client.secret(Credential::new(fields)))
    }

    /// How requests are sent, if not by the shared HTTP transport.
    #[must_use]
    pub fn transport(self, transport: Arc<dyn Transport>) -> Self {
        self.with(|client| client.transport(transport))
    }

    /// How requests are authenticated, if not with the credential.
    #[must_use]
    pub fn auth(self, auth: Arc<dyn AuthProvider>) -> Self {
        self.with(|client| client.auth(auth))
    }

    /// Retries, limits, breakers and the clock, if not the defaults.
    #[must_use]
    pub fn resilience(self, parts: StackParts) -> Self {
        self.with(|client| client.resilience(parts))
    }

    /// The client.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a base URL or a profile that is none, or if there is no transport or provider and the
    /// feature `http` is off.
    pub fn build(self) -> Result<Cmdb> {
        let Self { mut client, profiles } = self;
        if !profiles.is_empty() {
            client = client.hooks(hooks_with(profiles.iter().map(String::as_str))?);
        }
        client.build().map(Cmdb::from_client)
    }

    fn with(self, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        Self { client: change(self.client), ..self }
    }
}
