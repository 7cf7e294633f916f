//! `subscriptions`: what vendors were asked to tell us, and whether they still do.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use connector_runtime::{SubscriptionState, SubscriptionView};

use super::person;
use crate::{output, setup::Setup, trail::Act, when};

#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionsCommand {
    /// List them
    List,
    /// Show one: state, end, last event, gap, failures, what a person has to do
    Show {
        /// Its id
        id: String,
    },
    /// Look at all now, or at one whatever its waits say: renew what is due, try again what failed, close gaps
    Sync {
        /// Its id
        id: Option<String>,
    },
    /// Take down one that was added over HTTP; those of hub.yaml go when their entry goes
    Remove {
        /// Its id
        id: String,
    },
}

pub(super) async fn run(setup: &Setup, command: SubscriptionsCommand, as_json: bool) -> Result<ExitCode> {
    let tenant = setup.tenant()?;
    let actor = person();
    match command {
        SubscriptionsCommand::List => {
            let all = setup.bare().await?.subscriptions(&tenant).await?;
            if as_json {
                output::json(&all)?;
            } else if all.is_empty() {
                output::line("no subscriptions; name some under `subscriptions` in hub.yaml")?;
            } else {
                let header = ["id", "state", "workspace", "ends (UTC)", "renewed (UTC)", "last event (UTC)", "gap", "failures"];
                output::table(&header, all.iter().map(row))?;
            }
        }
        SubscriptionsCommand::Show { id } => {
            let one = setup.bare().await?.subscription(&tenant, &id).await?;
            if as_json { output::json(&one)? } else { show(&one)? }
        }
        SubscriptionsCommand::Sync { id } => {
            // It calls vendors, so it needs their credentials and the master key.
            let runtime = setup.runtime().await?;
            let subject = id.clone().unwrap_or_else(|| "all".to_owned());
            let act = Act { tenant: &tenant, actor: &actor, operation: "subscriptions.sync", subject: &subject, on_credential: false };
            let work = async {
                match &id {
                    Some(id) => runtime.sync_subscription(&tenant, id).await,
                    None => runtime.tend_subscriptions().await,
                }
            };
            let done = act.recorded(runtime.store(), work).await?;
            // A hub that runs takes over at once.
            runtime.release_subscriptions().await?;
            if as_json {
                output::json(&done)?;
            } else if done.elsewhere {
                output::line("a hub that runs looks after the subscriptions; ask it over HTTP: POST /api/v1/subscriptions/{id}/sync")?;
            } else {
                output::line(&format!(
                    "made {}, adopted {}, renewed {}, lost {}, removed {}, gaps closed {}, changes found {}, failed {}",
                    done.created, done.adopted, done.renewed, done.lost, done.removed, done.gaps, done.found, done.failed
                ))?;
            }
            return Ok(if done.failed > 0 { ExitCode::from(output::FAILED) } else { ExitCode::SUCCESS });
        }
        SubscriptionsCommand::Remove { id } => {
            let runtime = setup.bare().await?;
            let act = Act { tenant: &tenant, actor: &actor, operation: "subscriptions.remove", subject: &id, on_credential: false };
            let removed = act.recorded(runtime.store(), runtime.remove_subscription(&tenant, &id)).await?;
            if as_json {
                output::json(&removed)?;
            } else {
                output::line(&format!("subscription {id} is taken down at the vendor by the hub within a minute"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(one: &SubscriptionView) -> Vec<String> {
    vec![
        one.id.clone(),
        state(one.state).to_owned(),
        one.workspace.clone(),
        when::shown(one.expires_at),
        when::shown(one.renew_at),
        when::shown(one.last_event_at),
        one.gap.clone().unwrap_or_default(),
        one.failures.to_string(),
    ]
}

fn show(one: &SubscriptionView) -> Result<()> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
    let counts = one.counts;
    output::record(&[
        ("subscription", one.id.clone()),
        ("state", state(one.state).to_owned()),
        ("kind", format!("{} over {} ({})", one.kind, one.connection, one.connector)),
        ("workspace", one.workspace.clone()),
        ("resource", one.resource.clone()),
        ("parameters", serde_json::to_string(&one.params)?),
        ("vendor's id", text(&one.vendor_id)),
        ("ends", format!("{} UTC", when::shown(one.expires_at))),
        ("renewed", format!("{} UTC", when::shown(one.renew_at))),
        ("last event", format!("{} UTC", when::shown(one.last_event_at))),
        ("caught up", format!("{} UTC", when::shown(one.caught_up_at))),
        ("gap", text(&one.gap)),
        ("failures", one.failures.to_string()),
        ("last error", text(&one.last_error)),
        ("tried again", format!("{} UTC", when::shown(one.retry_at))),
        ("address", text(&one.notification_url)),
        ("by hand", text(&one.instructions)),
        (
            "so far",
            format!(
                "made {}, adopted {}, renewed {}, duplicates ended {}, gaps closed {}, changes found {}, full readings {}",
                counts.created, counts.adopted, counts.renewed, counts.duplicates, counts.gaps, counts.found, counts.resyncs
            ),
        ),
    ])
}

fn state(state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Pending => "pending",
        SubscriptionState::Active => "active",
        SubscriptionState::Lost => "lost",
        SubscriptionState::Watching => "watching",
        SubscriptionState::Ending => "ending",
    }
}
