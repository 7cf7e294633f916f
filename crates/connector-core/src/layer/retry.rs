//! Sends a call again when that can help and does no harm: the retry matrix by failure class and by how the operation may be
//! repeated.
//!
//! | | safe (read, natural, keyed) | look first | unsafe |
//! |---|---|---|---|
//! | not sent, throttled | all sends | all sends | all sends |
//! | transient, protocol | all sends | look, then all sends | 1, then `unknown` |
//! | timeout | 2 | look, then 2 | 1, then `unknown` |
//! | 401 (where the connector says once more may help) | 1 more | 1 more | 1 more |
//!
//! A refusal of our own breaker or limiter is never asked again. A delay the vendor named is never shortened; one that is too
//! long to wait for ends the loop with [`Retry::After`], so that a queue can take over. Retries that the vendor did not ask for
//! come out of a budget.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Layer, forward_to_inner,
    metrics::RETRIES,
    reconcile::{self, Finding},
};
use crate::{
    clock::{Clock, Rng},
    connector::{Connector, OpCall, OpReply},
    context::CallCx,
    error::{Error, ErrorKind, Result, Retry},
    resilience::{Budgets, Resilience, backoff},
    spec::{ConnectorSpec, Effect, OpSpec, Repeat},
};

/// Sends calls again by the retry matrix, within a budget and a deadline.
#[derive(Debug, Clone)]
pub struct RetryLayer {
    resilience: Resilience,
    budgets: Arc<Budgets>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl RetryLayer {
    /// Retries by the numbers of `resilience`, out of these budgets.
    pub fn new(resilience: Resilience, budgets: Arc<Budgets>, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { resilience, budgets, clock, rng }
    }
}

impl Layer for RetryLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        Arc::new(Retrying { spec: inner.spec().clone(), inner, layer: self.clone() })
    }
}

#[derive(Debug)]
struct Retrying {
    spec: Arc<ConnectorSpec>,
    inner: Arc<dyn Connector>,
    layer: RetryLayer,
}

/// What the matrix says about one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It may be sent until this many sends were made.
    UpTo(u32),
    /// Nobody knows whether it happened; look, and only then send until this many sends were made.
    LookThenUpTo(u32),
    /// Nobody knows whether it happened, and nobody can look.
    Ambiguous,
    /// Sending it again will not help.
    Final,
}

/// One call on its way.
struct Journey {
    sends: u32,
    /// A rejected credential was answered by one more send.
    authorised_again: bool,
    waited: Duration,
}

impl Retrying {
    fn verdict(&self, op: &OpSpec, error: &Error, journey: &Journey) -> Verdict {
        let policy = &self.layer.resilience.retry;
        let all = policy.max_attempts;
        let hopeless = matches!(error.retry(), Retry::Never | Retry::Exhausted);
        let repeated = |most: u32| match (op.repeats_safely(), op.repeat, &op.lookup) {
            (true, ..) if hopeless => Verdict::Final,
            (true, ..) => Verdict::UpTo(most),
            (false, Repeat::LookupFirst, Some(_)) => Verdict::LookThenUpTo(if hopeless { 0 } else { most }),
            (false, ..) => Verdict::Ambiguous,
        };
        match error.kind() {
            // The vendor says that it rolled the write back, or never began with it.
            ErrorKind::Transient if error.context_value("not_done") == Some("true") => Verdict::UpTo(all),
            ErrorKind::Transient | ErrorKind::Protocol => repeated(all),
            ErrorKind::Timeout => repeated(policy.timeout_attempts.min(all)),
            _ if hopeless => Verdict::Final,
            ErrorKind::NotSent | ErrorKind::Throttled => Verdict::UpTo(all),
            ErrorKind::AuthExpired if !journey.authorised_again => Verdict::UpTo(journey.sends + 1),
            ErrorKind::CircuitOpen | ErrorKind::Overloaded | ErrorKind::Quota | ErrorKind::AuthExpired => Verdict::Final,
            // The connector itself asks for another try of something that is otherwise final.
            _ if op.repeats_safely() => Verdict::UpTo(all),
            _ => Verdict::Final,
        }
    }

    /// The time left; [`Retrying::context`] has set a deadline where the caller did not.
    fn left(&self, cx: &CallCx) -> Duration {
        cx.time_left(self.layer.clock.now()).unwrap_or(Duration::MAX)
    }

    fn take_retry(&self, cx: &CallCx) -> bool {
        self.layer.budgets.of(cx.connection.scope(), &self.layer.resilience.budget).take_retry()
    }

    /// How long to wait before the next send.
    fn delay(&self, error: &Error, sends: u32) -> Duration {
        let (policy, rng) = (&self.layer.resilience.retry, &*self.layer.rng);
        let drawn = |k| match error.kind() {
            ErrorKind::Throttled => backoff::full_jitter(policy.throttle_base, policy.throttle_max, k, rng),
            ErrorKind::AuthExpired => Duration::ZERO,
            _ => backoff::full_jitter(policy.base_delay, policy.max_delay, k, rng),
        };
        match error.retry_after() {
            // The first time the vendor is taken at its word, with a little spread against everybody coming back at once.
            Some(floor) if sends == 1 => floor.saturating_add(floor.mul_f64(0.1 * rng.unit())),
            Some(floor) => floor.max(drawn(sends.saturating_sub(2))),
            None => drawn(sends.saturating_sub(1)),
        }
    }

    /// Waits for the next send, if there is to be one; otherwise gives the error the caller gets.
    async fn wait(&self, cx: &CallCx, op: &OpSpec, error: Error, most: u32, journey: &mut Journey) -> Result<Error> {
        if journey.sends >= most {
            return Err(spent(error, journey.sends));
        }
        let delay = self.delay(&error, journey.sends);
        let left = self.left(cx);
        if let Some(floor) = error.retry_after()
            && (floor > self.layer.resilience.retry.inline_wait || floor >= left)
        {
            return Err(with_attempts(error, journey.sends));
        }
        if delay >= left {
            return Err(spent(error, journey.sends).with_context("stopped_by", "deadline"));
        }
        // A retry the vendor asked for is paid for by the wait; a second answer to a 401 happens once.
        let free = error.kind() == ErrorKind::AuthExpired || (error.kind() == ErrorKind::Throttled && error.retry_after().is_some());
        if !free && !self.take_retry(cx) {
            return Err(spent(error, journey.sends).with_context("stopped_by", "retry budget"));
        }
        let (adapter, class) = (self.spec.id.clone(), error.kind().as_str());
        metrics::counter!(RETRIES, "adapter" => adapter, "class" => class).increment(1);
        tracing::debug!(operation = &*op.name, class, sends = journey.sends, delay_ms = delay.as_millis(), "sending again");
        journey.authorised_again |= error.kind() == ErrorKind::AuthExpired;
        journey.waited += delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(error)
    }

    /// Waits and looks whether an ambiguous write happened. `Ok(None)`: it did not, and may be sent again.
    async fn look(&self, cx: &CallCx, op: &OpSpec, call: &OpCall, error: Error, most: u32, journey: &mut Journey) -> Result<Option<OpReply>> {
        let again = journey.sends < most;
        let delay = self.delay(&error, journey.sends);
        if delay >= self.left(cx) {
            return Err(ambiguous(error, journey.sends));
        }
        // The vendor may still be busy with it: look after the wait, not before.
        tokio::time::sleep(delay).await;
        journey.waited += delay;
        match reconcile::look(self, cx, op, call).await {
            Finding::Done(mut reply) => {
                reply.meta.attempts = journey.sends;
                reply.meta.waited += journey.waited;
                Ok(Some(reply))
            }
            Finding::NotDone if !again => Err(spent(error, journey.sends)),
            Finding::NotDone if !self.take_retry(cx) => Err(spent(error, journey.sends).with_context("stopped_by", "retry budget")),
            Finding::NotDone => {
                let (adapter, class) = (self.spec.id.clone(), error.kind().as_str());
                metrics::counter!(RETRIES, "adapter" => adapter, "class" => class).increment(1);
                Ok(None)
            }
            Finding::Unsure(why) => Err(ambiguous(error, journey.sends).with_context("lookup", why.kind().as_str()).with_source(why)),
        }
    }

    /// The context the attempts share: with a deadline, and for a keyed write with one key for all of them.
    fn context(&self, cx: &CallCx, op: &OpSpec) -> Option<CallCx> {
        let lacks_key = op.repeat == Repeat::ProviderKey && op.effect != Effect::Read && cx.idempotency_key.is_none();
        if cx.deadline.is_some() && !lacks_key {
            return None;
        }
        let mut own = cx.clone();
        own.deadline.get_or_insert_with(|| self.layer.clock.now() + self.layer.resilience.timeouts.whole(op.timeout_class));
        if lacks_key {
            own.idempotency_key = Some(random_key(&*self.layer.rng).into());
        }
        Some(own)
    }
}

#[async_trait]
impl Connector for Retrying {
    forward_to_inner!();

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let spec = &self.spec;
        let Some(op) = spec.operation(&call.operation) else { return self.inner.call(cx, call).await };
        let own = self.context(cx, op);
        let cx = own.as_ref().unwrap_or(cx);
        self.layer.budgets.first_send(cx.connection.scope(), &self.layer.resilience.budget);
        let mut journey = Journey { sends: 0, authorised_again: false, waited: Duration::ZERO };
        loop {
            let result = self.inner.call(cx, call.clone()).await;
            journey.sends += 1;
            let error = match result {
                Ok(mut reply) => {
                    // A connector may have sent more than once itself, after a 401.
                    reply.meta.attempts = reply.meta.attempts.max(1) + journey.sends - 1;
                    reply.meta.waited += journey.waited;
                    return Ok(reply);
                }
                Err(error) => error.at(&spec.id, &op.name),
            };
            match self.verdict(op, &error, &journey) {
                Verdict::Final => return Err(if journey.sends > 1 { with_attempts(error, journey.sends) } else { error }),
                Verdict::Ambiguous => return Err(ambiguous(error, journey.sends)),
                Verdict::UpTo(most) => {
                    // On the heap, so that calls that succeed at once do not carry the size of waiting.
                    Box::pin(self.wait(cx, op, error, most, &mut journey)).await?;
                }
                Verdict::LookThenUpTo(most) => {
                    if let Some(reply) = Box::pin(self.look(cx, op, &call, error, most, &mut journey)).await? {
                        return Ok(reply);
                    }
                }
            }
        }
    }
}

fn with_attempts(error: Error, sends: u32) -> Error {
    error.with_context("attempts", sends.to_string())
}

/// Worth retrying, but the retries are spent. A delay the vendor named stays readable.
fn spent(error: Error, sends: u32) -> Error {
    let error = match error.retry_after() {
        Some(floor) => error.with_context("retry_after_ms", floor.as_millis().to_string()),
        None => error,
    };
    with_attempts(error.with_retry(Retry::Exhausted), sends)
}

/// Nobody knows whether the write happened.
fn ambiguous(error: Error, sends: u32) -> Error {
    let was = error.kind().as_str();
    with_attempts(error.with_kind(ErrorKind::Unknown).with_context("was", was), sends)
}

/// A random key in the shape of a UUID, which every vendor that takes keys accepts.
fn random_key(rng: &dyn Rng) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number in 0..2^32 fits")]
    let draw = || (rng.unit() * 4_294_967_296.0) as u32;
    let (a, b, c, d) = (draw(), draw(), draw(), draw());
    let (version, variant) = (b & 0x0fff | 0x4000, (c >> 16) & 0x3fff | 0x8000);
    format!("{a:08x}-{:04x}-{version:04x}-{variant:04x}-{:04x}{d:08x}", b >> 16, c & 0xffff)
}
