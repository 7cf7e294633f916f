//! Tools over HTTP: list them, execute one.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use connector_core::Cursor;
use connector_runtime::{CallOutcome, CallRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    App,
    body::{Body, Shape},
    caller::Caller,
    problem::Problem,
};
use crate::cli::catalogue::{tool, view};

/// The tools of connectors are the same for everybody; those of views are there as far as the caller's own connections are.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Json<Vec<Value>> {
    let views = app.runtime().views(caller.tenant(), |workspaces| caller.sees(workspaces));
    Json(app.runtime().registry().operations().map(|(owner, op)| tool(owner.spec(), op)).chain(views.iter().map(view)).collect())
}

/// The body of an execution.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Execute {
    connection: Option<String>,
    workspace: Option<String>,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    dry_run: bool,
    idempotency_key: Option<String>,
    cursor: Option<Cursor>,
}

impl Shape for Execute {
    const SHAPE: &'static str = "{connection?, workspace?, params, dry_run?, idempotency_key?, cursor?}";
}

pub(super) async fn execute(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<Execute>,
) -> Result<Response, Problem> {
    let mut request = CallRequest::new(&name, body.params);
    request.tenant = caller.tenant().clone();
    request.workspace = caller.workspace(body.workspace.as_deref())?;
    request.actor = caller.actor();
    request.role = caller.role();
    request.connection = body.connection;
    request.idempotency_key = body.idempotency_key;
    request.dry_run = body.dry_run;
    request.cursor = body.cursor;
    let answer = match app.runtime().call(request).await? {
        CallOutcome::Done(reply) => {
            let mut answer =
                json!({ "status": "done", "result": reply.body.to_value()?, "attempts": reply.meta.attempts, "cached": reply.meta.cached });
            if let Some(next) = &reply.next {
                answer["next_cursor"] = next.as_str().into();
            }
            if !reply.partial.is_empty() {
                answer["failed_items"] = serde_json::to_value(&reply.partial).unwrap_or_default();
            }
            (StatusCode::OK, Json(answer))
        }
        CallOutcome::DryRun(request) => (StatusCode::OK, Json(json!({ "status": "dry_run", "request": request }))),
        CallOutcome::PendingApproval { approval_id, expires_at } => {
            (StatusCode::ACCEPTED, Json(json!({ "status": "pending_approval", "approval_id": approval_id, "expires_at": expires_at })))
        }
        CallOutcome::Queued { job_id, reason } => (StatusCode::ACCEPTED, Json(json!({ "status": "queued", "job_id": job_id, "reason": reason }))),
    };
    Ok(answer.into_response())
}
