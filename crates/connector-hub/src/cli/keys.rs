//! `keys`: API keys of people and programs that call the hub over HTTP.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use connector_runtime::Role;
use serde_json::json;

use super::person;
use crate::{
    keys::{self, KeyOrder, KeyRecord, Keys},
    output,
    setup::Setup,
    trail::Act,
    when,
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make one; it is shown once
    Create {
        /// What its holder may do
        #[arg(long)]
        role: RoleName,
        /// The workspaces it is good for; `*` is all of them
        #[arg(long, value_name = "A,B|*", value_delimiter = ',', default_value = "*")]
        workspaces: Vec<String>,
        /// What it is for
        #[arg(long, value_name = "N")]
        name: Option<String>,
    },
    /// List them, revoked ones too
    List,
    /// Make one worthless at once
    Revoke {
        /// Its id, as `keys list` shows it
        id: String,
    },
}

/// A role, by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    /// Reads only
    Viewer,
    /// Reads and writes
    Operator,
    /// Also decides about what others ask for
    Approver,
    /// Everything
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Approver => Self::Approver,
            RoleName::Admin => Self::Admin,
        }
    }
}

pub(super) async fn run(setup: &Setup, command: KeysCommand, as_json: bool) -> Result<ExitCode> {
    let store = setup.store().await?.store;
    let tenant = setup.tenant()?;
    let keys = Keys::new(store.clone());
    let actor = person();
    match command {
        KeysCommand::Create { role, workspaces, name } => {
            let subject = name.clone().unwrap_or_else(|| Role::from(role).to_string());
            let act = Act { tenant: &tenant, actor: &actor, operation: "keys.create", subject: &subject, on_credential: false };
            let order = KeyOrder { tenant: tenant.clone(), role: role.into(), workspaces, name, by: actor.clone() };
            let (record, key) = act.recorded(&store, keys.create(order)).await?;
            if as_json {
                output::json(&json!({ "key": keys::reveal(&key), "record": record }))?;
            } else {
                eprintln!("key {} for tenant {}: it is shown this once, keep it safe", record.id, record.tenant);
                output::line(keys::reveal(&key))?;
            }
        }
        KeysCommand::List => {
            let all = keys.list(&tenant).await?;
            if as_json {
                output::json(&all)?;
            } else if all.is_empty() {
                output::line("no keys; `keys create --role operator` makes one")?;
            } else {
                output::table(&["id", "name", "role", "workspaces", "made (UTC)", "by", "state"], all.iter().map(row))?;
            }
        }
        KeysCommand::Revoke { id } => {
            let act = Act { tenant: &tenant, actor: &actor, operation: "keys.revoke", subject: &id, on_credential: false };
            let record = act.recorded(&store, keys.revoke(&tenant, &id)).await?;
            if as_json { output::json(&record)? } else { output::line(&format!("key {} is worth nothing any more", record.id))? }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(record: &KeyRecord) -> Vec<String> {
    let state = record.revoked_at.map_or_else(|| "good".to_owned(), |at| format!("revoked {}", when::shown(Some(at))));
    vec![
        record.id.clone(),
        record.name.clone().unwrap_or_default(),
        record.role.to_string(),
        record.workspaces.join(", "),
        when::shown(Some(record.created_at)),
        record.created_by.clone(),
        state,
    ]
}
