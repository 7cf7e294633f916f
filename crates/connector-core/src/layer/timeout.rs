//! Gives up on an answer that does not come: the operation's class says how long, the caller's deadline may say less.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::Layer;
use crate::{
    clock::Clock,
    connector::{Connector, Lifecycle, OpCall, OpReply},
    context::CallCx,
    delta::DeltaSource,
    error::{Error, ErrorKind, Result, Retry},
    resilience::TimeoutPolicy,
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
        Arc::new(Timed { inner, policy: self.policy, clock: self.clock.clone() })
    }
}

#[derive(Debug)]
struct Timed {
    inner: Arc<dyn Connector>,
    policy: TimeoutPolicy,
    clock: Arc<dyn Clock>,
}

impl Timed {
    /// The class's time, or what is left until the deadline if that is less.
    fn time(&self, cx: &CallCx, most: Duration) -> Result<Duration> {
        let Some(left) = cx.deadline.map(|deadline| deadline.saturating_duration_since(self.clock.now())) else { return Ok(most) };
        if left.is_zero() {
            // Not a timeout: nothing was sent, so even an unsafe write is certainly not done.
            return Err(Error::new(ErrorKind::Overloaded, "the deadline passed before the call could be sent").with_retry(Retry::Exhausted));
        }
        Ok(left.min(most))
    }
}

fn timed_out(time: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {time:.1?}"))
}

#[async_trait]
impl Connector for Timed {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        self.inner.spec()
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let class = self.inner.spec().operation(&call.operation).map_or(TimeoutClass::Long, |op| op.timeout_class);
        let time = self.time(cx, self.policy.of(class))?;
        tokio::time::timeout(time, self.inner.call(cx, call)).await.unwrap_or_else(|_| Err(timed_out(time)))
    }

    async fn lifecycle(&self, cx: &CallCx, event: Lifecycle) -> Result<()> {
        let time = self.time(cx, self.policy.operation)?;
        tokio::time::timeout(time, self.inner.lifecycle(cx, event)).await.unwrap_or_else(|_| Err(timed_out(time)))
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        self.inner.webhook()
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        self.inner.delta()
    }
}
