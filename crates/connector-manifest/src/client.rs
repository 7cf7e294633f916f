//! A client of one connection, for programs that use a vendor crate alone: what every vendor crate's own builder wraps.
//!
//! Owns the order of putting connection, engine and layers together. Refuses to know HTTP: transport and authentication are said, or
//! made by the function that [`ClientBuilder::ports`] was given.

use std::{fmt, sync::Arc};

use connector_core::{
    Client, Connection, Error, Result, TenantId, auth::AuthProvider, credential::Credential, layer::StackParts, spec::AuthSpec, transport::Transport,
};

use crate::{ConnectionOptions, Hooks, Manifest, connection, open};

/// Makes a transport and an authentication provider for a connection: of the schemes of its connector, a credential if one was said, and
/// the transport if one was said. `connector_http::standalone` is one.
pub type MakePorts =
    fn(&Connection, &[AuthSpec], Option<Credential>, Option<Arc<dyn Transport>>) -> Result<(Arc<dyn Transport>, Arc<dyn AuthProvider>)>;

type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Puts a client together. Setters never fail; mistakes come out of [`ClientBuilder::build`].
#[must_use = "a builder does nothing until `build`"]
#[derive(Clone)]
pub struct ClientBuilder {
    id: Box<str>,
    manifest: Arc<Manifest>,
    hooks: Hooks,
    options: ConnectionOptions,
    connection: Option<Connection>,
    lookup: Option<Lookup>,
    secret: Option<Credential>,
    transport: Option<Arc<dyn Transport>>,
    auth: Option<Arc<dyn AuthProvider>>,
    ports: Option<MakePorts>,
    parts: StackParts,
}

impl ClientBuilder {
    /// A client of the connector `id`, with a connection as the manifest has it: its base URL and its defaults, and no environment.
    pub fn new(id: &str, manifest: Arc<Manifest>, hooks: Hooks) -> Self {
        Self {
            id: id.into(),
            manifest,
            hooks,
            options: ConnectionOptions::default(),
            connection: None,
            lookup: None,
            secret: None,
            transport: None,
            auth: None,
            ports: None,
            parts: StackParts::default(),
        }
    }

    /// Other hooks, for a vendor crate whose hooks depend on what its builder is told.
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Where the API is, if not where the manifest says.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.options.base_url = Some(url.into());
        self
    }

    /// A setting of the connection; see the manifest's `settings`.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.settings.insert(name.into(), value.into());
        self
    }

    /// The tenant of the connection, if not the default one.
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.options.tenant = tenant;
        self
    }

    /// The name of the credential that authorises calls; the connection's id if not said.
    pub fn credential(mut self, name: impl Into<String>) -> Self {
        self.options.credential = Some(name.into());
        self
    }

    /// Everything about the connection at once, instead of what was said before.
    pub fn options(mut self, options: ConnectionOptions) -> Self {
        self.options = options;
        self
    }

    /// A connection made elsewhere. Base URL, settings, tenant, name of the credential and environment are then not looked at.
    pub fn connection(mut self, connection: Connection) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Where environment variables come from: `<ID>_BASE_URL`, and those the manifest's settings name. [`process_env`] is one such source.
    pub fn env(mut self, lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.lookup = Some(Arc::new(lookup));
        self
    }

    /// The credential itself, for the function [`ClientBuilder::ports`] was given. Not looked at if there is a provider already.
    pub fn secret(mut self, credential: Credential) -> Self {
        self.secret = Some(credential);
        self
    }

    /// How requests are sent.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// How requests are authenticated; [`connector_core::auth::NoAuth`] for an API that takes anybody.
    pub fn auth(mut self, auth: Arc<dyn AuthProvider>) -> Self {
        self.auth = Some(auth);
        self
    }

    /// What makes transport and authentication where they are not said.
    pub fn ports(mut self, make: MakePorts) -> Self {
        self.ports = Some(make);
        self
    }

    /// Retries, limits, breakers and the clock, if not the standard ones.
    pub fn resilience(mut self, parts: StackParts) -> Self {
        self.parts = parts;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if there is no transport or no authentication and nothing that makes them, if a setting is
    /// missing, if the base URL is unusable, or if manifest and hooks do not fit.
    pub fn build(self) -> Result<Client> {
        let Self { id, manifest, hooks, options, connection: given, lookup, secret, transport, auth, ports, parts } = self;
        let connection = match given {
            Some(connection) => connection,
            None => connection(&manifest, &id, options, &|name| lookup.as_deref().and_then(|lookup| lookup(name)))?,
        };
        let missing = |what: &str, setter: &str| {
            Error::config(format!("a client of `{id}` has no {what}; say `.{setter}(..)`, or turn on the feature `http` of its crate"))
                .with_context("connector", &*id)
        };
        let (transport, auth) = match (transport, auth, ports) {
            (Some(transport), Some(auth), _) => (transport, auth),
            (transport, auth, Some(make)) => {
                let (transport, made) = make(&connection, &manifest.auth, secret, transport)?;
                (transport, auth.unwrap_or(made))
            }
            (None, _, None) => return Err(missing("transport", "transport")),
            (Some(_), None, None) => return Err(missing("authentication", "auth")),
        };
        open(manifest, hooks, connection, transport, auth, &parts)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("id", &self.id)
            .field("options", &self.options)
            .field("connection", &self.connection)
            .field("secret", &self.secret)
            .field("transport", &self.transport)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// A variable of the process environment. One that is empty counts as not set.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
