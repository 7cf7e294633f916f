//! The last stage: records the intent of a write, hands the call to the connector, and takes note of how it went.

use std::sync::Arc;

use async_trait::async_trait;
use connector_core::{CallCx, OpCall, OpReply, Result, clock::Clock, spec::OpSpec, state::AuditOutcome};

use crate::{
    audit::{Entry, Trail},
    catalogue::Loaded,
    health::Monitor,
    request::{CallOutcome, Governed},
    stack::{Next, Stage},
    stats::{self, Counters},
};

/// The stage that sends.
#[derive(Debug)]
pub(crate) struct SendStage {
    pub(crate) trail: Arc<Trail>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl SendStage {
    /// Sends what the outbox kept, by the same way as a direct call.
    pub(crate) async fn deliver(&self, loaded: &Loaded, cx: &CallCx, op: &OpSpec, call: OpCall, digest: &str) -> Result<OpReply> {
        if op.effect != connector_core::spec::Effect::Read {
            // Fail closed: a write that cannot be put on record is not made.
            self.trail.write_now(Entry::of(cx, loaded.connector.spec(), op, digest, AuditOutcome::Intent)).await?;
        }
        self.dispatch(loaded, cx, call).await
    }

    async fn dispatch(&self, loaded: &Loaded, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let start = self.clock.now();
        let (identity, is_batch) = (stats::identity(cx, &call), loaded.batch_tools.contains(&call.operation));
        let result = loaded.connector.call(cx, call).await;
        self.counters.ended(identity);
        if let Ok(reply) = &result {
            self.counters.replied(is_batch, reply);
        }
        let took = self.clock.now().saturating_duration_since(start);
        self.monitor.record(&cx.connection, took, result.as_ref().err());
        result
    }
}

#[async_trait]
impl Stage for SendStage {
    fn name(&self) -> &'static str {
        "send"
    }

    async fn run(&self, call: &mut Governed, _: Next<'_>) -> Result<CallOutcome> {
        let cx = call.cx()?.clone();
        let op_call = OpCall::new(call.op.name.clone(), call.params.clone()).with_cursor(call.cursor.clone());
        if call.is_write() {
            self.trail.write_now(Entry::of(&cx, call.loaded.connector.spec(), &call.op, &call.digest, AuditOutcome::Intent)).await?;
        }
        call.sent = true;
        self.dispatch(&call.loaded, &cx, op_call).await.map(CallOutcome::Done)
    }
}
