//! A client for one Salesforce org, for programs that use this crate alone. Owns the words Salesforce's users know; putting the client together
//! is [`ClientBuilder`]'s.

use std::sync::Arc;

use connector_core::{Client, Result, auth::AuthProvider, credential::Credential, layer::StackParts, transport::Transport};
use connector_manifest::{ClientBuilder, process_env};
use futures_util::{Stream, StreamExt as _};
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{ID, hooks, manifest, models::BulkLoad};

/// How many rows of [`Salesforce::load_all`] are held at once.
const ROWS_AT_ONCE: usize = 10_000;

/// A Salesforce org, as one user sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Salesforce {
    client: Client,
}

impl Salesforce {
    /// A client with an access token, for the org at this host (`acme.my.salesforce.com`).
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the host is none or TLS cannot be set up.
    #[cfg(feature = "http")]
    pub fn new(host: impl Into<String>, token: impl Into<SecretString>) -> Result<Self> {
        Self::builder().host(host).token(token).build()
    }

    /// A client from the environment: `SALESFORCE_LOGIN_HOST`, and `SALESFORCE_ACCESS_TOKEN` or `SALESFORCE_CLIENT_ID` with
    /// `SALESFORCE_CLIENT_SECRET`. `SALESFORCE_BASE_URL` changes where the API is.
    ///
    /// # Errors
    /// As [`Salesforce::new`]. A missing variable surfaces with the first call, named.
    #[cfg(feature = "http")]
    pub fn from_env() -> Result<Self> {
        Self::builder().build()
    }

    /// Starts to put a client together.
    pub fn builder() -> SalesforceBuilder {
        SalesforceBuilder::default()
    }

    /// A client over a connector that was put together elsewhere, for example by a runtime.
    pub fn from_client(client: Client) -> Self {
        Self { client }
    }

    /// The untyped client: calls by name, other contexts.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Loads any number of rows through Bulk API 2.0, 10,000 at a time: what is not loaded yet is not held. Gives what became of each ten
    /// thousand; `external_id_field` is for an upsert.
    pub fn load_all<'a>(
        &'a self,
        sobject: &'a str,
        operation: &'a str,
        external_id_field: Option<&'a str>,
        rows: impl Stream<Item = Map<String, Value>> + 'a,
    ) -> impl Stream<Item = Result<BulkLoad>> + 'a {
        rows.chunks(ROWS_AT_ONCE).then(move |rows| async move {
            let load = self.bulk_load(sobject, operation, rows);
            match external_id_field {
                Some(field) => load.with(|load| load.external_id_field(field)).await,
                None => load.await,
            }
        })
    }
}

/// Puts a [`Salesforce`] together. Mistakes come out of [`SalesforceBuilder::build`].
#[derive(Debug)]
pub struct SalesforceBuilder(ClientBuilder);

impl Default for SalesforceBuilder {
    fn default() -> Self {
        let builder = ClientBuilder::new(ID, manifest(), hooks()).env(process_env);
        #[cfg(feature = "http")]
        let builder = builder.ports(connector_http::standalone);
        Self(builder)
    }
}

impl SalesforceBuilder {
    /// The access token. Used with the feature `http`; without it, [`SalesforceBuilder::auth`] is what counts.
    #[must_use]
    pub fn token(self, token: impl Into<SecretString>) -> Self {
        Self(self.0.secret(Credential::new([("token", token.into())])))
    }

    /// Client credentials of an external client app, which acts as its run-as user. They work only at the org's own host.
    #[must_use]
    pub fn client_credentials(self, id: impl Into<SecretString>, secret: impl Into<SecretString>) -> Self {
        Self(self.0.secret(Credential::new([("client_id", id.into()), ("client_secret", secret.into())])).setting("auth", "client_credentials"))
    }

    /// The host where one signs in, or the org's own: `test.salesforce.com`, `acme.my.salesforce.com`.
    #[must_use]
    pub fn host(self, host: impl Into<String>) -> Self {
        Self(self.0.setting("login_host", host))
    }

    /// The API version, for example `66.0`.
    #[must_use]
    pub fn api_version(self, version: impl Into<String>) -> Self {
        Self(self.0.setting("api_version", version))
    }

    /// Where the API is, with its version, if not at the host: `https://host/services/data/v66.0`.
    #[must_use]
    pub fn base_url(self, url: impl Into<String>) -> Self {
        Self(self.0.base_url(url))
    }

    /// Where tokens come from, if not at the host (a sandbox, a proxy).
    #[must_use]
    pub fn token_url(self, url: impl Into<String>) -> Self {
        Self(self.0.setting("token_url", url))
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
    pub fn build(self) -> Result<Salesforce> {
        self.0.build().map(Salesforce::from_client)
    }
}
