//! The one error type: what happened, to which operation, and whether trying again can help.
//!
//! Owns the error classes of the retry contract and their advice. Refuses vendor bodies, URLs and secrets: messages are
//! written by us, ids go into the context.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure. It decides what is retried, what counts against a circuit breaker and what a person should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing reached the vendor: DNS, connection refused, TLS, connect timeout. Safe to send again, whatever the operation.
    NotSent,
    /// An open circuit breaker refused the call locally. Wait for the breaker's reset; nothing was sent.
    CircuitOpen,
    /// A local limit (rate, concurrency, retry budget) would make the call miss its deadline. Nothing was sent.
    Overloaded,
    /// The vendor asked us to slow down. Honour the delay; the call was not carried out.
    Throttled,
    /// The vendor failed in a way that usually passes: 5xx, reset connection. An unsafe write may have happened.
    Transient,
    /// No answer in time. An unsafe write may have happened.
    Timeout,
    /// The credential was not accepted (401) even after one refresh. Connect again.
    AuthExpired,
    /// The credential is good but not allowed to do this (403). Grant the missing scope or permission.
    Forbidden,
    /// The thing asked for does not exist (404, 410). On a sync: it was deleted.
    NotFound,
    /// The vendor, or our own input check, refused the request as wrong. Fix the input.
    Invalid,
    /// The thing changed meanwhile or exists already (409, 412). Read it again and decide.
    Conflict,
    /// A delta token, page cursor or locator is no longer valid. Start a full resync.
    CursorExpired,
    /// A daily or monthly allowance is used up, or payment is due. Wait for the reset instant.
    Quota,
    /// Some items of a batch failed. The successes stand; see the item errors.
    Partial,
    /// The answer was not what the protocol says: HTML in a 200, truncated JSON, oversized body, endless pages.
    Protocol,
    /// A write that must not be repeated may or may not have happened. Reconcile before sending again.
    Unknown,
    /// The write needs an approval that was not given.
    ApprovalRequired,
    /// The caller may not use this tool, connection or workspace.
    Denied,
    /// Wrong configuration: a missing variable, an unusable base URL, an unknown connector.
    Config,
    /// The connector has no such operation or capability.
    Unsupported,
    /// The caller went away, or the process is shutting down.
    Cancelled,
    /// A defect or a local fault, for example a full disk.
    Internal,
}

impl ErrorKind {
    /// The stable snake_case name used in metrics, JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::CircuitOpen => "circuit_open",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::AuthExpired => "auth_expired",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::CursorExpired => "cursor_expired",
            Self::Quota => "quota",
            Self::Partial => "partial",
            Self::Protocol => "protocol",
            Self::Unknown => "unknown",
            Self::ApprovalRequired => "approval_required",
            Self::Denied => "denied",
            Self::Config => "config",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// Whether this failure says something about the health of the host, so that it counts in the circuit breaker.
    ///
    /// Client errors, authentication and throttling never count: they are answers.
    pub fn counts_in_breaker(self) -> bool {
        matches!(self, Self::NotSent | Self::Transient | Self::Timeout | Self::Protocol)
    }

    /// Whether the request certainly had no effect at the vendor, so that even an unsafe write may be sent again.
    pub fn certainly_not_done(self) -> bool {
        matches!(self, Self::NotSent | Self::CircuitOpen | Self::Overloaded | Self::Throttled | Self::AuthExpired)
    }

    /// Whether time alone may cure it, so that a queue should keep the work and try later.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::NotSent | Self::CircuitOpen | Self::Overloaded | Self::Throttled | Self::Transient | Self::Timeout | Self::Protocol | Self::Quota
        )
    }

    /// What the person reading the error should do, in one sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NotSent => "check the base URL, DNS and network, then try again",
            Self::CircuitOpen => "wait for the breaker to reset; `health` shows when",
            Self::Overloaded => "try again later or raise the connection's limits",
            Self::Throttled => "try again after the delay the vendor named",
            Self::Transient | Self::Timeout => "try again later; reads and keyed writes are safe to repeat",
            Self::AuthExpired => "connect again: the stored credential is no longer accepted",
            Self::Forbidden => "grant the scope or permission the operation needs",
            Self::NotFound => "check the id; the record may have been deleted",
            Self::Invalid => "correct the input; `describe` shows what is accepted",
            Self::Conflict => "read the record again and decide",
            Self::CursorExpired => "start a full resync",
            Self::Quota => "wait for the allowance to reset or raise it with the vendor",
            Self::Partial => "look at the item errors and repeat only those",
            Self::Protocol => "check that the base URL points at the API and not at a login page",
            Self::Unknown => "look at the vendor whether it happened before sending it again",
            Self::ApprovalRequired => "ask for an approval of this exact write",
            Self::Denied => "ask an administrator for access",
            Self::Config => "correct the configuration",
            Self::Unsupported => "`tools` lists what is there",
            Self::Cancelled => "call again",
            Self::Internal => "look at the log with the correlation id and report it",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether and when trying the same call again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Trying again will fail the same way.
    Never,
    /// It may pass; use the policy's backoff.
    Soon,
    /// It may pass, but not before this delay (a floor the vendor or a local gate named).
    After(Duration),
    /// It was worth retrying, and the retries are spent. Outer layers must not start over; a queue may.
    Exhausted,
}

/// An error: kind, retry advice, where it happened, and the vendor's own code where there was one.
///
/// One pointer wide. `Display` never contains its [`source`](StdError::source), a URL, a body or a secret.
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    retry: Retry,
    message: String,
    connector: Option<Arc<str>>,
    operation: Option<Arc<str>>,
    status: Option<u16>,
    vendor_code: Option<String>,
    request_id: Option<String>,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A new error of `kind`. `message` is lower case, has no trailing period and says what happened.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retry = if matches!(kind, ErrorKind::Overloaded) || !kind.is_passing() { Retry::Never } else { Retry::Soon };
        Self(Box::new(Inner {
            kind,
            retry,
            message: message.into(),
            connector: None,
            operation: None,
            status: None,
            vendor_code: None,
            request_id: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// [`ErrorKind::Config`] with this message.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// [`ErrorKind::Invalid`] with this message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::Protocol`] with this message.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    /// [`ErrorKind::Internal`] with this message.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// [`ErrorKind::Unsupported`] with this message.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Replaces the retry advice.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Changes the class and keeps everything else; the advice follows the new class.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.retry = Self::new(kind, "").0.retry;
        self.0.kind = kind;
        self
    }

    /// Names the connector and operation, unless an inner layer already did.
    #[must_use]
    pub fn at(mut self, connector: &Arc<str>, operation: &Arc<str>) -> Self {
        self.0.connector.get_or_insert_with(|| connector.clone());
        self.0.operation.get_or_insert_with(|| operation.clone());
        self
    }

    /// Keeps the HTTP status the vendor answered with.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Keeps the vendor's own error code (`INVALID_SESSION_ID`), never its message.
    #[must_use]
    pub fn with_vendor_code(mut self, code: impl Into<String>) -> Self {
        self.0.vendor_code = Some(code.into());
        self
    }

    /// Keeps the vendor's request id, the first thing its support will ask for.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.0.request_id = Some(id.into());
        self
    }

    /// Adds one fact a reader needs, such as an id or an attempt count. Never a secret, a body or a URL with a query.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.context.push((key, value.into()));
        self
    }

    /// Keeps the cause. It is not part of `Display`; walk [`StdError::source`] to see it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether and when another try can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The delay before which a retry is pointless, if the vendor or a local gate named one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.retry {
            Retry::After(delay) => Some(delay),
            _ => None,
        }
    }

    /// The message alone, without kind or context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The connector it happened in.
    pub fn connector(&self) -> Option<&str> {
        self.0.connector.as_deref()
    }

    /// The operation it happened in.
    pub fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The vendor's own error code.
    pub fn vendor_code(&self) -> Option<&str> {
        self.0.vendor_code.as_deref()
    }

    /// The vendor's request id.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The facts added by [`Error::with_context`], oldest first.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The value of one context key.
    pub fn context_value(&self, key: &str) -> Option<&str> {
        self.0.context.iter().rev().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    /// No answer in time.
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout
    }

    /// The vendor asked us to slow down.
    pub fn is_throttled(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Throttled | ErrorKind::Quota)
    }

    /// The thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// Nobody knows whether the write happened.
    pub fn is_ambiguous(&self) -> bool {
        self.0.kind == ErrorKind::Unknown
    }
}

impl Clone for Error {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = &inner.operation {
            write!(f, "{operation}: ")?;
        } else if let Some(connector) = &inner.connector {
            write!(f, "{connector}: ")?;
        }
        f.write_str(&inner.message)?;
        let mut facts = Vec::new();
        facts.push(inner.kind.as_str().to_owned());
        if let Some(status) = inner.status {
            facts.push(format!("status {status}"));
        }
        if let Some(code) = &inner.vendor_code {
            facts.push(format!("code {}", code.escape_debug()));
        }
        if let Some(id) = &inner.request_id {
            facts.push(format!("request {}", id.escape_debug()));
        }
        if let Retry::After(delay) = inner.retry {
            facts.push(format!("retry after {delay:.1?}"));
        }
        for (key, value) in &inner.context {
            facts.push(format!("{key} {}", value.escape_debug()));
        }
        write!(f, " ({})", facts.join(", "))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("retry", &inner.retry)
            .field("message", &inner.message)
            .field("connector", &inner.connector)
            .field("operation", &inner.operation)
            .field("status", &inner.status)
            .field("vendor_code", &inner.vendor_code)
            .field("request_id", &inner.request_id)
            .field("context", &inner.context)
            .field("source", &inner.source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_place_class_and_ids_but_not_the_source() {
        let error = Error::new(ErrorKind::Throttled, "the vendor asked us to slow down")
            .at(&"hubspot".into(), &"hubspot_get_contact".into())
            .with_status(429)
            .with_request_id("abc")
            .with_retry(Retry::After(Duration::from_secs(2)))
            .with_source("secret source text");
        assert_eq!(error.to_string(), "hubspot_get_contact: the vendor asked us to slow down (throttled, status 429, request abc, retry after 2.0s)");
    }

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn client_errors_and_throttling_never_count_in_the_breaker() {
        for kind in
            [ErrorKind::Throttled, ErrorKind::AuthExpired, ErrorKind::Forbidden, ErrorKind::NotFound, ErrorKind::Invalid, ErrorKind::CircuitOpen]
        {
            assert!(!kind.counts_in_breaker(), "{kind}");
        }
    }
}
