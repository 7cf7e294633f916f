//! Approvals over HTTP: what waits, and the answer of somebody who did not ask.

use axum::{
    Json,
    extract::{Path, State},
};
use connector_core::{Error, ErrorKind, Result, redact};
use connector_runtime::Approval;

use super::{App, caller::Caller, problem::Problem};
use crate::trail::Act;

pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<Approval>>, Problem> {
    let mut approvals = app.runtime().approvals(caller.tenant()).await?;
    approvals.retain(|approval| caller.is_in(&approval.workspace));
    Ok(Json(approvals))
}

pub(super) async fn one(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Approval>, Problem> {
    Ok(Json(visible(&app, &caller, &id).await?))
}

pub(super) async fn approve(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Approval>, Problem> {
    visible(&app, &caller, &id).await?;
    let actor = caller.actor();
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "approvals.approve", subject: &id, on_credential: false };
    let decided = app.runtime().approve(caller.tenant(), &id, &actor, caller.role());
    Ok(Json(act.recorded(app.runtime().store(), decided).await?))
}

pub(super) async fn deny(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Approval>, Problem> {
    visible(&app, &caller, &id).await?;
    let actor = caller.actor();
    let act = Act { tenant: caller.tenant(), actor: &actor, operation: "approvals.deny", subject: &id, on_credential: false };
    let decided = app.runtime().deny(caller.tenant(), &id, &actor, caller.role());
    Ok(Json(act.recorded(app.runtime().store(), decided).await?))
}

/// The approval, unless it is another tenant's or another workspace's, which look like one that is not there.
async fn visible(app: &App, caller: &Caller, id: &str) -> Result<Approval> {
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no approval `{}`", redact::printable(id, 63)));
    match app.runtime().approval(caller.tenant(), id).await {
        Ok(approval) if caller.is_in(&approval.workspace) => Ok(approval),
        Ok(_) => Err(missing()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing()),
        Err(error) => Err(error),
    }
}
