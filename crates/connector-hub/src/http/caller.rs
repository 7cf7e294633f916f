//! Who calls: a key that was shown, what it is good for, and what it may see.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use connector_core::{Actor, Error, ErrorKind, Result, TenantId, WorkspaceId};
use connector_runtime::Role;

use super::{App, problem::Problem};
use crate::keys::KeyRecord;

/// A caller that showed a good key.
#[derive(Debug, Clone)]
pub(super) struct Caller(KeyRecord);

impl Caller {
    /// The holder of the key in these headers; `None` if there is no key in them at all.
    pub(super) async fn of(app: &App, headers: &HeaderMap) -> std::result::Result<Option<Self>, Problem> {
        let Some(header) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let found = match header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")) {
            Some(key) => app.keys().find(key).await?,
            None => None,
        };
        found.map(|record| Some(Self(record))).ok_or_else(Self::unknown)
    }

    pub(super) fn unknown() -> Problem {
        Problem::unauthorized(
            "show an API key: `Authorization: Bearer ck_…`; `keys create` makes one, `serve` prints the first one on its first start",
        )
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.0.tenant
    }

    pub(super) fn role(&self) -> Role {
        self.0.role
    }

    pub(super) fn actor(&self) -> Actor {
        Actor::ApiKey(self.0.id.as_str().into())
    }

    /// The public id of the key.
    pub(super) fn key_id(&self) -> &str {
        &self.0.id
    }

    /// The workspace asked for, if the key is good for it. One that it is not good for looks like one that is not there.
    pub(super) fn workspace(&self, asked: Option<&str>) -> Result<WorkspaceId> {
        let asked = asked.unwrap_or("default");
        if self.is_in(asked) {
            return Ok(WorkspaceId::from(asked));
        }
        let asked = connector_core::redact::printable(asked, 63);
        Err(Error::new(ErrorKind::NotFound, format!("there is no workspace `{asked}`")))
    }

    /// The workspaces the key is good for, or `*`.
    pub(super) fn workspaces(&self) -> &[String] {
        &self.0.workspaces
    }

    /// Whether the key is good for this workspace.
    pub(super) fn is_in(&self, workspace: &str) -> bool {
        self.0.workspaces.iter().any(|granted| granted == "*" || granted == workspace)
    }

    /// Whether something that is granted to these workspaces is this caller's business.
    pub(super) fn sees(&self, workspaces: &[String]) -> bool {
        self.is_in("*") || workspaces.iter().any(|workspace| workspace == "*" || self.is_in(workspace))
    }

    /// Refuses to give away more than the key itself is good for.
    pub(super) fn may_give(&self, workspaces: &[String]) -> Result<()> {
        match workspaces.iter().find(|workspace| !self.is_in(workspace)) {
            None => Ok(()),
            Some(beyond) => {
                let beyond = connector_core::redact::printable(beyond, 63);
                Err(Error::new(ErrorKind::Denied, format!("this key is not for workspace `{beyond}`, so it cannot grant it")))
            }
        }
    }

    /// Refuses callers below a role.
    pub(super) fn at_least(&self, role: Role) -> Result<()> {
        if self.0.role >= role {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Denied, format!("this needs the role {role} or above; the key has {}", self.0.role)))
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    /// The guard put it there; a route that asks for a caller and has no guard is a mistake of the table and lets nobody in.
    async fn from_request_parts(parts: &mut Parts, _: &App) -> std::result::Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Self::unknown)
    }
}
