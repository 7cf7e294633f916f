//! API keys: shown once, kept as hashes, bound to a role, a tenant and workspaces.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use connector_core::{
    Actor, Error, ErrorKind, Result, TenantId, WorkspaceId,
    state::{Condition, Namespace, Store},
};
use connector_runtime::Role;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{App, problem::Problem};

/// Keys of all tenants lie together: a caller shows a key before anybody knows its tenant.
const SPACE: &str = "api_keys";
const MARKER: &str = "first";

/// What a key is good for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// Its public id, for audit.
    id: String,
    role: Role,
    tenant: TenantId,
    /// Workspaces, or `*`.
    workspaces: Vec<String>,
}

/// The keys there are.
#[derive(Clone)]
pub(crate) struct Keys(Arc<dyn Store>);

impl Keys {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Makes the first admin key, if no key was ever made. Its text is given once and never again.
    pub(crate) async fn first_key(&self) -> Result<Option<String>> {
        let tenant = TenantId::default();
        let namespace = Namespace::new(&tenant, SPACE);
        if !self.0.put(namespace, MARKER, "made".into(), Condition::Absent, None).await?.is_stored() {
            return Ok(None);
        }
        let key = format!("ck_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let record = KeyRecord { id: "admin".into(), role: Role::Admin, tenant: tenant.clone(), workspaces: vec!["*".into()] };
        let value = serde_json::to_vec(&record).map_err(|error| Error::internal("a key record cannot be written").with_source(error))?;
        self.0.put(namespace, &hash(&key), value.into(), Condition::Any, None).await?;
        Ok(Some(key))
    }

    async fn find(&self, key: &str) -> Result<Option<KeyRecord>> {
        let tenant = TenantId::default();
        let entry = self.0.get(Namespace::new(&tenant, SPACE), &hash(key)).await?;
        Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()))
    }
}

/// Keys are random and long, so one round of a plain hash is enough and lookups stay fast.
fn hash(key: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(key.as_bytes())))
}

/// A caller that showed a good key.
#[derive(Debug, Clone)]
pub(super) struct Caller(KeyRecord);

impl Caller {
    pub(super) fn tenant(&self) -> &TenantId {
        &self.0.tenant
    }

    pub(super) fn role(&self) -> Role {
        self.0.role
    }

    pub(super) fn actor(&self) -> Actor {
        Actor::ApiKey(self.0.id.as_str().into())
    }

    /// The workspace asked for, if the key is good for it. One that it is not good for looks like one that is not there.
    pub(super) fn workspace(&self, asked: Option<&str>) -> Result<WorkspaceId> {
        let asked = asked.unwrap_or("default");
        let granted = self.0.workspaces.iter().any(|workspace| workspace == "*" || workspace == asked);
        if granted { Ok(WorkspaceId::from(asked)) } else { Err(Error::new(ErrorKind::NotFound, format!("there is no workspace `{asked}`"))) }
    }

    /// Refuses callers below a role.
    pub(super) fn at_least(&self, role: Role) -> Result<()> {
        if self.0.role >= role {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Denied, format!("this needs the role {role:?} or above; the key has {:?}", self.0.role)))
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> std::result::Result<Self, Self::Rejection> {
        let key = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("Bearer "));
        let found = match key {
            Some(key) => app.keys().find(key).await?,
            None => None,
        };
        found.map(Caller).ok_or_else(|| {
            Problem::unauthorized("show an API key: `Authorization: Bearer ck_…`; `serve` prints the first one when it starts for the first time")
        })
    }
}
