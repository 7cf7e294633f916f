//! The places where a renewal may die, and the wrappers that make it die there: around the transport and around the token store.
//!
//! The product has no hooks for this; everything goes through its ports.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use clap::ValueEnum;
use connector_core::{
    CallCx, Error, Result,
    credential::CredentialQuery,
    state::Condition,
    token::{TokenLease, TokenRecord, TokenRow, TokenStore},
    transport::{Body, Request, Response, Transport},
};
use rustix::process::{Signal, getpid, kill_process};

/// The longest token answer that is read.
const MAX_BODY: usize = 1 << 20;

/// Where a renewal is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailPoint {
    /// The intent is on disk, nothing was sent.
    BeforeSend,
    /// The server has answered, not a byte of the body was read.
    AfterSend,
    /// The new tokens are in memory.
    AfterRead,
    /// They are about to be written.
    BeforeCommit,
    /// They are on disk, nobody was told.
    AfterCommit,
}

impl FailPoint {
    /// All of them, in the order a renewal passes them.
    pub(crate) const ALL: [Self; 5] = [Self::BeforeSend, Self::AfterSend, Self::AfterRead, Self::BeforeCommit, Self::AfterCommit];

    /// Whether a kill here may cost the tokens: the server has burnt the old ones and the new ones are nowhere but in memory.
    pub(crate) fn may_lose(self) -> bool {
        matches!(self, Self::AfterSend | Self::AfterRead | Self::BeforeCommit)
    }
}

impl fmt::Display for FailPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeSend => "before-send",
            Self::AfterSend => "after-send",
            Self::AfterRead => "after-read",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
        })
    }
}

/// Ends this process as a power cut would: no destructor runs, nothing is flushed.
fn die() -> Error {
    match kill_process(getpid(), Signal::KILL) {
        Ok(()) => Error::internal("killed, and still here"),
        Err(error) => Error::internal("could not kill this process").with_source(error),
    }
}

/// A transport that dies at a failpoint. Everything sent through it is a token request.
#[derive(Debug)]
pub(crate) struct FailTransport {
    pub(crate) inner: Arc<dyn Transport>,
    pub(crate) at: Option<FailPoint>,
}

#[async_trait]
impl Transport for FailTransport {
    async fn send(&self, cx: &CallCx, request: Request) -> Result<Response> {
        if self.at == Some(FailPoint::BeforeSend) {
            return Err(die());
        }
        let response = self.inner.send(cx, request).await?;
        match self.at {
            Some(FailPoint::AfterSend) => Err(die()),
            Some(FailPoint::AfterRead) => {
                let body: Body = response.into_body();
                body.collect(MAX_BODY).await?;
                Err(die())
            }
            _ => Ok(response),
        }
    }
}

/// A token store that dies at a failpoint. Its first write of a renewal is the intent, the second one the new tokens.
///
/// Leases are cut to `longest_lease`, so that a run does not wait a minute for each process that died holding one. They stay far longer
/// than a renewal takes here.
#[derive(Debug)]
pub(crate) struct FailTokens {
    pub(crate) inner: Arc<dyn TokenStore>,
    pub(crate) at: Option<FailPoint>,
    pub(crate) longest_lease: Option<Duration>,
    pub(crate) saves: AtomicU64,
}

#[async_trait]
impl TokenStore for FailTokens {
    async fn load(&self, query: &CredentialQuery<'_>) -> Result<Option<TokenRow>> {
        self.inner.load(query).await
    }

    async fn save(&self, query: &CredentialQuery<'_>, record: &TokenRecord, condition: Condition) -> Result<Option<u64>> {
        let commits = self.saves.fetch_add(1, Ordering::SeqCst) == 1;
        if commits && self.at == Some(FailPoint::BeforeCommit) {
            return Err(die());
        }
        let saved = self.inner.save(query, record, condition).await?;
        if commits && self.at == Some(FailPoint::AfterCommit) {
            return Err(die());
        }
        Ok(saved)
    }

    async fn lease(&self, query: &CredentialQuery<'_>, time: Duration) -> Result<Option<TokenLease>> {
        self.inner.lease(query, self.longest_lease.map_or(time, |longest| time.min(longest))).await
    }

    async fn release(&self, query: &CredentialQuery<'_>, lease: TokenLease) -> Result<()> {
        self.inner.release(query, lease).await
    }

    async fn remove(&self, query: &CredentialQuery<'_>) -> Result<bool> {
        self.inner.remove(query).await
    }
}
