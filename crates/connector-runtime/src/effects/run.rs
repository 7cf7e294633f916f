//! One event, every fitting rule, every step: what is done already is skipped, what fails is tried again with its event.

use std::time::Duration;

use connector_core::{Actor, Error, ErrorKind, OpReply, ReplyBody, Result, Retry, TenantId, WorkspaceId, redact::printable, state::StoredEvent};
use connector_webhook::rules::{Effect, Facts, OnFailure, RuleSet, Run};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{EFFECT_TTL, Mark, Outcome};
use crate::{CallOutcome, CallRequest, Role, Runtime, alerts::Alert, config::AlertOn, events::HUB, push::NewPush, stats::one};

/// How long one call of a rule may take, with its retries: an event has less than a minute for all of them, and goes on where it stopped. A call
/// that ended with its process counts as under way for this long and a minute more, which should not outlast the second wait of the schedule.
const CALL_TIME: Duration = Duration::from_secs(20);
/// When to look again for a reply that is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// When to try again after a fault of our own, such as a full disk.
const AFTER_A_FAULT: Duration = Duration::from_secs(5);

/// A call that a rule makes, as it is made now and, if it waits for an approval, later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RuleCall {
    pub(crate) tenant: TenantId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) rule: String,
    pub(crate) tool: String,
    pub(crate) connection: Option<String>,
    pub(crate) params: Map<String, Value>,
    pub(crate) key: String,
    pub(crate) correlation_id: String,
    /// A later step may ask for its reply.
    pub(crate) is_named: bool,
}

impl RuleCall {
    /// The governed call: for the event's workspace, by the rule, once under the effect's key.
    pub(crate) fn request(&self) -> CallRequest {
        let mut request = CallRequest::new(self.tool.clone(), self.params.clone())
            .tenant(self.tenant.as_str())
            .workspace(self.workspace.as_str())
            .by(Actor::Rule(self.rule.as_str().into()), Role::Operator)
            .idempotency_key(self.key.clone());
        request.connection.clone_from(&self.connection);
        request.correlation_id = Some(self.correlation_id.clone());
        request.deadline = Some(CALL_TIME);
        request
    }
}

/// What a step came to.
enum Step {
    /// Done; this is to be remembered of it, if anything.
    Done(Option<Mark>),
    /// A person refused it, and the next steps cannot do without.
    Refused,
}

/// The failures of one event's rules. One that may pass outweighs those that do not: the event is tried again for it.
#[derive(Debug, Default)]
struct Failures {
    passing: Option<Error>,
    permanent: Option<Error>,
}

impl Failures {
    fn add(&mut self, error: Error) {
        let passes = error.kind().is_passing() || error.retry_after().is_some();
        let place = if passes { &mut self.passing } else { &mut self.permanent };
        place.get_or_insert(error);
    }

    fn result(self) -> Result<()> {
        self.passing.or(self.permanent).map_or(Ok(()), Err)
    }
}

/// Runs rules.
#[derive(Debug, Clone)]
pub(crate) struct Effects {
    pub(crate) runtime: Runtime,
}

impl Effects {
    /// Runs every rule that fits, whatever became of the ones before it.
    ///
    /// # Errors
    /// A passing failure if there was one, otherwise the first permanent one.
    pub(crate) async fn run(&self, event: &StoredEvent, facts: &Facts, set: &RuleSet) -> Result<()> {
        let mut failures = Failures::default();
        for mut run in set.fitting(facts) {
            if let Err(error) = self.rule(&mut run, event).await {
                failures.add(error);
            }
        }
        failures.result()
    }

    async fn rule(&self, run: &mut Run<'_>, event: &StoredEvent) -> Result<()> {
        let mut failures = Failures::default();
        for at in 0..run.len() {
            match self.known_or_now(run, at, event).await {
                Ok(Step::Done(mark)) => {
                    if let Some(reply) = mark.and_then(|mark| mark.reply) {
                        run.replied(at, reply);
                    }
                }
                Ok(Step::Refused) => break,
                Err(error) => {
                    let error = of_step(run.rule(), at, error);
                    tracing::warn!(event = event.seq, rule = run.rule(), step = at + 1, %error, "a step of a rule failed");
                    failures.add(error);
                    if run.on_failure() == OnFailure::Stop {
                        break;
                    }
                }
            }
        }
        failures.result()
    }

    /// The step, unless it is known to be done.
    async fn known_or_now(&self, run: &Run<'_>, at: usize, event: &StoredEvent) -> Result<Step> {
        let (marks, is_named) = (&self.runtime.0.marks, run.name(at).is_some());
        let key = run.key(at);
        if let Some(mark) = marks.get(&event.tenant, &key).await? {
            return match mark.outcome {
                Outcome::Waiting if is_named => Err(waits("an approval")),
                Outcome::Denied if is_named => Ok(Step::Refused),
                _ => Ok(Step::Done(Some(mark))),
            };
        }
        let effect = run.effect(at)?;
        let kind = kind(&effect);
        let done = self.bring_about(effect, is_named, run.rule(), event).await;
        let outcome = if done.is_ok() { "done" } else { "failed" };
        metrics::counter!("integration_rule_steps_total", "kind" => kind, "outcome" => outcome).increment(1);
        let mark = done?;
        one(&self.runtime.0.shared.counters.rule_steps);
        if let Some(mark) = &mark {
            marks.put(&event.tenant, &key, mark, Some(EFFECT_TTL)).await?;
            if mark.outcome == Outcome::Waiting && is_named {
                return Err(waits("an approval"));
            }
        }
        Ok(Step::Done(mark))
    }

    /// Brings an effect about. Gives what is to be remembered of it.
    async fn bring_about(&self, effect: Effect, is_named: bool, rule: &str, event: &StoredEvent) -> Result<Option<Mark>> {
        let inner = &self.runtime.0;
        match effect {
            Effect::Call { tool, connection, params, key } => {
                let params = self.fitted(&tool, params);
                let call = RuleCall {
                    tenant: event.tenant.clone(),
                    workspace: event.workspace.clone(),
                    rule: rule.to_owned(),
                    connection: connection.or_else(|| self.own_connection(&tool, event)),
                    tool: tool.to_string(),
                    params,
                    key,
                    correlation_id: format!("event-{}", event.seq),
                    is_named,
                };
                self.call(&call).await.map(Some)
            }
            Effect::Forward { endpoint, body, key } => {
                inner.forward.enqueue(event, &endpoint, &body, key).await?;
                Ok(Some(Mark::of(Outcome::Done)))
            }
            Effect::Push { topic, data, key } => {
                let event_type = format!("{}.{}", event.connector, event.event_type);
                let push = NewPush { id: key, topic, workspace: event.workspace.clone(), event_type, data };
                inner.push.append(&event.tenant, push).await?;
                Ok(Some(Mark::of(Outcome::Done)))
            }
            // Doing it twice does no harm.
            Effect::Invalidate { connector, tags } => {
                tags.iter().for_each(|tag| inner.shared.cache.invalidate(&event.tenant, &connector, tag));
                Ok(None)
            }
            Effect::Alert { level, text, key } => {
                let alert = Alert { tenant: event.tenant.clone(), workspace: event.workspace.clone(), kind: AlertOn::Rule, level, text, key };
                inner.alerts.tell(&alert).await?;
                Ok(Some(Mark::of(Outcome::Done)))
            }
        }
    }

    /// Makes the call of a step. What is queued is the outbox's to make, so it counts as done, unless a later step needs the reply: then the
    /// event comes again, and the same key gives the recorded reply. What needs an approval is parked.
    async fn call(&self, call: &RuleCall) -> Result<Mark> {
        match self.runtime.call(call.request()).await? {
            CallOutcome::Done(reply) => done(reply, call.is_named),
            CallOutcome::Queued { job_id, reason } => {
                tracing::info!(rule = call.rule, tool = call.tool, job = %job_id, reason, "the call of a rule is queued");
                if call.is_named { Err(waits("a queued call")) } else { Ok(Mark::of(Outcome::Queued)) }
            }
            CallOutcome::PendingApproval { approval_id, .. } => {
                tracing::info!(rule = call.rule, tool = call.tool, approval = approval_id, "the call of a rule waits for an approval");
                self.runtime.0.parked.park(call).await?;
                Ok(Mark { approval: Some(approval_id), ..Mark::of(Outcome::Waiting) })
            }
            CallOutcome::DryRun(_) => Err(Error::internal("a rule asked for no dry run")),
        }
    }

    /// Numbers and booleans as text where the tool takes text: vendors send ids as numbers and take them as text.
    fn fitted(&self, tool: &str, mut params: Map<String, Value>) -> Map<String, Value> {
        let catalogue = self.runtime.0.shared.catalogue.load();
        let Ok((_, op)) = catalogue.registry.tool(tool) else { return params };
        for (name, value) in params.iter_mut().filter(|(_, value)| value.is_number() || value.is_boolean()) {
            if op.params.iter().any(|param| *param.name == **name && &*param.type_name == "string") {
                *value = Value::String(value.to_string());
            }
        }
        params
    }

    /// A tool of the connector that told the event goes over the connection that proved it, unless the rule says otherwise.
    fn own_connection(&self, tool: &str, event: &StoredEvent) -> Option<String> {
        let catalogue = self.runtime.0.shared.catalogue.load();
        let (connector, _) = catalogue.registry.tool(tool).ok()?;
        let known = || catalogue.connections.of(&event.tenant, &event.connection).is_ok();
        (connector.spec().id == event.connector && &*event.connection != HUB && known()).then(|| event.connection.to_string())
    }
}

/// What is remembered of a call that was made.
pub(super) fn done(reply: OpReply, is_named: bool) -> Result<Mark> {
    if !is_named {
        return Ok(Mark::of(Outcome::Done));
    }
    Ok(Mark::replied(match &reply.body {
        // Bytes have no parts that a step could name.
        ReplyBody::Raw { .. } => Value::Null,
        other => other.to_value()?,
    }))
}

fn waits(what: &str) -> Error {
    let error = Error::new(ErrorKind::Overloaded, format!("the next steps need the reply, which waits for {what}"));
    error.with_retry(Retry::After(LOOK_AGAIN))
}

fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Call { .. } => "call",
        Effect::Forward { .. } => "forward",
        Effect::Push { .. } => "push",
        Effect::Invalidate { .. } => "invalidate",
        Effect::Alert { .. } => "alert",
    }
}

/// The failure of a step, with its place. A fault of our own is tried again: its key keeps it from being done twice.
fn of_step(rule: &str, at: usize, error: Error) -> Error {
    let placed = Error::new(error.kind(), format!("rule `{}`, step {}: {}", printable(rule, 60), at + 1, error.message()));
    let wait = error.retry_after().or((error.kind() == ErrorKind::Internal).then_some(AFTER_A_FAULT));
    wait.map_or(placed.clone(), |wait| placed.with_retry(Retry::After(wait))).with_source(error)
}
