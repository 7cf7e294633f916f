//! Retrying any async function: [`with_retry`]. [`crate::layer::RetryLayer`] does the same for operations, with all they declare.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use backon::Retryable as _;

use super::backoff::FullJitterBuilder;
pub use super::policy::RetryPolicy;
use crate::{
    clock::{Rng, ThreadRng},
    error::{Error, ErrorKind, Retry},
};

/// What [`with_retry`] must know about an error. Implement it for your own error type to retry functions that return it.
pub trait Retryable {
    /// Whether and when trying again can help.
    fn retry(&self) -> Retry;

    /// No answer came in time; tried again only up to [`RetryPolicy::timeout_attempts`].
    fn is_timeout(&self) -> bool {
        false
    }

    /// The error as given to the caller once the retries are spent, after so many sends.
    #[must_use]
    fn exhausted(self, attempts: u32) -> Self
    where
        Self: Sized,
    {
        let _ = attempts;
        self
    }
}

impl Retryable for Error {
    fn retry(&self) -> Retry {
        match self.kind() {
            // A refusal of our own gate is not asked again: it says how long to wait.
            ErrorKind::CircuitOpen | ErrorKind::Overloaded | ErrorKind::Quota => Retry::Never,
            _ => self.retry(),
        }
    }

    fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    fn exhausted(self, attempts: u32) -> Self {
        self.with_retry(Retry::Exhausted).with_context("attempts", attempts.to_string())
    }
}

/// Which send of a call this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first send.
    pub number: u32,
}

impl Attempt {
    /// Whether the call was sent before.
    pub fn is_retry(self) -> bool {
        self.number > 1
    }
}

/// Calls `operation` until it succeeds, its error says that trying again is pointless, or the policy's sends are spent.
///
/// Between two sends it waits as the policy says, with full jitter, and never shorter than the error asks for
/// ([`Retry::After`]); if that is longer than [`RetryPolicy::inline_wait`], the error is returned at once.
/// Only for functions that may be repeated: it does not know what they do.
///
/// ```
/// use connector_core::{Error, ErrorKind, resilience::{RetryPolicy, with_retry}};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> connector_core::Result<()> {
/// let mut sends = 0;
/// let policy = RetryPolicy::default();
/// let greeting = with_retry(&policy, || {
///     sends += 1;
///     let send = sends;
///     async move {
///         if send < 3 { Err(Error::new(ErrorKind::Transient, "the vendor stumbled")) } else { Ok("hello") }
///     }
/// })
/// .await?;
/// assert_eq!((greeting, sends), ("hello", 3));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The last error of `operation`; [`Retryable::exhausted`] if it was worth retrying.
pub async fn with_retry<T, E, F, Fut>(policy: &RetryPolicy, mut operation: F) -> Result<T, E>
where
    E: Retryable,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    with_retry_using(policy, Arc::new(ThreadRng), |_| operation()).await
}

/// As [`with_retry`], telling the operation which send it is and drawing the jitter from `rng`.
///
/// # Errors
/// As [`with_retry`].
pub async fn with_retry_using<T, E, F, Fut>(policy: &RetryPolicy, rng: Arc<dyn Rng>, mut operation: F) -> Result<T, E>
where
    E: Retryable,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    // An atomic, so that the whole future can move between threads.
    let sends = AtomicU32::new(0);
    let backoff =
        FullJitterBuilder::new(policy.base_delay, policy.max_delay).with_retries(policy.max_attempts.saturating_sub(1) as usize).with_rng(rng);
    let send = || operation(Attempt { number: sends.fetch_add(1, Ordering::Relaxed) + 1 });
    let result = send
        .retry(backoff)
        .when(|error: &E| {
            let most = if error.is_timeout() { policy.timeout_attempts } else { policy.max_attempts };
            sends.load(Ordering::Relaxed) < most && !matches!(error.retry(), Retry::Never | Retry::Exhausted)
        })
        // backon asks once more when the retries are spent, with no delay; answering with one would retry for ever.
        .adjust(|error: &E, delay: Option<Duration>| {
            let floor = match error.retry() {
                Retry::After(floor) if floor > policy.inline_wait => return None,
                Retry::After(floor) => floor,
                _ => Duration::ZERO,
            };
            delay.map(|delay| delay.max(floor))
        })
        .await;
    result.map_err(|error| match error.retry() {
        Retry::Soon => error.exhausted(sends.load(Ordering::Relaxed)),
        Retry::After(floor) if floor <= policy.inline_wait => error.exhausted(sends.load(Ordering::Relaxed)),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn sends_for(policy: &RetryPolicy, error: Error) -> (u32, Error, Duration) {
        let mut sends = 0;
        let start = Instant::now();
        let last = with_retry(policy, || {
            sends += 1;
            let error = error.clone();
            async move { Err::<(), _>(error) }
        })
        .await
        .unwrap_err();
        (sends, last, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_after_the_policys_sends_and_says_so() {
        let policy = RetryPolicy::default();
        let (sends, last, elapsed) = sends_for(&policy, Error::new(ErrorKind::Transient, "x")).await;
        assert_eq!((sends, last.retry(), last.context_value("attempts")), (3, Retry::Exhausted, Some("3")));
        assert!(elapsed <= Duration::from_secs(3));
        let (sends, ..) = sends_for(&policy, Error::new(ErrorKind::Timeout, "x")).await;
        assert_eq!(sends, 2);
        for kind in [ErrorKind::Invalid, ErrorKind::CircuitOpen, ErrorKind::Quota] {
            assert_eq!(sends_for(&policy, Error::new(kind, "x")).await.0, 1, "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_the_vendor_names_is_a_floor_and_too_long_a_one_is_left_to_the_caller() {
        let policy = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
        let throttled = |seconds| Error::new(ErrorKind::Throttled, "x").with_retry(Retry::After(Duration::from_secs(seconds)));
        let (sends, _, elapsed) = sends_for(&policy, throttled(30)).await;
        assert!(sends == 2 && elapsed >= Duration::from_secs(30));
        let (sends, last, elapsed) = sends_for(&policy, throttled(61)).await;
        assert_eq!((sends, last.retry_after(), elapsed), (1, Some(Duration::from_secs(61)), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_strangers_error_works_too() {
        #[derive(Debug, PartialEq)]
        struct Theirs(bool);
        impl Retryable for Theirs {
            fn retry(&self) -> Retry {
                if self.0 { Retry::Soon } else { Retry::Never }
            }
        }
        let mut seen = Vec::new();
        let outcome = with_retry_using(&RetryPolicy::default(), Arc::new(ThreadRng), |attempt| {
            seen.push(attempt.number);
            async move { Err::<(), _>(Theirs(!attempt.is_retry())) }
        })
        .await;
        assert_eq!(outcome, Err(Theirs(false)));
        assert_eq!(seen, [1, 2]);
    }
}
