//! Calls of rules that wait for an approval: made as soon as it is given, given up when nobody decides.
//!
//! Owns the waiting. The approval itself, bound to the exact call, is the approval stage's.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result, Retry,
    clock::{Clock, unix_millis},
    state::{Job, NewJob, Store},
};
use connector_webhook::{dispatch::DispatchPolicy, work::Waker};

use super::{Attempt, EFFECT_TTL, Mark, Outcome, run, run::RuleCall, worker::millis};
use crate::{ApprovalState, CallOutcome, Runtime};

/// The queue.
pub(crate) const QUEUE: &str = "approved";
/// How often it is looked whether somebody has decided.
const LOOK: Duration = Duration::from_secs(10);
/// More looks than fit into the life of an approval; the rest is for failures of the call.
const LOOKS: u32 = 150;

/// The queue of calls that wait.
#[derive(Debug)]
pub(crate) struct Parked {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    pub(crate) policy: DispatchPolicy,
    pub(crate) waker: Waker,
}

impl Parked {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let policy =
            DispatchPolicy { queue: QUEUE.into(), concurrency: 4, schedule: vec![LOOK], jitter: 0.0, poll: LOOK, ..DispatchPolicy::default() };
        Self { store, clock, policy, waker: Waker::default() }
    }

    /// Keeps a call until its approval is decided.
    pub(super) async fn park(&self, call: &RuleCall) -> Result<()> {
        let payload = serde_json::to_vec(call).map_err(|error| Error::internal("the call of a rule cannot be written").with_source(error))?;
        let job = NewJob {
            tenant: call.tenant.clone(),
            workspace: call.workspace.clone(),
            queue: QUEUE.into(),
            subject: format!("{} (rule {})", call.tool, call.rule),
            key: Some(call.key.clone()),
            order_key: None,
            payload: payload.into(),
            not_before: unix_millis(self.clock.wall()).saturating_add(millis(LOOK)),
            max_attempts: LOOKS,
        };
        self.store.enqueue(job).await.map(drop)
    }
}

/// One look.
#[derive(Debug)]
pub(crate) struct ParkedWork {
    pub(crate) runtime: Runtime,
}

fn undecided() -> Error {
    Error::new(ErrorKind::ApprovalRequired, "nobody has decided about the approval yet").with_retry(Retry::After(LOOK))
}

#[async_trait]
impl Attempt for ParkedWork {
    async fn attempt(&self, job: &Job) -> Result<()> {
        let call: RuleCall =
            serde_json::from_slice(&job.payload).map_err(|error| Error::internal("the parked call of a rule cannot be read").with_source(error))?;
        let inner = &self.runtime.0;
        let mark = inner.marks.get(&call.tenant, &call.key).await?;
        if mark.as_ref().is_some_and(|mark| mark.outcome != Outcome::Waiting) {
            return Ok(());
        }
        let state = match mark.and_then(|mark| mark.approval) {
            None => ApprovalState::Expired,
            Some(id) => match inner.shared.approvals.show(&call.tenant, &id).await {
                Ok(approval) => approval.state,
                Err(error) if error.kind() == ErrorKind::NotFound => ApprovalState::Expired,
                Err(error) => return Err(error),
            },
        };
        match state {
            ApprovalState::Pending => return Err(undecided()),
            ApprovalState::Denied => {
                tracing::warn!(rule = call.rule, tool = call.tool, "the call of a rule was denied and is not made");
                return inner.marks.put(&call.tenant, &call.key, &Mark::of(Outcome::Denied), Some(EFFECT_TTL)).await;
            }
            // The first look of a job that a person queued again asks anew.
            ApprovalState::Expired if job.attempts > 1 => {
                return Err(Error::new(ErrorKind::ApprovalRequired, "nobody decided about the approval in time; retry this to ask again"));
            }
            ApprovalState::Expired | ApprovalState::Approved | ApprovalState::Used => {}
        }
        let (mark, result) = match self.runtime.call(call.request()).await? {
            CallOutcome::Done(reply) => (run::done(reply, call.is_named)?, Ok(())),
            CallOutcome::Queued { .. } if call.is_named => return Err(undecided()),
            CallOutcome::Queued { .. } => (Mark::of(Outcome::Queued), Ok(())),
            CallOutcome::PendingApproval { approval_id, .. } => {
                (Mark { approval: Some(approval_id), ..Mark::of(Outcome::Waiting) }, Err(undecided()))
            }
            CallOutcome::DryRun(_) => return Err(Error::internal("a rule asked for no dry run")),
        };
        inner.marks.put(&call.tenant, &call.key, &mark, Some(EFFECT_TTL)).await?;
        result
    }
}
