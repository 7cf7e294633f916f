//! Where secrets are kept: a port, and the two stores a small program needs (memory and the environment).

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{
    context::TenantId,
    error::{Error, Result},
};

/// Secret material by field (`token`, `client_id`, `client_secret`). `Debug` shows the field names only.
#[derive(Clone, Default)]
pub struct Credential {
    /// Grows with every change, so that holders of an older copy notice.
    pub version: u64,
    fields: BTreeMap<String, SecretString>,
}

impl Credential {
    /// A credential with these fields.
    pub fn new<K: Into<String>, V: Into<SecretString>>(fields: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { version: 1, fields: fields.into_iter().map(|(key, value)| (key.into(), value.into())).collect() }
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
        f.debug_struct("Credential").field("version", &self.version).field("fields", &self.fields.keys().collect::<Vec<_>>()).finish()
    }
}

/// Keeps credentials. Only the authentication layer asks it for secrets.
#[async_trait]
pub trait CredentialStore: Debug + Send + Sync + 'static {
    /// The credential of this name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if the tenant has none of this name, which looks the same as another tenant's.
    async fn get(&self, tenant: &TenantId, name: &str) -> Result<Arc<Credential>>;
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
}

#[async_trait]
impl CredentialStore for MemoryCredentials {
    async fn get(&self, tenant: &TenantId, name: &str) -> Result<Arc<Credential>> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(tenant)
            .and_then(|own| own.get(name))
            .cloned()
            .ok_or_else(|| Error::config(format!("there is no credential `{name}`; set it before calling")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn debug_shows_names_never_values_and_tenants_are_apart() {
        let store = MemoryCredentials::with("crm", Credential::new([("token", "hunter2")]));
        let found = store.get(&TenantId::default(), "crm").await.unwrap();
        assert_eq!(format!("{found:?}"), r#"Credential { version: 1, fields: ["token"] }"#);
        let foreign = store.get(&"other".into(), "crm").await.unwrap_err();
        let missing = store.get(&"other".into(), "erp").await.unwrap_err();
        assert_eq!(foreign.to_string().replace("crm", "erp"), missing.to_string());
        assert!(!format!("{store:?}").contains("hunter2"));
    }
}
