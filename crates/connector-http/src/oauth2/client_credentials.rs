//! The client credentials grant: one token per tenant, credential, token URL and scopes, shared by all calls.
//!
//! A failure to get a token is never ambiguous: the call it was for has not been sent. So what would be `transient`, `timeout` or
//! `protocol` for the token request is `not_sent` for the call, and even an unsafe write may try again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use connector_core::{
    clock::Instant,
    context::{CallCx, TenantId},
    credential::Credential,
    error::{Error, ErrorKind, Result, Retry},
    resilience::retry_after,
    spec::OAuth2Spec,
};
use http::HeaderValue;

use super::{
    request::{self, Target},
    slot::{Slot, State},
    token::{self, Token},
};
use crate::auth::AuthDeps;

/// How long one token request may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);

/// After this many tokens, those that expired are dropped before another is kept.
const SWEEP_AT: usize = 1024;

/// Gets and keeps tokens for one `oauth2` section.
#[derive(Clone)]
pub(crate) struct ClientCredentials(Arc<Inner>);

struct Inner {
    spec: OAuth2Spec,
    deps: AuthDeps,
    slots: RwLock<HashMap<Key, Arc<Slot>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    credential: Option<Arc<str>>,
    target: Target,
}

impl ClientCredentials {
    pub(crate) fn new(spec: OAuth2Spec, deps: AuthDeps) -> Result<Self> {
        request::check(&spec)?;
        Ok(Self(Arc::new(Inner { spec, deps, slots: RwLock::default() })))
    }

    /// The `Authorization` header and the token's generation.
    pub(crate) async fn header(&self, cx: &CallCx, credential: &Arc<Credential>) -> Result<(HeaderValue, u64)> {
        let (key, slot) = self.slot(cx)?;
        let held = match slot.state(self.now(), credential.version) {
            State::Fresh(held) => held,
            State::Ageing(held) => {
                self.refresh_beside(&slot, key.target, cx, credential);
                held
            }
            State::Absent => {
                let usable = |state: &State| matches!(state, State::Fresh(_) | State::Ageing(_));
                let request = || self.request(&key.target, cx, credential);
                slot.fetch(credential.version, || self.now(), usable, request).await.map_err(unambiguous)?
            }
        };
        Ok((held.header, held.generation))
    }

    /// The vendor refused the token of this generation: fetches its successor, once, unless that is there already.
    pub(crate) async fn rejected(&self, cx: &CallCx, credential: &Arc<Credential>, generation: u64) -> Result<bool> {
        let (key, slot) = self.slot(cx)?;
        let newer = |state: &State| matches!(state, State::Fresh(held) | State::Ageing(held) if held.generation > generation);
        if slot.generation().is_some_and(|current| current > generation) && newer(&slot.state(self.now(), credential.version)) {
            return Ok(true);
        }
        let request = || self.request(&key.target, cx, credential);
        slot.fetch(credential.version, || self.now(), newer, request).await.map_err(unambiguous)?;
        Ok(true)
    }

    fn now(&self) -> Instant {
        self.0.deps.clock.now()
    }

    fn slot(&self, cx: &CallCx) -> Result<(Key, Arc<Slot>)> {
        let connection = &cx.connection;
        let target = request::target(&self.0.spec, connection)?;
        let key = Key { tenant: connection.tenant.clone(), credential: connection.credential.clone(), target };
        if let Some(slot) = self.0.slots.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok((key, slot.clone()));
        }
        let now = self.now();
        let mut slots = self.0.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SWEEP_AT {
            // A slot somebody else holds is being filled right now.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_stale(now));
        }
        let slot = slots.entry(key.clone()).or_default().clone();
        Ok((key, slot))
    }

    /// Fetches a successor while the old token still serves.
    fn refresh_beside(&self, slot: &Arc<Slot>, target: Target, cx: &CallCx, credential: &Arc<Credential>) {
        let Some(slot) = slot.claim_refresh() else { return };
        let (this, cx, credential) = (self.clone(), cx.clone(), credential.clone());
        tokio::spawn(async move {
            let fresh = |state: &State| matches!(state, State::Fresh(_));
            let request = || this.request(&target, &cx, &credential);
            if let Err(error) = slot.fetch(credential.version, || this.now(), fresh, request).await {
                let pause = Duration::from_secs(10).mul_f64(0.5 + this.0.deps.rng.unit() / 2.0);
                slot.postpone_refresh(this.now() + error.retry_after().unwrap_or(pause));
                tracing::warn!(connector = %cx.connection.connector, %error, "a token could not be refreshed early, the old one is still in use");
            }
        });
    }

    /// One token request.
    async fn request(&self, target: &Target, cx: &CallCx, credential: &Credential) -> Result<Token> {
        let outcome = match tokio::time::timeout(TOKEN_TIMEOUT, self.exchange(target, cx, credential)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("the token endpoint did not answer within {TOKEN_TIMEOUT:?}"))),
        };
        let connector = cx.connection.connector.to_string();
        let label = if outcome.is_ok() { "ok" } else { "error" };
        metrics::counter!("integration_token_refresh_total", "connector" => connector, "outcome" => label).increment(1);
        outcome.map_err(|error| error.with_context("credential", cx.connection.credential.as_deref().unwrap_or_default()))
    }

    async fn exchange(&self, target: &Target, cx: &CallCx, credential: &Credential) -> Result<Token> {
        let request = request::build(&self.0.spec, target, cx, credential)?;
        let (head, body) = self.0.deps.transport.send(cx, request).await?.into_parts();
        let body = body.collect(token::MAX_ANSWER).await;
        if head.status.is_success() {
            return token::parse(head.status, &body?);
        }
        // The status alone decides if the body cannot be read.
        let code = body.ok().and_then(|body| token::error_code(&body));
        let retry_after = retry_after::from_headers(&head.headers, self.0.deps.clock.wall()).filter(|delay| !delay.is_zero());
        Err(token::refusal(head.status, code.as_deref(), retry_after))
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials").field("token_url", &self.0.spec.token_url).finish_non_exhaustive()
    }
}

/// See the module's documentation.
fn unambiguous(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Transient | ErrorKind::Timeout | ErrorKind::Protocol => {
            let (kind, retry) = (error.kind(), error.retry());
            let retry = if matches!(retry, Retry::Never) { Retry::Soon } else { retry };
            error.with_kind(ErrorKind::NotSent).with_retry(retry).with_context("token_request", kind.as_str())
        }
        _ => error,
    }
}
