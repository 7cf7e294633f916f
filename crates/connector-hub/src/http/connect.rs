//! Connecting and disconnecting over the API: a link for the person who owns the account, what a connection may do, proof that it works.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use connector_core::{
    Error, ErrorKind, Result,
    spec::{AuthSpec, OAuth2Flow},
};
use connector_runtime::{CredentialReport, Disconnected, ScopeDiff, ScopeReport};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App,
    body::{Body, Query, Shape},
    caller::Caller,
    credentials,
    problem::Problem,
    tickets::{self, Ticket},
};
use crate::trail::Act;

/// What is to be connected.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ask {
    connection: Option<String>,
    tools: Vec<String>,
    scopes: Vec<String>,
    next: Option<String>,
}

impl Shape for Ask {
    const SHAPE: &'static str = "{connection?, tools?: [], scopes?: [], next?: \"/path\"}";
}

/// Which tools.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tools {
    tools: String,
}

impl Shape for Tools {
    const SHAPE: &'static str = "?tools=a,b";
}

impl Tools {
    fn names(&self) -> Vec<String> {
        list(&self.tools)
    }
}

/// `a, b` as a list.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

pub(super) async fn link(
    State(app): State<App>,
    caller: Caller,
    Path(connector): Path<String>,
    Body(ask): Body<Ask>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    app.vault()?;
    let base = app.base()?;
    let registry = app.runtime().registry();
    let spec = registry.require(&connector)?.spec();
    for tool in &ask.tools {
        spec.require(tool)?;
    }
    let signs_in = |auth: &AuthSpec| matches!(auth, AuthSpec::OAuth2(oauth2) if oauth2.flow == OAuth2Flow::AuthorizationCode);
    if !spec.auth.iter().any(signs_in) {
        let message = format!("`{connector}` takes keys and has no sign-in; keep them with POST /api/v1/credentials");
        return Err(Error::new(ErrorKind::Unsupported, message).into());
    }
    if let Some(connection) = &ask.connection {
        app.runtime().connection(caller.tenant(), connection)?;
    }
    let ticket = Ticket {
        tenant: caller.tenant().clone(),
        actor: caller.actor(),
        role: caller.role(),
        connector: connector.clone(),
        connection: ask.connection,
        tools: ask.tools,
        scopes: ask.scopes,
        next: ask.next,
    };
    let (text, expires_at) = tickets::issue(app.runtime().store(), &ticket).await?;
    let url = format!("{base}/oauth/start/{connector}?ticket={text}");
    Ok((StatusCode::CREATED, Json(json!({ "url": url, "expires_at": expires_at, "uses": 1 }))))
}

pub(super) async fn disconnect(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Disconnected>, Problem> {
    let actor = caller.actor();
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "connections.disconnect", subject: &id, on_credential: false };
    Ok(Json(act.recorded(app.runtime().store(), app.runtime().disconnect(caller.tenant(), &id)).await?))
}

pub(super) async fn validate_connection(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<CredentialReport>, Problem> {
    Ok(Json(app.runtime().validate_credentials(caller.tenant(), &id).await?))
}

/// Proves a credential over each connection that uses it.
pub(super) async fn validate_credential(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Vec<CredentialReport>>, Problem> {
    credentials::visible(&app, &caller, &name).await?;
    let connections = app.runtime().connections();
    let mut reports = Vec::new();
    for connection in connections.iter().filter(|one| one.tenant == *caller.tenant() && one.credential.as_deref() == Some(name.as_str())) {
        reports.push(app.runtime().validate_credentials(caller.tenant(), connection.id.as_str()).await?);
    }
    if reports.is_empty() {
        return Err(Error::new(ErrorKind::Conflict, "no connection uses this credential, so there is nothing to prove it over").into());
    }
    Ok(Json(reports))
}

pub(super) async fn scopes(State(app): State<App>, _: Caller, Query(tools): Query<Tools>) -> Result<Json<ScopeReport>, Problem> {
    Ok(Json(app.runtime().scopes(&tools.names())?))
}

pub(super) async fn scope_diff(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(tools): Query<Tools>,
) -> Result<Json<ScopeDiff>, Problem> {
    Ok(Json(app.runtime().scope_diff(caller.tenant(), &id, &tools.names()).await?))
}
