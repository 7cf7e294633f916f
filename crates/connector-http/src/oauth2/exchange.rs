//! One exchange with an endpoint of the authorization server: one request, its answer, and what became of it.
//!
//! Owns timing, counting, and the second try with the client secret from before a rotation. Refuses retries: whether another request does
//! harm is known to whoever asks.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{
    clock::Instant,
    context::CallCx,
    credential::Credential,
    error::{Error, ErrorKind, Result},
    resilience::retry_after,
    spec::OAuth2Spec,
    transport::Request,
};
use http::StatusCode;
use secrecy::ExposeSecret as _;

use super::{
    Discovery, ServerMetadata,
    refusal::{self, Failed},
    request::{self, Client, Form, Place},
    token::{self, Answer},
};
use crate::auth::{AuthDeps, Overlap};

/// How long one token request may take.
pub(super) const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);

/// The authorization server, as one oauth2 section describes it.
pub(super) struct Endpoint {
    pub(super) spec: OAuth2Spec,
    pub(super) deps: AuthDeps,
    overlap: Arc<Overlap>,
    discovery: Discovery,
}

/// A token request, ready to be sent.
pub(super) struct Prepared {
    request: Request,
    /// The version of the credential it proves the client with.
    version: Arc<Credential>,
}

/// A status and the whole of a body.
pub(super) type Reply = (StatusCode, Bytes);

impl Endpoint {
    pub(super) fn new(spec: OAuth2Spec, deps: AuthDeps, overlap: Arc<Overlap>) -> Result<Self> {
        request::check(&spec)?;
        let discovery = Discovery::new(deps.transport.clone(), deps.clock.clone());
        Ok(Self { spec, deps, overlap, discovery })
    }

    /// The URL of a place; `pick` finds it in the issuer's metadata.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the metadata does not name it, and what fetching the metadata reports.
    pub(super) async fn url(&self, cx: &CallCx, place: &Place, what: &str, pick: impl Fn(&ServerMetadata) -> Option<&url::Url>) -> Result<String> {
        match place {
            Place::Url(url) => Ok(url.clone()),
            Place::Issuer(issuer) => {
                let metadata = self.discovery.get(cx, issuer).await?;
                let url = pick(&metadata).ok_or_else(|| Error::config(format!("the authorization server's metadata names no {what}")))?;
                Ok(url.to_string())
            }
        }
    }

    /// The URL of the token endpoint.
    ///
    /// # Errors
    /// As [`Endpoint::url`].
    pub(super) async fn token_url(&self, cx: &CallCx, place: &Place) -> Result<String> {
        self.url(cx, place, "token endpoint", |metadata| metadata.token_endpoint.as_ref()).await
    }

    /// The client that asks with this credential.
    pub(super) fn client<'a>(&'a self, cx: &'a CallCx, credential: &'a Credential) -> Client<'a> {
        Client { spec: &self.spec, cx, credential, clock: &*self.deps.clock }
    }

    /// Asks for a token with the parameters that `form` gives for a version of the credential.
    pub(super) async fn grant<F>(&self, cx: &CallCx, credential: &Arc<Credential>, url: &str, form: F) -> Result<Answer, Failed>
    where
        F: Fn(&Credential) -> Result<Form>,
    {
        let prepared = self.prepare(cx, credential, url, &form).map_err(Failed::before)?;
        self.submit(cx, credential, url, &form, prepared, None).await
    }

    /// Builds the request for a token and sends nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the credential lacks something.
    pub(super) fn prepare(
        &self,
        cx: &CallCx,
        credential: &Arc<Credential>,
        url: &str,
        form: impl Fn(&Credential) -> Result<Form>,
    ) -> Result<Prepared> {
        let version = self.overlap.choose(cx, credential);
        Ok(Prepared { request: self.client(cx, &version).request(url, form(&version)?)?, version })
    }

    /// Sends what was prepared. A client secret that is refused is tried in its other version, once, as long as a rotation overlaps, unless
    /// that would begin after `start_by`: a refused client has changed nothing.
    pub(super) async fn submit(
        &self,
        cx: &CallCx,
        credential: &Arc<Credential>,
        url: &str,
        form: impl Fn(&Credential) -> Result<Form>,
        prepared: Prepared,
        start_by: Option<Instant>,
    ) -> Result<Answer, Failed> {
        let failed = match self.ask(cx, prepared.request).await {
            Err(failed) if failed.blames_client() => failed,
            outcome => return outcome,
        };
        let other = self.overlap.other(credential, &prepared.version).filter(|other| proves_otherwise(&prepared.version, other));
        let Some(other) = other.filter(|_| start_by.is_none_or(|start_by| self.deps.clock.now() < start_by)) else { return Err(failed) };
        let Ok(request) = form(&other).and_then(|form| self.client(cx, &other).request(url, form)) else { return Err(failed) };
        match self.ask(cx, request).await {
            Err(again) if again.blames_client() => Err(failed),
            outcome => {
                self.overlap.prefer(cx, credential, &other);
                outcome
            }
        }
    }

    /// One token request.
    pub(super) async fn ask(&self, cx: &CallCx, request: Request) -> Result<Answer, Failed> {
        let outcome = match self.send(cx, request).await {
            Ok((status, body)) => token::parse(&self.spec, status, &body).map_err(Failed::answered),
            Err(failed) => Err(failed),
        };
        let connector = cx.connection.connector.to_string();
        let label = if outcome.is_ok() { "ok" } else { "error" };
        metrics::counter!("integration_token_refresh_total", "connector" => connector, "outcome" => label).increment(1);
        outcome
    }

    /// One request, with a successful status and the whole body, or what became of it.
    pub(super) async fn send(&self, cx: &CallCx, request: Request) -> Result<Reply, Failed> {
        let outcome = match tokio::time::timeout(TOKEN_TIMEOUT, self.exchange(cx, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed::under_way(Error::new(ErrorKind::Timeout, format!("the token endpoint did not answer within {TOKEN_TIMEOUT:?}")))),
        };
        outcome.map_err(|failed| Failed {
            error: failed.error.with_context("credential", cx.connection.credential.as_deref().unwrap_or_default()),
            ..failed
        })
    }

    async fn exchange(&self, cx: &CallCx, request: Request) -> Result<Reply, Failed> {
        let (head, body) = self.deps.transport.send(cx, request).await.map_err(Failed::under_way)?.into_parts();
        let body = body.collect(token::MAX_ANSWER).await;
        if head.status.is_success() {
            return Ok((head.status, body.map_err(|error| Failed::answered(error.with_status(head.status.as_u16())))?));
        }
        // The status alone decides if the body cannot be read.
        let code = body.ok().and_then(|body| refusal::code(&body));
        let retry_after = retry_after::from_headers(&head.headers, self.deps.clock.wall()).filter(|delay| !delay.is_zero());
        Err(Failed::answered(refusal::error(head.status, code.as_deref(), retry_after)))
    }
}

/// Whether two versions of a credential prove the client differently.
fn proves_otherwise(one: &Credential, other: &Credential) -> bool {
    let value = |credential: &Credential, field| credential.field(field).map(|value| value.expose_secret().to_owned());
    ["client_id", "client_secret", "private_key", "service_account"].into_iter().any(|field| value(one, field) != value(other, field))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("token_url", &self.spec.token_url).finish_non_exhaustive()
    }
}
