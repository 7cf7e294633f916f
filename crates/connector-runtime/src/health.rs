//! How each connection does: the last calls over it, its breaker, its limits, its credential.
//!
//! Owns the judgement. Refuses vendor text: errors are shown as our own messages, cut and with control characters escaped.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_core::{
    Connection, Error, ErrorKind, TenantId,
    clock::{Clock, Instant, unix_millis},
    redact,
    resilience::{BreakerSnapshot, BreakerState, LimitSnapshot},
    spec::AuthSpec,
    token::TokenState,
};
use connector_vault::{CredentialInfo, CredentialState};
use dashmap::DashMap;
use serde::Serialize;

use crate::{connect::has_consent, credentials::Source, runtime::Runtime};

/// How a connection does, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// It works.
    Ok,
    /// It works, but not as it should: errors, a probe after an outage, a pause the vendor asked for.
    Degraded,
    /// It does not work: the breaker is open, the credential is refused, or nothing succeeds.
    Down,
    /// Nobody has called it lately.
    Unknown,
}

/// What is known about a connection's credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthState {
    /// The vendor accepted it.
    Ok,
    /// There is one; nobody has used it yet.
    Unproven,
    /// There is none.
    Missing,
    /// The vendor refused it; connect again.
    Expired,
    /// Its tokens are over and cannot be renewed: a person has to connect again. Nothing is tried until then.
    #[serde(rename = "reauth_required")]
    Reauth,
    /// The vault has it and cannot open it: damaged, or sealed under a key that is not there.
    Unreadable,
    /// The connector needs none.
    None,
}

/// A failure, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// The class.
    pub kind: ErrorKind,
    /// What happened, redacted.
    pub message: String,
    /// Unix milliseconds.
    pub at: u64,
}

/// How one connection does.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionHealth {
    /// The connection.
    pub connection: String,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its connector.
    pub connector: String,
    /// In one word.
    pub state: HealthState,
    /// Its credential.
    pub auth: AuthState,
    /// The breaker of its host, if anything was sent.
    pub breaker: Option<BreakerSnapshot>,
    /// What is left of its limits.
    pub limits: Vec<LimitSnapshot>,
    /// Calls in the last five minutes (at most the last 512).
    pub calls: usize,
    /// The part of them that failed, 0 to 1.
    pub error_rate: f64,
    /// The median latency in milliseconds, waits and retries included.
    pub p50_ms: Option<u64>,
    /// The latency that 95 of 100 calls stay below, in milliseconds.
    pub p95_ms: Option<u64>,
    /// The last failure, also an older one.
    pub last_error: Option<LastError>,
    /// Unix milliseconds of the last success.
    pub last_success: Option<u64>,
    /// What is wrong besides, in plain words: a clock that is suspected.
    pub warnings: Vec<String>,
}

/// How far back calls count.
const WINDOW: Duration = Duration::from_secs(300);
/// How many calls are remembered.
const SAMPLES: usize = 512;
/// The longest message shown.
const MESSAGE: usize = 300;

#[derive(Debug, Default)]
struct Samples {
    calls: VecDeque<(Instant, Duration, bool)>,
    last_error: Option<LastError>,
    last_success: Option<u64>,
    refused: bool,
    accepted: bool,
}

/// Remembers the last calls of each connection.
#[derive(Debug)]
pub(crate) struct Monitor {
    clock: Arc<dyn Clock>,
    by_connection: DashMap<(TenantId, Arc<str>), Arc<Mutex<Samples>>>,
}

/// What the monitor knows about one connection.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) error_rate: f64,
    pub(crate) p50_ms: Option<u64>,
    pub(crate) p95_ms: Option<u64>,
    pub(crate) last_error: Option<LastError>,
    pub(crate) last_success: Option<u64>,
    pub(crate) refused: bool,
    pub(crate) accepted: bool,
}

/// Whether a failure says something about the connection rather than about what was asked for.
fn counts(error: &Error) -> bool {
    error.kind().counts_in_breaker()
        || matches!(
            error.kind(),
            ErrorKind::AuthExpired
                | ErrorKind::Throttled
                | ErrorKind::Quota
                | ErrorKind::CircuitOpen
                | ErrorKind::Overloaded
                | ErrorKind::Unknown
                | ErrorKind::Config
        )
}

impl Monitor {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, by_connection: DashMap::new() }
    }

    pub(crate) fn record(&self, connection: &Connection, took: Duration, error: Option<&Error>) {
        let key = (connection.tenant.clone(), Arc::from(connection.id.as_str()));
        let samples = self.by_connection.entry(key).or_default().clone();
        let at = unix_millis(self.clock.wall());
        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = error.is_some_and(counts);
        if samples.calls.len() >= SAMPLES {
            samples.calls.pop_front();
        }
        samples.calls.push_back((self.clock.now(), took, failed));
        match error {
            None => {
                samples.last_success = Some(at);
                (samples.refused, samples.accepted) = (false, true);
            }
            Some(error) => {
                samples.refused |= error.kind() == ErrorKind::AuthExpired;
                // An answer about the request says that the credential was let in.
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Conflict) {
                    (samples.refused, samples.accepted) = (false, true);
                }
                if failed {
                    let message = redact::printable(&error.to_string(), MESSAGE);
                    samples.last_error = Some(LastError { kind: error.kind(), message, at });
                }
            }
        }
    }

    /// Forgets that the credential was refused: there is a new one.
    pub(crate) fn trust(&self, connection: &Connection) {
        let key = (connection.tenant.clone(), Arc::from(connection.id.as_str()));
        if let Some(samples) = self.by_connection.get(&key).map(|entry| entry.value().clone()) {
            samples.lock().unwrap_or_else(PoisonError::into_inner).refused = false;
        }
    }

    pub(crate) fn seen(&self, connection: &Connection) -> Seen {
        let key = (connection.tenant.clone(), Arc::from(connection.id.as_str()));
        let Some(samples) = self.by_connection.get(&key).map(|entry| entry.value().clone()) else { return Seen::default() };
        let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let recent: Vec<_> = samples.calls.iter().filter(|(at, ..)| now.saturating_duration_since(*at) <= WINDOW).collect();
        let mut latencies: Vec<u64> = recent.iter().map(|(_, took, _)| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)).collect();
        latencies.sort_unstable();
        let rank = |percent: usize| (!latencies.is_empty()).then(|| latencies[((latencies.len() * percent).div_ceil(100)).max(1) - 1]);
        let failed = recent.iter().filter(|(.., failed)| *failed).count();
        #[allow(clippy::cast_precision_loss, reason = "at most 512 calls")]
        let error_rate = if recent.is_empty() { 0.0 } else { failed as f64 / recent.len() as f64 };
        Seen {
            calls: recent.len(),
            error_rate,
            p50_ms: rank(50),
            p95_ms: rank(95),
            last_error: samples.last_error.clone(),
            last_success: samples.last_success,
            refused: samples.refused,
            accepted: samples.accepted,
        }
    }
}

/// One word for it all.
pub(crate) fn judge(seen: &Seen, auth: AuthState, breaker: Option<&BreakerSnapshot>, limits: &[LimitSnapshot]) -> HealthState {
    let state = breaker.map(|breaker| breaker.state);
    if matches!(auth, AuthState::Missing | AuthState::Expired | AuthState::Reauth | AuthState::Unreadable) || state == Some(BreakerState::Open) {
        return HealthState::Down;
    }
    if seen.calls == 0 {
        return if state == Some(BreakerState::HalfOpen) { HealthState::Degraded } else { HealthState::Unknown };
    }
    if seen.error_rate >= 0.999 {
        return HealthState::Down;
    }
    let paused = limits.iter().any(|limit| limit.gate.paused_for.is_some_and(|pause| !pause.is_zero()));
    if seen.error_rate >= 0.1 || paused || state == Some(BreakerState::HalfOpen) { HealthState::Degraded } else { HealthState::Ok }
}

/// What the vault knows about the credentials of some tenants, without opening any.
type Known = BTreeMap<TenantId, BTreeMap<String, CredentialInfo>>;

impl Runtime {
    /// How each connection does.
    pub async fn health(&self) -> Vec<ConnectionHealth> {
        let inner = &self.0;
        let catalogue = inner.shared.catalogue.load_full();
        let mut known = Known::new();
        let mut all = Vec::new();
        for linked in catalogue.connections.all() {
            let connection = &linked.connection;
            let seen = inner.shared.monitor.seen(connection);
            let schemes = catalogue.loaded.get(&connection.connector).map(|loaded| loaded.auth()).unwrap_or_default();
            if let Some(vault) = &inner.vault
                && !known.contains_key(&connection.tenant)
            {
                let listed = vault.list(&connection.tenant).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, tenant = connection.tenant.as_str(), "health is told without what the vault knows");
                    Vec::new()
                });
                known.insert(connection.tenant.clone(), listed.into_iter().map(|info| (info.name.clone(), info)).collect());
            }
            let info = connection.credential.as_deref().and_then(|name| known.get(&connection.tenant)?.get(name));
            let auth = self.auth_state(connection, schemes, &seen, info).await;
            let breaker = inner.parts.breakers().get(connection.scope()).map(|breaker| breaker.snapshot());
            let mut limits = inner.parts.limits().get(&connection.connector).map(|limiter| limiter.snapshot()).unwrap_or_default();
            limits.retain(|limit| {
                limit.tenant.as_ref().is_none_or(|tenant| *tenant == connection.tenant)
                    && limit.connection.as_ref().is_none_or(|id| *id == connection.id)
            });
            let mut warnings = crate::deliveries::warnings(self, &connection.tenant, connection.id.as_str()).await;
            warnings.extend(self.subscription_warnings(&connection.tenant, connection.id.as_str()).await);
            let state = match judge(&seen, auth, breaker.as_ref(), &limits) {
                HealthState::Ok | HealthState::Unknown if !warnings.is_empty() => HealthState::Degraded,
                state => state,
            };
            all.push(ConnectionHealth {
                connection: connection.id.to_string(),
                tenant: connection.tenant.clone(),
                connector: connection.connector.to_string(),
                state,
                auth,
                breaker,
                limits,
                calls: seen.calls,
                error_rate: seen.error_rate,
                p50_ms: seen.p50_ms,
                p95_ms: seen.p95_ms,
                last_error: seen.last_error,
                last_success: seen.last_success,
                warnings,
            });
        }
        all
    }

    async fn auth_state(&self, connection: &Connection, schemes: &[AuthSpec], seen: &Seen, info: Option<&CredentialInfo>) -> AuthState {
        if schemes.is_empty() || schemes.iter().all(|scheme| *scheme == AuthSpec::None) {
            return AuthState::None;
        }
        let Some(name) = &connection.credential else { return AuthState::Missing };
        let lapsed = |info: &CredentialInfo| {
            info.state == CredentialState::ReauthRequired || info.token.as_ref().is_some_and(|token| token.state == TokenState::ReauthRequired)
        };
        // The vault's word counts for all processes and after a restart.
        if info.is_some_and(lapsed) || self.0.watch.is_lapsed(&connection.tenant, name) {
            return AuthState::Reauth;
        }
        if seen.refused {
            return AuthState::Expired;
        }
        // What keeps us from looking is not the credential's fault; the next call tells.
        let source = self.0.credentials.source(&connection.tenant, name).await.unwrap_or(None);
        let of_the_vault = info.filter(|_| source == Some(Source::Vault));
        match of_the_vault.map(|info| info.state) {
            Some(CredentialState::Unreadable) => return AuthState::Unreadable,
            Some(CredentialState::Revoked) => return AuthState::Missing,
            _ => {}
        }
        // A client without the consent it is for.
        let unconsented = |info: &CredentialInfo| {
            info.token.is_none()
                && !info.fields.iter().any(|field| field == "refresh_token" || field == "access_token")
                && info.scheme.as_deref().is_some_and(|scheme| has_consent(schemes, scheme))
        };
        match (source, seen.accepted) {
            (None, _) => AuthState::Missing,
            (Some(_), true) => AuthState::Ok,
            (Some(_), false) if of_the_vault.is_some_and(unconsented) => AuthState::Missing,
            (Some(_), false) => AuthState::Unproven,
        }
    }
}
