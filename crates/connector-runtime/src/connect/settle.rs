//! From tokens in hand to a connection that works: stored before anything else, compared with what was wanted, proven with one call.
//!
//! Refuses to lose tokens for want of a record: the record is there before the code is spent.

use std::{sync::Arc, time::Duration};

use connector_core::{
    CallCx, Error, ErrorKind, Result,
    credential::{Credential, CredentialStore as _},
    redact::printable,
    spec::OAuth2Spec,
    token::TokenRecord,
};
use connector_http::oauth2::OAuth2Client;
use connector_vault::{CredentialState, Note};

use super::{
    Target,
    answer::{ConnectReport, Settled},
    errand, query,
};
use crate::{runtime::Runtime, tokens};

/// Waits between tries to store what a person's consent gave. A code is good once, so giving up costs another consent.
const STORE_AGAIN: [Duration; 4] = [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// The longest message shown.
const MESSAGE: usize = 300;

impl Runtime {
    /// Sees to it that the vault has a record that tokens and scopes can be noted on. The client's secret stays where it is.
    pub(super) async fn ensure_record(&self, target: &Target, client: &Credential) -> Result<()> {
        let connection = target.connection();
        let (vault, workspaces) = (self.require_vault()?, &target.linked.workspaces);
        tokens::ensure_record(vault, &connection.tenant, target.credential(), &connection.connector, workspaces, client).await
    }

    /// Stores what a person consented to and reports what it is good for.
    pub(super) async fn settle(
        &self,
        cx: &CallCx,
        oauth: &OAuth2Client,
        spec: &OAuth2Spec,
        mut record: TokenRecord,
        asked: &[String],
        settled: Settled<'_>,
    ) -> Result<ConnectReport> {
        let (target, name) = (settled.target, settled.target.credential());
        // A server that grants exactly what was asked for need not say so (RFC 6749 §5.1).
        if record.facts.scopes.is_empty() {
            record.facts.scopes = asked.to_vec();
        }
        self.keep(cx, name, oauth, &record).await?;
        let granted = record.facts.scopes.clone();
        let mut note = None;
        if is_managed(name) {
            if target.connection().setting(connector_http::AUTH_SETTING).is_none() && target.schemes().len() > 1 {
                note = Some(format!(
                    "the credential is kept elsewhere and cannot be marked; set `{}: {}` on the connection",
                    connector_http::AUTH_SETTING,
                    spec.flow.as_str()
                ));
            }
        } else {
            let said = Note {
                state: Some(CredentialState::Active),
                scopes: Some(granted.clone()),
                scheme: Some(Arc::from(spec.flow.as_str())),
                ..Note::default()
            };
            self.require_vault()?.note(&target.connection().tenant, name, said).await?;
        }
        if record.tokens.refresh.is_none() && record.facts.expires_at.is_some() {
            note = Some("the vendor gave no refresh token: the connection ends with its access token".to_owned());
        }
        self.proven(settled, Some(spec.flow.as_str()), granted, note).await
    }

    /// Puts tokens where calls find them. Whatever is there belongs to an older consent.
    async fn keep(&self, cx: &CallCx, name: &str, oauth: &OAuth2Client, record: &TokenRecord) -> Result<()> {
        let mut again = STORE_AGAIN.iter();
        loop {
            let error = match oauth.keep(cx, record.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Config {
                // A damaged row of the old consent must not keep out the new one.
                self.0.auth.tokens.remove(&query(cx, name, errand::FINISH)).await?;
            }
            let Some(wait) = again.next() else { return Err(error) };
            tracing::warn!(%error, connection = %cx.connection.id, "new tokens could not be stored yet");
            tokio::time::sleep(*wait).await;
        }
    }

    /// Proves a connection whose secrets are stored, and says what it is good for.
    pub(super) async fn proven(
        &self,
        settled: Settled<'_>,
        scheme: Option<&str>,
        granted: Vec<String>,
        note: Option<String>,
    ) -> Result<ConnectReport> {
        let target = settled.target;
        let connection = target.connection();
        self.refresh().await?;
        let checked = self.check(&connection.tenant, connection.id.as_str()).await.err().map(|error| shown(&error));
        let compared = target.compare(scheme, settled.tools, &granted)?;
        let known = !granted.is_empty();
        Ok(ConnectReport {
            tenant: connection.tenant.clone(),
            connector: connection.connector.to_string(),
            connection: connection.id.to_string(),
            credential: target.credential().to_string(),
            missing: if known { compared.missing } else { Vec::new() },
            unusable_tools: if known { compared.unusable_tools } else { Vec::new() },
            granted,
            note,
            next: settled.next,
            checked,
        })
    }

    /// The credential that says which client this is.
    pub(super) async fn client(&self, cx: &CallCx, target: &Target, operation: &'static str) -> Result<Arc<Credential>> {
        let name = target.credential();
        let found = self.0.credentials.get(&query(cx, name, operation)).await;
        found.map_err(|error| match error.kind() {
            ErrorKind::Config | ErrorKind::AuthExpired => Error::config(format!(
                "connecting `{}` needs the client id (and, if the vendor gave one, the client secret) of the application that is registered with the \
                 vendor; store them as credential `{}` first",
                cx.connection.connector,
                printable(name, 80)
            )),
            _ => error,
        })
    }
}

/// A credential that somebody else keeps: it can be read, not written.
pub(super) fn is_managed(name: &str) -> bool {
    name.contains(':')
}

/// A failure for people: our own words, cut.
pub(super) fn shown(error: &Error) -> String {
    printable(&error.to_string(), MESSAGE)
}
