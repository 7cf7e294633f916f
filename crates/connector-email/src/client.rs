//! A client for one mailbox, for programs that use this crate alone. Owns the words of people who use mail; putting the client together is
//! [`ClientBuilder`]'s.

use std::sync::Arc;

use connector_core::{Client, Result, auth::AuthProvider, credential::Credential, layer::StackParts, transport::Transport};
use connector_manifest::{ClientBuilder, process_env};
use secrecy::SecretString;

use crate::{ID, hooks, manifest};

/// A mailbox. Its methods are in [`crate::generated::ops`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Email {
    client: Client,
}

impl Email {
    /// A client of a provider that is known by name (`gmail`, `fastmail`, ..), with a password or an app password.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a provider that is not known.
    #[cfg(feature = "http")]
    pub fn new(preset: &str, address: &str, password: impl Into<SecretString>) -> Result<Self> {
        Self::builder().preset(preset).password(address, password).build()
    }

    /// A client whose account is in the environment: `EMAIL_PRESET` (or `EMAIL_BASE_URL`), `EMAIL_ADDRESS`, and `EMAIL_USERNAME` with
    /// `EMAIL_PASSWORD`, or `EMAIL_ACCESS_TOKEN`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if neither a preset nor a base URL is set. A missing credential shows at the first call, named.
    #[cfg(feature = "http")]
    pub fn from_env() -> Result<Self> {
        Self::builder().build()
    }

    /// Starts to put a client together.
    pub fn builder() -> EmailBuilder {
        EmailBuilder::default()
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

/// Puts an [`Email`] together. Mistakes come out of [`EmailBuilder::build`].
#[derive(Debug)]
pub struct EmailBuilder(ClientBuilder);

impl Default for EmailBuilder {
    fn default() -> Self {
        let builder = ClientBuilder::new(ID, manifest(), hooks()).env(process_env);
        #[cfg(feature = "http")]
        let builder = builder.ports(connector_http::standalone);
        Self(builder)
    }
}

impl EmailBuilder {
    /// A provider that is known by name; see the guide for the list.
    #[must_use]
    pub fn preset(self, name: impl Into<String>) -> Self {
        Self(self.0.setting("preset", name))
    }

    /// User and password. The user is also the address mail comes from, unless [`EmailBuilder::setting`] says another `address`.
    #[must_use]
    pub fn password(self, username: &str, password: impl Into<SecretString>) -> Self {
        Self(self.0.secret(Credential::new([("username", SecretString::from(username)), ("password", password.into())])))
    }

    /// An OAuth access token and the address of the mailbox it is for.
    #[must_use]
    pub fn access_token(self, address: &str, token: impl Into<SecretString>) -> Self {
        Self(self.0.setting("address", address).secret(Credential::new([("token", token.into())])))
    }

    /// Any other setting of the connection; the guide lists them.
    #[must_use]
    pub fn setting(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.setting(name, value))
    }

    /// The mail server where no preset fits: `https://mail.example.com`, which serves IMAP and SMTP.
    #[must_use]
    pub fn base_url(self, url: impl Into<String>) -> Self {
        Self(self.0.base_url(url))
    }

    /// Who says where connections may go, and sends token requests, if not the shared HTTP transport.
    #[must_use]
    pub fn transport(self, transport: Arc<dyn Transport>) -> Self {
        Self(self.0.transport(transport))
    }

    /// Where the credential comes from, if not from here.
    #[must_use]
    pub fn auth(self, auth: Arc<dyn AuthProvider>) -> Self {
        Self(self.0.auth(auth))
    }

    /// Retries, limits, breakers and the clock, if not the standard ones.
    #[must_use]
    pub fn resilience(self, parts: StackParts) -> Self {
        Self(self.0.resilience(parts))
    }

    /// The client.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a base URL that is none, or if there is no transport or provider and the feature `http`
    /// is off.
    pub fn build(self) -> Result<Email> {
        self.0.build().map(Email::from_client)
    }
}
