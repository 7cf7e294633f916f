//! What is known about credentials without opening them. Nothing here holds a secret.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use connector_core::{
    TenantId,
    token::{TokenFacts, TokenState},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// How a credential stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    /// In use.
    #[default]
    Active,
    /// Its end, or the end of its time without rotation, is near.
    Expiring,
    /// A person has to connect again.
    ReauthRequired,
    /// Taken back: its secrets are destroyed, what is left is the record of it.
    Revoked,
    /// Damaged, or sealed under a key that is not there.
    Unreadable,
}

impl CredentialState {
    /// `active`, `expiring`, `reauth_required`, `revoked` or `unreadable`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expiring => "expiring",
            Self::ReauthRequired => "reauth_required",
            Self::Revoked => "revoked",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A credential to be kept.
#[derive(Debug, Default)]
pub struct NewCredential {
    /// Its secret and public fields.
    pub fields: BTreeMap<String, SecretString>,
    /// How it is meant to be used (`bearer`, `authorization_code`); the first scheme that fits if not said.
    pub scheme: Option<Arc<str>>,
    /// The connector it is for, for people and for rotation.
    pub connector: Option<String>,
    /// Workspaces it is granted to; `["*"]` for all. Empty: none yet.
    pub workspaces: Vec<String>,
    /// The scopes it has, as far as known.
    pub scopes: Vec<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Unix milliseconds at which the vendor stops accepting it.
    pub expires_at: Option<u64>,
    /// How often it is to be replaced.
    pub rotate_every: Option<Duration>,
}

/// The tokens of a credential, for people.
#[derive(Debug, Clone, Serialize)]
pub struct TokenInfo {
    /// Where they stand.
    pub state: TokenState,
    /// Grows with each access token.
    pub serial: u64,
    /// Unix milliseconds of the last one's arrival.
    pub obtained_at: u64,
    /// Unix milliseconds of its end.
    pub expires_at: Option<u64>,
    /// What was granted.
    pub scopes: Vec<String>,
    /// Why a person has to connect again.
    pub reason: Option<String>,
}

impl From<&TokenFacts> for TokenInfo {
    fn from(facts: &TokenFacts) -> Self {
        Self {
            state: facts.state,
            serial: facts.serial,
            obtained_at: facts.obtained_at,
            expires_at: facts.expires_at,
            scopes: facts.scopes.clone(),
            reason: facts.reason.clone(),
        }
    }
}

/// A credential without its secrets.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialInfo {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// The connector it is for.
    pub connector: Option<String>,
    /// How it is used.
    pub scheme: Option<Arc<str>>,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// How it stands.
    pub state: CredentialState,
    /// Its version; grows with each rotation.
    pub version: u64,
    /// Workspaces it is granted to.
    pub workspaces: Vec<String>,
    /// The scopes it has.
    pub scopes: Vec<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Unix milliseconds of its making.
    pub created_at: u64,
    /// Unix milliseconds of its last rotation.
    pub rotated_at: Option<u64>,
    /// Unix milliseconds at which the vendor stops accepting it.
    pub expires_at: Option<u64>,
    /// Seconds after which it is to be replaced.
    pub rotate_every: Option<u64>,
    /// Unix milliseconds until which the version before is accepted too.
    pub previous_until: Option<u64>,
    /// The master key its newest version is sealed under.
    pub key_id: String,
    /// Its tokens, if a person connected it.
    pub token: Option<TokenInfo>,
}

/// A credential that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// The field, or `$tokens`.
    pub field: String,
    /// What is wrong, without secrets.
    pub why: String,
}

/// What a check of everything found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// Credentials looked at.
    pub credentials: u64,
    /// Envelopes opened.
    pub opened: u64,
    /// How many envelopes are sealed under each master key.
    pub by_key: BTreeMap<String, u64>,
    /// What did not open.
    pub unreadable: Vec<Unreadable>,
}

/// What a rotation of the master key did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RotationReport {
    /// The key everything is wrapped under now.
    pub key_id: String,
    /// Envelopes wrapped anew.
    pub rewrapped: u64,
    /// Envelopes that were under it already.
    pub already: u64,
    /// What could not be opened and was left as it is.
    pub unreadable: Vec<Unreadable>,
    /// How many envelopes each other key still holds. A key with none can be destroyed.
    pub left: BTreeMap<String, u64>,
}
