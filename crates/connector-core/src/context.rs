//! Who calls, on whose behalf, by when: the context that travels with every call.
//!
//! Refuses secrets: a [`Connection`] names its credential, it never holds one.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    clock::Instant,
    error::{Error, Result},
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: AsRef<str> + ?Sized> From<&T> for $name {
            fn from(id: &T) -> Self {
                Self(id.as_ref().into())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

id!(
    /// The isolation boundary. Every store key, cache key, limiter and breaker is bound to one.
    TenantId
);
id!(
    /// A team's scope inside a tenant.
    WorkspaceId
);
id!(
    /// A configured instance of a connector.
    ConnectionId
);

impl Default for TenantId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl Default for WorkspaceId {
    fn default() -> Self {
        Self("default".into())
    }
}

/// Who is behind a call, for access checks and audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Actor {
    /// The embedding program or the hub itself.
    System,
    /// A person, by user name or e-mail address.
    User(Arc<str>),
    /// An API key, by its public id (never the key).
    ApiKey(Arc<str>),
    /// An AI agent, by name.
    Agent(Arc<str>),
    /// A rule reacting to an event.
    Rule(Arc<str>),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User(id) => write!(f, "user:{id}"),
            Self::ApiKey(id) => write!(f, "key:{id}"),
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::Rule(id) => write!(f, "rule:{id}"),
        }
    }
}

/// One tenant's configured instance of a connector: settings and a reference to a credential.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its id, unique in the tenant.
    pub id: ConnectionId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The connector it configures.
    pub connector: Arc<str>,
    /// Where the API is. Always ends without a slash in [`Connection::base`].
    pub base_url: Url,
    /// Free settings such as `mailbox` or `subdomain`. Never secrets.
    pub settings: BTreeMap<String, String>,
    /// The name of the credential in the store that authorises calls.
    pub credential: Option<Arc<str>>,
    base: Arc<str>,
    scope: Arc<str>,
}

impl Connection {
    /// A connection of `connector` to the API at `base_url`, owned by the default tenant and named after its connector.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) if the URL is not an absolute http(s) URL with a host, or carries credentials or a query.
    pub fn new(connector: &str, base_url: &str) -> Result<Self> {
        Self::named(ConnectionId::from(connector), TenantId::default(), connector, base_url)
    }

    /// A connection with its own id and tenant.
    ///
    /// # Errors
    /// As [`Connection::new`].
    pub fn named(id: ConnectionId, tenant: TenantId, connector: &str, base_url: &str) -> Result<Self> {
        let refuse = |why: &str| Error::config(format!("the base URL of connection `{id}` {why}")).with_context("connector", connector);
        let base_url = Url::parse(base_url).map_err(|error| refuse("is not a URL").with_source(error))?;
        if !matches!(base_url.scheme(), "http" | "https") {
            return Err(refuse("must start with https:// or http://"));
        }
        if !base_url.username().is_empty() || base_url.password().is_some() {
            return Err(refuse("must not hold a user name or password; store them as a credential"));
        }
        if base_url.query().is_some() || base_url.fragment().is_some() {
            return Err(refuse("must not have a query or fragment"));
        }
        let host = base_url.host_str().ok_or_else(|| refuse("has no host"))?;
        let scope = format!("{tenant}\u{1f}{connector}\u{1f}{host}:{}", base_url.port_or_known_default().unwrap_or(0)).into();
        let base = base_url.as_str().trim_end_matches('/').into();
        Ok(Self { id, tenant, connector: connector.into(), base_url, settings: BTreeMap::new(), credential: None, base, scope })
    }

    /// Adds a setting.
    #[must_use]
    pub fn with_setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// Names the credential that authorises calls.
    #[must_use]
    pub fn with_credential(mut self, name: &str) -> Self {
        self.credential = Some(name.into());
        self
    }

    /// The base URL without a trailing slash, ready for a path to be appended.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The key `tenant, connector, host` that breakers and retry budgets are kept under.
    pub fn scope(&self) -> &Arc<str> {
        &self.scope
    }

    /// The host and port of the base URL, for metrics and messages.
    pub fn host(&self) -> &str {
        self.base_url.host_str().unwrap_or_default()
    }

    /// One setting.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }
}

/// The context of one call. Cheap to clone. Never holds a secret.
#[derive(Debug, Clone)]
pub struct CallCx {
    /// The connection the call goes over; it fixes tenant, base URL and credential.
    pub connection: Arc<Connection>,
    /// The workspace on whose behalf the call is made.
    pub workspace: WorkspaceId,
    /// Who is behind it.
    pub actor: Actor,
    /// When the caller stops waiting, including every wait and retry. `None`: the policy's default applies.
    pub deadline: Option<Instant>,
    /// The key under which this exact write happens at most once.
    pub idempotency_key: Option<Arc<str>>,
    /// Ties log lines, audit records and vendor requests of one logical action together.
    pub correlation_id: Arc<str>,
    /// A W3C `traceparent` to pass on, if the caller has one.
    pub traceparent: Option<Arc<str>>,
    /// The operation the call is about, for audit; set by whoever makes the call.
    pub operation: Option<Arc<str>>,
}

impl CallCx {
    /// A context for calls over `connection` by the program itself.
    pub fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            workspace: WorkspaceId::default(),
            actor: Actor::System,
            deadline: None,
            idempotency_key: None,
            correlation_id: "".into(),
            traceparent: None,
            operation: None,
        }
    }

    /// The tenant, which is always the connection's.
    pub fn tenant(&self) -> &TenantId {
        &self.connection.tenant
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets the operation the call is about.
    #[must_use]
    pub fn with_operation(mut self, operation: impl Into<Arc<str>>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn with_correlation_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.correlation_id = id.into();
        self
    }

    /// Sets who is behind the call.
    #[must_use]
    pub fn with_actor(mut self, actor: Actor) -> Self {
        self.actor = actor;
        self
    }

    /// Sets the workspace.
    #[must_use]
    pub fn with_workspace(mut self, workspace: WorkspaceId) -> Self {
        self.workspace = workspace;
        self
    }

    /// Sets the deadline, or tightens it: a deadline never moves later.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        self
    }

    /// The time left until the deadline; `None` means no deadline.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_with_credentials_is_refused() {
        let error = Connection::new("erp", "https://user:pw@erp.example/api").unwrap_err();
        assert!(error.to_string().contains("must not hold a user name or password"));
        assert!(!error.to_string().contains("pw@"));
    }

    #[test]
    fn the_scope_binds_tenant_connector_and_host() {
        let connection = Connection::named("c1".into(), "acme".into(), "erp", "https://erp.example/api/").unwrap();
        assert_eq!(&**connection.scope(), "acme\u{1f}erp\u{1f}erp.example:443");
        assert_eq!(connection.base(), "https://erp.example/api");
    }

    #[test]
    fn a_deadline_only_tightens() {
        let now = Instant::now();
        let cx = CallCx::new(Arc::new(Connection::new("x", "https://x.example").unwrap()));
        let cx = cx.with_deadline(now + Duration::from_secs(5)).with_deadline(now + Duration::from_secs(9));
        assert_eq!(cx.time_left(now), Some(Duration::from_secs(5)));
    }
}
