//! Where the secret of a connection comes from: the configuration, the program's own store, the vault, the environment, in this order.
//!
//! Owns the order. Refuses to let a lower one stand in for a higher one that has the credential and cannot give it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use connector_core::{
    Connection, Result, TenantId,
    credential::{Credential, CredentialQuery, CredentialStore, MemoryCredentials},
    spec::AuthSpec,
};
use connector_vault::Vault;
use dashmap::DashMap;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{canonical, config::Env, tokens::CLIENT_ID};

/// The credentials the configuration names, then the program's own store, then the vault, then the environment.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    own: Held,
    next: Option<Arc<dyn CredentialStore>>,
    vault: Option<Vault>,
    env: Held,
    /// How often the tokens of a credential were replaced or destroyed behind the back of whoever holds one in memory.
    renewed: DashMap<(TenantId, Box<str>), Renewed>,
}

/// A credential handed out under a higher version than its own.
#[derive(Debug, Default)]
struct Renewed {
    times: u64,
    /// The credential as it is kept, and as it is handed out.
    last: Option<(Arc<Credential>, Arc<Credential>)>,
}

/// Where a credential was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Configuration,
    Program,
    Vault,
    Environment,
}

/// Credentials in memory, set anew with each catalogue. Only a changed one gets a new version: holders of tokens look at it.
#[derive(Debug, Default)]
struct Held {
    store: MemoryCredentials,
    digests: Mutex<HashMap<(TenantId, String), [u8; 32]>>,
}

impl Held {
    fn set(&self, tenant: &TenantId, name: &str, fields: Vec<(String, SecretString)>, scheme: Option<Arc<str>>) {
        let mut parts: Vec<&[u8]> = vec![scheme.as_deref().unwrap_or_default().as_bytes()];
        parts.extend(fields.iter().flat_map(|(field, value)| [field.as_bytes(), value.expose_secret().as_bytes()]));
        let digest = canonical::digest(&parts);
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.insert((tenant.clone(), name.to_owned()), digest) != Some(digest) {
            self.store.set(tenant.clone(), name, Credential::new(fields).with_scheme(scheme));
        }
    }
}

impl Credentials {
    pub(crate) fn over(next: Option<Arc<dyn CredentialStore>>, vault: Option<Vault>) -> Self {
        Self { next, vault, ..Self::default() }
    }

    /// Takes over what the configuration brings.
    pub(crate) fn configure(&self, tenant: &TenantId, name: &str, fields: Vec<(String, SecretString)>, scheme: Option<Arc<str>>) {
        self.own.set(tenant, name, fields, scheme);
    }

    /// Takes over what the environment holds for the connector of this connection, under the connection's credential name.
    pub(crate) fn remember_env(&self, connection: &Connection, schemes: &[AuthSpec], env: &Env) {
        let Some(name) = &connection.credential else { return };
        let set = |variable: &str| env(variable).filter(|value| !value.is_empty()).map(SecretString::from);
        // What wants several proofs is tried first: one of its variables alone may be all that another way needs.
        let (several, others): (Vec<&AuthSpec>, Vec<&AuthSpec>) = schemes.iter().partition(|scheme| matches!(scheme, AuthSpec::All { .. }));
        let found = several.into_iter().chain(others).find_map(|scheme| {
            let fields: Option<Vec<(String, SecretString)>> =
                scheme.fields().into_iter().map(|(field, variable)| Some((field.to_owned(), set(variable?)?))).collect();
            fields.filter(|fields| !fields.is_empty())
        });
        if let Some(fields) = found {
            self.env.set(&connection.tenant, name, fields, None);
        }
    }

    /// A person connected or disconnected: whoever holds a token in memory is to look again. They compare the credential's version.
    pub(crate) fn renew(&self, tenant: &TenantId, name: &str) {
        let mut renewed = self.renewed.entry((tenant.clone(), name.into())).or_default();
        (renewed.times, renewed.last) = (renewed.times + 1, None);
    }

    fn handed_out(&self, query: &CredentialQuery<'_>, found: Arc<Credential>) -> Arc<Credential> {
        if self.renewed.is_empty() {
            return found;
        }
        let Some(mut renewed) = self.renewed.get_mut(&(query.tenant.clone(), Box::from(query.name))) else { return found };
        if let Some((kept, handed)) = &renewed.last
            && Arc::ptr_eq(kept, &found)
        {
            return handed.clone();
        }
        let mut higher = Credential::clone(&found);
        higher.version += renewed.times;
        let higher = Arc::new(higher);
        renewed.last = Some((found, higher.clone()));
        higher
    }

    /// Who would give it; `None`: nobody has it.
    pub(crate) async fn source(&self, tenant: &TenantId, name: &str) -> Result<Option<Source>> {
        if self.own.store.exists(tenant, name).await? {
            return Ok(Some(Source::Configuration));
        }
        if let Some(next) = &self.next
            && next.exists(tenant, name).await?
        {
            return Ok(Some(Source::Program));
        }
        if let Some(vault) = &self.vault
            && vault.exists(tenant, name).await?
        {
            return Ok(Some(Source::Vault));
        }
        Ok(self.env.store.exists(tenant, name).await?.then_some(Source::Environment))
    }
}

#[async_trait]
impl CredentialStore for Credentials {
    async fn get(&self, query: &CredentialQuery<'_>) -> Result<Arc<Credential>> {
        // Whatever keeps a store from giving what it has (a locked vault, a revoked credential) must not be papered over by the next one.
        let found = match (self.source(query.tenant, query.name).await?, &self.next, &self.vault) {
            (Some(Source::Configuration), ..) => self.own.store.get(query).await?,
            (Some(Source::Program), Some(next), _) => next.get(query).await?,
            (Some(Source::Vault), _, Some(vault)) => {
                let kept = vault.get(query).await?;
                if kept.field_names().eq([CLIENT_ID]) && self.env.store.exists(query.tenant, query.name).await? {
                    // A record of a client that the environment holds; see `tokens`. How it is meant is the vault's to say.
                    let client = self.env.store.get(query).await?;
                    Arc::new(Credential::clone(&client).with_scheme(kept.scheme.clone()))
                } else {
                    kept
                }
            }
            _ => self.env.store.get(query).await?,
        };
        Ok(self.handed_out(query, found))
    }

    async fn exists(&self, tenant: &TenantId, name: &str) -> Result<bool> {
        Ok(self.source(tenant, name).await?.is_some())
    }
}
