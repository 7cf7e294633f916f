//! Vendors' subscriptions over HTTP: what there is, one more, one fewer, look at it now.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use connector_core::{Error, ErrorKind, Result, redact};
use connector_runtime::{SubscriptionConfig, SubscriptionView, SubscriptionsTended};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    App,
    body::{Body, Shape},
    caller::Caller,
    problem::Problem,
};
use crate::trail::Act;

/// A subscription to be kept alive.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    connection: String,
    kind: String,
    workspace: Option<String>,
    #[serde(default)]
    params: Map<String, Value>,
    catch_up_minutes: Option<u64>,
}

impl Shape for Wanted {
    const SHAPE: &'static str = "{connection, kind, workspace?, params?, catch_up_minutes?}";
}

pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<SubscriptionView>>, Problem> {
    let mut all = app.runtime().subscriptions(caller.tenant()).await?;
    all.retain(|one| caller.is_in(&one.workspace));
    Ok(Json(all))
}

pub(super) async fn one(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<SubscriptionView>, Problem> {
    Ok(Json(visible(&app, &caller, &id).await?))
}

pub(super) async fn add(State(app): State<App>, caller: Caller, Body(wanted): Body<Wanted>) -> Result<(StatusCode, Json<SubscriptionView>), Problem> {
    let workspace = caller.workspace(wanted.workspace.as_deref())?;
    let config = SubscriptionConfig {
        workspace: workspace.as_str().to_owned(),
        params: wanted.params,
        catch_up_minutes: wanted.catch_up_minutes,
        ..SubscriptionConfig::new(wanted.connection, wanted.kind)
    };
    let actor = caller.actor();
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "subscriptions.add", subject: &config.connection, on_credential: false };
    let added = act.recorded(app.runtime().store(), app.runtime().add_subscription(caller.tenant(), &config)).await?;
    Ok((StatusCode::ACCEPTED, Json(added)))
}

pub(super) async fn remove(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<(StatusCode, Json<SubscriptionView>), Problem> {
    visible(&app, &caller, &id).await?;
    let actor = caller.actor();
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "subscriptions.remove", subject: &id, on_credential: false };
    let removed = act.recorded(app.runtime().store(), app.runtime().remove_subscription(caller.tenant(), &id)).await?;
    Ok((StatusCode::ACCEPTED, Json(removed)))
}

pub(super) async fn sync(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<SubscriptionsTended>, Problem> {
    visible(&app, &caller, &id).await?;
    let actor = caller.actor();
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "subscriptions.sync", subject: &id, on_credential: false };
    let done = act.recorded(app.runtime().store(), app.runtime().sync_subscription(caller.tenant(), &id)).await?;
    Ok(Json(done))
}

/// The subscription, unless it is another tenant's or another workspace's, which look like one that is not there.
async fn visible(app: &App, caller: &Caller, id: &str) -> Result<SubscriptionView> {
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no subscription `{}`", redact::printable(id, 120)));
    match app.runtime().subscription(caller.tenant(), id).await {
        Ok(one) if caller.is_in(&one.workspace) => Ok(one),
        Ok(_) => Err(missing()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error),
    }
}
