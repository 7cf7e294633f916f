//! Credentials over HTTP: write-only. What is answered is what is known about them, never what is in them.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use connector_core::{Error, ErrorKind, Result, redact};
use connector_vault::{CredentialInfo, NewCredential};
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    App,
    body::{Body, Secret, Shape},
    caller::Caller,
    problem::Problem,
};
use crate::{trail::Act, when};

/// A credential to be kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    name: String,
    fields: BTreeMap<String, Secret>,
    connector: Option<String>,
    scheme: Option<String>,
    /// Those of the key if not said.
    workspaces: Option<Vec<String>>,
    #[serde(default)]
    scopes: Vec<String>,
    owner: Option<String>,
    expires: Option<String>,
    rotate_every: Option<String>,
}

impl Shape for Set {
    const SHAPE: &'static str = "{name, fields: {field: text}, connector?, scheme?, workspaces?: [], scopes?: [], owner?, expires?: \
                                 \"2027-01-31\", rotate_every?: \"90d\"}";
}

/// Whom a credential is granted to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    workspaces: Vec<String>,
}

impl Shape for Grant {
    const SHAPE: &'static str = "{workspaces: [\"sales\"]}; [\"*\"] is everybody in the tenant";
}

/// What a credential is replaced with.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rotate {
    fields: BTreeMap<String, Secret>,
    overlap: Option<String>,
}

impl Shape for Rotate {
    const SHAPE: &'static str = "{fields?: {field: text}, overlap?: \"24h\"}; without fields the vendor is asked for a new secret, where it can be";
}

pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<CredentialInfo>>, Problem> {
    let mut infos = app.vault()?.list(caller.tenant()).await?;
    infos.retain(|info| caller.sees(&info.workspaces));
    Ok(Json(infos))
}

pub(super) async fn set(State(app): State<App>, caller: Caller, Body(body): Body<Set>) -> Result<(StatusCode, Json<CredentialInfo>), Problem> {
    check_name(&body.name)?;
    let workspaces = body.workspaces.unwrap_or_else(|| caller.workspaces().to_vec());
    caller.may_give(&workspaces)?;
    if let Some(connector) = &body.connector {
        app.runtime().registry().require(connector)?;
    }
    let vault = app.vault()?;
    // Replacing one that this key may not see would be a way around the grant.
    if let Ok(known) = vault.show(caller.tenant(), &body.name).await
        && !caller.sees(&known.workspaces)
    {
        return Err(Error::new(ErrorKind::Denied, "this name is taken by a credential of other workspaces; choose another name").into());
    }
    let new = NewCredential {
        fields: open(body.fields),
        scheme: body.scheme.map(Into::into),
        connector: body.connector,
        workspaces,
        scopes: body.scopes,
        owner: body.owner,
        expires_at: body.expires.as_deref().map(when::date).transpose()?,
        rotate_every: body.rotate_every.as_deref().map(when::span).transpose()?,
    };
    let actor = caller.actor();
    let info =
        act(&caller, &actor, "credentials.set", &body.name).recorded(app.runtime().store(), vault.set(caller.tenant(), &body.name, new)).await?;
    Ok((StatusCode::CREATED, Json(info)))
}

pub(super) async fn one(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Result<Json<CredentialInfo>, Problem> {
    Ok(Json(visible(&app, &caller, &name).await?))
}

pub(super) async fn revoke(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Result<Json<CredentialInfo>, Problem> {
    visible(&app, &caller, &name).await?;
    let (vault, actor) = (app.vault()?, caller.actor());
    let work = vault.revoke(caller.tenant(), &name);
    Ok(Json(act(&caller, &actor, "credentials.revoke", &name).recorded(app.runtime().store(), work).await?))
}

pub(super) async fn grant(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<Grant>,
) -> Result<Json<CredentialInfo>, Problem> {
    visible(&app, &caller, &name).await?;
    caller.may_give(&body.workspaces)?;
    let (vault, actor) = (app.vault()?, caller.actor());
    let work = vault.grant(caller.tenant(), &name, body.workspaces);
    Ok(Json(act(&caller, &actor, "credentials.grant", &name).recorded(app.runtime().store(), work).await?))
}

pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<Rotate>,
) -> Result<Json<CredentialInfo>, Problem> {
    visible(&app, &caller, &name).await?;
    let overlap = body.overlap.as_deref().map(when::span).transpose()?;
    let fields = (!body.fields.is_empty()).then(|| open(body.fields));
    let actor = caller.actor();
    let work = app.runtime().rotate_credential(caller.tenant(), &name, fields, overlap);
    Ok(Json(act(&caller, &actor, "credentials.rotate", &name).recorded(app.runtime().store(), work).await?))
}

/// A credential's name is part of addresses and audit records.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = (1..=80).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if good { Ok(()) } else { Err(Error::invalid("a credential's name is letters, digits, `-`, `_` and `.`, at most 80 of them")) }
}

/// What to say when there is none of this name: the same for a missing one, another tenant's and another workspace's.
pub(crate) fn missing(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no credential `{}`; `credentials list` shows what there is", redact::printable(name, 80)))
}

fn act<'a>(caller: &'a Caller, actor: &'a connector_core::Actor, operation: &'a str, name: &'a str) -> Act<'a> {
    Act { tenant: caller.tenant(), actor, operation, subject: name, on_credential: true }
}

fn open(fields: BTreeMap<String, Secret>) -> BTreeMap<String, SecretString> {
    fields.into_iter().map(|(field, Secret(value))| (field, value)).collect()
}

/// The credential, unless it is another tenant's or not this caller's business.
pub(super) async fn visible(app: &App, caller: &Caller, name: &str) -> Result<CredentialInfo> {
    match app.vault()?.show(caller.tenant(), name).await {
        Ok(info) if caller.sees(&info.workspaces) => Ok(info),
        Ok(_) => Err(missing(name)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(missing(name)),
        Err(error) => Err(error),
    }
}
