//! API keys over HTTP: an administrator makes, lists and revokes those of its own tenant.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use connector_core::Result;
use connector_runtime::Role;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App,
    body::{Body, Shape},
    caller::Caller,
    problem::Problem,
};
use crate::{
    keys::{self, KeyOrder, KeyRecord, Keys},
    trail::Act,
};

/// A key to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    role: Role,
    #[serde(default)]
    workspaces: Vec<String>,
    name: Option<String>,
}

impl Shape for Order {
    const SHAPE: &'static str = r#"{"role": "viewer|operator|approver|admin", "workspaces": ["…"], "name"?: "…"}"#;
}

pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<KeyRecord>>, Problem> {
    let mut keys = app.keys().list(caller.tenant()).await?;
    keys.retain(|key| caller.sees(&key.workspaces));
    Ok(Json(keys))
}

pub(super) async fn create(State(app): State<App>, caller: Caller, Body(order): Body<Order>) -> Result<(StatusCode, Json<Value>), Problem> {
    caller.may_give(&order.workspaces)?;
    let actor = caller.actor();
    let subject = order.name.clone().unwrap_or_else(|| order.role.to_string());
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "keys.create", subject: &subject, on_credential: false };
    let order = KeyOrder { tenant: caller.tenant().clone(), role: order.role, workspaces: order.workspaces, name: order.name, by: actor.clone() };
    let (record, text) = act.recorded(app.runtime().store(), app.keys().create(order)).await?;
    // The one place where a key is in an answer: its maker sees it now and nobody ever again.
    Ok((StatusCode::CREATED, Json(json!({ "key": keys::reveal(&text), "record": record }))))
}

pub(super) async fn revoke(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<KeyRecord>, Problem> {
    let known = app.keys().list(caller.tenant()).await?.into_iter().find(|key| key.id == id);
    if !known.is_some_and(|key| caller.sees(&key.workspaces)) {
        return Err(Keys::missing(&id).into());
    }
    let actor = caller.actor();
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "keys.revoke", subject: &id, on_credential: false };
    Ok(Json(act.recorded(app.runtime().store(), app.keys().revoke(caller.tenant(), &id)).await?))
}
