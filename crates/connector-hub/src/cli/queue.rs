//! `dlq` and `events`: nothing is lost silently.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use connector_core::{
    Error, ErrorKind, TenantId,
    state::{EventFilter, Job, JobFilter, JobId, JobState, StoredEvent},
};
use connector_runtime::Runtime;
use serde_json::{Value, json};

use crate::{
    output::{self, NOTHING},
    setup::Setup,
};

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters
    List,
    /// Show one
    Show {
        /// Its id
        id: u64,
    },
    /// Queue it again, with its original idempotency key
    Retry(Which),
    /// Mark it as not to be done
    Discard(Which),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Its id
    id: Option<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List events, oldest first
    List {
        /// Only this connector's
        #[arg(long)]
        connector: Option<String>,
        /// Only events after this number
        #[arg(long)]
        after: Option<u64>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one with its payload
    Show {
        /// Its number
        seq: u64,
    },
    /// Handle one again
    Replay {
        /// Its number
        seq: u64,
    },
}

pub(super) async fn dlq(setup: &Setup, command: DlqCommand, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.bare().await?;
    let tenant = setup.tenant()?;
    match command {
        DlqCommand::List => {
            let jobs = runtime.dead_letters(&tenant, JobFilter::default()).await?;
            if as_json {
                output::json(&jobs)?;
            } else if jobs.is_empty() {
                output::line("no dead letters")?;
            } else {
                output::table(&["id", "queue", "what", "attempts", "class", "why"], jobs.iter().map(job_row))?;
            }
        }
        DlqCommand::Show { id } => {
            let job = runtime.store().job(&tenant, JobId(id)).await?.filter(|job| job.state == JobState::Dead);
            let job = job.ok_or_else(|| no_such("dead letter", id))?;
            output::json(&job)?;
        }
        DlqCommand::Retry(which) => {
            let mut done = 0;
            for id in ids(&runtime, &tenant, &which).await? {
                done += u32::from(runtime.retry_dead_letter(&tenant, id).await?);
            }
            return report(done, "queued again", as_json);
        }
        DlqCommand::Discard(which) => {
            let mut done = 0;
            for id in ids(&runtime, &tenant, &which).await? {
                done += u32::from(runtime.discard_dead_letter(&tenant, id).await?);
            }
            return report(done, "discarded", as_json);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ids(runtime: &Runtime, tenant: &TenantId, which: &Which) -> Result<Vec<JobId>> {
    Ok(match which.id {
        Some(id) => vec![JobId(id)],
        None => {
            let filter = JobFilter { limit: usize::MAX, ..JobFilter::default() };
            runtime.dead_letters(tenant, filter).await?.iter().map(|job| job.id).collect()
        }
    })
}

fn report(done: u32, what: &str, as_json: bool) -> Result<ExitCode> {
    if as_json {
        output::json(&json!({ "count": done, "done": what }))?;
    } else {
        output::line(&format!("{done} {what}"))?;
    }
    Ok(if done == 0 { ExitCode::from(NOTHING) } else { ExitCode::SUCCESS })
}

fn job_row(job: &Job) -> Vec<String> {
    let (class, why) = job.last_error.as_ref().map(|error| (error.kind.to_string(), error.message.clone())).unwrap_or_default();
    vec![job.id.to_string(), job.queue.to_string(), job.subject.clone(), job.attempts.to_string(), class, why]
}

pub(super) async fn events(setup: &Setup, command: EventsCommand, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.bare().await?;
    let tenant = setup.tenant()?;
    match command {
        EventsCommand::List { connector, after, limit } => {
            let events = runtime.store().events(&tenant, EventFilter { connector, after, limit, ..EventFilter::default() }).await?;
            if as_json {
                output::json(&events)?;
            } else if events.is_empty() {
                output::line("no events")?;
            } else {
                output::table(&["number", "connector", "workspace", "kind", "id", "again", "flags"], events.iter().map(event_row))?;
            }
        }
        EventsCommand::Show { seq } => {
            let event = runtime.store().event(&tenant, seq).await?.ok_or_else(|| no_such("event", seq))?;
            let payload: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
            output::json(&json!({ "event": event, "payload": payload }))?;
        }
        EventsCommand::Replay { seq } => {
            let job = runtime.store().replay(&tenant, seq).await?.ok_or_else(|| no_such("event", seq))?;
            if as_json { output::json(&json!({ "job_id": job }))? } else { output::line(&format!("event {seq} is queued again as job {job}"))? }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn event_row(event: &StoredEvent) -> Vec<String> {
    vec![
        event.seq.to_string(),
        event.connector.to_string(),
        event.workspace.to_string(),
        event.event_type.to_string(),
        event.event_id.clone(),
        event.duplicates.to_string(),
        event.flags.join(", "),
    ]
}

fn no_such(what: &str, id: u64) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {what} {id}; `list` shows what there is"))
}
