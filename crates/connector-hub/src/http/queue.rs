//! Dead letters and events over HTTP.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use connector_core::{
    Error, ErrorKind,
    state::{EventFilter, Job, JobFilter, JobId, StoredEvent},
};
use connector_runtime::Role;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, keys::Caller, problem::Problem};

/// Which part of a listing.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Part {
    after: Option<u64>,
    limit: Option<usize>,
    connector: Option<String>,
}

/// A page of a listing is no longer than this.
const MOST: usize = 1_000;

pub(super) async fn dead_letters(State(app): State<App>, caller: Caller, Query(part): Query<Part>) -> Result<Json<Vec<Job>>, Problem> {
    let filter = JobFilter { after: part.after.map(JobId), limit: part.limit.unwrap_or(100).min(MOST), ..JobFilter::default() };
    Ok(Json(app.runtime().dead_letters(caller.tenant(), filter).await?))
}

pub(super) async fn retry(State(app): State<App>, caller: Caller, Path(id): Path<u64>) -> Result<Json<Value>, Problem> {
    caller.at_least(Role::Operator)?;
    found(app.runtime().retry_dead_letter(caller.tenant(), JobId(id)).await?, id)
}

pub(super) async fn discard(State(app): State<App>, caller: Caller, Path(id): Path<u64>) -> Result<Json<Value>, Problem> {
    caller.at_least(Role::Operator)?;
    found(app.runtime().discard_dead_letter(caller.tenant(), JobId(id)).await?, id)
}

fn found(done: bool, id: u64) -> Result<Json<Value>, Problem> {
    if done {
        Ok(Json(json!({ "id": id, "done": true })))
    } else {
        Err(Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}")).into())
    }
}

pub(super) async fn events(State(app): State<App>, caller: Caller, Query(part): Query<Part>) -> Result<Json<Vec<StoredEvent>>, Problem> {
    let filter = EventFilter { connector: part.connector, after: part.after, limit: part.limit.unwrap_or(100).min(MOST), ..EventFilter::default() };
    Ok(Json(app.runtime().store().events(caller.tenant(), filter).await?))
}
