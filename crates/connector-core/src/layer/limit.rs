//! Keeps calls within the vendor's limits and learns from what the vendor says about them.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use metrics::Histogram;
use serde_json::{Map, Value};

use super::{Layer, forward_to_inner, metrics::LIMIT_WAIT};
use crate::{
    clock::Clock,
    connector::{Connector, OpCall, OpReply},
    context::CallCx,
    error::{ErrorKind, Result},
    hash::BuildFolded,
    resilience::{LimitPolicy, Limiter, Limits},
    spec::{ConnectorSpec, LimitKey, OpSpec},
};

/// Makes calls wait for their turn under the connector's limits.
#[derive(Debug, Clone)]
pub struct LimitLayer {
    policy: LimitPolicy,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
}

impl LimitLayer {
    /// Uses these limiters.
    pub fn new(policy: LimitPolicy, limits: Arc<Limits>, clock: Arc<dyn Clock>) -> Self {
        Self { policy, limits, clock }
    }
}

impl Layer for LimitLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        let spec = inner.spec();
        let limiter = self.limits.of(&spec.id, &spec.limits, &self.policy, &self.clock);
        let draw = |op: &Arc<OpSpec>| Draw { op: op.clone(), class: limiter.class_of(op), by_args: limiter.needs_args(op), filled: filled(spec, op) };
        // An operation made of others takes no turn of its own.
        let draws = spec.operations().iter().filter(|op| !op.is_composed()).map(|op| (op.name.clone(), draw(op))).collect();
        Arc::new(Limited { spec: spec.clone(), inner, limiter, draws, waits: Waits(OnceLock::new()) })
    }
}

#[derive(Debug)]
struct Limited {
    spec: Arc<ConnectorSpec>,
    inner: Arc<dyn Connector>,
    limiter: Arc<Limiter>,
    draws: HashMap<Arc<str>, Draw, BuildFolded>,
    waits: Waits,
}

/// What an operation draws from, found out once.
#[derive(Debug)]
struct Draw {
    op: Arc<OpSpec>,
    class: usize,
    by_args: bool,
    /// The parameter the quota is counted by, and the setting that stands in for it.
    filled: Option<(Arc<str>, Arc<str>)>,
}

/// The parameter an operation's quota is counted by, if a setting of the connection stands in where a caller does not give it.
fn filled(spec: &ConnectorSpec, op: &OpSpec) -> Option<(Arc<str>, Arc<str>)> {
    let LimitKey::Param(name) = &spec.limits.get(&op.limit_class)?.key else { return None };
    let setting = op.params.iter().find(|param| param.name == *name)?.setting.clone()?;
    Some((name.clone(), setting))
}

impl Draw {
    /// The arguments the quota is counted by.
    fn counted(&self, cx: &CallCx, args: &Map<String, Value>) -> Map<String, Value> {
        let mut counted = args.clone();
        if let Some((name, setting)) = &self.filled
            && counted.get(&**name).is_none_or(Value::is_null)
            && let Some(value) = cx.connection.setting(setting)
        {
            counted.insert(name.to_string(), value.into());
        }
        counted
    }
}

struct Waits(OnceLock<Histogram>);

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waits")
    }
}

#[async_trait]
impl Connector for Limited {
    forward_to_inner!();

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let Some(draw) = self.draws.get(&call.operation) else { return self.inner.call(cx, call).await };
        let op = &draw.op;
        // Only a quota per parameter needs the arguments again after the call took them.
        let kept = draw.by_args.then(|| draw.counted(cx, &call.args));
        let permit = self.limiter.acquire_in(draw.class, cx, kept.as_ref().unwrap_or(&call.args)).await?;
        let waited = permit.waited();
        if !waited.is_zero() {
            self.waits.0.get_or_init(|| metrics::histogram!(LIMIT_WAIT)).record(waited.as_secs_f64());
        }
        let mut result = self.inner.call(cx, call).await;
        drop(permit);
        match &mut result {
            Ok(reply) => {
                reply.meta.waited += waited;
                if let Some(remaining) = reply.meta.remaining {
                    self.limiter.observe(cx, op, &kept.unwrap_or_default(), remaining, None);
                }
            }
            Err(error) if error.kind() == ErrorKind::Throttled => {
                if let Some(delay) = error.retry_after() {
                    self.limiter.pause(cx, op, &kept.unwrap_or_default(), delay);
                }
            }
            Err(_) => {}
        }
        result
    }
}
