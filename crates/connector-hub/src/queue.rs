//! Dead letters and events as people look for them, on the command line and over HTTP: which, what about, what is in them.
//!
//! Owns the filters that the store has no index for: they are applied to pages of it, and a look is bounded. Refuses payloads to whoever did not
//! ask for them.

use base64::Engine as _;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::{Clock as _, SystemClock, unix_millis},
    redact,
    state::{EventFilter, Job, JobFilter, JobId, JobState, StoredEvent},
};
use connector_runtime::{OUTBOX_QUEUE, Runtime};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::when;

/// The queue that events are handled from.
pub(crate) const EVENTS_QUEUE: &str = "events";
/// A page of a listing is no longer than this.
pub(crate) const MOST: usize = 1_000;
/// How much one look goes through; the next one goes on from there.
const MOST_SCANNED: usize = 20_000;
/// Fetched from the store at a time.
const PAGE: usize = 500;

/// What is looked for. Everything that is said must hold.
#[derive(Debug, Clone, Default, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Filter {
    /// Only this connector's
    #[arg(long, value_name = "C")]
    pub(crate) connector: Option<String>,
    /// Only this connection's
    #[arg(long, value_name = "C")]
    pub(crate) connection: Option<String>,
    /// Only this kind of event, or this tool's
    #[arg(long = "type", value_name = "KIND")]
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// Only events with this oddity (`no_event_id`, `unknown_type`, …)
    #[arg(long, value_name = "F")]
    pub(crate) flag: Option<String>,
    /// Only what came since then: `2026-11-21`, `2026-11-21T08:00:00Z`, or a span such as `24h`
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only what comes after this number
    #[arg(long, value_name = "N")]
    pub(crate) after: Option<u64>,
}

impl Filter {
    /// Whether it says anything.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { connector, connection, kind, flag, since, after } = self;
        connector.is_none() && connection.is_none() && kind.is_none() && flag.is_none() && since.is_none() && after.is_none()
    }

    fn since(&self) -> Result<u64> {
        let Some(text) = &self.since else { return Ok(0) };
        if let Ok(span) = when::span(text) {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            return Ok(unix_millis(SystemClock.wall()).saturating_sub(span));
        }
        when::date(text).map_err(|_| Error::invalid("`since` must be a date such as 2026-11-21 or 2026-11-21T08:00:00Z, or a span such as 24h"))
    }
}

/// Part of a listing.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Where to look on; `None` if that was all.
    pub(crate) next: Option<u64>,
}

/// The events that fit, oldest first, at most `limit`.
pub(crate) async fn events(
    runtime: &Runtime,
    tenant: &TenantId,
    filter: &Filter,
    limit: usize,
    sees: impl Fn(&str) -> bool,
) -> Result<Page<StoredEvent>> {
    let (since, limit) = (filter.since()?, limit.clamp(1, MOST));
    let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    let (mut after, mut items, mut scanned) = (filter.after, Vec::new(), 0);
    loop {
        let page = EventFilter { connector: filter.connector.clone(), event_type: filter.kind.clone(), after, limit: PAGE, heads: true };
        let page = runtime.store().events(tenant, page).await?;
        let ended = page.len() < PAGE;
        scanned += page.len();
        for event in page {
            after = Some(event.seq);
            let flagged = filter.flag.as_ref().is_none_or(|flag| event.flags.contains(flag));
            if flagged && event.received_at >= since && same(&filter.connection, &event.connection) && sees(event.workspace.as_str()) {
                items.push(event);
                if items.len() == limit {
                    return Ok(Page { items, next: after });
                }
            }
        }
        if ended {
            return Ok(Page { items, next: None });
        }
        if scanned >= MOST_SCANNED {
            return Ok(Page { items, next: after });
        }
    }
}

/// The jobs that fit, oldest first, at most `limit`. Without a state, dead letters.
pub(crate) async fn jobs(
    runtime: &Runtime,
    tenant: &TenantId,
    (queue, state): (Option<&str>, Option<JobState>),
    filter: &Filter,
    limit: usize,
    sees: impl Fn(&str) -> bool,
) -> Result<Page<Job>> {
    let (since, limit) = (filter.since()?, limit.clamp(1, MOST));
    let (mut after, mut items, mut scanned) = (filter.after.map(JobId), Vec::new(), 0);
    loop {
        let page = JobFilter { queue: queue.map(str::to_owned), state: Some(state.unwrap_or(JobState::Dead)), after, limit: PAGE };
        let page = runtime.store().jobs(tenant, page).await?;
        let ended = page.len() < PAGE;
        scanned += page.len();
        for job in page {
            after = Some(job.id);
            if job.created_at >= since && sees(job.workspace.as_str()) && fits(runtime, tenant, filter, &job).await? {
                items.push(job);
                if items.len() == limit {
                    return Ok(Page { items, next: after.map(|id| id.0) });
                }
            }
        }
        if ended {
            return Ok(Page { items, next: None });
        }
        if scanned >= MOST_SCANNED {
            return Ok(Page { items, next: after.map(|id| id.0) });
        }
    }
}

/// Whether a job is about what is looked for. What it is about is looked up only if somebody asks.
async fn fits(runtime: &Runtime, tenant: &TenantId, filter: &Filter, job: &Job) -> Result<bool> {
    let Filter { connector, connection, kind, flag, .. } = filter;
    if connector.is_none() && connection.is_none() && kind.is_none() && flag.is_none() {
        return Ok(true);
    }
    let about = About::of(runtime, tenant, job).await?;
    let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    Ok(same(connector, &about.connector)
        && same(connection, &about.connection)
        && same(kind, &about.kind)
        && flag.as_ref().is_none_or(|flag| about.event.iter().any(|event| event.flags.contains(flag))))
}

/// What a job is about.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) connector: Option<String>,
    pub(crate) connection: Option<String>,
    /// The kind of event, or the tool.
    pub(crate) kind: Option<String>,
    /// The event that is to be handled.
    pub(crate) event: Option<StoredEvent>,
}

impl About {
    pub(crate) async fn of(runtime: &Runtime, tenant: &TenantId, job: &Job) -> Result<Self> {
        match &*job.queue {
            EVENTS_QUEUE => {
                let seq = std::str::from_utf8(&job.payload).ok().and_then(|seq| seq.parse().ok());
                let event = match seq {
                    Some(seq) => runtime.store().event(tenant, seq).await?,
                    None => None,
                };
                Ok(match event {
                    Some(event) => Self {
                        connector: Some(event.connector.to_string()),
                        connection: Some(event.connection.to_string()),
                        kind: Some(event.event_type.to_string()),
                        event: Some(event),
                    },
                    // Forgotten since; its name is all that is left.
                    None => {
                        let (connector, kind) = job.subject.split_once(' ').unwrap_or((&job.subject, ""));
                        Self { connector: Some(connector.to_owned()), kind: Some(kind.to_owned()), ..Self::default() }
                    }
                })
            }
            OUTBOX_QUEUE => {
                let connector = runtime.registry().tool(&job.subject).ok().map(|(connector, _)| connector.spec().id.to_string());
                let parcel: Value = serde_json::from_slice(&job.payload).unwrap_or_default();
                let connection = parcel.get("connection").and_then(Value::as_str).map(str::to_owned);
                Ok(Self { connector, connection, kind: Some(job.subject.clone()), event: None })
            }
            _ => Ok(Self::default()),
        }
    }
}

/// A job with what it is about; its payload only if `payload`.
pub(crate) async fn job_shown(runtime: &Runtime, tenant: &TenantId, job: &Job, payload: bool) -> Result<Value> {
    let about = About::of(runtime, tenant, job).await?;
    let mut shown = shown(job)?;
    shown["connector"] = about.connector.into();
    shown["connection"] = about.connection.into();
    if let Some(event) = &about.event {
        shown["event"] = event_shown(event, payload)?;
    } else if payload {
        shown["payload"] = content(&job.payload);
    }
    Ok(shown)
}

/// An event; its payload only if `payload`.
pub(crate) fn event_shown(event: &StoredEvent, payload: bool) -> Result<Value> {
    let mut shown = shown(event)?;
    if payload {
        shown["payload"] = content(&event.payload);
    }
    Ok(shown)
}

fn shown(what: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(what).map_err(|error| Error::internal("a record cannot be shown").with_source(error))
}

/// A payload as JSON, or what it is otherwise.
fn content(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| json!({ "base64": base64::engine::general_purpose::STANDARD.encode(payload) }))
}

/// Handles the events that fit once more, at most `limit`. Gives how many, and where to look on.
pub(crate) async fn replay(
    runtime: &Runtime,
    tenant: &TenantId,
    filter: &Filter,
    limit: usize,
    sees: impl Fn(&str) -> bool,
) -> Result<(usize, Option<u64>)> {
    let found = events(runtime, tenant, filter, limit, sees).await?;
    let mut done = 0;
    for event in &found.items {
        done += usize::from(runtime.replay_event(tenant, event.seq).await?.is_some());
    }
    Ok((done, found.next))
}

/// What is done to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are tried again.
    Retry,
    /// They are not to be done.
    Discard,
}

impl Verdict {
    /// How the trail calls it.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::Retry => "dlq.retry",
            Self::Discard => "dlq.discard",
        }
    }

    /// What happened, in words.
    pub(crate) fn done(self) -> &'static str {
        match self {
            Self::Retry => "queued again",
            Self::Discard => "discarded",
        }
    }

    /// Does it to one. `false`: it is no dead letter any more.
    pub(crate) async fn carry_out(self, runtime: &Runtime, tenant: &TenantId, id: JobId) -> Result<bool> {
        match self {
            Self::Retry => runtime.retry_dead_letter(tenant, id).await,
            Self::Discard => runtime.discard_dead_letter(tenant, id).await,
        }
    }
}

/// Does it to all dead letters that fit, at most `limit`. Gives how many, and where to look on.
pub(crate) async fn settle(
    runtime: &Runtime,
    tenant: &TenantId,
    verdict: Verdict,
    (queue, filter): (Option<&str>, &Filter),
    limit: usize,
    sees: impl Fn(&str) -> bool,
) -> Result<(usize, Option<u64>)> {
    let found = jobs(runtime, tenant, (queue, None), filter, limit, sees).await?;
    let mut done = 0;
    for job in &found.items {
        done += usize::from(verdict.carry_out(runtime, tenant, job.id).await?);
    }
    Ok((done, found.next))
}

/// What to say when there is none of this id.
pub(crate) fn missing(what: &str, id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {what} `{}`", redact::printable(id, 63)))
}

/// A state by its name.
pub(crate) fn state(name: &str) -> Result<JobState> {
    match name {
        "pending" => Ok(JobState::Pending),
        "leased" => Ok(JobState::Leased),
        "done" => Ok(JobState::Done),
        "dead" => Ok(JobState::Dead),
        "discarded" => Ok(JobState::Discarded),
        _ => Err(Error::invalid("a state is pending, leased, done, dead or discarded")),
    }
}
