//! Dead letters and events over HTTP.

use axum::{
    Json,
    extract::{Path, State},
};
use connector_core::{
    Error, ErrorKind, Result, redact,
    state::{EventFilter, Job, JobFilter, JobId, JobState, StoredEvent},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App,
    body::{Query, Shape},
    caller::Caller,
    problem::Problem,
};

/// Which part of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    after: Option<u64>,
    limit: Option<usize>,
    connector: Option<String>,
}

impl Shape for Part {
    const SHAPE: &'static str = "?after=NUMBER&limit=NUMBER&connector=…, all optional";
}

/// A page of a listing is no longer than this.
const MOST: usize = 1_000;

pub(super) async fn dead_letters(State(app): State<App>, caller: Caller, Query(part): Query<Part>) -> Result<Json<Vec<Job>>, Problem> {
    let filter = JobFilter { after: part.after.map(JobId), limit: part.limit.unwrap_or(100).min(MOST), ..JobFilter::default() };
    let mut jobs = app.runtime().dead_letters(caller.tenant(), filter).await?;
    jobs.retain(|job| caller.is_in(job.workspace.as_str()));
    Ok(Json(jobs))
}

pub(super) async fn dead_letter(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Job>, Problem> {
    Ok(Json(letter(&app, &caller, &id).await?))
}

pub(super) async fn retry(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let job = letter(&app, &caller, &id).await?;
    found(app.runtime().retry_dead_letter(caller.tenant(), job.id).await?, job.id, &id)
}

pub(super) async fn discard(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let job = letter(&app, &caller, &id).await?;
    found(app.runtime().discard_dead_letter(caller.tenant(), job.id).await?, job.id, &id)
}

/// The dead letter, unless it is another tenant's or another workspace's. What is no number is no id.
async fn letter(app: &App, caller: &Caller, id: &str) -> Result<Job> {
    let job = match id.parse() {
        Ok(number) => app.runtime().store().job(caller.tenant(), JobId(number)).await?,
        Err(_) => None,
    };
    let own = job.filter(|job| job.state == JobState::Dead && caller.is_in(job.workspace.as_str()));
    own.ok_or_else(|| missing("dead letter", id))
}

fn found(done: bool, id: JobId, asked: &str) -> Result<Json<Value>, Problem> {
    if done { Ok(Json(json!({ "id": id, "done": true }))) } else { Err(missing("dead letter", asked).into()) }
}

fn missing(what: &str, id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {what} `{}`", redact::printable(id, 63)))
}

pub(super) async fn events(State(app): State<App>, caller: Caller, Query(part): Query<Part>) -> Result<Json<Vec<StoredEvent>>, Problem> {
    let filter = EventFilter { connector: part.connector, after: part.after, limit: part.limit.unwrap_or(100).min(MOST), ..EventFilter::default() };
    let mut events = app.runtime().store().events(caller.tenant(), filter).await?;
    events.retain(|event| caller.is_in(event.workspace.as_str()));
    Ok(Json(events))
}

pub(super) async fn event(State(app): State<App>, caller: Caller, Path(seq): Path<String>) -> Result<Json<Value>, Problem> {
    let event = own_event(&app, &caller, &seq).await?;
    let payload: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
    Ok(Json(json!({ "event": event, "payload": payload })))
}

pub(super) async fn replay(State(app): State<App>, caller: Caller, Path(seq): Path<String>) -> Result<Json<Value>, Problem> {
    let event = own_event(&app, &caller, &seq).await?;
    let job = app.runtime().store().replay(caller.tenant(), event.seq).await?.ok_or_else(|| missing("event", &seq))?;
    Ok(Json(json!({ "event": event.seq, "job_id": job })))
}

async fn own_event(app: &App, caller: &Caller, seq: &str) -> Result<StoredEvent> {
    let event = match seq.parse() {
        Ok(number) => app.runtime().store().event(caller.tenant(), number).await?,
        Err(_) => None,
    };
    event.filter(|event| caller.is_in(event.workspace.as_str())).ok_or_else(|| missing("event", seq))
}
