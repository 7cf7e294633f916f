//! How patient a connector is: the numbers of retry, budget, breaker, limits and timeouts, and their three presets.
//!
//! Plain data. Where a number came from is [`super::ResilienceSource`]'s business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything that decides how patient a connector is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resilience {
    /// How often and how long apart a call is sent again.
    pub retry: RetryPolicy,
    /// How many retries all calls to one host may make together.
    pub budget: BudgetPolicy,
    /// When calls to a failing host are refused at once.
    pub breaker: BreakerPolicy,
    /// How much of the vendor's published limits is used.
    pub limits: LimitPolicy,
    /// How long to wait for an answer.
    #[serde(rename = "timeout")]
    pub timeouts: TimeoutPolicy,
}

/// How often and how long apart a call is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// The most sends of one call, the first included.
    pub max_attempts: u32,
    /// The most sends of one call whose last failure was a timeout ("retry once, then queue").
    pub timeout_attempts: u32,
    /// The delay before the second send is drawn from `0..base_delay`, doubling with each further one.
    #[serde(rename = "base_delay_ms", with = "millis")]
    pub base_delay: Duration,
    /// No drawn delay is longer.
    #[serde(rename = "max_delay_ms", with = "millis")]
    pub max_delay: Duration,
    /// Like `base_delay`, after the vendor asked us to slow down without saying for how long.
    #[serde(rename = "throttle_base_ms", with = "millis")]
    pub throttle_base: Duration,
    /// Like `max_delay`, after the vendor asked us to slow down without saying for how long.
    #[serde(rename = "throttle_max_ms", with = "millis")]
    pub throttle_max: Duration,
    /// The longest `Retry-After` that is waited out inline; a longer one is left to a queue.
    #[serde(rename = "inline_wait_ms", with = "millis")]
    pub inline_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            timeout_attempts: 2,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(10),
            throttle_base: Duration::from_secs(1),
            throttle_max: Duration::from_secs(60),
            inline_wait: Duration::from_secs(60),
        }
    }
}

/// How many retries all calls to one host may make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetPolicy {
    /// Retries per hundred first sends.
    pub percent: u32,
    /// Retries that may be made on top, saved up while all is well.
    pub burst: u32,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { percent: 10, burst: 10 }
    }
}

/// When calls to a failing host are refused at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerPolicy {
    /// This many failures in a row open it.
    pub threshold: u32,
    /// So many failures per hundred calls in the window open it too.
    pub failure_percent: u32,
    /// But not before the window holds this many calls.
    pub min_calls: u32,
    /// The length of the sliding window.
    #[serde(rename = "window_ms", with = "millis")]
    pub window: Duration,
    /// How long it stays open before one probe is let through.
    #[serde(rename = "reset_ms", with = "millis")]
    pub reset: Duration,
    /// The reset doubles with each failed probe up to this.
    #[serde(rename = "max_reset_ms", with = "millis")]
    pub max_reset: Duration,
    /// The reset varies by so many per cent either way, so that a fleet does not probe in step.
    pub jitter_percent: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            threshold: 5,
            failure_percent: 50,
            min_calls: 20,
            window: Duration::from_secs(30),
            reset: Duration::from_secs(60),
            max_reset: Duration::from_secs(600),
            jitter_percent: 10,
        }
    }
}

/// How much of the vendor's published limits is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitPolicy {
    /// The share of each published window that is used, per cent.
    pub percent: u32,
    /// The part of each published window that may be used at once, per cent; at least one call.
    pub burst_percent: u32,
    /// Calls in flight at once per key of the class `default`, where the connector does not say.
    pub concurrent: u32,
    /// The longest a call waits for its turn; with a longer queue it is refused at once.
    #[serde(rename = "max_wait_ms", with = "millis")]
    pub max_wait: Duration,
    /// The most keys (connections, channels, mailboxes) told apart per limit class; further ones share one quota.
    pub max_keys: u32,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        Self { percent: 90, burst_percent: 10, concurrent: 10, max_wait: Duration::from_secs(60), max_keys: 10_000 }
    }
}

/// How long to wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutPolicy {
    /// For a connection to be made, TLS included. Transports apply it.
    #[serde(rename = "connect_ms", with = "millis")]
    pub connect: Duration,
    /// For the answer to a read.
    #[serde(rename = "read_ms", with = "millis")]
    pub read: Duration,
    /// For the answer to a write. Longer, because a short one only makes ambiguity.
    #[serde(rename = "write_ms", with = "millis")]
    pub write: Duration,
    /// For exports, uploads and reports.
    #[serde(rename = "long_ms", with = "millis")]
    pub long: Duration,
    /// For the whole call with its waits and retries, where the caller sets no deadline.
    #[serde(rename = "operation_ms", with = "millis")]
    pub operation: Duration,
    /// A body that stays slower than [`TimeoutPolicy::stall_bytes_per_second`] for this long is given up. Transports apply it.
    #[serde(rename = "stall_ms", with = "millis")]
    pub stall: Duration,
    /// The slowest body that is not a stall.
    pub stall_bytes_per_second: u32,
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            write: Duration::from_secs(30),
            long: Duration::from_secs(300),
            operation: Duration::from_secs(60),
            stall: Duration::from_secs(20),
            stall_bytes_per_second: 1024,
        }
    }
}

impl TimeoutPolicy {
    /// The response timeout of a class.
    pub fn of(&self, class: crate::spec::TimeoutClass) -> Duration {
        match class {
            crate::spec::TimeoutClass::Read => self.read,
            crate::spec::TimeoutClass::Write => self.write,
            crate::spec::TimeoutClass::Long => self.long,
        }
    }

    /// How long a call of this class may take with its waits and retries where the caller sets no deadline.
    pub fn whole(&self, class: crate::spec::TimeoutClass) -> Duration {
        match class {
            // A long answer alone may take longer than an ordinary call with all its retries.
            crate::spec::TimeoutClass::Long => self.operation.max(self.long),
            _ => self.operation,
        }
    }
}

impl Resilience {
    /// The preset for most things: 3 sends, 1 s base delay up to 10 s, 60 s for the whole call.
    pub fn standard() -> Self {
        Self::default()
    }

    /// The preset for calls a person waits for: 2 sends, 100 ms base delay up to 2 s.
    pub fn interactive() -> Self {
        let mut preset = Self::standard();
        preset.retry.max_attempts = 2;
        preset.retry.base_delay = Duration::from_millis(100);
        preset.retry.max_delay = Duration::from_secs(2);
        preset
    }

    /// The preset for work nobody waits for: 5 sends, 2 s base delay up to 60 s, 300 s for the whole call.
    pub fn background() -> Self {
        let mut preset = Self::standard();
        preset.retry.max_attempts = 5;
        preset.retry.base_delay = Duration::from_secs(2);
        preset.retry.max_delay = Duration::from_secs(60);
        preset.timeouts.operation = Duration::from_secs(300);
        preset
    }

    /// The preset of this name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if there is none.
    pub fn preset(name: &str) -> crate::Result<Self> {
        match name {
            "standard" => Ok(Self::standard()),
            "interactive" => Ok(Self::interactive()),
            "background" => Ok(Self::background()),
            other => Err(crate::Error::config(format!("`{other}` is not a resilience preset; accepted: standard, interactive, background"))),
        }
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
