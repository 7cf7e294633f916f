//! The sandbox's wall clock: token lifetimes, timestamps in records and webhook signatures read it and nothing else. It refuses to
//! measure durations; waiting is tokio's business, so a paused test runtime skips it.

use connector_core::clock::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// Wall time as the fake vendors see it. Cloning is cheap and every clone shows the same time.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl WallClock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::from(SystemClock::shared())
    }

    /// A clock that asks `now` each time, for tests that move time by hand.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current instant.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// The current instant plus `seconds`, saturating at the ends of the calendar.
    pub(crate) fn after(&self, seconds: i64) -> Timestamp {
        add_seconds(self.now(), seconds)
    }
}

impl From<Arc<dyn Clock>> for WallClock {
    /// The wall time of the workspace's own clock, so that one manual clock moves a connector and its fake together.
    fn from(clock: Arc<dyn Clock>) -> Self {
        // A wall time outside the calendar cannot be shown; the epoch then makes the mistake visible.
        Self::from_fn(move || Timestamp::try_from(clock.wall()).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WallClock").field(&self.now()).finish()
    }
}

/// `at` plus `seconds`, saturating.
pub(crate) fn add_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(at)
}

/// RFC 3339 with whole seconds and `Z`, the form Microsoft Graph prints.
pub(crate) fn rfc3339_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 with milliseconds and `Z`, the form HubSpot prints.
pub(crate) fn rfc3339_millis(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
