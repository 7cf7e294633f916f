//! What the tests of this crate share: a vendor in the same process that answers from a function and remembers what it was asked.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its own part, and a test may panic")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use connector_cmdb::Cmdb;
use connector_core::{
    CallCx, Error, ErrorKind, Result,
    auth::NoAuth,
    clock::{ManualClock, SeededRng},
    layer::StackParts,
    resilience::Resilience,
    transport::{Body, Request, Response, Transport},
};
use serde_json::{Map, Value};

/// One request as the vendor saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, as sent.
    pub(crate) target: String,
    pub(crate) body: Value,
}

/// The answer: a status and a body, or a failure of the network.
pub(crate) enum Answer {
    Json(u16, Value),
    Headers(u16, Value, Vec<(&'static str, &'static str)>),
    Lost(ErrorKind),
}

type Handler = Box<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// A vendor made of a function.
pub(crate) struct Fake {
    handler: Handler,
    seen: Mutex<Vec<Seen>>,
    headers: Mutex<Vec<http::HeaderMap>>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub(crate) fn new(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { handler: Box::new(handler), seen: Mutex::default(), headers: Mutex::default() })
    }

    /// What the vendor answers, for a vendor put around this one.
    pub(crate) fn answer(&self, seen: &Seen) -> Answer {
        (self.handler)(seen)
    }

    /// A header of one request.
    pub(crate) fn headers(&self, number: usize, name: &str) -> Option<String> {
        self.headers.lock().unwrap()[number].get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    /// Everything that was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// `GET /path` of everything that was asked so far, without queries.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target.split('?').next().unwrap())).collect()
    }
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let body = request.body.collect(usize::MAX).await?;
        let query = request.head.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let seen = Seen {
            method: request.head.method.to_string(),
            target: format!("{}{query}", request.head.url.path()),
            body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() },
        };
        self.seen.lock().unwrap().push(seen.clone());
        self.headers.lock().unwrap().push(request.head.headers.clone());
        match (self.handler)(&seen) {
            Answer::Json(status, body) => Ok(response(status, &body, &[])),
            Answer::Headers(status, body, headers) => Ok(response(status, &body, &headers)),
            Answer::Lost(kind) => Err(Error::new(kind, "the test cut the connection")),
        }
    }
}

fn response(status: u16, body: &Value, headers: &[(&str, &str)]) -> Response {
    let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let mut builder = http::Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(bytes)).unwrap()
}

/// 2026-01-01T12:00:00Z.
pub(crate) const NOON: u64 = 1_767_268_800;

/// A client over the fake, with all inner layers, a clock that stands at noon and seeded chance.
pub(crate) fn client(fake: &Arc<Fake>, profile: &str) -> Cmdb {
    let parts = StackParts::with_clock(Resilience::standard(), Arc::new(ManualClock::at_unix(NOON)), Arc::new(SeededRng::new(7)));
    Cmdb::builder()
        .profile(profile)
        .base_url("https://cmdb.example/base")
        .transport(fake.clone())
        .auth(Arc::new(NoAuth))
        .resilience(parts)
        .build()
        .unwrap()
}

/// Calls a tool by name.
pub(crate) async fn call(cmdb: &Cmdb, tool: &str, args: Value) -> Result<connector_core::OpReply> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    cmdb.client().call_dynamic(tool, args).await
}

/// Calls a tool by name and gives its output.
pub(crate) async fn output(cmdb: &Cmdb, tool: &str, args: Value) -> Result<Value> {
    call(cmdb, tool, args).await?.body.to_value()
}

/// Whether `whole` has everything `part` has.
pub(crate) fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part))),
        (Value::Array(whole), Value::Array(part)) => whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part)),
        (whole, part) => whole == part,
    }
}

/// The query of a target as pairs.
pub(crate) fn query(target: &str) -> Map<String, Value> {
    let url = url::Url::parse(&format!("http://x{target}")).unwrap();
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect()
}
