//! The vault: keeps, opens, grants, rotates. (Being built; the signatures stand.)

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Error, Result, TenantId,
    clock::Clock,
    credential::{Credential, CredentialQuery, CredentialStore},
    state::{Condition, Store},
    token::{TokenLease, TokenRecord, TokenRow, TokenStore},
};
use secrecy::SecretString;

use crate::{
    info::{CredentialInfo, CredentialState, NewCredential, RotationReport, VerifyReport},
    key::MasterKey,
    manager::SecretManager,
};

/// The credential store. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Vault(Arc<()>);

/// Settings of a [`Vault`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct VaultBuilder {}

fn soon<T>() -> Result<T> {
    Err(Error::unsupported("the vault is being built"))
}

impl VaultBuilder {
    /// Adds a master key. The first one added is current: what is sealed from now on is sealed under it. The others still open.
    pub fn key(self, _key: Arc<dyn MasterKey>) -> Self {
        self
    }

    /// Adds an external manager: a credential called `name:rest` is read from it as `rest`.
    pub fn manager(self, _name: &str, _manager: Arc<dyn SecretManager>) -> Self {
        self
    }

    /// The time.
    pub fn clock(self, _clock: Arc<dyn Clock>) -> Self {
        self
    }

    /// How long what was opened is kept in memory, and so how long a remote master key may be away: 5 minutes if not said.
    pub fn keep_for(self, _time: Duration) -> Self {
        self
    }

    /// Opens the vault and proves its keys.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if a key that something is sealed under is missing or wrong, with its id.
    pub async fn open(self) -> Result<Vault> {
        soon()
    }
}

impl Vault {
    /// Starts to open the vault that lies in `store`.
    pub fn builder(_store: Arc<dyn Store>) -> VaultBuilder {
        VaultBuilder {}
    }

    /// Keeps a credential; one of the same name is replaced at once, with a higher version.
    pub async fn set(&self, _tenant: &TenantId, _name: &str, _new: NewCredential) -> Result<CredentialInfo> {
        soon()
    }

    /// The credentials of a tenant, by name.
    pub async fn list(&self, _tenant: &TenantId) -> Result<Vec<CredentialInfo>> {
        soon()
    }

    /// One credential. Another tenant's looks like one that does not exist ([`connector_core::ErrorKind::NotFound`]).
    pub async fn show(&self, _tenant: &TenantId, _name: &str) -> Result<CredentialInfo> {
        soon()
    }

    /// Grants it to exactly these workspaces.
    pub async fn grant(&self, _tenant: &TenantId, _name: &str, _workspaces: Vec<String>) -> Result<CredentialInfo> {
        soon()
    }

    /// Replaces the given fields; the version before is accepted for `overlap` besides.
    pub async fn rotate(
        &self,
        _tenant: &TenantId,
        _name: &str,
        _fields: BTreeMap<String, SecretString>,
        _overlap: Duration,
    ) -> Result<CredentialInfo> {
        soon()
    }

    /// Says how it stands, when it ends, what it may, how often it is to be replaced. `None` leaves a thing as it is.
    pub async fn note(&self, _tenant: &TenantId, _name: &str, _note: Note) -> Result<CredentialInfo> {
        soon()
    }

    /// Destroys its secrets and tokens and keeps the record that there was one.
    pub async fn revoke(&self, _tenant: &TenantId, _name: &str) -> Result<CredentialInfo> {
        soon()
    }

    /// The tenants that have credentials.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        soon()
    }

    /// Opens everything once, without showing anything.
    pub async fn verify(&self) -> Result<VerifyReport> {
        soon()
    }

    /// Wraps every data key under the current master key, while everything goes on. Stopped anywhere, it goes on where it was.
    /// `progress` hears how many envelopes are done.
    pub async fn rotate_key(&self, _progress: &(dyn Fn(u64) + Send + Sync)) -> Result<RotationReport> {
        soon()
    }

    /// Seals something small that is not a credential (a PKCE verifier), bound to tenant, purpose and id.
    pub async fn seal(&self, _tenant: &TenantId, _purpose: &str, _id: &str, _plain: &[u8]) -> Result<Vec<u8>> {
        soon()
    }

    /// Opens what [`Vault::seal`] sealed for the same tenant, purpose and id.
    pub async fn unseal(&self, _tenant: &TenantId, _purpose: &str, _id: &str, _sealed: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        soon()
    }
}

/// What to change about a credential's record.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// How it stands.
    pub state: Option<CredentialState>,
    /// The scopes it has.
    pub scopes: Option<Vec<String>>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Unix milliseconds at which the vendor stops accepting it; `Some(None)`: it does not.
    pub expires_at: Option<Option<u64>>,
    /// How often it is to be replaced; `Some(None)`: no schedule.
    pub rotate_every: Option<Option<Duration>>,
    /// How it is used.
    pub scheme: Option<Arc<str>>,
}

#[async_trait]
impl CredentialStore for Vault {
    async fn get(&self, _query: &CredentialQuery<'_>) -> Result<Arc<Credential>> {
        soon()
    }

    async fn exists(&self, _tenant: &TenantId, _name: &str) -> Result<bool> {
        soon()
    }
}

#[async_trait]
impl TokenStore for Vault {
    async fn load(&self, _query: &CredentialQuery<'_>) -> Result<Option<TokenRow>> {
        soon()
    }

    async fn save(&self, _query: &CredentialQuery<'_>, _record: &TokenRecord, _condition: Condition) -> Result<Option<u64>> {
        soon()
    }

    async fn lease(&self, _query: &CredentialQuery<'_>, _time: Duration) -> Result<Option<TokenLease>> {
        soon()
    }

    async fn release(&self, _query: &CredentialQuery<'_>, _lease: TokenLease) -> Result<()> {
        soon()
    }

    async fn remove(&self, _query: &CredentialQuery<'_>) -> Result<bool> {
        soon()
    }
}
