//! What a program says about its Microsoft 365 connection, and the client made of it.
//!
//! Owns building: manifest, hooks, layers, connection. Refuses secrets: they stay with the [`AuthProvider`].

use std::{collections::BTreeMap, sync::Arc};

use connector_core::{
    Connection, Connector, Result, TenantId,
    auth::{AuthProvider, NoAuth},
    layer::stack::StackParts,
    transport::Transport,
};
use connector_manifest::{ConnectionOptions, Engine, assemble, open};
use serde::{Deserialize, Serialize};

use crate::{ID, MsGraph, hooks, manifest};

/// A connection to Microsoft 365. What is left out follows from the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Graph root with its version, for national clouds and sandboxes; `https://graph.microsoft.com/v1.0` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The Entra tenant, a GUID or a domain. Needed with OAuth 2.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The mailbox that calls use when they name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
    /// The Entra host of the cloud; `login.microsoftonline.com` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_host: Option<String>,
    /// The whole token endpoint, where it is not at `login_host` (a sandbox).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The scope to ask for; `https://graph.microsoft.com/.default` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_scope: Option<String>,
    /// The name of the credential; the connector's id if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Further settings, for example `egress_allow`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Config {
    /// The connection it describes. `lookup` gives environment variables for what is left out.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the base URL is unusable.
    pub fn connection(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Connection> {
        let mut settings = self.settings.clone();
        let named = [
            ("tenant_id", &self.tenant_id),
            ("mailbox", &self.mailbox),
            ("login_host", &self.login_host),
            ("token_url", &self.token_url),
            ("graph_scope", &self.graph_scope),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                settings.insert(name.to_owned(), value.clone());
            }
        }
        let (base_url, credential) = (self.base_url.clone(), self.credential.clone());
        let options = ConnectionOptions { id: None, tenant: TenantId::default(), base_url, settings, credential };
        connector_manifest::connection(&manifest(), ID, options, lookup)
    }
}

/// Puts a client together.
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    config: Config,
    connection: Option<Connection>,
    transport: Option<Arc<dyn Transport>>,
    auth: Arc<dyn AuthProvider>,
    parts: StackParts,
}

impl Builder {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, connection: None, transport: None, auth: Arc::new(NoAuth), parts: StackParts::default() }
    }

    /// A connection made elsewhere, instead of the configuration's.
    pub fn connection(mut self, connection: Connection) -> Self {
        self.connection = Some(connection);
        self
    }

    /// How requests are sent. Required.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// How requests are authenticated; not at all if not said.
    pub fn auth(mut self, auth: Arc<dyn AuthProvider>) -> Self {
        self.auth = auth;
        self
    }

    /// Numbers, clock and state of retries, breaker and limits; the standard ones if not said.
    pub fn resilience(mut self, parts: StackParts) -> Self {
        self.parts = parts;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if there is no transport or the base URL is unusable.
    pub fn build(self) -> Result<MsGraph> {
        let transport = self.transport.ok_or_else(|| connector_core::Error::config("a client of msgraph needs a transport"))?;
        let connection = match self.connection {
            Some(connection) => connection,
            None => self.config.connection(&|_| None)?,
        };
        open(manifest(), hooks(), connection, transport, self.auth, &self.parts).map(MsGraph::from_client)
    }
}

/// The connector with its inner layers, for programs with many connections: each call names its own in the context.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if a native operation has no hook, which a test of this crate rules out.
pub fn connector(transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>, parts: &StackParts) -> Result<Arc<dyn Connector>> {
    let engine = Engine::builder(manifest()).hooks(hooks()).transport(transport).auth(auth).clock(parts.clock.clone()).build()?;
    Ok(assemble(engine, parts))
}

#[cfg(feature = "http")]
impl MsGraph {
    /// A client over HTTP with the process environment: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET` (or
    /// `MSGRAPH_ACCESS_TOKEN`), `SUPPORT_MAILBOX`, and where they differ `MSGRAPH_BASE_URL`, `AZURE_LOGIN_HOST`, `AZURE_GRAPH_SCOPE`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the base URL is unusable. A missing credential shows at the first call.
    pub fn from_env() -> Result<Self> {
        let transport = connector_http::HttpTransport::shared()?;
        let specs = &manifest().auth;
        let credentials = Arc::new(connector_http::EnvCredentials::for_specs(ID, specs));
        let auth = connector_http::Auth::for_spec(specs, credentials, connector_http::AuthDeps::new(transport.clone()));
        let connection = Config::default().connection(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        Builder::new(Config::default()).connection(connection).transport(transport).auth(auth).build()
    }
}
