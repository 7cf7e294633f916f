//! How each connection does: the last calls over it, its breaker, its limits, its credential.
//!
//! Owns the judgement. Refuses vendor text: errors are shown as our own messages, cut and with control characters escaped.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_core::{
    Connection, Error, ErrorKind, TenantId,
    clock::{Clock, Instant, unix_millis},
    redact,
    resilience::{BreakerSnapshot, BreakerState, LimitSnapshot},
};
use dashmap::DashMap;
use serde::Serialize;

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
    if matches!(auth, AuthState::Missing | AuthState::Expired) || state == Some(BreakerState::Open) {
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
