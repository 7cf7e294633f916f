//! `approvals`: writes that wait for somebody else's yes.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use connector_runtime::{Approval, ApprovalState, Role};

use super::person;
use crate::{output, setup::Setup, trail::Act, when};

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List them, those to be decided first
    List {
        /// Only those that wait for a decision
        #[arg(long)]
        pending: bool,
    },
    /// Show one with its arguments
    Show {
        /// Its id
        id: String,
    },
    /// Let this exact write through, once
    Approve {
        /// Its id
        id: String,
    },
    /// Refuse this write
    Deny {
        /// Its id
        id: String,
    },
}

pub(super) async fn run(setup: &Setup, command: ApprovalsCommand, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.reading().await?;
    let tenant = setup.tenant()?;
    let actor = person();
    let shown = match command {
        ApprovalsCommand::List { pending } => {
            let mut all = runtime.approvals(&tenant).await?;
            all.retain(|approval| !pending || approval.state == ApprovalState::Pending);
            if as_json {
                output::json(&all)?;
            } else if all.is_empty() {
                output::line("no approvals")?;
            } else {
                output::table(&["id", "state", "tool", "asked by", "until"], all.iter().map(row))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        ApprovalsCommand::Show { id } => runtime.approval(&tenant, &id).await?,
        ApprovalsCommand::Approve { id } => {
            runtime.approval(&tenant, &id).await?;
            let act = Act { tenant: &tenant, actor: &actor, operation: "approvals.approve", subject: &id, on_credential: false };
            act.recorded(runtime.store(), runtime.approve(&tenant, &id, &actor, Role::Admin)).await?
        }
        ApprovalsCommand::Deny { id } => {
            runtime.approval(&tenant, &id).await?;
            let act = Act { tenant: &tenant, actor: &actor, operation: "approvals.deny", subject: &id, on_credential: false };
            act.recorded(runtime.store(), runtime.deny(&tenant, &id, &actor, Role::Admin)).await?
        }
    };
    if as_json {
        output::json(&shown)?
    } else {
        show(&shown)?
    }
    Ok(ExitCode::SUCCESS)
}

fn row(approval: &Approval) -> Vec<String> {
    vec![
        approval.id.clone(),
        state(approval).to_owned(),
        approval.tool.clone(),
        approval.requester.clone(),
        // A quarter of an hour needs no date.
        when::shown(Some(approval.expires_at * 1_000)).get(11..).unwrap_or_default().to_owned(),
    ]
}

fn show(approval: &Approval) -> Result<()> {
    output::record(&[
        ("approval", approval.id.clone()),
        ("state", state(approval).to_owned()),
        ("tool", format!("{} ({})", approval.tool, approval.effect.as_str())),
        ("connection", format!("{} of {}", approval.connection, approval.connector)),
        ("workspace", approval.workspace.clone()),
        ("asked by", approval.requester.clone()),
        ("decided by", approval.decided_by.clone().unwrap_or_default()),
        ("good until", format!("{} UTC", when::shown(Some(approval.expires_at * 1_000)))),
        ("arguments", serde_json::to_string_pretty(&approval.arguments)?),
    ])
}

fn state(approval: &Approval) -> &'static str {
    match approval.state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "denied",
        ApprovalState::Used => "used",
        ApprovalState::Expired => "expired",
    }
}
