//! The audit trail over HTTP: its newest records, and whether the chain holds.

use axum::{Json, extract::State};
use connector_core::{
    Result,
    state::{AuditFilter, ChainReport, StoredAudit},
};
use serde::Deserialize;

use super::{
    App,
    body::{Query, Shape},
    caller::Caller,
    problem::Problem,
};

/// A listing is no longer than this.
const MOST: usize = 1_000;

/// Which records.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    operation: Option<String>,
    connection: Option<String>,
    credential: Option<String>,
    limit: Option<usize>,
}

impl Shape for Which {
    const SHAPE: &'static str = "?operation=…&connection=…&credential=…&limit=…, all optional";
}

pub(super) async fn tail(State(app): State<App>, caller: Caller, Query(which): Query<Which>) -> Result<Json<Vec<StoredAudit>>, Problem> {
    let Which { operation, connection, credential, limit } = which;
    let filter = AuditFilter { operation, connection, credential, limit: limit.unwrap_or(100).clamp(1, MOST) };
    let mut records = app.runtime().audit_tail(caller.tenant(), filter).await?;
    records.retain(|stored| caller.is_in(stored.record.workspace.as_str()));
    Ok(Json(records))
}

pub(super) async fn verify(State(app): State<App>, caller: Caller) -> Result<Json<ChainReport>, Problem> {
    Ok(Json(app.runtime().store().audit_verify(caller.tenant()).await?))
}
