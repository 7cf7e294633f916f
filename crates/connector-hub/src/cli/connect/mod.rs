//! `connect` and `disconnect`: an account, with a browser, another device or keys; and what it may do afterwards.

mod browser;
mod loopback;

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use connector_core::{
    Error, ErrorKind, TenantId,
    spec::{AuthSpec, OAuth2Flow},
};
use connector_runtime::{ConnectAsk, ConnectReport, Role, Runtime};
use connector_vault::NewCredential;
use serde_json::json;

use super::{
    confirmed,
    fields::{Sources, Values},
    person,
};
use crate::{
    keys::random,
    output::{self, FAILED},
    setup::{Key, Setup},
    trail::Act,
};

/// How long somebody may take in the browser.
const WAIT: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The connector
    connector: String,
    /// The connection; needed only where the connector has several
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// The tools it is for; the least scopes follow from them
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    tools: Vec<String>,
    /// The scopes to ask for instead
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Sign in on another device with a short code
    #[arg(long)]
    device: bool,
    /// Print the address and open nothing
    #[arg(long)]
    no_browser: bool,
    /// The port of 127.0.0.1 the vendor sends the browser back to; any free one if not said
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// How to authenticate, if the connector knows several ways (`bearer`, `authorization_code`)
    #[arg(long, value_name = "S")]
    scheme: Option<String>,
    #[command(flatten)]
    sources: Sources,
}

/// The way somebody signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Browser,
    Device,
    Keys,
}

pub(super) async fn run(setup: &Setup, args: ConnectArgs, as_json: bool) -> Result<ExitCode> {
    args.sources.check()?;
    let registry = setup.catalogue().await?;
    let spec = registry.require(&args.connector)?.spec().clone();
    for tool in &args.tools {
        spec.require(tool)?;
    }
    let ask = ConnectAsk {
        tenant: setup.tenant()?,
        session: hex::encode(random::<32>()?),
        actor: person(),
        role: Role::Admin,
        connector: args.connector.clone(),
        connection: args.connection.clone(),
        tools: args.tools.clone(),
        scopes: args.scopes.clone(),
        redirect_uri: String::new(),
        next: None,
    };
    let found = setup.with_vault(Key::IfThere).await?;
    let kept = kept_scheme(&found, &ask).await?;
    let Some(auth) = choose(&spec.auth, &args, kept.as_deref())? else {
        eprintln!("`{}` needs no credential: there is nothing to connect", args.connector);
        return Ok(ExitCode::SUCCESS);
    };
    let way = way(auth);
    // Everything that can be wrong is found before the vault, and with it a master key, is made.
    let report = match way {
        Way::Keys => {
            let values = keys(&ask, auth, &args)?;
            setup.with_vault(Key::MakeIfMissing).await?.connect_with(ask, values).await?
        }
        Way::Browser | Way::Device => {
            let app = app(&found, &ask, auth, &args).await?;
            let runtime = setup.with_vault(Key::MakeIfMissing).await?;
            if let Some(values) = app {
                keep_app(&runtime, &ask, auth, values).await?;
            }
            if way == Way::Device {
                device(&runtime, ask, as_json).await?
            } else {
                loopback::sign_in(&runtime, ask, args.port, !args.no_browser, WAIT).await?
            }
        }
    };
    show(&report, as_json)
}

/// How the credential that is kept already is meant, so that connecting again is connecting the same way.
async fn kept_scheme(runtime: &Runtime, ask: &ConnectAsk) -> Result<Option<String>> {
    let Some(vault) = runtime.vault() else { return Ok(None) };
    match vault.show(&ask.tenant, &credential_name(runtime, ask)?).await {
        Ok(info) => Ok(info.scheme.map(|scheme| scheme.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The scheme: the one named, the device's, the one that fits the keys given, the one that is kept; else a sign-in where its app is known or
/// only a sign-in has a use for what was said, and keys where not.
fn choose<'a>(schemes: &'a [AuthSpec], args: &ConnectArgs, kept: Option<&str>) -> Result<Option<&'a AuthSpec>> {
    let real = || schemes.iter().filter(|auth| **auth != AuthSpec::None);
    let flow = |wanted: OAuth2Flow| real().find(|auth| matches!(auth, AuthSpec::OAuth2(spec) if spec.flow == wanted));
    let named = |wanted: &str| real().find(|auth| auth.kind() == wanted || matches!(auth, AuthSpec::OAuth2(spec) if spec.flow.as_str() == wanted));
    if let Some(wanted) = &args.scheme {
        return match named(wanted) {
            Some(auth) => Ok(Some(auth)),
            None => {
                Err(Error::invalid(format!("`{}` has no scheme of that name; `describe {}` shows what it has", args.connector, args.connector))
                    .into())
            }
        };
    }
    if args.device {
        return match flow(OAuth2Flow::DeviceCode) {
            Some(auth) => Ok(Some(auth)),
            None => Err(Error::invalid(format!("`{}` has no sign-in on another device; leave --device out", args.connector)).into()),
        };
    }
    // Somebody who gives keys wants to use them.
    if !args.sources.is_empty() {
        let given = |auth: &&AuthSpec| !matches!(auth, AuthSpec::OAuth2(spec) if spec.flow.has_consent());
        let fits = |auth: &&AuthSpec| args.sources.fields.iter().all(|name| auth.fields().iter().any(|(field, _)| field == name));
        if let Some(auth) = real().find(|auth| given(auth) && fits(auth)) {
            return Ok(Some(auth));
        }
    }
    if let Some(auth) = kept.and_then(named) {
        return Ok(Some(auth));
    }
    let consent = flow(OAuth2Flow::AuthorizationCode).or_else(|| flow(OAuth2Flow::DeviceCode));
    let keys = real().find(|auth| way(auth) == Way::Keys);
    // What only a sign-in has a use for, or the app it needs, says that one is meant.
    let meant = !args.tools.is_empty() || !args.scopes.is_empty() || args.no_browser || args.port != 0;
    Ok(match consent {
        Some(consent) if meant || keys.is_none() || in_environment(consent) => Some(consent),
        _ => keys,
    })
}

fn way(auth: &AuthSpec) -> Way {
    match auth {
        AuthSpec::OAuth2(spec) if spec.flow == OAuth2Flow::DeviceCode => Way::Device,
        AuthSpec::OAuth2(spec) if spec.flow == OAuth2Flow::AuthorizationCode => Way::Browser,
        _ => Way::Keys,
    }
}

/// Whether the environment has everything a scheme needs.
fn in_environment(auth: &AuthSpec) -> bool {
    let set = |variable: Option<&str>| variable.and_then(|name| std::env::var(name).ok()).is_some_and(|value| !value.is_empty());
    auth.fields().iter().all(|(_, variable)| set(*variable))
}

/// The id and secret of the app at the vendor, which every sign-in needs, if neither the vault nor the environment has them.
async fn app(runtime: &Runtime, ask: &ConnectAsk, auth: &AuthSpec, args: &ConnectArgs) -> Result<Option<Values>> {
    let fields = auth.fields();
    let given = !args.sources.is_empty();
    if !given && (in_environment(auth) || has_client(runtime, ask, &fields).await?) {
        return Ok(None);
    }
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    if !given && !std::io::stdin().is_terminal() {
        let variables: Vec<&str> = fields.iter().filter_map(|(_, variable)| *variable).collect();
        let environment = if variables.is_empty() { String::new() } else { format!(", or set {}", variables.join(" and ")) };
        let names: Vec<String> = names.iter().map(|name| format!("--field {name}")).collect();
        return Err(output::Usage(format!(
            "signing in needs the app that was registered with the vendor: add {} and give the values on standard input{environment}",
            names.join(" ")
        ))
        .into());
    }
    if !given {
        eprintln!("The app that was registered with the vendor (`describe {}` says how to make one):", args.connector);
    }
    Ok(Some(args.sources.read(&names)?))
}

async fn keep_app(runtime: &Runtime, ask: &ConnectAsk, auth: &AuthSpec, values: Values) -> Result<()> {
    let name = credential_name(runtime, ask)?;
    let vault = runtime.vault().ok_or_else(|| Error::config("there is no vault"))?;
    let scheme = if let AuthSpec::OAuth2(spec) = auth { spec.flow.as_str() } else { auth.kind() };
    let new = NewCredential {
        fields: values,
        scheme: Some(scheme.into()),
        connector: Some(ask.connector.clone()),
        workspaces: vec!["*".into()],
        ..NewCredential::default()
    };
    let act = Act { tenant: &ask.tenant, actor: &ask.actor, operation: "credentials.set", subject: &name, on_credential: true };
    act.recorded(runtime.store(), vault.set(&ask.tenant, &name, new)).await?;
    Ok(())
}

async fn has_client(runtime: &Runtime, ask: &ConnectAsk, fields: &[(&str, Option<&str>)]) -> Result<bool> {
    let name = credential_name(runtime, ask)?;
    let Some(vault) = runtime.vault() else { return Ok(false) };
    match vault.show(&ask.tenant, &name).await {
        Ok(info) => Ok(fields.iter().all(|(field, _)| info.fields.iter().any(|has| has == field))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // The configuration may bring it; the runtime knows and says so itself.
            Ok(runtime.connections().iter().any(|one| is_meant(one, ask) && one.credential.as_deref() == Some(name.as_str()))
                && configured(runtime, ask).await)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the configuration itself brings fields for the connection that is meant.
async fn configured(runtime: &Runtime, ask: &ConnectAsk) -> bool {
    let health = runtime.health().await;
    health.iter().any(|one| {
        one.tenant == ask.tenant
            && one.connector == ask.connector
            && ask.connection.as_ref().is_none_or(|id| *id == one.connection)
            && one.auth != connector_runtime::AuthState::Missing
    })
}

fn is_meant(connection: &connector_core::Connection, ask: &ConnectAsk) -> bool {
    connection.tenant == ask.tenant
        && *connection.connector == *ask.connector
        && ask.connection.as_deref().is_none_or(|id| id == connection.id.as_str())
}

/// The name its secrets are kept under: what the connection says, or its own id.
fn credential_name(runtime: &Runtime, ask: &ConnectAsk) -> Result<String> {
    if let Some(id) = &ask.connection {
        let connection = runtime.connection(&ask.tenant, id)?;
        return Ok(connection.credential.as_deref().unwrap_or(id).to_owned());
    }
    let connections = runtime.connections();
    let meant = connections.iter().find(|one| is_meant(one, ask));
    Ok(meant.map_or_else(|| ask.connector.clone(), |one| one.credential.as_deref().unwrap_or(one.id.as_str()).to_owned()))
}

fn keys(ask: &ConnectAsk, auth: &AuthSpec, args: &ConnectArgs) -> Result<Values> {
    let names: Vec<&str> = auth.fields().into_iter().map(|(name, _)| name).collect();
    let asked = args.sources.is_empty();
    if asked && std::io::stdin().is_terminal() {
        eprintln!("{}: {}", ask.connector, auth.label());
    }
    let hint = |error: Error| {
        let others = "`--scheme authorization_code` signs in with a browser instead, where the connector can";
        if asked { anyhow::Error::from(output::Usage(format!("{}: {}; {others}", auth.label(), error.message()))) } else { error.into() }
    };
    args.sources.read(&names).map_err(hint)
}

async fn device(runtime: &Runtime, ask: ConnectAsk, as_json: bool) -> Result<ConnectReport> {
    let start = runtime.begin_device(ask).await?;
    if as_json {
        // The one document on standard output is the report; this is for whoever passes the code on.
        eprintln!("{}", json!({ "user_code": start.user_code, "verification_uri": start.verification_uri, "expires_at": start.expires_at }));
    } else {
        eprintln!("On any device, open  {}\nand enter the code   {}\n", start.verification_uri, start.user_code);
        if let Some(whole) = &start.verification_uri_complete {
            eprintln!("or open at once      {whole}\n");
        }
        eprintln!("Waiting for you there …");
    }
    Ok(runtime.finish_device(start).await?)
}

fn show(report: &ConnectReport, as_json: bool) -> Result<ExitCode> {
    if as_json {
        output::json(report)?;
    } else {
        let state = if report.checked.is_some() { "kept, but the first call over it did not work" } else { "connected" };
        eprintln!("`{}` is {state}", report.connection);
        let granted = if report.granted.is_empty() { "the vendor does not say".to_owned() } else { report.granted.join(", ") };
        output::record(&[
            ("connection", report.connection.clone()),
            ("connector", report.connector.clone()),
            ("credential", report.credential.clone()),
            ("granted", granted),
            ("not granted", report.missing.join(", ")),
            ("cannot work", report.unusable_tools.join(", ")),
            ("first call", report.checked.as_ref().map_or_else(|| "worked".to_owned(), |why| format!("failed: {why}"))),
            ("note", report.note.clone().unwrap_or_default()),
        ])?;
        if !report.missing.is_empty() {
            eprintln!("to grant the rest, run the same command again and leave every box ticked; everything else works as it is");
        }
    }
    Ok(if report.checked.is_some() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

pub(super) async fn disconnect(setup: &Setup, connection: &str, yes: bool, as_json: bool) -> Result<ExitCode> {
    let runtime = setup.with_vault(Key::IfThere).await?;
    let tenant: TenantId = setup.tenant()?;
    runtime.connection(&tenant, connection)?;
    if !confirmed(yes, &format!("The tokens and keys of `{connection}` will be destroyed."))? {
        eprintln!("nothing was changed");
        return Ok(ExitCode::from(FAILED));
    }
    let actor = person();
    let act = Act { tenant: &tenant, actor: &actor, operation: "connections.disconnect", subject: connection, on_credential: false };
    let gone = act.recorded(runtime.store(), runtime.disconnect(&tenant, connection)).await?;
    if as_json {
        output::json(&gone)?;
    } else {
        let told = |yes: bool, good: &str, bad: &str| if yes { good.to_owned() } else { bad.to_owned() };
        output::record(&[
            ("connection", gone.connection.clone()),
            ("at the vendor", told(gone.revoked_at_vendor, "revoked", "not revoked: it has no way to be told, or was not reached")),
            ("tokens", told(gone.tokens_destroyed, "destroyed", "there were none")),
            ("keys", told(gone.secrets_destroyed, "destroyed", "there were none in the vault")),
            ("note", gone.note.clone().unwrap_or_default()),
        ])?;
    }
    Ok(ExitCode::SUCCESS)
}
