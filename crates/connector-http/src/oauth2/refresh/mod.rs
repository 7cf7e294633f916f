//! Tokens that a person's consent gave: in use, and renewed once for all who use them.
//!
//! Owns what this process holds: one slot per credential, single flight inside the process. What processes agree on is in [`renewal`],
//! what a row means in [`row`]. Refuses to hand out a token that is not durable yet.

mod renewal;
pub(super) mod row;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use connector_core::{
    clock::{Instant, unix_millis},
    context::{CallCx, TenantId},
    credential::{Credential, CredentialQuery},
    error::{Error, Result},
    spec::OAuth2Spec,
};
use http::HeaderValue;
use url::Url;

use self::{
    renewal::{Need, Renewal},
    row::Sight,
};
use super::{
    exchange::Endpoint,
    home,
    refusal::unambiguous,
    request,
    slot::{Slot, State, Token},
};
use crate::auth::{AuthDeps, Overlap};

/// What the hub's own look at a credential's tokens is called in the audit.
pub(super) const ERRAND: &str = "token.refresh";

/// After this many credentials, those whose tokens ended are dropped before another is kept.
const SWEEP_AT: usize = 1024;

/// Gets, keeps and renews the tokens of consents for one `oauth2` section.
#[derive(Clone)]
pub(crate) struct Consents(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    entries: RwLock<Entries>,
}

/// By tenant and credential.
type Entries = HashMap<(TenantId, Arc<str>), Arc<Entry>>;

/// What this process holds of one credential.
struct Entry {
    name: Arc<str>,
    slot: Arc<Slot>,
    sight: Mutex<Sight>,
}

impl Entry {
    fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consents {
    pub(crate) fn new(spec: OAuth2Spec, deps: AuthDeps, overlap: Arc<Overlap>) -> Result<Self> {
        Ok(Self(Arc::new(Inner { endpoint: Endpoint::new(spec, deps, overlap)?, entries: RwLock::default() })))
    }

    /// The `Authorization` header, the serial of its token, and where its API is if not at the connection's base URL.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if nobody connected yet, [`connector_core::ErrorKind::AuthExpired`] if somebody has to connect
    /// again, [`connector_core::ErrorKind::NotSent`] if there is no token at the moment.
    pub(crate) async fn header(&self, cx: &CallCx, credential: &Arc<Credential>) -> Result<(HeaderValue, u64, Option<Url>)> {
        let entry = self.entry(cx)?;
        let held = match entry.slot.state(self.now(), credential.version) {
            State::Fresh(held) => held,
            State::Ageing(held) => {
                self.renew_beside(&entry, cx, credential);
                held
            }
            State::Absent => {
                let usable = |state: &State| matches!(state, State::Fresh(_) | State::Ageing(_));
                let request = || self.renew(&entry, cx, credential, Need::Usable);
                entry.slot.fetch(credential.version, || self.now(), usable, request).await.map_err(unambiguous)?
            }
        };
        let home = home::of(&self.0.endpoint.spec, cx, held.home.as_deref())?;
        Ok((held.header, held.generation, home))
    }

    /// The vendor refused the token of this serial: renews it, once, unless somebody did already. `false`: a new one would not help.
    ///
    /// # Errors
    /// As [`Consents::header`].
    pub(crate) async fn rejected(&self, cx: &CallCx, credential: &Arc<Credential>, serial: u64) -> Result<bool> {
        let entry = self.entry(cx)?;
        let newer = |state: &State| matches!(state, State::Fresh(held) | State::Ageing(held) if held.generation > serial);
        if newer(&entry.slot.state(self.now(), credential.version)) {
            return Ok(true);
        }
        // A token that is refused right after it was fetched because of a 401 is not too old; a third one would be refused as well.
        if entry.sight().is_fresh_from_rejection(serial, self.now()) {
            return Ok(false);
        }
        let query = CredentialQuery::of(cx, &entry.name).for_errand(ERRAND);
        let row = self.0.endpoint.deps.tokens.load(&query).await.map_err(unambiguous)?;
        if row.is_some_and(|row| row.record.tokens.refresh.is_none() && row.record.facts.serial <= serial) {
            return Ok(false);
        }
        let request = || self.renew(&entry, cx, credential, Need::After(serial));
        entry.slot.fetch(credential.version, || self.now(), newer, request).await.map_err(unambiguous)?;
        Ok(true)
    }

    fn now(&self) -> Instant {
        self.0.endpoint.deps.clock.now()
    }

    fn entry(&self, cx: &CallCx) -> Result<Arc<Entry>> {
        let Some(name) = &cx.connection.credential else {
            return Err(Error::config(format!("connection `{}` names no credential", cx.connection.id)));
        };
        let key = (cx.connection.tenant.clone(), name.clone());
        if let Some(entry) = self.0.entries.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(entry.clone());
        }
        let now = self.now();
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= SWEEP_AT {
            // An entry somebody else holds is in use right now.
            entries.retain(|_, entry| Arc::strong_count(entry) > 1 || !entry.slot.is_stale(now));
        }
        let entry = || Arc::new(Entry { name: name.clone(), slot: Arc::new(Slot::forgetful()), sight: Mutex::default() });
        Ok(entries.entry(key).or_insert_with(entry).clone())
    }

    /// Renews while the old token still serves.
    fn renew_beside(&self, entry: &Arc<Entry>, cx: &CallCx, credential: &Arc<Credential>) {
        let Some(slot) = entry.slot.claim_refresh() else { return };
        let (this, entry, cx, credential) = (self.clone(), entry.clone(), cx.clone(), credential.clone());
        tokio::spawn(async move {
            let fresh = |state: &State| matches!(state, State::Fresh(_));
            let request = || this.renew(&entry, &cx, &credential, Need::Fresh);
            if let Err(error) = slot.fetch(credential.version, || this.now(), fresh, request).await {
                let pause = row::COOL_DOWN.mul_f64(0.5 + this.0.endpoint.deps.rng.unit() / 2.0);
                slot.postpone_refresh(this.now() + error.retry_after().unwrap_or(pause));
                tracing::warn!(connector = %cx.connection.connector, %error, "a token could not be renewed early, the old one is still in use");
            }
        });
    }

    /// One renewal, in a task of its own: a caller who gives up must not take with it the only copy of a new refresh token.
    async fn renew(&self, entry: &Arc<Entry>, cx: &CallCx, credential: &Arc<Credential>, need: Need) -> Result<Token> {
        let target = request::target(&self.0.endpoint.spec, &cx.connection)?;
        let (this, entry, cx, credential) = (self.clone(), entry.clone(), cx.clone(), credential.clone());
        let task = tokio::spawn(async move {
            let renewal = Renewal { endpoint: &this.0.endpoint, entry: &entry, target, cx: &cx, credential: &credential, need };
            renewal.run().await
        });
        task.await.unwrap_or_else(|error| Err(Error::internal("the renewal of a token ended abruptly").with_source(error)))
    }
}

impl Endpoint {
    /// Unix milliseconds by the wall clock.
    pub(super) fn wall_millis(&self) -> u64 {
        unix_millis(self.deps.clock.wall())
    }
}

/// A wait before looking again: 50 ms, doubled up to 500 ms, with a little spread.
struct Pause(Duration);

impl Pause {
    const LONGEST: Duration = Duration::from_millis(500);

    fn new() -> Self {
        Self(Duration::from_millis(50))
    }

    fn next(&mut self, unit: f64) -> Duration {
        let pause = self.0.mul_f64(0.8 + 0.4 * unit);
        self.0 = (self.0 * 2).min(Self::LONGEST);
        pause
    }
}

impl fmt::Debug for Consents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.endpoint.fmt(f)
    }
}

#[cfg(test)]
mod tests;
