//! Taking a connection apart: the vendor is told first, while there is still something to tell it with; then what we hold is destroyed.
//!
//! Refuses to keep secrets because the vendor could not be told.

use connector_core::{Actor, CallCx, Result, TenantId, connector::Lifecycle, spec::AuthSpec, state::AuditOutcome, token::TokenSet};
use connector_http::oauth2::OAuth2Client;
use connector_vault::CredentialState;

use super::{Target, answer::Disconnected, cx_of, errand, query, settle, target::goes_by};
use crate::{credentials::Source, runtime::Runtime};

impl Runtime {
    /// Tells the vendor that its tokens are not to be accepted any more, where the vendor can be told, and destroys tokens and keys. The client
    /// of an application stays, so that the account can be connected again. Doing it twice does no harm.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::NotFound`] if the tenant has no such connection, and what keeps the vault from destroying what it holds. That the
    /// vendor could not be told is in the note, not an error.
    pub async fn disconnect(&self, tenant: &TenantId, connection: &str) -> Result<Disconnected> {
        let target = self.target_of(tenant, connection)?;
        let cx = cx_of(&target, &Actor::System, errand::DISCONNECT);
        let put = super::errand(&cx, target.credential(), errand::DISCONNECT);
        self.record(&put, AuditOutcome::Intent, None).await?;
        let result = self.take_apart(&cx, &target).await;
        self.record_end(&put, &result).await;
        result
    }

    async fn take_apart(&self, cx: &CallCx, target: &Target) -> Result<Disconnected> {
        let connection = target.connection();
        let name = target.credential();
        let mut notes: Vec<String> = Vec::new();
        if let Err(error) = target.loaded.connector.lifecycle(cx, Lifecycle::Disconnect).await {
            notes.push(format!("the connector could not tidy up at the vendor ({})", settle::shown(&error)));
        }
        let info = self.info(target).await?;
        let query = query(cx, name, errand::DISCONNECT);
        let row = self.0.auth.tokens.load(&query).await;
        let mut revoked_at_vendor = false;
        match row {
            Ok(Some(row)) => match self.tell_vendor(cx, target, info.as_ref().and_then(|info| info.scheme.as_deref()), &row.record.tokens).await {
                Ok(true) => revoked_at_vendor = true,
                Ok(false) => notes.push("the vendor has no way to be told; remove the application there as well".to_owned()),
                Err(error) => notes.push(format!("the vendor could not be told ({}); remove the application there as well", settle::shown(&error))),
            },
            Ok(None) => {}
            // A damaged row cannot be used to tell the vendor; it is destroyed like any other.
            Err(error) => notes.push(format!("the tokens could not be opened to tell the vendor ({})", settle::shown(&error))),
        }
        let tokens_destroyed = self.0.auth.tokens.remove(&query).await?;
        // Whoever holds an access token in memory is to look again.
        self.0.credentials.renew(&connection.tenant, name);
        let source = self.0.credentials.source(&connection.tenant, name).await?;
        let is_client = info.as_ref().and_then(|info| info.scheme.as_deref()).is_some_and(|scheme| super::has_consent(target.loaded.auth(), scheme));
        let held = info.as_ref().is_some_and(|info| info.state != CredentialState::Revoked) && !settle::is_managed(name);
        let mut secrets_destroyed = false;
        match source {
            _ if held && !is_client => {
                self.require_vault()?.revoke(&connection.tenant, name).await?;
                secrets_destroyed = true;
            }
            Some(Source::Vault) if settle::is_managed(name) => notes.push("the secret stays in its secret manager; revoke it there".to_owned()),
            Some(Source::Configuration) => notes.push("the secret that hub.yaml refers to stays where it is".to_owned()),
            Some(Source::Environment) => notes.push("the secret in the environment stays where it is".to_owned()),
            Some(Source::Program) => notes.push("the secret stays where the program keeps it".to_owned()),
            Some(Source::Vault) | None => {}
        }
        self.refresh().await?;
        Ok(Disconnected {
            tenant: connection.tenant.clone(),
            connection: connection.id.to_string(),
            connector: connection.connector.to_string(),
            credential: connection.credential.as_deref().map(str::to_owned),
            revoked_at_vendor,
            tokens_destroyed,
            secrets_destroyed,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        })
    }

    async fn tell_vendor(&self, cx: &CallCx, target: &Target, scheme: Option<&str>, tokens: &TokenSet) -> Result<bool> {
        let mut consents = target.schemes().into_iter().filter_map(|one| match one {
            AuthSpec::OAuth2(spec) if spec.flow.has_consent() && scheme.is_none_or(|scheme| goes_by(one, scheme)) => Some(&**spec),
            _ => None,
        });
        let Some(spec) = consents.next() else { return Ok(false) };
        let client = self.client(cx, target, errand::DISCONNECT).await?;
        OAuth2Client::new(spec.clone(), self.0.auth.clone())?.revoke(cx, &client, tokens).await
    }
}
