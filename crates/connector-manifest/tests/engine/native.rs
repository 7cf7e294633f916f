//! Operations written in Rust: each of their requests goes through the layers on its own account, and their writes keep one key a step.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connector, Cursor, Error, ErrorKind, OpCall, OpReply, Result,
    clock::{SeededRng, SystemClock},
    delta::DeltaPage,
    layer::stack::StackParts,
    resilience::Resilience,
};
use connector_manifest::{Engine, Hooks, NativeDelta, NativeOperation, assemble};
use connector_testkit::transport::{Replay, Step};
use serde_json::json;

use crate::common::{builder, call, cx, refused};

const TOOLS: &str = "limits: { default: { windows: ['1/10s'] }, free: { windows: ['1000/1s'] } }
errors: { table: [] }
tools:
  - { name: shop_get, method: GET, path: '/orders/{id}' }
  - { name: shop_pay, method: POST, path: /pay, repeat: { key: { header: Idempotency-Key } }, limit_class: free }
  - { name: shop_twice, native: twice, effect: write, repeat: marker, limit_class: free, params: [{ name: id, type: string, required: true }] }
  - { name: shop_odd, native: odd, effect: read, params: [{ name: what, type: string }] }";

/// Reads an order, then pays it, then pays again.
#[derive(Debug)]
struct Twice;

#[async_trait]
impl NativeOperation for Twice {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let order = engine.call_value(cx, "shop_get", json!({ "id": call.args["id"] })).await?;
        let paid = engine.call_inner(cx, "shop_pay", json!({}), None).await?;
        OpReply::from_value(json!({ "order": order, "paid": paid.body.to_value()?, "attempts": paid.meta.attempts }), call.decode)
    }
}

/// Misuses the engine in the ways vendor code might.
#[derive(Debug)]
struct Odd;

#[async_trait]
impl NativeOperation for Odd {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let (tool, arguments, cursor) = match call.args["what"].as_str() {
            Some("unknown") => ("shop_gett", json!({}), None),
            Some("no object") => ("shop_get", json!([1]), None),
            Some("cursor") => ("shop_get", json!({ "id": "1" }), Some(Cursor::new("1~x"))),
            _ => return Err(Error::new(ErrorKind::Conflict, "two orders match")),
        };
        engine.call_inner(cx, tool, arguments, cursor).await
    }
}

fn hooks() -> Hooks {
    Hooks::new().native("twice", Twice).native("odd", Odd)
}

fn layered(replay: &Replay) -> Arc<dyn Connector> {
    let engine = builder(TOOLS).hooks(hooks()).transport(Arc::new(replay.clone())).build().unwrap();
    assemble(engine, &StackParts::with_clock(Resilience::standard(), SystemClock::shared(), Arc::new(SeededRng::new(1))))
}

#[tokio::test(start_paused = true)]
async fn each_inner_request_is_retried_on_its_own_account() {
    let replay = Replay::new([
        Step::json(503, json!({})),
        Step::Fail(ErrorKind::NotSent),
        Step::json(200, json!({ "id": "7" })),
        Step::json(500, json!({})),
        Step::json(429, json!({})).with_header("retry-after", "1"),
        Step::json(200, json!({ "ok": true })),
    ]);
    let connector = layered(&replay);
    let reply = connector.call(&cx().with_idempotency_key("k"), call("shop_twice", json!({ "id": "7" }))).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap(), json!({ "order": { "id": "7" }, "paid": { "ok": true }, "attempts": 3 }));
    assert_eq!(replay.left(), 0);
    // All sends of one step share its key, and it is not the key of the whole.
    let keys: Vec<Option<String>> = replay.seen().iter().map(|seen| seen.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys[..3], [None, None, None]);
    assert!(keys[3..].iter().all(|key| key.as_deref() == Some("k:shop_pay")), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn each_inner_request_waits_for_its_own_limit() {
    let steps = (0..4).map(|_| Step::json(200, json!({})));
    let replay = Replay::new(steps);
    let connector = layered(&replay);
    let start = tokio::time::Instant::now();
    for _ in 0..2 {
        connector.call(&cx(), call("shop_twice", json!({ "id": "7" }))).await.unwrap();
    }
    // `shop_get` may be called once in ten seconds; the two payments are free.
    assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(replay.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_step_is_reported_by_the_whole() {
    let replay =
        Replay::new([Step::json(200, json!({})), Step::Fail(ErrorKind::Timeout), Step::Fail(ErrorKind::Timeout), Step::Fail(ErrorKind::Timeout)]);
    let error = layered(&replay).call(&cx(), call("shop_twice", json!({ "id": "7" }))).await.unwrap_err();
    // The step that failed is named, not the whole; a keyed write may be sent twice after a timeout.
    assert_eq!((error.operation(), replay.lines().len()), (Some("shop_pay"), 3), "{error}");
}

#[tokio::test]
async fn without_layers_inner_calls_go_straight_through() {
    let replay = Replay::new([Step::json(200, json!({ "id": "7" })), Step::json(200, json!({}))]);
    let engine = builder(TOOLS).hooks(hooks()).transport(Arc::new(replay.clone())).build().unwrap();
    engine.call(&cx(), call("shop_twice", json!({ "id": "7" }))).await.unwrap();
    assert_eq!(replay.lines(), ["GET /v1/orders/7", "POST /v1/pay"]);
}

#[tokio::test]
async fn the_layered_connector_is_dropped_with_its_last_owner() {
    let replay = Replay::new([]);
    let connector = layered(&replay);
    let weak = Arc::downgrade(&connector);
    drop(connector);
    assert!(weak.upgrade().is_none(), "the engine keeps its own layers alive");
}

#[tokio::test]
async fn what_native_code_gets_wrong_is_told_apart() {
    let engine = builder(TOOLS).hooks(hooks()).transport(Arc::new(Replay::new([]))).build().unwrap();
    for (what, kind, operation) in [
        ("unknown", ErrorKind::Unsupported, "shop_gett"),
        ("no object", ErrorKind::Internal, "shop_odd"),
        ("cursor", ErrorKind::Invalid, "shop_get"),
        ("else", ErrorKind::Conflict, "shop_odd"),
    ] {
        let error = engine.call(&cx(), call("shop_odd", json!({ "what": what }))).await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (kind, Some(operation)), "{error}");
    }
    assert_eq!(engine.call(&cx(), call("shop_twice", json!({}))).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(refused(&engine, "shop_twice", json!({ "id": "7" })).kind(), ErrorKind::Unsupported);
}

#[test]
fn a_native_operation_nobody_wrote_is_a_configuration_error() {
    let error = builder(TOOLS).hooks(Hooks::new().native("twice", Twice)).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("tool `shop_odd` is native (`odd`)"), "{error}");
}

/// One page with the position after it.
#[derive(Debug)]
struct Changes;

#[async_trait]
impl NativeDelta for Changes {
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        engine.call_value(cx, "shop_get", json!({ "id": stream })).await?;
        match cursor {
            Some(cursor) if cursor.as_str() == "old" => Err(Error::new(ErrorKind::CursorExpired, "the position is too old")),
            _ => Ok(DeltaPage { changes: Vec::new(), next: Cursor::new("new"), more: false }),
        }
    }
}

#[tokio::test]
async fn streams_are_followed_by_their_hook_and_only_if_there_is_one() {
    assert!(builder(TOOLS).hooks(hooks()).build().unwrap().delta().is_none());
    let replay = Replay::new([Step::json(200, json!({})), Step::json(200, json!({}))]);
    let engine = builder(TOOLS).hooks(hooks().delta(Changes)).transport(Arc::new(replay)).build().unwrap();
    let delta = engine.delta().unwrap();
    delta.changes(&cx(), "orders", None).await.unwrap();
    assert_eq!(delta.changes(&cx(), "orders", Some(Cursor::new("old"))).await.unwrap_err().kind(), ErrorKind::CursorExpired);
}

#[tokio::test]
async fn a_check_makes_the_probes_call() {
    let yaml = format!("probe: {{ tool: shop_get, args: {{ id: me }} }}\n{TOOLS}");
    let replay = Replay::new([Step::json(200, json!({})), Step::json(401, json!({}))]);
    let engine = builder(&yaml).hooks(hooks()).transport(Arc::new(replay.clone())).build().unwrap();
    engine.lifecycle(&cx(), connector_core::connector::Lifecycle::Check).await.unwrap();
    assert_eq!(engine.lifecycle(&cx(), connector_core::connector::Lifecycle::Check).await.unwrap_err().kind(), ErrorKind::AuthExpired);
    engine.lifecycle(&cx(), connector_core::connector::Lifecycle::Connect).await.unwrap();
    assert_eq!(replay.lines(), ["GET /v1/orders/me", "GET /v1/orders/me"]);
}
