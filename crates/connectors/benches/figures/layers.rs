//! What the layers cost where there is no network: the whole stack around a connector that does nothing, and an open breaker's no.

use std::{hint::black_box, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connection, Connector, Error, ErrorKind, OpCall, OpReply, Result,
    connector::Lifecycle,
    delta::DeltaSource,
    layer::{StackParts, stack},
    resilience::{Breaker, BreakerPolicy, Outcome},
    spec::ConnectorSpec,
    webhook::WebhookVerifier,
};
use connector_manifest::Engine;
use serde_json::{Map, json};

use crate::{
    clients,
    measure::{Cost, Figure, cost, in_turn, runtime},
    server::Server,
};

const CALLS: u64 = 50_000;
const ROUNDS: usize = 50;

/// Does nothing, or fails at once.
#[derive(Debug)]
struct Nothing {
    spec: Arc<ConnectorSpec>,
    fails: bool,
}

#[async_trait]
impl Connector for Nothing {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, _cx: &CallCx, call: OpCall) -> Result<OpReply> {
        black_box(call);
        if self.fails {
            Err(Error::new(ErrorKind::Transient, "it fails").with_retry(connector_core::Retry::Exhausted))
        } else {
            Ok(OpReply::default())
        }
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

fn nothing(fails: bool) -> Arc<dyn Connector> {
    let described = Engine::builder(clients::manifest()).build().unwrap();
    Arc::new(Nothing { spec: described.spec().clone(), fails })
}

fn cx() -> CallCx {
    CallCx::new(Arc::new(Connection::new("bench", "https://bench.example").unwrap()))
}

fn calls(connector: &Arc<dyn Connector>, cx: &CallCx, calls: u64) -> Cost {
    let operation: Arc<str> = "bench_post_message".into();
    let args = Map::from_iter([("channel".to_owned(), json!("C0123456789")), ("text".to_owned(), json!("Hello"))]);
    let work = async {
        for _ in 0..calls {
            black_box(connector.call(cx, OpCall::new(operation.clone(), args.clone())).await).ok();
        }
    };
    cost(calls, || runtime().block_on(work)).0
}

/// The whole stack around nothing, less nothing; first without a recorder for the metrics, then with the one the hub uses.
pub(crate) fn added(_: &Server) {
    let (bare, cx) = (nothing(false), cx());
    let layered = stack::inner(nothing(false), &StackParts::default());
    let (alone, whole) = in_turn(ROUNDS, || calls(&bare, &cx, CALLS), || calls(&layered, &cx, CALLS));
    Figure::new("layers added to a call, metrics nobody records", whole.cpu - alone.cpu, "µs").at_most(0.8).print();

    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap_or_else(|error| panic!("{error}"));
    let layered = stack::inner(nothing(false), &StackParts::default());
    let recorded = || {
        let cost = calls(&layered, &cx, CALLS);
        // What the hub does every few seconds; without it the exporter keeps every single measurement.
        handle.run_upkeep();
        cost
    };
    let (alone, whole) = in_turn(ROUNDS, || calls(&bare, &cx, CALLS), recorded);
    Figure::new("layers added to a call, metrics recorded", whole.cpu - alone.cpu, "µs").at_most(0.8).print();
}

/// A host that fails is not asked again, and saying so must cost next to nothing.
pub(crate) fn refusal(_: &Server) {
    let breaker = Breaker::new(BreakerPolicy::default());
    while let Ok(permit) = breaker.try_acquire(Duration::from_secs(1)) {
        permit.finish(Outcome::Failure);
    }
    let refuse = || cost(CALLS, || (0..CALLS).for_each(|_| assert!(black_box(breaker.try_acquire(Duration::from_secs(1))).is_err()))).0;
    let (_, refused) = in_turn(ROUNDS, refuse, refuse);
    Figure::new("open breaker refuses", refused.cpu * 1e3, "ns").at_most(1_000.0).print();

    let cx = cx();
    let layered = stack::inner(nothing(true), &StackParts::default());
    calls(&layered, &cx, 10);
    let (_, refused) = in_turn(ROUNDS, || calls(&layered, &cx, 1), || calls(&layered, &cx, CALLS));
    Figure::new("open breaker refuses a call through all layers", refused.cpu * 1e3, "ns").print();
}
