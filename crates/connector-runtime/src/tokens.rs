//! The tokens of people's consents, kept by the vault, also for clients that the vault does not keep.
//!
//! The vault keeps tokens of credentials it knows. A client written in `hub.yaml` or the environment stays there; the vault gets a record of it
//! that holds its public id, so that scopes, state and tokens have a place. Refuses to copy a secret for that.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    credential::{Credential, CredentialQuery, CredentialStore as _},
    state::Condition,
    token::{TokenLease, TokenRecord, TokenRow, TokenStore},
};
use connector_vault::{CredentialState, NewCredential, Vault};

use crate::credentials::Credentials;

/// The field of such a record.
pub(crate) const CLIENT_ID: &str = "client_id";

/// The vault's tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) vault: Vault,
    pub(crate) credentials: Arc<Credentials>,
}

/// Sees to it that the vault has a record under this name that tokens can be kept for.
pub(crate) async fn ensure_record(
    vault: &Vault,
    tenant: &TenantId,
    name: &str,
    connector: &str,
    workspaces: &[String],
    client: &Credential,
) -> Result<()> {
    // What an external manager keeps needs no record here.
    if name.contains(':') {
        return Ok(());
    }
    match vault.show(tenant, name).await {
        Ok(info) if info.state != CredentialState::Revoked => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = client.require(name, CLIENT_ID)?.clone();
    let new = NewCredential {
        fields: [(CLIENT_ID.to_owned(), id)].into(),
        scheme: client.scheme.clone(),
        connector: Some(connector.to_owned()),
        workspaces: workspaces.to_vec(),
        ..NewCredential::default()
    };
    vault.set(tenant, name, new).await.map(drop)
}

#[async_trait]
impl TokenStore for Tokens {
    async fn load(&self, query: &CredentialQuery<'_>) -> Result<Option<TokenRow>> {
        self.vault.load(query).await
    }

    async fn save(&self, query: &CredentialQuery<'_>, record: &TokenRecord, condition: Condition) -> Result<Option<u64>> {
        if !self.vault.exists(query.tenant, query.name).await? {
            // A first refresh token in the configuration: what it is renewed to must outlive this process all the same.
            let client = self.credentials.get(query).await?;
            let ensured = ensure_record(&self.vault, query.tenant, query.name, query.connector, &["*".to_owned()], &client).await;
            ensured.map_err(|error: Error| error.with_context("credential", query.name))?;
        }
        self.vault.save(query, record, condition).await
    }

    async fn lease(&self, query: &CredentialQuery<'_>, time: Duration) -> Result<Option<TokenLease>> {
        self.vault.lease(query, time).await
    }

    async fn release(&self, query: &CredentialQuery<'_>, lease: TokenLease) -> Result<()> {
        self.vault.release(query, lease).await
    }

    async fn remove(&self, query: &CredentialQuery<'_>) -> Result<bool> {
        self.vault.remove(query).await
    }
}
