//! The one way the demo reaches a vendor: the runtime's governed call, behind a small trait so that the story can be told to a script.
//!
//! Owns persistence: what may pass is asked again for a while, under the same key. Refuses everything else to its caller.

use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{Actor, Cursor, Error, ErrorKind, OpReply, Result};
use connector_runtime::{CallOutcome, CallRequest, Role, Runtime};
use serde_json::{Map, Value};

/// The workspace the desk works in.
pub(super) const WORKSPACE: &str = "support";
/// The pauses between asking again, after the layers below have spent their own retries.
const PAUSES: [Duration; 4] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// A vendor that asks for a longer pause than this is left to the event queue.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Makes governed calls.
#[async_trait]
pub(super) trait Caller: Debug + Send + Sync + 'static {
    /// Makes the call and gives its reply.
    ///
    /// # Errors
    /// Whatever stopped it.
    async fn call(&self, request: CallRequest) -> Result<OpReply>;
}

/// The runtime, which exists only after the desk does.
#[derive(Debug, Default)]
pub(super) struct Hub(OnceLock<Runtime>);

impl Hub {
    /// From now on calls go to this runtime.
    pub(super) fn open(&self, runtime: Runtime) -> Result<()> {
        self.0.set(runtime).map_err(|_| Error::internal("the demo's hub was opened twice"))
    }
}

#[async_trait]
impl Caller for Hub {
    async fn call(&self, request: CallRequest) -> Result<OpReply> {
        let runtime = self.0.get().ok_or_else(|| Error::new(ErrorKind::Overloaded, "the hub is still starting"))?;
        match runtime.call(request).await? {
            CallOutcome::Done(reply) => Ok(reply),
            CallOutcome::PendingApproval { .. } => {
                Err(Error::new(ErrorKind::ApprovalRequired, "the write waits for an approval that nobody gives here"))
            }
            CallOutcome::Queued { reason, .. } => Err(Error::new(ErrorKind::Overloaded, format!("the write was queued: {reason}"))),
            CallOutcome::DryRun(_) => Err(Error::internal("a dry run was not asked for")),
        }
    }
}

/// Calls in the desk's name.
#[derive(Debug, Clone)]
pub(super) struct Desk(Arc<dyn Caller>);

impl Desk {
    pub(super) fn new(caller: Arc<dyn Caller>) -> Self {
        Self(caller)
    }

    /// Reads.
    pub(super) async fn read(&self, tool: &str, params: Value) -> Result<Value> {
        self.insist(request(tool, params)).await?.body.to_value()
    }

    /// Reads, but gives up after this time: for what is good to know and not needed.
    pub(super) async fn glance(&self, tool: &str, params: Value, within: Duration) -> Result<Value> {
        let mut request = request(tool, params);
        request.deadline = Some(within);
        self.0.call(request).await?.body.to_value()
    }

    /// Reads one page of a listing and tells where the next one is.
    pub(super) async fn page(&self, tool: &str, params: Value, cursor: Option<Cursor>) -> Result<(Value, Option<Cursor>)> {
        let mut request = request(tool, params);
        request.cursor = cursor;
        let reply = self.insist(request).await?;
        Ok((reply.body.to_value()?, reply.next))
    }

    /// Writes at most once under this key.
    pub(super) async fn write(&self, tool: &str, params: Value, key: String) -> Result<Value> {
        self.insist(request(tool, params).idempotency_key(key)).await?.body.to_value()
    }

    /// Asks again while that may help. A write carries its key each time, so it happens once however often it is asked for.
    async fn insist(&self, request: CallRequest) -> Result<OpReply> {
        for pause in PAUSES {
            match self.0.call(request.clone()).await {
                Err(error) if may_pass(&error) && error.retry_after().is_none_or(|named| named <= LONGEST_PAUSE) => {
                    tokio::time::sleep(error.retry_after().unwrap_or_default().max(pause)).await;
                }
                outcome => return outcome,
            }
        }
        self.0.call(request).await
    }
}

/// Whether asking again may help: what time cures, a token that was revoked twice while it was refreshed once, and a call with the same
/// key that is still under way (a conflict that names its delay).
fn may_pass(error: &Error) -> bool {
    error.kind().is_passing() || error.kind() == ErrorKind::AuthExpired || (error.kind() == ErrorKind::Conflict && error.retry_after().is_some())
}

fn request(tool: &str, params: Value) -> CallRequest {
    let params = match params {
        Value::Object(params) => params,
        _ => Map::new(),
    };
    let mut request = CallRequest::new(tool, params).workspace(WORKSPACE).by(Actor::Rule("support-desk".into()), Role::Operator);
    // What cannot be done now is done again with its event, in order, and not behind its back.
    request.queue = Some(false);
    request
}
