//! An engine from a few lines of YAML, and calls of it.

use std::sync::Arc;

use connector_core::{CallCx, Connection, Connector, Error, OpCall, OpReply, clock::ManualClock, transport::Transport};
use connector_manifest::{Engine, EngineBuilder, RenderedRequest, parse};
use serde_json::{Map, Value};

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: u64 = 1_767_225_600;

/// A manifest from its tools and whatever else it needs, as YAML.
pub(crate) fn builder(yaml: &str) -> EngineBuilder {
    let text = format!("connector: shop\nname: Shop\nbase_url: https://api.example/v1\n{yaml}");
    let parsed = parse("shop.yaml", &text).unwrap_or_else(|found| panic!("{found}\n{text}"));
    Engine::builder(parsed.manifest).clock(Arc::new(ManualClock::at_unix(NOW)))
}

/// An engine that can only render.
pub(crate) fn engine(yaml: &str) -> Engine {
    builder(yaml).build().unwrap()
}

/// An engine over a transport.
pub(crate) fn over(yaml: &str, transport: impl Transport) -> Engine {
    builder(yaml).transport(Arc::new(transport)).build().unwrap()
}

pub(crate) fn connection() -> Connection {
    Connection::new("shop", "https://api.example/v1").unwrap()
}

pub(crate) fn cx() -> CallCx {
    CallCx::new(Arc::new(connection()))
}

pub(crate) fn args(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(map) => map,
        other => panic!("arguments must be an object, not {other}"),
    }
}

pub(crate) fn call(tool: &str, json: Value) -> OpCall {
    OpCall::new(tool, args(json))
}

/// The request of a call.
pub(crate) fn rendered(engine: &Engine, tool: &str, json: Value) -> RenderedRequest {
    engine.render(&cx(), &call(tool, json)).unwrap()
}

/// The path and query of a call's request.
pub(crate) fn line(engine: &Engine, tool: &str, json: Value) -> String {
    let request = rendered(engine, tool, json);
    format!("{} {}", request.method, request.url.strip_prefix("https://api.example/v1").unwrap())
}

pub(crate) fn refused(engine: &Engine, tool: &str, json: Value) -> Error {
    engine.render(&cx(), &call(tool, json)).unwrap_err()
}

pub(crate) async fn run(engine: &dyn Connector, tool: &str, json: Value) -> connector_core::Result<OpReply> {
    engine.call(&cx(), call(tool, json)).await
}

/// The output of a call as a tree.
pub(crate) async fn output(engine: &dyn Connector, tool: &str, json: Value) -> Value {
    run(engine, tool, json).await.unwrap().body.to_value().unwrap()
}
