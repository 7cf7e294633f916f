//! A client for one Microsoft 365 connection, for programs that use this crate alone. Owns the words Graph's users know; putting the
//! client together is [`ClientBuilder`]'s.

use std::sync::Arc;

use connector_core::{
    CallCx, Client, Connection, Connector, Result, auth::AuthProvider, credential::Credential, layer::StackParts, transport::Transport,
};
use connector_manifest::ClientBuilder;
use secrecy::SecretString;

use crate::{Config, ID, hooks, manifest};

/// A client of one Microsoft 365 connection. Its methods are in [`crate::ops`]; operations known only at run time go through
/// [`MsGraph::client`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MsGraph {
    client: Client,
}

impl MsGraph {
    /// A client over HTTP with the process environment: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET` (or
    /// `MSGRAPH_ACCESS_TOKEN`), `SUPPORT_MAILBOX`, and where they differ `MSGRAPH_BASE_URL`, `AZURE_LOGIN_HOST`, `AZURE_GRAPH_SCOPE`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the base URL is unusable or TLS cannot be set up. A missing credential shows at the first call.
    #[cfg(feature = "http")]
    pub fn from_env() -> Result<Self> {
        Builder(Builder::new(Config::default()).0.env(connector_manifest::process_env)).build()
    }

    /// Starts to put a client together.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// A client over a connector that is already layered and a context that names the connection.
    pub fn from_client(client: Client) -> Self {
        Self { client }
    }

    /// The untyped client: calls by name, other contexts.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same client in another context (actor, deadline, idempotency key).
    #[must_use]
    pub fn with_cx(&self, cx: CallCx) -> Self {
        Self { client: self.client.with_cx(cx) }
    }

    /// The connector.
    pub fn connector(&self) -> &Arc<dyn Connector> {
        self.client.connector()
    }
}

/// Puts a [`MsGraph`] together. Mistakes come out of [`Builder::build`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder(ClientBuilder);

impl Builder {
    fn new(config: Config) -> Self {
        let builder = ClientBuilder::new(ID, manifest(), hooks()).options(config.into_options());
        #[cfg(feature = "http")]
        let builder = builder.ports(connector_http::standalone);
        Self(builder)
    }

    /// The app registration's id and secret. Used with the feature `http`; without it, [`Builder::auth`] is what counts.
    pub fn client_secret(self, id: impl Into<SecretString>, secret: impl Into<SecretString>) -> Self {
        Self(self.0.secret(Credential::new([("client_id", id.into()), ("client_secret", secret.into())])))
    }

    /// A connection made elsewhere, instead of the configuration's.
    pub fn connection(self, connection: Connection) -> Self {
        Self(self.0.connection(connection))
    }

    /// How requests are sent, if not by the shared HTTP transport.
    pub fn transport(self, transport: Arc<dyn Transport>) -> Self {
        Self(self.0.transport(transport))
    }

    /// How requests are authenticated, if not with the app's secret, which is in the environment if it was not said.
    pub fn auth(self, auth: Arc<dyn AuthProvider>) -> Self {
        Self(self.0.auth(auth))
    }

    /// Numbers, clock and state of retries, breaker and limits; the standard ones if not said.
    pub fn resilience(self, parts: StackParts) -> Self {
        Self(self.0.resilience(parts))
    }

    /// The client.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a base URL that is none, or if there is no transport or provider and the feature `http`
    /// is off.
    pub fn build(self) -> Result<MsGraph> {
        self.0.build().map(MsGraph::from_client)
    }
}
