//! What the tests share: a connector that follows a script, operations of every kind, and a clock a test moves.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connection, Connector, Error, ErrorKind, OpCall, OpReply, Result,
    clock::{Clock, Instant, Rng, SystemClock},
    connector::{Lifecycle, ReplyBody},
    delta::DeltaSource,
    layer::StackParts,
    resilience::Resilience,
    spec::{Approval, ConnectorSpec, Effect, Example, OpSpec, Repeat, TimeoutClass},
    webhook::WebhookVerifier,
};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

/// Always draws the same number.
#[derive(Debug)]
pub struct Fixed(pub f64);

impl Rng for Fixed {
    fn unit(&self) -> f64 {
        self.0
    }
}

/// A clock that only a test moves, without a runtime.
#[derive(Debug, Clone)]
pub struct HandClock {
    start: Instant,
    micros: Arc<AtomicU64>,
}

impl HandClock {
    pub fn new() -> Self {
        Self { start: Instant::now(), micros: Arc::default() }
    }

    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }
}

/// One send the script saw.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Instant,
    pub operation: String,
    pub args: Map<String, Value>,
    pub key: Option<String>,
    pub deadline: Option<Instant>,
}

type Answer = dyn Fn(usize, CallCx, OpCall) -> BoxFuture<'static, Result<OpReply>> + Send + Sync;

/// A connector that answers as its script says and remembers what it was sent.
pub struct Script {
    spec: Arc<ConnectorSpec>,
    sent: Mutex<Vec<Sent>>,
    answer: Box<Answer>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// Answers the n-th send (from 1) with `answer`.
    pub fn new<F>(spec: ConnectorSpec, answer: F) -> Arc<Self>
    where
        F: Fn(usize, CallCx, OpCall) -> BoxFuture<'static, Result<OpReply>> + Send + Sync + 'static,
    {
        Arc::new(Self { spec: Arc::new(spec), sent: Mutex::default(), answer: Box::new(answer) })
    }

    /// Answers at once.
    pub fn quick(spec: ConnectorSpec, answer: impl Fn(usize, &OpCall) -> Result<OpReply> + Send + Sync + 'static) -> Arc<Self> {
        Self::new(spec, move |n, _, call| Box::pin(std::future::ready(answer(n, &call))))
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    pub fn sends(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

#[async_trait]
impl Connector for Script {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let n = {
            let mut sent = self.sent.lock().unwrap();
            sent.push(Sent {
                at: Instant::now(),
                operation: call.operation.to_string(),
                args: call.args.clone().into(),
                key: cx.idempotency_key.as_deref().map(str::to_owned),
                deadline: cx.deadline,
            });
            sent.len()
        };
        (self.answer)(n, cx.clone(), call).await
    }

    async fn lifecycle(&self, _cx: &CallCx, _event: Lifecycle) -> Result<()> {
        Ok(())
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        None
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        None
    }

    fn rotator(&self) -> Option<&dyn connector_core::rotation::Rotator> {
        None
    }
}

pub fn op(name: &str, effect: Effect, repeat: Repeat) -> OpSpec {
    OpSpec {
        name: name.into(),
        summary: String::new(),
        effect,
        approval: Approval::Policy,
        repeat,
        repeat_ttl_seconds: None,
        absent_is_answer: false,
        lookup: None,
        scopes: Vec::new(),
        limit_class: "default".into(),
        timeout_class: if effect == Effect::Read { TimeoutClass::Read } else { TimeoutClass::Write },
        cache: None,
        batch: None,
        page: None,
        inverse: None,
        params: Vec::new(),
        input_schema: json!({}).into(),
        output_schema: json!({}).into(),
        endpoint: "POST /things".into(),
        docs: None,
        example: Example::default().into(),
    }
}

/// One operation of every kind the retry matrix tells apart.
pub fn every_kind() -> Vec<OpSpec> {
    vec![
        op("x_read", Effect::Read, Repeat::Natural),
        op("x_put", Effect::Write, Repeat::Natural),
        op("x_keyed", Effect::Write, Repeat::ProviderKey),
        op("x_marked", Effect::Write, Repeat::LookupFirst),
        op("x_post", Effect::Write, Repeat::Never),
    ]
}

pub fn spec(operations: Vec<OpSpec>) -> ConnectorSpec {
    ConnectorSpec::new("x", "X", "1.0.0", operations)
}

pub fn cx() -> CallCx {
    cx_of("acme", "https://x.example")
}

pub fn cx_of(tenant: &str, base_url: &str) -> CallCx {
    CallCx::new(Arc::new(Connection::named("c".into(), tenant.into(), "x", base_url).unwrap()))
}

/// Parts with tokio's clock and the middle of every jitter.
pub fn parts() -> StackParts {
    parts_of(Resilience::standard())
}

pub fn parts_of(resilience: Resilience) -> StackParts {
    StackParts::with_clock(resilience, SystemClock::shared(), Arc::new(Fixed(0.5)))
}

pub fn call(operation: &str) -> OpCall {
    OpCall::new(operation, Map::new())
}

pub fn call_with(operation: &str, args: Value) -> OpCall {
    let Value::Object(args) = args else { panic!("arguments are an object") };
    OpCall::new(operation, args)
}

pub fn ok() -> Result<OpReply> {
    Ok(OpReply::new(ReplyBody::Value(json!({"ok": true}))))
}

pub fn fail(kind: ErrorKind) -> Result<OpReply> {
    Err(Error::new(kind, "as the script says"))
}
