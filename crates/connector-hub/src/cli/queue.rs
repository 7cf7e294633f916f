//! `dlq`: what gave up, why, and what is to become of it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use connector_core::state::{Job, JobId, JobState};
use serde_json::json;

use super::person;
use crate::{
    output::{self, NOTHING, Usage},
    queue::{self, Filter, MOST, Verdict},
    setup::Setup,
    trail::Act,
    when,
};

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, oldest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only this queue's (`events`, `outbox`, …)
        #[arg(long, value_name = "Q")]
        queue: Option<String>,
        /// Jobs in another state than dead
        #[arg(long, value_name = "S")]
        state: Option<StateName>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one: why it is here, and what it is about
    Show {
        /// Its id
        id: u64,
        /// With what is in it
        #[arg(long)]
        payload: bool,
    },
    /// Queue it again, with its original idempotency key
    Retry(Which),
    /// Mark it as not to be done
    Discard(Which),
}

/// Where a job is, by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StateName {
    /// Waits for its time and a worker
    Pending,
    /// A worker has it
    Leased,
    /// Finished
    Done,
    /// Gave up
    Dead,
    /// A person decided not to do it
    Discarded,
}

impl From<StateName> for JobState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Pending => Self::Pending,
            StateName::Leased => Self::Leased,
            StateName::Done => Self::Done,
            StateName::Dead => Self::Dead,
            StateName::Discarded => Self::Discarded,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Its id
    #[arg(conflicts_with_all = ["all", "connector", "connection", "kind", "flag", "since", "after", "queue"])]
    id: Option<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Only this queue's
    #[arg(long, value_name = "Q")]
    queue: Option<String>,
}

pub(super) async fn dlq(setup: &Setup, command: DlqCommand, as_json: bool) -> Result<ExitCode> {
    let runtime = if matches!(command, DlqCommand::List { .. }) { setup.looking().await? } else { setup.reading().await? };
    let tenant = setup.tenant()?;
    match command {
        DlqCommand::List { filter, queue, state, limit } => {
            let found = queue::jobs(&runtime, &tenant, (queue.as_deref(), state.map(Into::into)), &filter, limit, |_| true).await?;
            if as_json {
                output::json(&found.items)?;
            } else if found.items.is_empty() {
                output::line("no dead letters")?;
            } else {
                output::table(&["id", "queue", "what", "since (UTC)", "attempts", "class", "why"], found.items.iter().map(job_row))?;
            }
            super::events::more(found.next);
        }
        DlqCommand::Show { id, payload } => {
            let job = runtime.store().job(&tenant, JobId(id)).await?.ok_or_else(|| queue::missing("dead letter", &id.to_string()))?;
            output::json(&queue::job_shown(&runtime, &tenant, &job, payload).await?)?;
        }
        DlqCommand::Retry(which) => return settle(&runtime, &tenant, which, Verdict::Retry, as_json).await,
        DlqCommand::Discard(which) => return settle(&runtime, &tenant, which, Verdict::Discard, as_json).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn settle(
    runtime: &connector_runtime::Runtime,
    tenant: &connector_core::TenantId,
    which: Which,
    verdict: Verdict,
    as_json: bool,
) -> Result<ExitCode> {
    let Which { id, all, mut filter, queue } = which;
    let actor = person();
    let subject = id.map_or_else(|| "many".to_owned(), |id| id.to_string());
    let act = Act { tenant, actor: &actor, operation: verdict.operation(), subject: &subject, on_credential: false };
    let done = match id {
        Some(id) => usize::from(act.recorded(runtime.store(), verdict.carry_out(runtime, tenant, JobId(id))).await?),
        None if !all && filter.is_empty() && queue.is_none() => {
            return Err(Usage("which one? Give its id, filters such as --connector, or --all".into()).into());
        }
        None => {
            let work = async {
                let mut done = 0;
                loop {
                    let (count, next) = queue::settle(runtime, tenant, verdict, (queue.as_deref(), &filter), MOST, |_| true).await?;
                    done += count;
                    match next {
                        Some(next) => filter.after = Some(next),
                        None => return Ok(done),
                    }
                }
            };
            act.recorded(runtime.store(), work).await?
        }
    };
    if as_json {
        output::json(&json!({ "count": done, "done": verdict.done() }))?;
    } else {
        output::line(&format!("{done} {}", verdict.done()))?;
    }
    Ok(if done == 0 { ExitCode::from(NOTHING) } else { ExitCode::SUCCESS })
}

fn job_row(job: &Job) -> Vec<String> {
    let (class, why) = job.last_error.as_ref().map(|error| (error.kind.to_string(), error.message.clone())).unwrap_or_default();
    let since = when::shown(Some(job.created_at));
    vec![job.id.to_string(), job.queue.to_string(), job.subject.clone(), since, job.attempts.to_string(), class, why]
}
