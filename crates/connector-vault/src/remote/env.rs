//! Secrets in environment variables: `{PREFIX}{NAME}_{FIELD}`, for the default tenant.
//!
//! Refuses other tenants: an environment has no places of its own for them. It is asked for known fields only, because variables can
//! be looked up and not listed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use connector_core::{Error, Result, TenantId};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Env, path::check};
use crate::manager::{ManagedSecret, SecretManager};

/// The fields that are looked for besides those the configuration names.
const FIELDS: [&str; 16] = [
    "access_token",
    "api_key",
    "app_token",
    "bot_token",
    "client_id",
    "client_secret",
    "key_id",
    "password",
    "private_key",
    "refresh_token",
    "signing_secret",
    "tenant_id",
    "token",
    "username",
    "value",
    "webhook_secret",
];

/// Environment variables as a secret manager.
pub struct EnvStore {
    env: Env,
    prefix: String,
    fields: Vec<String>,
    /// What each secret looked like, as a hash with a key of this process, and its version.
    seen: Mutex<HashMap<String, (u64, u64)>>,
    hasher: RandomState,
}

impl EnvStore {
    /// Variables that start with `prefix`. `more`: names of fields besides the usual ones.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a prefix or field that cannot be part of a variable's name.
    pub fn new(env: Env, prefix: &str, more: &[String]) -> Result<Self> {
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word(prefix) || prefix.is_empty() || prefix.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Error::config(
                "the prefix must be letters, digits and `_`, like `CRED_`, and not empty: it keeps other variables out of reach",
            ));
        }
        if let Some(wrong) = more.iter().find(|field| field.is_empty() || !is_word(field)) {
            return Err(Error::config(format!(
                "`{}` cannot be the name of a field here: letters, digits and `_`",
                connector_core::redact::printable(wrong, 40)
            )));
        }
        let mut fields: Vec<String> =
            FIELDS.iter().map(|field| (*field).to_owned()).chain(more.iter().map(|field| field.to_ascii_lowercase())).collect();
        fields.sort_unstable();
        fields.dedup();
        Ok(Self { env, prefix: prefix.to_owned(), fields, seen: Mutex::default(), hasher: RandomState::new() })
    }

    /// Counts up when the values change.
    fn version(&self, name: &str, fields: &BTreeMap<String, SecretString>) -> u64 {
        let values: Vec<(&str, &str)> = fields.iter().map(|(field, value)| (field.as_str(), value.expose_secret())).collect();
        let hash = self.hasher.hash_one(values);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, version) = seen.entry(name.to_owned()).or_insert((hash, 1));
        if *known != hash {
            (*known, *version) = (hash, *version + 1);
        }
        *version
    }
}

impl fmt::Debug for EnvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[async_trait]
impl SecretManager for EnvStore {
    fn place(&self) -> String {
        format!("environment variables {}*", self.prefix)
    }

    async fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<ManagedSecret>> {
        check("secret", name)?;
        if *tenant != TenantId::default() {
            return Ok(None);
        }
        let variable = |field: &str| {
            let upper = |text: &str| text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect::<String>();
            format!("{}{}_{}", self.prefix, upper(name), upper(field))
        };
        let found = self.fields.iter().filter_map(|field| {
            let value = (self.env)(&variable(field)).filter(|value| !value.is_empty())?;
            Some((field.clone(), SecretString::from(value)))
        });
        let fields: BTreeMap<String, SecretString> = found.collect();
        if fields.is_empty() {
            return Ok(None);
        }
        let version = self.version(name, &fields);
        Ok(Some(ManagedSecret { fields, version, previous: None, lease: None }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, RwLock};

    use super::*;
    use crate::remote::path::HOSTILE;

    fn store(vars: &Arc<RwLock<HashMap<String, String>>>, more: &[&str]) -> EnvStore {
        let vars = vars.clone();
        let more: Vec<String> = more.iter().map(|field| (*field).to_owned()).collect();
        EnvStore::new(Arc::new(move |name| vars.read().unwrap().get(name).cloned()), "CRED_", &more).unwrap()
    }

    fn vars(pairs: &[(&str, &str)]) -> Arc<RwLock<HashMap<String, String>>> {
        Arc::new(RwLock::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
    }

    #[tokio::test]
    async fn known_and_named_fields_are_found_for_the_default_tenant_only() {
        let vars = vars(&[("CRED_MY_CRM_API_KEY", "k-canary"), ("CRED_MY_CRM_REGION_CODE", "eu"), ("CRED_MY_CRM_EMPTY", ""), ("MY_CRM_TOKEN", "no")]);
        let store = store(&vars, &["region_code"]);
        let secret = store.read(&TenantId::default(), "my-crm").await.unwrap().unwrap();
        assert_eq!(secret.fields.keys().collect::<Vec<_>>(), ["api_key", "region_code"]);
        assert_eq!(secret.fields["api_key"].expose_secret(), "k-canary");
        assert!(store.read(&"acme".into(), "my-crm").await.unwrap().is_none());
        assert!(store.read(&TenantId::default(), "other").await.unwrap().is_none());
        assert!(!format!("{store:?} {secret:?}").contains("canary"));
    }

    #[tokio::test]
    async fn the_version_grows_when_a_value_changes() {
        let vars = vars(&[("CRED_CRM_TOKEN", "a")]);
        let store = store(&vars, &[]);
        let version = async || store.read(&TenantId::default(), "crm").await.unwrap().unwrap().version;
        assert_eq!((version().await, version().await), (1, 1));
        vars.write().unwrap().insert("CRED_CRM_TOKEN".into(), "b".into());
        assert_eq!(version().await, 2);
    }

    #[tokio::test]
    async fn hostile_names_and_prefixes_are_refused() {
        let store = store(&vars(&[]), &[]);
        for hostile in HOSTILE {
            assert!(store.read(&TenantId::default(), hostile).await.is_err(), "{hostile:?}");
        }
        let nothing: Env = Arc::new(|_| None);
        for prefix in ["", "1A", "A-", "A B", "${A}"] {
            assert!(EnvStore::new(nothing.clone(), prefix, &[]).is_err(), "{prefix:?}");
        }
        assert!(EnvStore::new(nothing, "A_", &["a-b".into()]).is_err());
    }
}
