//! Gives up on an answer that does not come: the operation's class says how long, the caller's deadline may say less.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::Layer;
use crate::{
    clock::{Clock, Instant},
    connector::{Connector, Lifecycle, OpCall, OpReply},
    context::CallCx,
    delta::DeltaSource,
    error::{Error, ErrorKind, Result, Retry},
    resilience::TimeoutPolicy,
    rotation::Rotator,
    spec::{ConnectorSpec, TimeoutClass},
    webhook::WebhookVerifier,
};

/// Limits the time of one attempt.
#[derive(Debug, Clone)]
pub struct TimeoutLayer {
    policy: TimeoutPolicy,
    clock: Arc<dyn Clock>,
}

impl TimeoutLayer {
    /// Times out by this policy.
    pub fn new(policy: TimeoutPolicy, clock: Arc<dyn Clock>) -> Self {
        Self { policy, clock }
    }
}

impl Layer for TimeoutLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        Arc::new(Timed { spec: inner.spec().clone(), inner, policy: self.policy, clock: self.clock.clone() })
    }
}

#[derive(Debug)]
struct Timed {
    spec: Arc<ConnectorSpec>,
    inner: Arc<dyn Connector>,
    policy: TimeoutPolicy,
    clock: Arc<dyn Clock>,
}

impl Timed {
    /// When to give up: after the class's time, or at the deadline if that is sooner.
    fn end(&self, cx: &CallCx, most: Duration) -> Result<Instant> {
        let now = self.clock.now();
        match cx.deadline {
            // Not a timeout: nothing was sent, so even an unsafe write is certainly not done.
            Some(deadline) if deadline <= now => {
                Err(Error::new(ErrorKind::Overloaded, "the deadline passed before the call could be sent").with_retry(Retry::Exhausted))
            }
            Some(deadline) => Ok(deadline.min(now + most)),
            None => Ok(now + most),
        }
    }
}

fn timed_out(most: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {most:.1?} or before the caller's deadline"))
}

#[async_trait]
impl Connector for Timed {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let class = self.spec.operation(&call.operation).map_or(TimeoutClass::Long, |op| op.timeout_class);
        let most = self.policy.of(class);
        let end = self.end(cx, most)?;
        tokio::time::timeout_at(end, self.inner.call(cx, call)).await.unwrap_or_else(|_| Err(timed_out(most)))
    }

    async fn lifecycle(&self, cx: &CallCx, event: Lifecycle) -> Result<()> {
        let end = self.end(cx, self.policy.operation)?;
        tokio::time::timeout_at(end, self.inner.lifecycle(cx, event)).await.unwrap_or_else(|_| Err(timed_out(self.policy.operation)))
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        self.inner.webhook()
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        self.inner.delta()
    }

    fn rotator(&self) -> Option<&dyn Rotator> {
        self.inner.rotator()
    }
}
