//! Sign-ins under way: what a state stands for, kept under its hash, spent once.
//!
//! Refuses to keep the state or the session themselves, and the PKCE verifier in the clear.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use connector_core::{
    Actor, Error, Result, TenantId,
    state::{Condition, Namespace, Store},
};
use connector_vault::Vault;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::canonical;

/// How long a person has to sign in.
pub const STATE_TTL: Duration = Duration::from_secs(600);

const NAMESPACE: &str = "connect";
const PURPOSE: &str = "connect.verifier";

/// States are found without knowing whose they are: the answer of a browser names no tenant. The row says it.
pub(crate) fn hub() -> TenantId {
    TenantId::from("$hub")
}

/// Everything an answer must agree with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) tenant: TenantId,
    /// SHA-256 of tenant and session.
    session: String,
    pub(super) actor: Actor,
    pub(super) connector: String,
    pub(super) connection: String,
    pub(super) credential: String,
    pub(super) redirect_uri: String,
    pub(super) issuer: Option<String>,
    /// The server promised always to name itself.
    pub(super) iss_required: bool,
    pub(super) tools: Vec<String>,
    /// What was asked for.
    pub(super) scopes: Vec<String>,
    pub(super) next: Option<String>,
    /// Sealed by the vault.
    verifier: String,
    /// Unix seconds.
    pub(super) expires_at: u64,
}

/// What is known when a sign-in begins.
pub(super) struct Begun<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) session: &'a str,
    pub(super) actor: &'a Actor,
    pub(super) connector: &'a str,
    pub(super) connection: &'a str,
    pub(super) credential: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) issuer: Option<String>,
    pub(super) iss_required: bool,
    pub(super) tools: &'a [String],
    pub(super) scopes: &'a [String],
    pub(super) next: Option<&'a str>,
    pub(super) verifier: &'a SecretString,
    /// Unix seconds.
    pub(super) expires_at: u64,
}

/// The key of a state's row, which a reader of the database cannot turn back.
pub(super) fn key(state: &str) -> String {
    canonical::sha256_hex(state.as_bytes())
}

fn session(tenant: &TenantId, session: &str) -> String {
    canonical::hex_digest(&[tenant.as_str().as_bytes(), session.as_bytes()])
}

/// Keeps what a new state stands for.
pub(super) async fn keep(store: &dyn Store, vault: &Vault, state: &str, begun: Begun<'_>) -> Result<()> {
    let key = key(state);
    let verifier = vault.seal(begun.tenant, PURPOSE, &key, begun.verifier.expose_secret().as_bytes()).await?;
    let row = Pending {
        tenant: begun.tenant.clone(),
        session: session(begun.tenant, begun.session),
        actor: begun.actor.clone(),
        connector: begun.connector.to_owned(),
        connection: begun.connection.to_owned(),
        credential: begun.credential.to_owned(),
        redirect_uri: begun.redirect_uri.to_owned(),
        issuer: begun.issuer,
        iss_required: begun.iss_required,
        tools: begun.tools.to_vec(),
        scopes: begun.scopes.to_vec(),
        next: begun.next.map(str::to_owned),
        verifier: STANDARD.encode(verifier),
        expires_at: begun.expires_at,
    };
    let row = serde_json::to_vec(&row).map_err(|error| Error::internal("a sign-in could not be written down").with_source(error))?;
    let hub = hub();
    let kept = store.put(Namespace::new(&hub, NAMESPACE), &key, row.into(), Condition::Absent, Some(STATE_TTL)).await?;
    if kept.is_stored() { Ok(()) } else { Err(Error::internal("two sign-ins were given the same state")) }
}

/// Takes what a state stands for out of the store. Of any number of callers one gets it.
pub(super) async fn spend(store: &dyn Store, state: &str) -> Result<Option<Pending>> {
    let (hub, key) = (hub(), key(state));
    let namespace = Namespace::new(&hub, NAMESPACE);
    let Some(entry) = store.get(namespace, &key).await? else { return Ok(None) };
    if !store.delete(namespace, &key, Condition::Is(entry.version)).await? {
        return Ok(None);
    }
    serde_json::from_slice(&entry.value).map(Some).map_err(|_| Error::internal("a stored sign-in cannot be read"))
}

impl Pending {
    /// Whether this answer belongs to this question. `now`: Unix seconds.
    pub(super) fn agrees(&self, of_session: &str, redirect_uri: &str, now: u64) -> std::result::Result<(), &'static str> {
        if now >= self.expires_at {
            return Err("expired");
        }
        // Digests of equal length, compared whole: nothing about the session leaks through the time it takes.
        let (ours, theirs) = (self.session.as_bytes(), session(&self.tenant, of_session));
        let differs = ours.iter().zip(theirs.as_bytes()).fold(u8::from(ours.len() != theirs.len()), |found, (a, b)| found | (a ^ b));
        if differs != 0 {
            return Err("session");
        }
        if self.redirect_uri != redirect_uri {
            return Err("redirect");
        }
        Ok(())
    }

    /// The PKCE verifier.
    pub(super) async fn verifier(&self, vault: &Vault, state: &str) -> Result<SecretString> {
        let sealed = STANDARD.decode(&self.verifier).map_err(|_| Error::internal("a stored sign-in cannot be read"))?;
        let plain = vault.unseal(&self.tenant, PURPOSE, &key(state), &sealed).await?;
        let text = std::str::from_utf8(&plain).map_err(|_| Error::internal("a stored sign-in cannot be read"))?;
        Ok(SecretString::from(text.to_owned()))
    }
}
