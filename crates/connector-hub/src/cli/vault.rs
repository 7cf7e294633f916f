//! `vault`: the master keys that secrets are sealed under.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Subcommand;
use connector_core::Actor;
use connector_vault::{
    Unreadable, Vault,
    key::{LocalKey, MasterKey as _},
};

use super::person;
use crate::{
    output::{self, FAILED, NOTHING},
    setup::{Key, Setup},
    trail::Act,
};

#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    /// Open everything once, show nothing, and say what does not open
    Verify,
    /// Seal everything anew under the first key; what was stopped goes on where it was
    RotateKey,
    /// Show which master key seals how much
    Keys,
    /// Say how to make a master key, or make one in a file
    NewKey {
        /// The file to make, readable by its owner only
        file: Option<PathBuf>,
    },
}

pub(super) async fn run(setup: &Setup, command: VaultCommand, as_json: bool) -> Result<ExitCode> {
    if let VaultCommand::NewKey { file } = command {
        return new_key(file.as_deref());
    }
    let runtime = setup.with_vault(Key::IfThere).await?;
    let Some(vault) = runtime.vault() else {
        eprintln!("there is no vault yet: nothing was ever kept in it; `credentials set NAME` starts one");
        return Ok(ExitCode::from(NOTHING));
    };
    match command {
        VaultCommand::Verify => verify(vault, as_json).await,
        VaultCommand::RotateKey => {
            let (tenant, actor): (_, Actor) = (setup.tenant()?, person());
            let act = Act { tenant: &tenant, actor: &actor, operation: "vault.rotate_key", subject: "master key", on_credential: false };
            let bar = progress(vault).await?;
            let report = act.recorded(runtime.store(), vault.rotate_key(&|done| bar.set_position(done))).await?;
            bar.finish_and_clear();
            if as_json {
                output::json(&report)?;
            } else {
                output::line(&format!("{} sealed anew under `{}`, {} were already", count(report.rewrapped), report.key_id, count(report.already)))?;
                for (key, left) in &report.left {
                    let verdict = if *left == 0 { "nothing is sealed under it any more: take it out of hub.yaml and destroy it" } else { "keep it" };
                    output::line(&format!("`{key}` still holds {}: {verdict}", count(*left)))?;
                }
                unreadable(&report.unreadable)?;
            }
            Ok(if report.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
        }
        VaultCommand::Keys => {
            let report = vault.verify().await?;
            if as_json {
                output::json(&report.by_key)?;
            } else if report.by_key.is_empty() {
                output::line("nothing is sealed yet")?;
            } else {
                output::table(&["master key", "envelopes"], report.by_key.iter().map(|(key, held)| vec![key.clone(), held.to_string()]))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        VaultCommand::NewKey { .. } => Ok(ExitCode::SUCCESS),
    }
}

async fn verify(vault: &Vault, as_json: bool) -> Result<ExitCode> {
    let report = vault.verify().await?;
    if as_json {
        output::json(&report)?;
    } else {
        output::line(&format!("{} credentials, {} opened", report.credentials, count(report.opened)))?;
        for (key, held) in &report.by_key {
            output::line(&format!("`{key}` seals {}", count(*held)))?;
        }
        unreadable(&report.unreadable)?;
    }
    Ok(if report.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn unreadable(all: &[Unreadable]) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    output::table(
        &["tenant", "credential", "field", "why it does not open"],
        all.iter().map(|one| vec![one.tenant.to_string(), one.name.clone(), one.field.clone(), one.why.clone()]),
    )
}

fn count(envelopes: u64) -> String {
    format!("{envelopes} {}", if envelopes == 1 { "envelope" } else { "envelopes" })
}

async fn progress(vault: &Vault) -> Result<indicatif::ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(indicatif::ProgressBar::hidden());
    }
    let total = vault.verify().await?.by_key.values().sum();
    let style = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len} envelopes, {eta} to go")?;
    Ok(indicatif::ProgressBar::new(total).with_style(style))
}

fn new_key(file: Option<&Path>) -> Result<ExitCode> {
    let Some(path) = file else {
        output::line(
            "A master key is 32 random bytes in base64. Make one, and keep a copy where the backups are not:\n\n  \
             connector-hub vault new-key /etc/connectors/master-2.key     # or: openssl rand -base64 32\n\n\
             Put it first in hub.yaml; the ones after it still open what they sealed:\n\n  \
             vault:\n    keys:\n      - { id: k2, from: \"file:/etc/connectors/master-2.key\" }\n      - { id: k1, from: \"env:CONNECTORS_MASTER_KEY\" }\n\n\
             Then seal everything anew:\n\n  connector-hub vault rotate-key",
        )?;
        return Ok(ExitCode::SUCCESS);
    };
    let made = LocalKey::generate_file(path)?;
    eprintln!("`{}` is made (`{}`), readable by you only; keep a copy where the backups are not", path.display(), made.id());
    Ok(ExitCode::SUCCESS)
}
