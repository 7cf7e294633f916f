//! Dead letters and events over HTTP.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
};
use connector_core::{
    Error, Result,
    state::{Job, JobId, JobState, StoredEvent},
};
use connector_runtime::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    App,
    body::{Body, Query, Shape},
    caller::Caller,
    problem::Problem,
};
use crate::{
    queue::{self, Filter, MOST, Page, Verdict, missing},
    trail::Act,
};

/// How many a listing shows when nothing is said.
const USUAL: usize = 100;

/// Which part of a listing. The members are those of [`Filter`], which cannot be flattened into a type that refuses unknown ones.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Part {
    queue: Option<String>,
    state: Option<String>,
    connector: Option<String>,
    connection: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    flag: Option<String>,
    since: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
    /// In bodies: that everything is meant.
    all: bool,
}

impl Shape for Part {
    const SHAPE: &'static str =
        "connector, connection, type, flag, since, after, limit, for dead letters queue and state, to do something to everything all: true";
}

impl Part {
    fn filter(&self) -> Filter {
        let Self { connector, connection, kind, flag, since, after, .. } = self;
        let (connector, connection, kind) = (connector.clone(), connection.clone(), kind.clone());
        Filter { connector, connection, kind, flag: flag.clone(), since: since.clone(), after: *after }
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(USUAL)
    }

    /// The filter of something that is done to many: it must say which.
    fn meant(&self) -> Result<Filter> {
        let filter = self.filter();
        if filter.is_empty() && self.queue.is_none() && !self.all {
            return Err(Error::invalid("say which: connector, connection, type, flag, since, after, or all: true"));
        }
        Ok(filter)
    }
}

/// Whether the payload is asked for too.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Look {
    payload: Option<u8>,
}

impl Shape for Look {
    const SHAPE: &'static str = "?payload=1, optional";
}

impl Look {
    /// Payloads are what vendors and callers said; a viewer sees that something happened, not what.
    fn payload(&self, caller: &Caller) -> Result<bool> {
        match self.payload {
            None | Some(0) => Ok(false),
            Some(_) => caller.at_least(Role::Operator).map(|()| true),
        }
    }
}

/// A page of a listing, and in `Link` where the next one is.
fn listed<T: Serialize>(path: &str, page: Page<T>) -> (HeaderMap, Json<Vec<T>>) {
    let mut headers = HeaderMap::new();
    let link = page.next.and_then(|next| HeaderValue::try_from(format!("<{path}?after={next}>; rel=\"next\"")).ok());
    if let Some(link) = link {
        headers.insert(header::LINK, link);
    }
    (headers, Json(page.items))
}

pub(super) async fn dead_letters(State(app): State<App>, caller: Caller, Query(part): Query<Part>) -> Result<(HeaderMap, Json<Vec<Job>>), Problem> {
    let state = part.state.as_deref().map(queue::state).transpose()?;
    let sees = |workspace: &str| caller.is_in(workspace);
    let page = queue::jobs(app.runtime(), caller.tenant(), (part.queue.as_deref(), state), &part.filter(), part.limit(), sees).await?;
    Ok(listed("/api/v1/dlq", page))
}

pub(super) async fn dead_letter(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(look): Query<Look>,
) -> Result<Json<Value>, Problem> {
    let payload = look.payload(&caller)?;
    let job = job(&app, &caller, &id).await?.ok_or_else(|| missing("dead letter", &id))?;
    Ok(Json(queue::job_shown(app.runtime(), caller.tenant(), &job, payload).await?))
}

pub(super) async fn retry(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    settle_one(&app, &caller, &id, Verdict::Retry).await
}

pub(super) async fn discard(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    settle_one(&app, &caller, &id, Verdict::Discard).await
}

async fn settle_one(app: &App, caller: &Caller, id: &str, verdict: Verdict) -> Result<Json<Value>, Problem> {
    let dead = job(app, caller, id).await?.filter(|job| job.state == JobState::Dead);
    let job = dead.ok_or_else(|| missing("dead letter", id))?;
    let act = Act { tenant: caller.tenant(), actor: &caller.actor(), operation: verdict.operation(), subject: id, on_credential: false };
    let done = act.recorded(app.runtime().store(), verdict.carry_out(app.runtime(), caller.tenant(), job.id)).await?;
    if done { Ok(Json(json!({ "id": job.id, "done": true }))) } else { Err(missing("dead letter", id).into()) }
}

pub(super) async fn retry_many(State(app): State<App>, caller: Caller, Body(part): Body<Part>) -> Result<Json<Value>, Problem> {
    settle_many(&app, &caller, &part, Verdict::Retry).await
}

pub(super) async fn discard_many(State(app): State<App>, caller: Caller, Body(part): Body<Part>) -> Result<Json<Value>, Problem> {
    settle_many(&app, &caller, &part, Verdict::Discard).await
}

async fn settle_many(app: &App, caller: &Caller, part: &Part, verdict: Verdict) -> Result<Json<Value>, Problem> {
    let filter = part.meant()?;
    if part.state.as_deref().is_some_and(|state| state != "dead") {
        return Err(Error::invalid("only dead letters can be retried or discarded").into());
    }
    let sees = |workspace: &str| caller.is_in(workspace);
    let work = queue::settle(app.runtime(), caller.tenant(), verdict, (part.queue.as_deref(), &filter), part.limit.unwrap_or(MOST), sees);
    let act = Act { tenant: caller.tenant(), actor: &caller.actor(), operation: verdict.operation(), subject: "many", on_credential: false };
    let (count, next) = act.recorded(app.runtime().store(), work).await?;
    Ok(Json(json!({ "count": count, "done": verdict.done(), "next_after": next })))
}

/// The job, unless it is another tenant's or another workspace's. What is no number is no id.
async fn job(app: &App, caller: &Caller, id: &str) -> Result<Option<Job>> {
    let job = match id.parse() {
        Ok(number) => app.runtime().store().job(caller.tenant(), JobId(number)).await?,
        Err(_) => None,
    };
    Ok(job.filter(|job| caller.is_in(job.workspace.as_str())))
}

pub(super) async fn events(State(app): State<App>, caller: Caller, Query(part): Query<Part>) -> Result<(HeaderMap, Json<Vec<StoredEvent>>), Problem> {
    no_queue(&part)?;
    let page = queue::events(app.runtime(), caller.tenant(), &part.filter(), part.limit(), |workspace| caller.is_in(workspace)).await?;
    Ok(listed("/api/v1/events", page))
}

/// Events are in no queue and have no state; a filter that is not applied must not look as if it were.
fn no_queue(part: &Part) -> Result<()> {
    if part.queue.is_some() || part.state.is_some() {
        return Err(Error::invalid("events have neither queue nor state; `/api/v1/dlq?queue=events` lists their jobs"));
    }
    Ok(())
}

pub(super) async fn event(State(app): State<App>, caller: Caller, Path(seq): Path<String>, Query(look): Query<Look>) -> Result<Json<Value>, Problem> {
    let payload = look.payload(&caller)?;
    Ok(Json(queue::event_shown(&own_event(&app, &caller, &seq).await?, payload)?))
}

pub(super) async fn replay(State(app): State<App>, caller: Caller, Path(seq): Path<String>) -> Result<Json<Value>, Problem> {
    let event = own_event(&app, &caller, &seq).await?;
    let act = Act { tenant: caller.tenant(), actor: &caller.actor(), operation: "events.replay", subject: &seq, on_credential: false };
    let queued = act.recorded(app.runtime().store(), app.runtime().replay_event(caller.tenant(), event.seq)).await?;
    let job = queued.ok_or_else(|| missing("event", &seq))?;
    Ok(Json(json!({ "event": event.seq, "job_id": job })))
}

pub(super) async fn replay_many(State(app): State<App>, caller: Caller, Body(part): Body<Part>) -> Result<Json<Value>, Problem> {
    no_queue(&part)?;
    let filter = part.meant()?;
    let work = queue::replay(app.runtime(), caller.tenant(), &filter, part.limit.unwrap_or(MOST), |workspace| caller.is_in(workspace));
    let act = Act { tenant: caller.tenant(), actor: &caller.actor(), operation: "events.replay", subject: "many", on_credential: false };
    let (count, next) = act.recorded(app.runtime().store(), work).await?;
    Ok(Json(json!({ "count": count, "done": "queued again", "next_after": next })))
}

async fn own_event(app: &App, caller: &Caller, seq: &str) -> Result<StoredEvent> {
    let event = match seq.parse() {
        Ok(number) => app.runtime().store().event(caller.tenant(), number).await?,
        Err(_) => None,
    };
    event.filter(|event| caller.is_in(event.workspace.as_str())).ok_or_else(|| missing("event", seq))
}
