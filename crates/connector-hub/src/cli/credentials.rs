//! `credentials`: keep, grant, rotate, revoke, prove. Shows what is known about secrets and never a secret.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use connector_core::{Actor, Error, ErrorKind, TenantId};
use connector_runtime::Runtime;
use connector_vault::{CredentialInfo, CredentialState, NewCredential, Vault};

use super::{
    confirmed,
    fields::{self, Sources},
    person,
};
use crate::{
    http::credentials::{check_name, missing},
    output::{self, FAILED},
    setup::{Key, Setup},
    trail::Act,
    when,
};

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialsCommand {
    /// Keep a credential; one of the same name is replaced
    Set(SetArgs),
    /// List them
    List,
    /// Show what is known about one
    Show {
        /// Its name
        name: String,
    },
    /// Say which workspaces may use it, instead of those that could
    Grant {
        /// Its name
        name: String,
        /// The workspaces; `*` is all of them
        #[arg(long, value_name = "A,B|*", value_delimiter = ',', required = true)]
        workspaces: Vec<String>,
    },
    /// Replace its secret: by the vendor where that can be, else by the values given here
    Rotate {
        /// Its name
        name: String,
        /// How long the old secret is accepted, too
        #[arg(long, value_name = "TIME", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        sources: Sources,
    },
    /// Destroy its secrets; the record of it stays
    Revoke {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Prove a credential, or the one of a connection, with one harmless call
    Validate {
        /// The credential's name, or a connection's id
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    sources: Sources,
    /// The connector it is for
    #[arg(long, value_name = "C")]
    connector: Option<String>,
    /// How it is used, if its connector knows several ways (`bearer`, `authorization_code`)
    #[arg(long, value_name = "S")]
    scheme: Option<String>,
    /// The workspaces that may use it; `*` is all of them
    #[arg(long, value_name = "A,B|*", value_delimiter = ',', default_value = "*")]
    workspaces: Vec<String>,
    /// The scopes it has, as far as known
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Who answers for it
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
    /// When the vendor stops accepting it
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// How often it is to be replaced
    #[arg(long, value_name = "TIME")]
    rotate_every: Option<String>,
}

/// What the commands work with.
struct Desk {
    runtime: Runtime,
    vault: Vault,
    tenant: TenantId,
    actor: Actor,
    as_json: bool,
}

impl Desk {
    async fn open(setup: &Setup, key: Key, as_json: bool) -> Result<Self> {
        let runtime = setup.with_vault(key).await?;
        let vault = runtime.vault().cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no vault yet: nothing was ever kept in it; `credentials set NAME` starts one")
        })?;
        Ok(Self { runtime, vault, tenant: setup.tenant()?, actor: person(), as_json })
    }

    fn act<'a>(&'a self, operation: &'a str, name: &'a str) -> Act<'a> {
        Act { tenant: &self.tenant, actor: &self.actor, operation, subject: name, on_credential: true }
    }

    async fn info(&self, name: &str) -> Result<CredentialInfo> {
        Ok(self.vault.show(&self.tenant, name).await.map_err(|error| if error.kind() == ErrorKind::NotFound { missing(name) } else { error })?)
    }

    fn show(&self, info: &CredentialInfo, done: &str) -> Result<ExitCode> {
        if self.as_json {
            output::json(info)?;
        } else {
            if !done.is_empty() {
                eprintln!("`{}` is {done}", info.name);
            }
            output::record(&pairs(info))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) async fn run(setup: &Setup, command: CredentialsCommand, as_json: bool) -> Result<ExitCode> {
    match command {
        CredentialsCommand::Set(args) => set(setup, args, as_json).await,
        CredentialsCommand::List => list(setup, as_json).await,
        CredentialsCommand::Show { name } => {
            let desk = Desk::open(setup, Key::IfThere, as_json).await.map_err(|error| absent(error, &name))?;
            desk.show(&desk.info(&name).await?, "")
        }
        CredentialsCommand::Grant { name, workspaces } => {
            let desk = Desk::open(setup, Key::IfThere, as_json).await.map_err(|error| absent(error, &name))?;
            desk.info(&name).await?;
            let work = desk.vault.grant(&desk.tenant, &name, workspaces);
            let info = desk.act("credentials.grant", &name).recorded(desk.runtime.store(), work).await?;
            desk.show(&info, &format!("granted to {}", granted(&info)))
        }
        CredentialsCommand::Rotate { name, overlap, sources } => rotate(setup, &name, &overlap, &sources, as_json).await,
        CredentialsCommand::Revoke { name, yes } => {
            let desk = Desk::open(setup, Key::IfThere, as_json).await.map_err(|error| absent(error, &name))?;
            desk.info(&name).await?;
            if !confirmed(yes, &format!("The secrets of `{name}` will be destroyed.", name = connector_core::redact::printable(&name, 80)))? {
                eprintln!("nothing was changed");
                return Ok(ExitCode::from(FAILED));
            }
            let info = desk.act("credentials.revoke", &name).recorded(desk.runtime.store(), desk.vault.revoke(&desk.tenant, &name)).await?;
            desk.show(&info, "revoked; its secrets are gone")
        }
        CredentialsCommand::Validate { name } => super::validate::run(setup, &name, as_json).await,
    }
}

/// Where nothing was ever kept, a name is as missing as anywhere else.
fn absent(error: anyhow::Error, name: &str) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(ours) if ours.kind() == ErrorKind::NotFound => missing(name).into(),
        _ => error,
    }
}

async fn set(setup: &Setup, args: SetArgs, as_json: bool) -> Result<ExitCode> {
    // Everything that can be wrong is said before anybody types a secret.
    args.sources.check()?;
    check_name(&args.name)?;
    let expires_at = args.expires.as_deref().map(when::date).transpose()?;
    let rotate_every = args.rotate_every.as_deref().map(when::span).transpose()?;
    let mut expected = Vec::new();
    let registry = setup.catalogue().await?;
    if let Some(connector) = &args.connector {
        expected = fields::expected(registry.require(connector)?.spec(), args.scheme.as_deref())?;
        if expected.is_empty() {
            return Err(Error::invalid(format!("`{connector}` needs no credential")).into());
        }
    }
    let values = args.sources.read(&expected)?;
    let desk = Desk::open(setup, Key::MakeIfMissing, as_json).await?;
    let new = NewCredential {
        fields: values,
        scheme: args.scheme.map(Into::into),
        connector: args.connector,
        workspaces: args.workspaces,
        scopes: args.scopes,
        owner: args.owner,
        expires_at,
        rotate_every,
    };
    let info = desk.act("credentials.set", &args.name).recorded(desk.runtime.store(), desk.vault.set(&desk.tenant, &args.name, new)).await?;
    desk.show(&info, "kept")
}

async fn list(setup: &Setup, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.with_vault(Key::IfThere).await?;
    let infos = match runtime.vault() {
        Some(vault) => vault.list(&setup.tenant()?).await?,
        None => Vec::new(),
    };
    if as_json {
        output::json(&infos)?;
    } else if infos.is_empty() {
        output::line("no credentials; `credentials set NAME --connector C` keeps one, `connect C` signs in")?;
    } else {
        let rows = infos.iter().map(|info| {
            vec![
                info.name.clone(),
                info.connector.clone().unwrap_or_default(),
                info.state.as_str().to_owned(),
                granted(info),
                info.version.to_string(),
                when::shown(info.expires_at),
                info.owner.clone().unwrap_or_default(),
            ]
        });
        output::table(&["credential", "connector", "state", "workspaces", "version", "expires (UTC)", "owner"], rows)?;
        for info in infos.iter().filter(|info| matches!(info.state, CredentialState::ReauthRequired | CredentialState::Unreadable)) {
            eprintln!("{}", advice(info));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn rotate(setup: &Setup, name: &str, overlap: &str, sources: &Sources, as_json: bool) -> Result<ExitCode> {
    sources.check()?;
    let overlap = when::span(overlap)?;
    let desk = Desk::open(setup, Key::IfThere, as_json).await.map_err(|error| absent(error, name))?;
    let known = desk.info(name).await?;
    let replace = |values| desk.runtime.rotate_credential(&desk.tenant, name, values, Some(overlap));
    if sources.is_empty() {
        // Where the vendor issues secrets, nobody has to see one.
        match desk.act("credentials.rotate", name).recorded(desk.runtime.store(), replace(None)).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => eprintln!("{}; give the new values yourself", error.message()),
            other => return rotated(&desk, &other?),
        }
    }
    let expected: Vec<&str> = known.fields.iter().map(String::as_str).collect();
    let values = sources.read(&expected)?;
    let info = desk.act("credentials.rotate", name).recorded(desk.runtime.store(), replace(Some(values))).await?;
    rotated(&desk, &info)
}

fn rotated(desk: &Desk, info: &CredentialInfo) -> Result<ExitCode> {
    let until = info
        .previous_until
        .map_or_else(|| "the old one is gone".to_owned(), |until| format!("the old one is accepted until {} UTC", when::shown(Some(until))));
    desk.show(info, &format!("at version {}; {until}", info.version))
}

fn granted(info: &CredentialInfo) -> String {
    match info.workspaces.as_slice() {
        [] => "nobody".into(),
        [all] if all == "*" => "all".into(),
        some => some.join(", "),
    }
}

/// What somebody has to do about it.
fn advice(info: &CredentialInfo) -> String {
    let name = &info.name;
    match info.state {
        CredentialState::ReauthRequired => {
            let connector = info.connector.as_deref().unwrap_or("CONNECTOR");
            format!("`{name}` needs a person to sign in again: connector-hub connect {connector}")
        }
        CredentialState::Unreadable => {
            format!("`{name}` cannot be opened: its record is damaged, or its master key `{}` is not there; `vault verify` says which", info.key_id)
        }
        CredentialState::Expiring => format!("`{name}` ends soon: connector-hub credentials rotate {name}"),
        _ => String::new(),
    }
}

fn pairs(info: &CredentialInfo) -> Vec<(&'static str, String)> {
    let time = |millis: Option<u64>| millis.map(|millis| format!("{} UTC", when::shown(Some(millis)))).unwrap_or_default();
    let token = info.token.as_ref().map(|token| {
        let state = match token.state {
            connector_core::token::TokenState::Active => "active",
            connector_core::token::TokenState::Unknown => "the last renewal's outcome is not known",
            connector_core::token::TokenState::ReauthRequired => "a person has to sign in again",
        };
        let reason = token.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("number {}, {state}{reason}", token.serial)
    });
    vec![
        ("credential", info.name.clone()),
        ("tenant", info.tenant.to_string()),
        ("connector", info.connector.clone().unwrap_or_default()),
        ("scheme", info.scheme.as_deref().unwrap_or_default().to_owned()),
        ("fields", info.fields.join(", ")),
        ("state", info.state.as_str().to_owned()),
        ("workspaces", granted(info)),
        ("scopes", info.scopes.join(", ")),
        ("owner", info.owner.clone().unwrap_or_default()),
        ("version", info.version.to_string()),
        ("made", time(Some(info.created_at))),
        ("rotated", time(info.rotated_at)),
        ("rotate every", info.rotate_every.map(|every| when::span_shown(Some(every))).unwrap_or_default()),
        ("old one until", time(info.previous_until)),
        ("expires", time(info.expires_at)),
        ("master key", info.key_id.clone()),
        ("token", token.unwrap_or_default()),
        ("token ends", time(info.token.as_ref().and_then(|token| token.expires_at))),
        ("granted scopes", info.token.as_ref().map(|token| token.scopes.join(", ")).unwrap_or_default()),
        ("what to do", advice(info)),
    ]
}
