//! What the inner layers add to a call that does nothing: no network, no subscriber, metrics without a recorder.
//!
//! `cargo bench -p connector-core`. The difference of `whole_stack` and `bare` is what resilience and telemetry cost a call.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connection, Connector, OpCall, OpReply, Result,
    clock::{Instant, SystemClock, ThreadRng},
    connector::Lifecycle,
    delta::DeltaSource,
    layer::{self, Layer, StackParts, stack},
    resilience::{Breaker, BreakerPolicy, Outcome, Resilience},
    spec::{Approval, ConnectorSpec, Effect, Example, LimitSpec, OpSpec, Repeat, TimeoutClass},
    webhook::WebhookVerifier,
};
use divan::{Bencher, black_box};
use serde_json::{Map, Value, json};

fn main() {
    // Many calls per sample: one is too short for the timer.
    divan::Divan::from_args().sample_size(1_000).main();
}

#[derive(Debug)]
struct Nothing(Arc<ConnectorSpec>);

#[async_trait]
impl Connector for Nothing {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.0
    }

    async fn call(&self, _cx: &CallCx, call: OpCall) -> Result<OpReply> {
        black_box(call);
        Ok(OpReply::default())
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

fn nothing() -> Arc<dyn Connector> {
    let read = OpSpec {
        name: "bench_read".into(),
        summary: String::new(),
        effect: Effect::Read,
        approval: Approval::Policy,
        repeat: Repeat::Natural,
        repeat_ttl_seconds: None,
        absent_is_answer: false,
        lookup: None,
        scopes: Vec::new(),
        limit_class: "default".into(),
        timeout_class: TimeoutClass::Read,
        cache: None,
        batch: None,
        page: None,
        inverse: None,
        params: Vec::new(),
        input_schema: json!({}).into(),
        output_schema: json!({}).into(),
        endpoint: "native".into(),
        docs: None,
        example: Example::default().into(),
    };
    let others = (0..40).map(|n| OpSpec { name: format!("bench_other_{n}").into(), ..read.clone() });
    let mut spec = ConnectorSpec::new("bench", "Bench", "1.0.0", others.chain([read.clone()]).collect());
    // A limit that is never reached, but looked after.
    let window = "4000000000/1s".parse().unwrap_or_else(|error| panic!("a window: {error}"));
    spec.limits = [("default".into(), LimitSpec { windows: vec![window], ..LimitSpec::default() })].into();
    Arc::new(Nothing(Arc::new(spec)))
}

fn cx(deadline: bool) -> CallCx {
    let connection = Connection::new("bench", "https://bench.example").unwrap_or_else(|error| panic!("a connection: {error}"));
    let cx = CallCx::new(Arc::new(connection));
    if deadline { cx.with_deadline(Instant::now() + Duration::from_secs(3_600)) } else { cx }
}

fn args() -> Map<String, Value> {
    Map::from_iter([("id".to_owned(), json!("4711")), ("properties".to_owned(), json!("email"))])
}

fn run(bencher: Bencher<'_, '_>, connector: &Arc<dyn Connector>, cx: &CallCx) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap_or_else(|error| panic!("a runtime: {error}"));
    let _entered = runtime.enter();
    let operation: Arc<str> = "bench_read".into();
    let args = args();
    bencher.bench_local(|| {
        let call = OpCall::new(operation.clone(), args.clone());
        // The call never waits, so one poll is all it takes and no runtime is in the figure.
        futures_util::FutureExt::now_or_never(connector.call(cx, call)).map(|result| result.is_ok())
    });
}

#[divan::bench]
fn bare(bencher: Bencher<'_, '_>) {
    run(bencher, &nothing(), &cx(true));
}

#[divan::bench]
fn whole_stack(bencher: Bencher<'_, '_>) {
    run(bencher, &stack::inner(nothing(), &StackParts::default()), &cx(true));
}

#[divan::bench]
fn whole_stack_without_a_deadline(bencher: Bencher<'_, '_>) {
    run(bencher, &stack::inner(nothing(), &StackParts::default()), &cx(false));
}

#[divan::bench(args = ["trace", "metrics", "retry", "breaker", "limit", "timeout"])]
fn one_layer(bencher: Bencher<'_, '_>, name: &str) {
    let parts = StackParts::default();
    let (resilience, clock) = (Resilience::standard(), SystemClock::shared());
    let layer: Box<dyn Layer> = match name {
        "trace" => Box::new(layer::TraceLayer),
        "metrics" => Box::new(layer::MetricsLayer::new(clock)),
        "retry" => Box::new(layer::RetryLayer::new(resilience, parts.budgets().clone(), clock, Arc::new(ThreadRng))),
        "breaker" => Box::new(layer::BreakerLayer::new(resilience.breaker, resilience.timeouts, parts.breakers().clone())),
        "limit" => Box::new(layer::LimitLayer::new(resilience.limits, parts.limits().clone(), clock)),
        _ => Box::new(layer::TimeoutLayer::new(resilience.timeouts, clock)),
    };
    run(bencher, &layer.apply(nothing()), &cx(true));
}

/// An open breaker says no: the target is at most a microsecond.
#[divan::bench]
fn breaker_refuses(bencher: Bencher<'_, '_>) {
    let breaker = Breaker::new(BreakerPolicy::default());
    for _ in 0..5 {
        if let Ok(permit) = breaker.try_acquire(Duration::from_secs(1)) {
            permit.finish(Outcome::Failure);
        }
    }
    bencher.bench_local(|| breaker.try_acquire(Duration::from_secs(1)).is_err());
}
