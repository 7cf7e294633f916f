//! Grants that need nobody: client credentials (RFC 6749 §4.4), with a secret or a signed assertion, and the JWT bearer grant (RFC 7523
//! §2.1). One token per tenant, credential, token URL, scopes and claims, shared by all calls.
//!
//! A failure to get a token is never ambiguous: the call it was for has not been sent, and asking for another token does no harm.

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
    error::Result,
    spec::{OAuth2Flow, OAuth2Spec},
};
use http::HeaderValue;
use url::Url;

use super::{
    exchange::Endpoint,
    home,
    jwt::Purpose,
    refusal::unambiguous,
    request::{self, Form, Target},
    slot::{Slot, State, Token},
    token,
};
use crate::auth::{AuthDeps, Overlap};

/// How long a token is used whose lifetime the vendor does not name.
const UNNAMED_LIFETIME: Duration = Duration::from_secs(300);

/// No token is trusted longer, whatever the vendor names; a revoked one is then noticed within a day.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// After this many tokens, those that expired are dropped before another is kept.
const SWEEP_AT: usize = 1024;

/// Gets and keeps tokens for one `oauth2` section.
#[derive(Clone)]
pub(crate) struct ClientCredentials(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    slots: RwLock<HashMap<Key, Arc<Slot>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    credential: Option<Arc<str>>,
    target: Target,
}

impl ClientCredentials {
    pub(crate) fn new(spec: OAuth2Spec, deps: AuthDeps, overlap: Arc<Overlap>) -> Result<Self> {
        Ok(Self(Arc::new(Inner { endpoint: Endpoint::new(spec, deps, overlap)?, slots: RwLock::default() })))
    }

    /// The `Authorization` header, the token's generation, and where its API is if not at the connection's base URL.
    pub(crate) async fn header(&self, cx: &CallCx, credential: &Arc<Credential>) -> Result<(HeaderValue, u64, Option<Url>)> {
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
        let home = home::of(&self.0.endpoint.spec, cx, held.home.as_deref())?;
        Ok((held.header, held.generation, home))
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
        self.0.endpoint.deps.clock.now()
    }

    fn slot(&self, cx: &CallCx) -> Result<(Key, Arc<Slot>)> {
        let connection = &cx.connection;
        let target = request::target(&self.0.endpoint.spec, connection)?;
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
                let pause = Duration::from_secs(10).mul_f64(0.5 + this.0.endpoint.deps.rng.unit() / 2.0);
                slot.postpone_refresh(this.now() + error.retry_after().unwrap_or(pause));
                tracing::warn!(connector = %cx.connection.connector, %error, "a token could not be refreshed early, the old one is still in use");
            }
        });
    }

    /// One token request.
    async fn request(&self, target: &Target, cx: &CallCx, credential: &Arc<Credential>) -> Result<Token> {
        let endpoint = &self.0.endpoint;
        let url = endpoint.token_url(cx, &target.place).await?;
        let form = |credential: &Credential| self.form(target, cx, credential, &url);
        let answer = endpoint.grant(cx, credential, &url, form).await.map_err(|failed| failed.error)?;
        let unnamed = endpoint.spec.default_lifetime.map_or(UNNAMED_LIFETIME, Duration::from_secs);
        let lifetime = answer.lifetime.unwrap_or(unnamed).min(MAX_LIFETIME);
        Ok(Token::new(token::bearer(&answer.access)?, lifetime).at(home::kept(&endpoint.spec, &answer.keep)))
    }

    fn form(&self, target: &Target, cx: &CallCx, credential: &Credential, url: &str) -> Result<Form> {
        let endpoint = &self.0.endpoint;
        if endpoint.spec.flow != OAuth2Flow::JwtBearer {
            return Ok(Form::of("client_credentials").with_scopes(&target.scopes));
        }
        let assertion = endpoint.client(cx, credential).assertion(Purpose::Grant, url, &target.scopes)?;
        let form = Form::of("urn:ietf:params:oauth:grant-type:jwt-bearer").with("assertion", assertion);
        let in_claim = endpoint.spec.assertion.as_ref().is_some_and(|said| said.scope_claim);
        Ok(if in_claim { form } else { form.with_scopes(&target.scopes) })
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.endpoint.fmt(f)
    }
}
