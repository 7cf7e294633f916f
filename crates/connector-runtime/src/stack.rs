//! The one place that fixes the order of the outer half of the call path.
//!
//! `trace → audit → access → validate → dry run → approval → idempotency → cache → outbox → send`, and `send` hands over to the inner half
//! (`connector_core::layer::stack`: metrics → batching → retry → breaker → limiter → timeout → engine). The audit stage is outermost, so
//! that refusals are on record; the intent of a write is recorded by `send`, so that it means what it says: this is about to leave.

use std::{fmt::Debug, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use connector_core::{Error, OpCall, Result, clock::Clock};
use tracing::Instrument as _;

use crate::{
    access::AccessStage,
    approval::ApprovalStage,
    audit::AuditStage,
    cache::CacheStage,
    catalogue::Catalogue,
    config::PolicyConfig,
    idempotency::IdempotencyStage,
    outbox::OutboxStage,
    request::{CallOutcome, Governed},
    send::SendStage,
    validate::ValidateStage,
};

/// One step on the way of a call. It may answer itself or ask `next`.
#[async_trait]
pub(crate) trait Stage: Debug + Send + Sync + 'static {
    /// Its name in the order.
    fn name(&self) -> &'static str;

    /// Takes the call.
    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome>;
}

/// The stages after the current one.
#[derive(Clone, Copy)]
pub(crate) struct Next<'a>(&'a [Box<dyn Stage>]);

impl<'a> Next<'a> {
    pub(crate) fn all(stages: &'a [Box<dyn Stage>]) -> Self {
        Self(stages)
    }

    /// Goes on.
    pub(crate) async fn run(self, call: &mut Governed) -> Result<CallOutcome> {
        match self.0.split_first() {
            Some((stage, rest)) => {
                tracing::trace!(stage = stage.name(), "entering");
                stage.run(call, Next(rest)).await
            }
            None => Err(Error::internal("the last stage of the call path passed a call on")),
        }
    }
}

/// What the stages share.
pub(crate) struct Shared {
    pub(crate) catalogue: Arc<ArcSwap<Catalogue>>,
    pub(crate) policy: PolicyConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<crate::stats::Counters>,
    pub(crate) audit: Arc<crate::audit::Trail>,
    pub(crate) approvals: Arc<crate::approval::Approvals>,
    pub(crate) records: Arc<crate::idempotency::Records>,
    pub(crate) cache: Arc<crate::cache::Cache>,
    pub(crate) outbox: Arc<crate::outbox::Outbox>,
    pub(crate) monitor: Arc<crate::health::Monitor>,
}

/// The outer stages, outermost first. Nothing else may fix an order.
pub(crate) fn stages(shared: &Shared) -> Vec<Box<dyn Stage>> {
    let Shared { catalogue, policy, clock, counters, audit, approvals, records, cache, outbox, monitor } = shared;
    vec![
        Box::new(TraceStage),
        Box::new(AuditStage { trail: audit.clone(), clock: clock.clone() }),
        Box::new(AccessStage { catalogue: catalogue.clone(), policy: policy.clone(), clock: clock.clone(), counters: counters.clone() }),
        Box::new(ValidateStage),
        Box::new(DryRunStage),
        Box::new(ApprovalStage { approvals: approvals.clone(), records: records.clone(), policy: policy.clone() }),
        Box::new(IdempotencyStage { records: records.clone(), counters: counters.clone() }),
        Box::new(CacheStage { cache: cache.clone(), counters: counters.clone() }),
        Box::new(OutboxStage { outbox: outbox.clone() }),
        Box::new(SendStage { trail: audit.clone(), counters: counters.clone(), monitor: monitor.clone(), clock: clock.clone() }),
    ]
}

/// Puts each call into a span, so that what the stages log belongs together.
#[derive(Debug)]
struct TraceStage;

#[async_trait]
impl Stage for TraceStage {
    fn name(&self) -> &'static str {
        "trace"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        let span = tracing::info_span!(
            "governed_call",
            tool = &*call.op.name,
            tenant = call.tenant.as_str(),
            workspace = call.workspace.as_str(),
            actor = %call.actor,
            correlation_id = &*call.correlation_id,
        );
        next.run(call).instrument(span).await
    }
}

/// Shows the request instead of sending it.
#[derive(Debug)]
struct DryRunStage;

#[async_trait]
impl Stage for DryRunStage {
    fn name(&self) -> &'static str {
        "dry_run"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        if !call.dry_run {
            return next.run(call).await;
        }
        let Some(engine) = &call.loaded.renderer else {
            return Err(Error::unsupported(format!("`{}` is made in code and cannot be shown without being made", call.op.name)));
        };
        let op_call = OpCall::new(call.op.name.clone(), call.params.clone()).with_cursor(call.cursor.clone());
        engine.render(call.cx()?, &op_call).map(CallOutcome::DryRun)
    }
}
