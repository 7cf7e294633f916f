//! A client for one Slack workspace, for programs that use this crate alone. Owns the words Slack's users know; putting the client together is
//! [`ClientBuilder`]'s.

use std::sync::Arc;

use connector_core::{Client, Result, auth::AuthProvider, credential::Credential, layer::StackParts, transport::Transport};
use connector_manifest::{ClientBuilder, process_env};
use secrecy::SecretString;

use crate::{ID, hooks, manifest};

/// A Slack workspace, as one token sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slack {
    client: Client,
}

impl Slack {
    /// A client with a bot token (`xoxb-…`), or a user token (`xoxp-…`) for search.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if TLS cannot be set up.
    #[cfg(feature = "http")]
    pub fn new(token: impl Into<SecretString>) -> Result<Self> {
        Self::builder().token(token).build()
    }

    /// A client whose token is in the environment variable `SLACK_BOT_TOKEN`. `SLACK_BASE_URL` changes where the API is.
    ///
    /// # Errors
    /// As [`Slack::new`]. A missing variable surfaces with the first call, named.
    #[cfg(feature = "http")]
    pub fn from_env() -> Result<Self> {
        Self::builder().build()
    }

    /// Starts to put a client together.
    pub fn builder() -> SlackBuilder {
        SlackBuilder::default()
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

/// Puts a [`Slack`] together. Mistakes come out of [`SlackBuilder::build`].
#[derive(Debug)]
pub struct SlackBuilder(ClientBuilder);

impl Default for SlackBuilder {
    fn default() -> Self {
        let builder = ClientBuilder::new(ID, manifest(), hooks()).env(process_env);
        #[cfg(feature = "http")]
        let builder = builder.ports(connector_http::standalone);
        Self(builder)
    }
}

impl SlackBuilder {
    /// The token. Used with the feature `http`; without it, [`SlackBuilder::auth`] is what counts.
    #[must_use]
    pub fn token(self, token: impl Into<SecretString>) -> Self {
        Self(self.0.secret(Credential::new([("token", token.into())])))
    }

    /// The channel that is meant where a call names none.
    #[must_use]
    pub fn channel(self, id: impl Into<String>) -> Self {
        Self(self.0.setting("channel", id))
    }

    /// Where the API is, if not at `https://slack.com/api`.
    #[must_use]
    pub fn base_url(self, url: impl Into<String>) -> Self {
        Self(self.0.base_url(url))
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
    pub fn build(self) -> Result<Slack> {
        self.0.build().map(Slack::from_client)
    }
}
