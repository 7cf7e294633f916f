//! Connecting with what a person types in: API keys, private keys, the client of an application.
//!
//! Owns checking that the fields are those of one way to authenticate. Refuses to write over what the configuration holds.

use std::collections::BTreeMap;

use connector_core::{CallCx, Error, Result, spec::AuthSpec, state::AuditOutcome, suggest};
use connector_vault::{CredentialState, NewCredential};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Target,
    answer::{ConnectAsk, ConnectReport, Settled},
    cx_of, errand, may_connect, query, scopes,
    settle::is_managed,
    target::{goes_by, name_of, needs_consent},
};
use crate::{credentials::Source, runtime::Runtime, webhook_secrets};

impl Runtime {
    /// Stores what a person typed in and proves it with the connector's cheapest call. What the vendor refuses is stored all the same, and
    /// the report says so. The client of an application (`client_id`, `client_secret`) is what a sign-in starts from.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Denied`] below [`crate::Role::Operator`]; [`connector_core::ErrorKind::NotFound`] if the tenant has no such
    /// connection; [`connector_core::ErrorKind::Invalid`] if the fields fit no way to authenticate; [`connector_core::ErrorKind::Config`]
    /// without a vault, or if the configuration or a secret manager holds the credential.
    pub async fn connect_with(&self, ask: ConnectAsk, fields: BTreeMap<String, SecretString>) -> Result<ConnectReport> {
        may_connect(ask.role)?;
        let target = self.target(&ask.tenant, &ask.connector, ask.connection.as_deref())?;
        let cx = cx_of(&target, &ask.actor, errand::KEYS);
        let put = super::errand(&cx, target.credential(), errand::KEYS);
        let scheme = match self.fitting(&target, &ask, &fields).await {
            Ok(scheme) => scheme,
            Err(error) => {
                self.record_refused(&put, &error);
                return Err(error);
            }
        };
        self.record(&put, AuditOutcome::Intent, None).await?;
        let result = self.store_keys(&cx, &target, &ask, scheme, fields).await;
        self.record_end(&put, &result).await;
        result
    }

    async fn fitting<'a>(&self, target: &'a Target, ask: &ConnectAsk, fields: &BTreeMap<String, SecretString>) -> Result<&'a AuthSpec> {
        self.require_vault()?;
        super::redirect::check_next(ask.next.as_deref())?;
        scopes::operations(target.loaded.connector.spec(), &ask.tools)?;
        let name = target.credential();
        if is_managed(name) {
            return Err(Error::config(format!("credential `{name}` is kept by a secret manager; change it there")));
        }
        match self.0.credentials.source(&ask.tenant, name).await? {
            Some(Source::Configuration) => Err(Error::config(format!(
                "the credential of connection `{}` is written in hub.yaml, which comes first; remove it there, or change what it refers to",
                target.connection().id
            ))),
            Some(Source::Program) => Err(Error::config(format!("credential `{name}` is kept by the program itself; change it there"))),
            _ => choose(target, fields),
        }
    }

    async fn store_keys(
        &self,
        cx: &CallCx,
        target: &Target,
        ask: &ConnectAsk,
        scheme: &AuthSpec,
        mut fields: BTreeMap<String, SecretString>,
    ) -> Result<ConnectReport> {
        let (vault, name) = (self.require_vault()?, target.credential());
        let before = self.info(target).await?.filter(|info| info.state != CredentialState::Revoked);
        if before.as_ref().is_some_and(|info| info.fields.iter().any(|field| field == webhook_secrets::FIELD))
            && !fields.contains_key(webhook_secrets::FIELD)
        {
            // What proves the vendor's webhooks has nothing to do with the key that is replaced.
            let old = self.client(cx, target, errand::KEYS).await?;
            fields.extend(old.field(webhook_secrets::FIELD).map(|secret| (webhook_secrets::FIELD.to_owned(), secret.clone())));
        }
        let consent = needs_consent(scheme);
        let seeded = fields.contains_key("refresh_token") || fields.contains_key("access_token");
        let new = NewCredential {
            fields,
            scheme: Some(name_of(scheme).into()),
            connector: Some(ask.connector.clone()),
            workspaces: before.as_ref().map_or_else(|| target.linked.workspaces.clone(), |info| info.workspaces.clone()),
            scopes: ask.scopes.clone(),
            owner: before.as_ref().and_then(|info| info.owner.clone()).or_else(|| Some(ask.actor.to_string())),
            expires_at: None,
            rotate_every: before.as_ref().and_then(|info| info.rotate_every).map(std::time::Duration::from_secs),
        };
        // Tokens belong to the client and the consent they came from; those of the old one are of no use to the new one.
        self.0.auth.tokens.remove(&query(cx, name, errand::KEYS)).await?;
        vault.set(&ask.tenant, name, new).await?;
        for linked in crate::reauth::using(&self.0.shared.catalogue.load(), &ask.tenant, name) {
            self.0.shared.monitor.trust(&linked.connection);
        }
        let settled = Settled { target, tools: &ask.tools, next: ask.next.clone() };
        if consent && !seeded {
            self.refresh().await?;
            let note = format!("the application is known now; {} comes next", scheme.label());
            let compared = target.compare(Some(name_of(scheme)), &ask.tools, &[])?;
            return Ok(ConnectReport {
                tenant: ask.tenant.clone(),
                connector: ask.connector.clone(),
                connection: target.connection().id.to_string(),
                credential: name.to_string(),
                granted: Vec::new(),
                missing: compared.missing,
                unusable_tools: compared.unusable_tools,
                note: Some(note),
                next: settled.next,
                checked: None,
            });
        }
        self.proven(settled, Some(name_of(scheme)), ask.scopes.clone(), None).await
    }
}

/// The way to authenticate that takes exactly these fields, the preferred one first.
fn choose<'a>(target: &'a Target, fields: &BTreeMap<String, SecretString>) -> Result<&'a AuthSpec> {
    let said = target.connection().setting(connector_http::AUTH_SETTING);
    let offered = target.loaded.auth().iter().filter(|scheme| said.is_none_or(|said| goes_by(scheme, said)));
    let schemes: Vec<&AuthSpec> = offered.filter(|scheme| **scheme != AuthSpec::None).collect();
    let known = |scheme: &AuthSpec| -> Vec<&'static str> {
        let needed = scheme.fields().into_iter().map(|(field, _)| field);
        needed.chain(scheme.optional_fields().iter().copied()).chain([webhook_secrets::FIELD]).collect()
    };
    let all: Vec<&'static str> = schemes.iter().flat_map(|scheme| known(scheme)).collect();
    if let Some(stranger) = fields.keys().find(|field| !all.contains(&field.as_str())) {
        let stranger = connector_core::redact::printable(stranger, 40);
        let hint = suggest::nearest(&stranger, all.iter().copied()).map_or_else(|| needs(&schemes), |near| format!("did you mean `{near}`?"));
        return Err(Error::invalid(format!("`{}` has no use for a field `{stranger}`; {hint}", target.connection().connector)));
    }
    // A password may be empty: several vendors take their key as the user name alone.
    let given = |field: &str| fields.get(field).is_some_and(|value| field == "password" || !value.expose_secret().is_empty());
    let fitting = schemes.iter().filter(|scheme| {
        let known = known(scheme);
        !scheme.fields().is_empty()
            && scheme.fields().iter().all(|(field, _)| given(field))
            && fields.keys().all(|field| known.contains(&field.as_str()))
    });
    fitting.copied().next().ok_or_else(|| Error::invalid(format!("these fields are not enough; {}", needs(&schemes))))
}

fn needs(schemes: &[&AuthSpec]) -> String {
    let each = schemes.iter().filter(|scheme| !scheme.fields().is_empty()).map(|scheme| {
        let fields = scheme.fields().iter().map(|(field, _)| format!("`{field}`")).collect::<Vec<_>>().join(" and ");
        format!("{fields} ({})", scheme.label())
    });
    format!("it takes {}", each.collect::<Vec<_>>().join(", or "))
}
