//! Where secrets are kept: a port, what a secret is asked for with, and the store a small program needs (memory).
//!
//! Refuses anonymous questions: every look at a secret says for which connection and operation, so that it can be audited.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{
    context::{Actor, CallCx, TenantId, WorkspaceId},
    error::{Error, Result},
};

/// Secret material by field (`token`, `client_id`, `client_secret`). `Debug` shows the field names only.
#[derive(Clone, Default)]
pub struct Credential {
    /// Grows with every change, so that holders of an older copy notice.
    pub version: u64,
    /// How it is meant to be used, as in the connection setting `auth` (`bearer`, `authorization_code`); `None`: the first scheme that fits.
    pub scheme: Option<Arc<str>>,
    /// The version before this one, as long as the overlap after a rotation lasts. A vendor that refuses the new one may still take it.
    pub previous: Option<Arc<Credential>>,
    fields: BTreeMap<String, SecretString>,
}

impl Credential {
    /// A credential with these fields.
    pub fn new<K: Into<String>, V: Into<SecretString>>(fields: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { version: 1, scheme: None, previous: None, fields: fields.into_iter().map(|(key, value)| (key.into(), value.into())).collect() }
    }

    /// Says how it is meant to be used.
    #[must_use]
    pub fn with_scheme(mut self, scheme: Option<Arc<str>>) -> Self {
        self.scheme = scheme;
        self
    }

    /// Says which version of it is still accepted besides.
    #[must_use]
    pub fn with_previous(mut self, previous: Option<Arc<Credential>>) -> Self {
        self.previous = previous;
        self
    }

    /// Both versions of one field, the newest first: for secrets that prove what others sent, where either may have been used.
    pub fn both(&self, name: &str) -> Vec<SecretString> {
        let older = self.previous.as_ref().and_then(|previous| previous.field(name));
        self.field(name).into_iter().chain(older).cloned().collect()
    }

    /// One field.
    pub fn field(&self, name: &str) -> Option<&SecretString> {
        self.fields.get(name)
    }

    /// One field, or an error that names the credential and the field.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if there is no such field.
    pub fn require(&self, credential: &str, name: &str) -> Result<&SecretString> {
        self.field(name).ok_or_else(|| {
            let known = self.fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::config(format!("credential `{credential}` has no field `{name}`; it has: {known}"))
        })
    }

    /// The names of the fields.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }
}

impl Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("version", &self.version).field("fields", &self.fields.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// Which secret is wanted, and what for: everything an access check and an audit record need.
#[derive(Debug, Clone, Copy)]
pub struct CredentialQuery<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The credential's name.
    pub name: &'a str,
    /// The workspace it is used for; `None`: the hub's own work, such as verifying a webhook.
    pub workspace: Option<&'a WorkspaceId>,
    /// The connector it goes to.
    pub connector: &'a str,
    /// The connection it is used over.
    pub connection: &'a str,
    /// The operation, or the hub's own errand (`token.refresh`, `webhook.verify`).
    pub operation: &'a str,
    /// Who is behind it.
    pub actor: &'a Actor,
    /// Ties it to the call.
    pub correlation_id: &'a str,
}

/// What is asked for by a call that does not say what it is about.
const UNNAMED: &str = "call";

impl<'a> CredentialQuery<'a> {
    /// The secret `name` for this call.
    pub fn of(cx: &'a CallCx, name: &'a str) -> Self {
        Self {
            tenant: &cx.connection.tenant,
            name,
            workspace: Some(&cx.workspace),
            connector: &cx.connection.connector,
            connection: cx.connection.id.as_str(),
            operation: cx.operation.as_deref().unwrap_or(UNNAMED),
            actor: &cx.actor,
            correlation_id: &cx.correlation_id,
        }
    }

    /// The same for an errand of the hub's own.
    #[must_use]
    pub fn for_errand(self, operation: &'a str) -> Self {
        Self { operation, workspace: None, ..self }
    }

    /// What to say when there is none: the same words for a missing one, another tenant's and one that the workspace was not granted.
    pub fn missing(&self) -> Error {
        Error::config(format!("there is no credential `{}`; set it before calling", crate::redact::printable(self.name, 80)))
    }
}

/// Keeps credentials. Only the authentication layer asks it for secrets.
#[async_trait]
pub trait CredentialStore: Debug + Send + Sync + 'static {
    /// The credential that is asked for.
    ///
    /// # Errors
    /// [`CredentialQuery::missing`] ([`crate::ErrorKind::Config`]) if the tenant has none of this name, which looks the same as another
    /// tenant's; [`crate::ErrorKind::AuthExpired`] if it is revoked; [`crate::ErrorKind::Transient`] if what keeps it cannot be reached.
    async fn get(&self, query: &CredentialQuery<'_>) -> Result<Arc<Credential>>;

    /// Whether there is one, without opening it.
    ///
    /// # Errors
    /// What keeps [`CredentialStore::get`] from looking.
    async fn exists(&self, tenant: &TenantId, name: &str) -> Result<bool>;
}

/// Credentials in memory, set by the program.
#[derive(Debug, Default)]
pub struct MemoryCredentials(RwLock<ByName>);

type ByName = HashMap<TenantId, HashMap<Box<str>, Arc<Credential>>>;

impl MemoryCredentials {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with one credential of the default tenant.
    pub fn with(name: &str, credential: Credential) -> Self {
        let store = Self::new();
        store.set(TenantId::default(), name, credential);
        store
    }

    /// Sets a credential; an older one of the same name is replaced and the version grows.
    pub fn set(&self, tenant: TenantId, name: &str, mut credential: Credential) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let own = map.entry(tenant).or_default();
        if let Some(old) = own.get(name) {
            credential.version = old.version + 1;
        }
        own.insert(name.into(), Arc::new(credential));
    }

    fn find(&self, tenant: &TenantId, name: &str) -> Option<Arc<Credential>> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(tenant).and_then(|own| own.get(name)).cloned()
    }
}

#[async_trait]
impl CredentialStore for MemoryCredentials {
    async fn get(&self, query: &CredentialQuery<'_>) -> Result<Arc<Credential>> {
        self.find(query.tenant, query.name).ok_or_else(|| query.missing())
    }

    async fn exists(&self, tenant: &TenantId, name: &str) -> Result<bool> {
        Ok(self.find(tenant, name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Connection;

    fn cx(tenant: &str) -> CallCx {
        CallCx::new(Arc::new(Connection::named("c".into(), tenant.into(), "crm", "https://api.example").unwrap()))
    }

    #[test]
    fn after_a_rotation_both_versions_prove_what_others_sent() {
        let old = Arc::new(Credential::new([("webhook_secret", "old")]));
        let new = Credential::new([("webhook_secret", "new")]).with_previous(Some(old));
        let both: Vec<_> = new.both("webhook_secret").iter().map(|secret| secrecy::ExposeSecret::expose_secret(secret).to_owned()).collect();
        assert_eq!(both, ["new", "old"]);
    }

    #[tokio::test]
    async fn debug_shows_names_never_values_and_tenants_are_apart() {
        let store = MemoryCredentials::with("crm", Credential::new([("token", "hunter2")]));
        let ours = cx("default");
        let theirs = cx("other");
        let found = store.get(&CredentialQuery::of(&ours, "crm")).await.unwrap();
        assert_eq!(format!("{found:?}"), r#"Credential { version: 1, fields: ["token"], .. }"#);
        let foreign = store.get(&CredentialQuery::of(&theirs, "crm")).await.unwrap_err();
        let missing = store.get(&CredentialQuery::of(&theirs, "erp")).await.unwrap_err();
        assert_eq!(foreign.to_string().replace("crm", "erp"), missing.to_string());
        assert!(!format!("{store:?}").contains("hunter2"));
    }
}
