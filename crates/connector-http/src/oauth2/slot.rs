//! One cached token and the rule that only one request at a time asks for its successor.
//!
//! Owns freshness and single flight, also of failures: callers who waited for an attempt that failed share its error instead of
//! queueing up to ask again. Refuses to know where tokens come from, and to ask the wall clock anything.

use std::{
    future::Future,
    ops::Deref,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use connector_core::{
    clock::Instant,
    error::{Error, Result, Retry},
};
use http::HeaderValue;
use tokio::sync::Mutex;

/// How long a refusal that time will not cure is remembered, so that a wrong secret does not lock the client out at the vendor.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// A vendor's `Retry-After` at the token endpoint is honoured up to here.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(300);

/// Generations are unique in the process, so that a token that was forgotten and fetched again never looks like its predecessor.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// Further away than any process lives, for tokens that do not end by time.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A token as it came.
pub(super) struct Token {
    /// `Bearer {access_token}`, marked sensitive.
    header: HeaderValue,
    /// `None`: it is the next in this process. Otherwise grows with each new token of the credential, whoever fetched it.
    generation: Option<u64>,
    /// How long it is good, counted from its issue; `None`: not by time.
    lifetime: Option<Duration>,
    /// How old it is, at `as_of`; `None`: when it was asked for.
    age: Duration,
    as_of: Option<Instant>,
    /// How much earlier than needed its successor is fetched.
    early: Duration,
    /// No successor is fetched while it serves.
    last: bool,
    /// Where its API is, as the vendor said.
    home: Option<Arc<str>>,
}

impl Token {
    /// A token this process just fetched.
    pub(super) fn new(header: HeaderValue, lifetime: Duration) -> Self {
        Self { header, generation: None, lifetime: Some(lifetime), age: Duration::ZERO, as_of: None, early: Duration::ZERO, last: false, home: None }
    }

    /// A token that all processes share, of this age now.
    pub(super) fn shared(header: HeaderValue, generation: u64, lifetime: Option<Duration>, age: Duration, now: Instant) -> Self {
        Self { header, generation: Some(generation), lifetime, age, as_of: Some(now), early: Duration::ZERO, last: false, home: None }
    }

    /// Fetches its successor earlier, by this fraction of the margin, so that not everybody does at once.
    pub(super) fn spread(mut self, fraction: f64) -> Self {
        if let Some(lifetime) = self.lifetime {
            self.early = margin(lifetime).mul_f64(fraction.clamp(0.0, 1.0));
        }
        self
    }

    /// Remembers where its API is.
    pub(super) fn at(mut self, home: Option<Arc<str>>) -> Self {
        self.home = home;
        self
    }

    /// Leaves its successor to whoever needs one when it has ended.
    pub(super) fn without_early_refresh(mut self) -> Self {
        self.last = true;
        self
    }
}

/// How long before its end a token's successor is fetched: max(60 s, 10 % of the lifetime), at most 15 min, and never more than half of a
/// short life.
pub(super) fn margin(lifetime: Duration) -> Duration {
    (lifetime / 10).clamp(Duration::from_secs(60), Duration::from_secs(15 * 60)).min(lifetime / 2)
}

/// How long before its end a token is not sent any more: in its last moment it would expire on the way.
pub(super) fn last_moment(lifetime: Duration) -> Duration {
    Duration::from_secs(5).min(lifetime / 10)
}

/// A token in use.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) header: HeaderValue,
    pub(super) generation: u64,
    /// Where its API is, as the vendor said.
    pub(super) home: Option<Arc<str>>,
    /// The credential it was fetched with.
    version: u64,
    /// From here on a successor is fetched beside the calls.
    refresh_at: Instant,
    /// From here on it is not sent any more.
    usable_until: Instant,
}

/// Where one token lives.
#[derive(Debug, Default)]
pub(super) struct Slot {
    held: RwLock<Option<Held>>,
    flight: Mutex<Attempts>,
    /// Attempts finished so far, readable without the lock.
    finished: AtomicU64,
    /// A refresh beside the calls is under way.
    refreshing: AtomicBool,
    /// Failures are shared with those who waited and then forgotten: somebody else keeps them.
    forgetful: bool,
}

/// How the last attempt ended. Behind the lock that makes attempts single.
#[derive(Debug, Default)]
struct Attempts {
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    error: Error,
    version: u64,
    /// Nobody asks again before this.
    until: Option<Instant>,
}

/// What a caller can do with the slot as it is.
pub(super) enum State {
    /// Use this.
    Fresh(Held),
    /// Use this, and see to its successor.
    Ageing(Held),
    /// Ask for one.
    Absent,
}

impl Slot {
    /// A slot that leaves it to others to remember failures.
    pub(super) fn forgetful() -> Self {
        Self { forgetful: true, ..Self::default() }
    }

    /// The token for a caller with this version of the credential.
    pub(super) fn state(&self, now: Instant, version: u64) -> State {
        match &*self.held.read().unwrap_or_else(PoisonError::into_inner) {
            Some(held) if held.version == version && now < held.usable_until => {
                if now < held.refresh_at {
                    State::Fresh(held.clone())
                } else {
                    State::Ageing(held.clone())
                }
            }
            _ => State::Absent,
        }
    }

    /// Whether nothing here is worth keeping.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.held.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(|held| held.usable_until <= now)
    }

    /// Drops the token, which nobody is to use any more.
    pub(super) fn forget(&self) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The generation in use, whatever its age.
    pub(super) fn generation(&self) -> Option<u64> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|held| held.generation)
    }

    /// Fetches a token unless `good_enough` holds of one that came meanwhile. One attempt at a time; those who waited share its end.
    pub(super) async fn fetch<F>(
        &self,
        version: u64,
        now: impl Fn() -> Instant,
        good_enough: impl Fn(&State) -> bool,
        request: impl FnOnce() -> F,
    ) -> Result<Held>
    where
        F: Future<Output = Result<Token>>,
    {
        let seen = self.finished.load(Ordering::Acquire);
        let mut attempts = self.flight.lock().await;
        let state = self.state(now(), version);
        if good_enough(&state)
            && let State::Fresh(held) | State::Ageing(held) = state
        {
            return Ok(held);
        }
        if let Some(failure) = &attempts.failure
            && failure.version == version
        {
            let waited_for_it = self.finished.load(Ordering::Acquire) != seen;
            let left = failure.until.map(|until| until.saturating_duration_since(now())).filter(|left| !left.is_zero());
            if waited_for_it || left.is_some() {
                return Err(match (failure.error.retry(), left) {
                    (Retry::After(_), Some(left)) => failure.error.clone().with_retry(Retry::After(left)),
                    _ => failure.error.clone(),
                });
            }
        }
        let started = now();
        let outcome = request().await;
        let outcome = match outcome {
            Ok(token) => {
                let held = Held::new(token, version, started);
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
                attempts.failure = None;
                Ok(held)
            }
            Err(error) => {
                let until = match error.retry() {
                    _ if self.forgetful => None,
                    Retry::After(delay) => Some(now() + delay.min(MAX_WAIT)),
                    _ if error.kind().is_passing() => None,
                    _ => Some(now() + REFUSED_FOR),
                };
                attempts.failure = Some(Failure { error: error.clone(), version, until });
                Err(error)
            }
        };
        self.finished.fetch_add(1, Ordering::Release);
        outcome
    }

    /// Puts off the next refresh beside the calls, after one that failed.
    pub(super) fn postpone_refresh(&self, until: Instant) {
        if let Some(held) = &mut *self.held.write().unwrap_or_else(PoisonError::into_inner) {
            held.refresh_at = until;
        }
    }

    /// Claims the refresh beside the calls; `None` if somebody else has it.
    pub(super) fn claim_refresh(self: &Arc<Self>) -> Option<RefreshClaim> {
        (!self.refreshing.swap(true, Ordering::AcqRel)).then(|| RefreshClaim(self.clone()))
    }
}

/// The right to refresh; free again however the refresh ends, also when its task is cancelled.
pub(super) struct RefreshClaim(Arc<Slot>);

impl Deref for RefreshClaim {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.0
    }
}

impl Drop for RefreshClaim {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Release);
    }
}

impl Held {
    fn new(token: Token, version: u64, started: Instant) -> Self {
        let (refresh_in, usable_for) = match token.lifetime {
            None => (FAR, FAR),
            Some(lifetime) => {
                let usable_for = (lifetime - last_moment(lifetime)).saturating_sub(token.age);
                let refresh_in = (lifetime - margin(lifetime)).saturating_sub(token.age + token.early);
                (if token.last { usable_for } else { refresh_in }, usable_for)
            }
        };
        let from = token.as_of.unwrap_or(started);
        Self {
            header: token.header,
            home: token.home,
            generation: token.generation.unwrap_or_else(|| GENERATION.fetch_add(1, Ordering::Relaxed)),
            version,
            refresh_at: from + refresh_in,
            usable_until: from + usable_for,
        }
    }
}
