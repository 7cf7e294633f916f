//! What is asked of connecting and what it answers. Nothing here shows a secret.

use std::fmt;

use connector_core::{Actor, ErrorKind, TenantId};
use connector_http::oauth2::DeviceCodes;
use connector_vault::{CredentialState, TokenInfo};
use serde::Serialize;
use url::Url;

use super::Target;
use crate::request::Role;

/// Somebody wants to connect an account.
#[derive(Clone)]
pub struct ConnectAsk {
    /// Their tenant.
    pub tenant: TenantId,
    /// The opaque id of their browser or command line session; only its hash is kept. The answer must come in the same session.
    pub session: String,
    /// Who they are.
    pub actor: Actor,
    /// What they may do; connecting needs [`Role::Operator`].
    pub role: Role,
    /// The connector.
    pub connector: String,
    /// The connection; needed only where the connector has several.
    pub connection: Option<String>,
    /// The tools it is for, from which the least scopes follow. Empty: the scopes the connector's manifest names, and all its tools are judged.
    pub tools: Vec<String>,
    /// The scopes to ask for instead.
    pub scopes: Vec<String>,
    /// Where the vendor sends the person back: the hub's own callback, or a callback on this machine. Not used by devices and keys.
    pub redirect_uri: String,
    /// Where the person goes afterwards: a path on the hub.
    pub next: Option<String>,
}

impl fmt::Debug for ConnectAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectAsk")
            .field("tenant", &self.tenant)
            .field("actor", &self.actor)
            .field("role", &self.role)
            .field("connector", &self.connector)
            .field("connection", &self.connection)
            .field("tools", &self.tools)
            .field("scopes", &self.scopes)
            .field("redirect_uri", &self.redirect_uri)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// A sign-in that may begin.
#[derive(Clone, Serialize)]
pub struct ConnectStart {
    /// Where the person's browser goes. It carries the state: give it to nobody else.
    #[serde(serialize_with = "as_text")]
    pub authorize_url: Url,
    /// What the answer must carry. Good once.
    pub state: String,
    /// The scopes they are asked for.
    pub scopes: Vec<String>,
    /// Unix seconds after which the answer is not taken.
    pub expires_at: u64,
}

impl fmt::Debug for ConnectStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectStart")
            .field("host", &self.authorize_url.host_str())
            .field("scopes", &self.scopes)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What the person's browser came back with.
#[derive(Clone)]
pub struct ConnectBack {
    /// The session it came in.
    pub session: String,
    /// The query's parameters in their order, decoded, repeated ones included.
    pub query: Vec<(String, String)>,
    /// Where it came to, without the query.
    pub redirect_uri: String,
}

impl fmt::Debug for ConnectBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.query.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ConnectBack").field("query", &names).field("redirect_uri", &self.redirect_uri).finish_non_exhaustive()
    }
}

/// A sign-in on another device. Holds the device code, which is not shown.
#[derive(Serialize)]
pub struct DeviceStart {
    /// What the person types in.
    pub user_code: String,
    /// Where they type it in.
    pub verification_uri: String,
    /// The same with the code in it, for a QR code.
    pub verification_uri_complete: Option<String>,
    /// Unix seconds after which the code is not taken.
    pub expires_at: u64,
    /// Seconds between two looks whether it was typed in.
    pub interval: u64,
    /// The scopes they are asked for.
    pub scopes: Vec<String>,
    #[serde(skip)]
    pub(super) codes: DeviceCodes,
    #[serde(skip)]
    pub(super) ask: ConnectAsk,
}

impl fmt::Debug for DeviceStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceStart")
            .field("verification_uri", &self.verification_uri)
            .field("expires_at", &self.expires_at)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// What came of connecting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectReport {
    /// The tenant.
    pub tenant: TenantId,
    /// The connector.
    pub connector: String,
    /// The connection that can be used now.
    pub connection: String,
    /// Where its secrets are.
    pub credential: String,
    /// What the vendor granted.
    pub granted: Vec<String>,
    /// What the chosen tools need besides.
    pub missing: Vec<String>,
    /// The chosen tools that cannot work without it.
    pub unusable_tools: Vec<String>,
    /// What else a person should know.
    pub note: Option<String>,
    /// Where the person goes now: a path on the hub.
    pub next: Option<String>,
    /// Why the call that was to prove it failed; `None`: it succeeded, or the connector has none.
    pub checked: Option<String>,
}

/// What came of disconnecting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disconnected {
    /// The tenant.
    pub tenant: TenantId,
    /// The connection.
    pub connection: String,
    /// Its connector.
    pub connector: String,
    /// Its credential.
    pub credential: Option<String>,
    /// The vendor was told and agreed.
    pub revoked_at_vendor: bool,
    /// There were tokens; they are gone.
    pub tokens_destroyed: bool,
    /// There were keys in the vault; they are gone.
    pub secrets_destroyed: bool,
    /// What a person still has to do.
    pub note: Option<String>,
}

/// The least scopes of some tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScopeReport {
    /// For each connector that has one of the tools, by id.
    pub connectors: Vec<ConnectorScopes>,
}

/// The least scopes at one connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectorScopes {
    /// The connector.
    pub connector: String,
    /// How a person or a program authenticates there (`authorization_code`, `bearer`).
    pub scheme: Option<String>,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// The tools of which nobody wrote down what they need.
    pub undeclared: Vec<String>,
}

/// What a connection has, compared with what tools need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScopeDiff {
    /// The connection.
    pub connection: String,
    /// What the tools need.
    pub needed: Vec<String>,
    /// What it has, as far as anybody knows.
    pub granted: Vec<String>,
    /// Nobody knows what it has: the vendor does not say for this kind of credential.
    pub unknown: bool,
    /// Needed and not granted.
    pub missing: Vec<String>,
    /// Granted and not needed.
    pub too_much: Vec<String>,
    /// The tools that cannot work without what is missing.
    pub unusable_tools: Vec<String>,
}

/// What a check of a credential found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialCheck {
    /// The vendor accepted it.
    Ok,
    /// The vendor refused it, or a person has to connect again.
    Refused,
    /// There is none.
    Missing,
    /// Nobody knows: the vendor could not be asked.
    Unreachable,
    /// It is there; the connector has no call that proves it.
    Unproven,
}

/// How a connection's credential does.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialReport {
    /// The tenant.
    pub tenant: TenantId,
    /// The connection.
    pub connection: String,
    /// Its connector.
    pub connector: String,
    /// Its credential.
    pub credential: Option<String>,
    /// In one word.
    pub outcome: CredentialCheck,
    /// The class of the failure.
    pub kind: Option<ErrorKind>,
    /// Why, without secrets and without the vendor's own words.
    pub error: Option<String>,
    /// How it stands in the vault.
    pub state: Option<CredentialState>,
    /// Its tokens.
    pub token: Option<TokenInfo>,
    /// Unix milliseconds at which the vendor stops accepting it.
    pub expires_at: Option<u64>,
    /// What was granted, as far as anybody knows.
    pub granted: Vec<String>,
    /// What the connector's tools need besides; empty if nobody knows what was granted.
    pub missing: Vec<String>,
    /// The tools that cannot work without it.
    pub unusable_tools: Vec<String>,
}

/// What is to be reported about a target that is connected.
pub(super) struct Settled<'a> {
    pub(super) target: &'a Target,
    pub(super) tools: &'a [String],
    pub(super) next: Option<String>,
}

fn as_text<S: serde::Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_str())
}
