//! Signing in with a browser: sending a person to the vendor, and taking what they come back with.
//!
//! Owns the order: the answer's state is spent before anything else is believed, and the code is exchanged after that. Refuses every answer
//! that does not belong to its question in the same words.

use connector_core::{Actor, Error, Result, TenantId, clock::unix_seconds, spec::OAuth2Flow, state::AuditOutcome};
use connector_http::oauth2::{AuthorizeAsk, CodeExchange, OAuth2Client, RedirectAnswer, authorize_request, new_state, read_redirect, redirect_state};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Target,
    answer::{ConnectAsk, ConnectBack, ConnectReport, ConnectStart, Settled},
    cx_of, errand, may_connect, pending,
    pending::{Begun, Pending, STATE_TTL},
    redirect, stray,
};
use crate::{canonical, runtime::Runtime};

/// What every answer is told that is not believed. Why is in the log and on record.
fn start_again() -> Error {
    Error::invalid("this sign-in cannot be completed: it lapsed, was used already, or was started somewhere else; start again")
}

impl Runtime {
    /// Begins a sign-in in a browser. The person opens the address within ten minutes, in the session that asked.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Denied`] below [`crate::Role::Operator`]; [`connector_core::ErrorKind::NotFound`] if the tenant has no such connection;
    /// [`connector_core::ErrorKind::Invalid`] for a redirect address or a `next` that is not ours, or a tool of another connector;
    /// [`connector_core::ErrorKind::Unsupported`] if the connector knows no sign-in in a browser; [`connector_core::ErrorKind::Config`] without a vault, or without the
    /// client id of the application.
    pub async fn begin_connect(&self, ask: ConnectAsk) -> Result<ConnectStart> {
        may_connect(ask.role)?;
        let target = self.target(&ask.tenant, &ask.connector, ask.connection.as_deref())?;
        let cx = cx_of(&target, &ask.actor, errand::BEGIN);
        let result = self.begin(&cx, &target, &ask).await;
        let put = super::errand(&cx, target.credential(), errand::BEGIN);
        match &result {
            Ok(_) => self.record(&put, AuditOutcome::Ok, None).await?,
            Err(error) => self.record_refused(&put, error),
        }
        result
    }

    async fn begin(&self, cx: &connector_core::CallCx, target: &Target, ask: &ConnectAsk) -> Result<ConnectStart> {
        let vault = self.require_vault()?;
        if ask.session.is_empty() {
            return Err(Error::invalid("a sign-in belongs to a session, and this one has none"));
        }
        redirect::check_redirect(self.0.public_url.as_deref(), &ask.redirect_uri)?;
        redirect::check_next(ask.next.as_deref())?;
        let spec = target.consent(OAuth2Flow::AuthorizationCode)?;
        let wanted = target.wanted(&ask.tools, &ask.scopes)?;
        let client = self.client(cx, target, errand::BEGIN).await?;
        let client_id = client.require(target.credential(), "client_id")?;
        let metadata = self.0.discovery.for_spec(cx, spec).await?;
        let state = new_state()?;
        let question = AuthorizeAsk { redirect_uri: &ask.redirect_uri, state: &state, scopes: &wanted, resource: None };
        let request = authorize_request(spec, target.connection(), client_id.expose_secret(), metadata.as_deref(), &question)?;
        let expires_at = unix_seconds(self.0.shared.clock.wall()) + STATE_TTL.as_secs();
        let begun = Begun {
            tenant: &ask.tenant,
            session: &ask.session,
            actor: &ask.actor,
            connector: &ask.connector,
            connection: target.connection().id.as_str(),
            credential: target.credential(),
            redirect_uri: &ask.redirect_uri,
            issuer: request.issuer,
            iss_required: metadata.is_some_and(|metadata| metadata.authorization_response_iss_parameter_supported),
            tools: &ask.tools,
            scopes: &request.scopes,
            next: ask.next.as_deref(),
            verifier: &request.verifier,
            expires_at,
        };
        pending::keep(&*self.0.store, vault, &state, begun).await?;
        Ok(ConnectStart { authorize_url: request.url, state, scopes: request.scopes, expires_at })
    }

    /// Takes what a person's browser came back with. Of any number of callers with one answer, one gets a connection.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if the answer does not belong to a sign-in under way in this session, or the vendor refused; and what the
    /// exchange, the vault or the state store report.
    pub async fn finish_connect(&self, back: ConnectBack) -> Result<ConnectReport> {
        self.require_vault()?;
        let Ok(state) = redirect_state(&back.query) else { return Err(self.refuse(None, "no single state", "")) };
        let digest = canonical::sha256_hex(state.as_bytes());
        // Before anything else: whatever becomes of this answer, there is no second one.
        let Some(pending) = pending::spend(&*self.0.store, state).await? else { return Err(self.refuse(None, "unknown or used", &digest)) };
        if let Err(why) = pending.agrees(&back.session, &back.redirect_uri, unix_seconds(self.0.shared.clock.wall())) {
            return Err(self.refuse(Some(&pending), why, &digest));
        }
        let code = match read_redirect(&back.query, pending.issuer.as_deref(), pending.iss_required) {
            Ok(RedirectAnswer::Code(code)) => code,
            Ok(RedirectAnswer::Refused { error, description }) => return Err(self.not_granted(&pending, &error, description, &digest)),
            Err(error) => return Err(self.refuse(Some(&pending), error.message(), &digest)),
        };
        let Ok(target) = self.target(&pending.tenant, &pending.connector, Some(&pending.connection)) else {
            return Err(self.refuse(Some(&pending), "the connection is gone", &digest));
        };
        if **target.credential() != *pending.credential {
            return Err(self.refuse(Some(&pending), "the connection has another credential now", &digest));
        }
        let state = SecretString::from(state.to_owned());
        // A browser that goes away must not take the code with it: it is good once.
        let this = self.clone();
        let finishing = tokio::spawn(async move { this.exchange(&target, &pending, &state, code).await });
        finishing.await.map_err(|error| Error::internal("a sign-in was not finished").with_source(error))?
    }

    async fn exchange(&self, target: &Target, pending: &Pending, state: &SecretString, code: SecretString) -> Result<ConnectReport> {
        let cx = cx_of(target, &pending.actor, errand::FINISH);
        let put = super::errand(&cx, target.credential(), errand::FINISH);
        self.record(&put, AuditOutcome::Intent, None).await?;
        let result = async {
            let spec = target.consent(OAuth2Flow::AuthorizationCode)?;
            let client = self.client(&cx, target, errand::FINISH).await?;
            self.ensure_record(target, &client).await?;
            let verifier = pending.verifier(self.require_vault()?, state.expose_secret()).await?;
            let oauth = OAuth2Client::new(spec.clone(), self.0.auth.clone())?;
            let back = CodeExchange { code: &code, redirect_uri: &pending.redirect_uri, verifier: &verifier };
            let record = oauth.exchange(&cx, &client, back).await?;
            let settled = Settled { target, tools: &pending.tools, next: pending.next.clone() };
            self.settle(&cx, &oauth, spec, record, &pending.scopes, settled).await
        };
        let result = result.await;
        self.record_end(&put, &result).await;
        result
    }

    /// An answer that is not believed. On record with its tenant if it is known, with the hub's own if not.
    fn refuse(&self, pending: Option<&Pending>, why: &str, digest: &str) -> Error {
        let error = start_again();
        self.record_answer(pending, digest, &error);
        tracing::warn!(why, tenant = pending.map_or("", |pending| pending.tenant.as_str()), "the answer of a sign-in was not believed");
        error
    }

    /// The person or the vendor said no.
    fn not_granted(&self, pending: &Pending, code: &str, words: Option<String>, digest: &str) -> Error {
        let advice = match code {
            "access_denied" => "the person or an administrator declined; start again if that was a mistake",
            "invalid_scope" => "the application may not ask for these scopes; allow them at the vendor, or choose fewer tools",
            "unauthorized_client" | "invalid_request" | "unsupported_response_type" => "check how the application is registered at the vendor",
            "server_error" | "temporarily_unavailable" => "it may pass; start again in a while",
            _ => "start again",
        };
        let words = words.map(|words| format!(" ({words})")).unwrap_or_default();
        let error = Error::invalid(format!("the vendor did not grant it: {code}{words}; {advice}"));
        self.record_answer(Some(pending), digest, &error);
        error
    }

    fn record_answer(&self, pending: Option<&Pending>, digest: &str, error: &Error) {
        let (nobody, hub) = (Actor::System, TenantId::default());
        match pending {
            None => self.record_refused(&stray(&hub, &nobody, errand::FINISH, digest), error),
            Some(pending) => {
                let mut put = stray(&pending.tenant, &pending.actor, errand::FINISH, digest);
                (put.connector, put.connection, put.credential) = (&pending.connector, &pending.connection, Some(pending.credential.as_str()));
                self.record_refused(&put, error);
            }
        }
    }
}
