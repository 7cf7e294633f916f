//! What the tests of this crate share: a vendor in the same process that answers from a function and remembers what it was asked.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its own part, and a test may panic")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, Result,
    auth::NoAuth,
    clock::{ManualClock, SeededRng},
    layer::StackParts,
    resilience::Resilience,
    transport::{Body, Request, Response, Transport},
};
use connector_hubspot::HubSpot;
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
    Lost(ErrorKind),
}

type Handler = Box<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// A vendor made of a function.
pub(crate) struct Fake {
    handler: Handler,
    seen: Mutex<Vec<Seen>>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub(crate) fn new(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { handler: Box::new(handler), seen: Mutex::default() })
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
        match (self.handler)(&seen) {
            Answer::Json(status, body) => {
                let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
                Ok(http::Response::builder().status(status).header("content-type", "application/json").body(Body::from(bytes)).unwrap())
            }
            Answer::Lost(kind) => Err(Error::new(kind, "the test cut the connection")),
        }
    }
}

/// 2026-01-01T12:00:00Z.
pub(crate) const NOON: u64 = 1_767_268_800;

/// A client over the fake, with all inner layers, a clock that stands at noon and seeded chance.
pub(crate) fn client(fake: &Arc<Fake>) -> HubSpot {
    let parts = StackParts::with_clock(Resilience::standard(), Arc::new(ManualClock::at_unix(NOON)), Arc::new(SeededRng::new(7)));
    HubSpot::builder().transport(fake.clone()).auth(Arc::new(NoAuth)).timezone("Europe/Paris").resilience(parts).build().unwrap()
}

/// Calls a tool by name.
pub(crate) async fn call(hubspot: &HubSpot, tool: &str, args: Value) -> Result<connector_core::OpReply> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    hubspot.client().call_dynamic(tool, args).await
}

/// Calls a tool by name and gives its output.
pub(crate) async fn output(hubspot: &HubSpot, tool: &str, args: Value) -> Result<Value> {
    call(hubspot, tool, args).await?.body.to_value()
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
