//! `events`: what vendors told us, and handling it once more.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use connector_core::state::StoredEvent;
use serde_json::json;

use super::person;
use crate::{
    output::{self, NOTHING, Usage},
    queue::{self, Filter, MOST},
    setup::Setup,
    trail::Act,
    when,
};

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List events, oldest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one
    Show {
        /// Its number
        seq: u64,
        /// With what the vendor sent
        #[arg(long)]
        payload: bool,
    },
    /// Handle one again, or all that fit; what was done already is not done twice
    Replay {
        /// Its number
        #[arg(conflicts_with_all = ["all", "connector", "connection", "kind", "flag", "since", "after"])]
        seq: Option<u64>,
        /// All of them
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        filter: Filter,
    },
}

pub(super) async fn run(setup: &Setup, command: EventsCommand, as_json: bool) -> Result<ExitCode> {
    let runtime = if matches!(command, EventsCommand::List { .. }) { setup.looking().await? } else { setup.reading().await? };
    let tenant = setup.tenant()?;
    let actor = person();
    match command {
        EventsCommand::List { filter, limit } => {
            let found = queue::events(&runtime, &tenant, &filter, limit, |_| true).await?;
            if as_json {
                output::json(&found.items)?;
            } else if found.items.is_empty() {
                output::line("no events")?;
            } else {
                let header = ["number", "came (UTC)", "connector", "connection", "workspace", "kind", "id", "again", "flags"];
                output::table(&header, found.items.iter().map(row))?;
            }
            more(found.next);
        }
        EventsCommand::Show { seq, payload } => {
            let event = runtime.store().event(&tenant, seq).await?.ok_or_else(|| queue::missing("event", &seq.to_string()))?;
            output::json(&queue::event_shown(&event, payload)?)?;
        }
        EventsCommand::Replay { seq: Some(seq), .. } => {
            let subject = seq.to_string();
            let act = Act { tenant: &tenant, actor: &actor, operation: "events.replay", subject: &subject, on_credential: false };
            let queued = act.recorded(runtime.store(), runtime.replay_event(&tenant, seq)).await?;
            let job = queued.ok_or_else(|| queue::missing("event", &subject))?;
            if as_json { output::json(&json!({ "job_id": job }))? } else { output::line(&format!("event {seq} is queued again as job {job}"))? }
        }
        EventsCommand::Replay { seq: None, all, filter } if !all && filter.is_empty() => {
            return Err(Usage("which one? Give its number, filters such as --connector or --since, or --all".into()).into());
        }
        EventsCommand::Replay { seq: None, mut filter, .. } => {
            let act = Act { tenant: &tenant, actor: &actor, operation: "events.replay", subject: "many", on_credential: false };
            let work = async {
                let mut done = 0;
                loop {
                    let (count, next) = queue::replay(&runtime, &tenant, &filter, MOST, |_| true).await?;
                    done += count;
                    match next {
                        Some(next) => filter.after = Some(next),
                        None => return Ok(done),
                    }
                }
            };
            let done = act.recorded(runtime.store(), work).await?;
            if as_json {
                output::json(&json!({ "count": done, "done": "queued again" }))?;
            } else {
                output::line(&format!("{done} queued again"))?;
            }
            return Ok(if done == 0 { ExitCode::from(NOTHING) } else { ExitCode::SUCCESS });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says where a listing goes on, beside the listing.
pub(super) fn more(next: Option<u64>) {
    if let Some(next) = next {
        eprintln!("there may be more: --after {next}");
    }
}

fn row(event: &StoredEvent) -> Vec<String> {
    vec![
        event.seq.to_string(),
        when::shown(Some(event.received_at)),
        event.connector.to_string(),
        event.connection.to_string(),
        event.workspace.to_string(),
        event.event_type.to_string(),
        event.event_id.clone(),
        event.duplicates.to_string(),
        event.flags.join(", "),
    ]
}
