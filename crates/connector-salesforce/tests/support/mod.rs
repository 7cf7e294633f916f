//! What the tests of this crate share: a vendor in the same process that answers from a function and remembers what it was asked.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its own part, and a test may panic")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, OpCall, OpReply, Result,
    auth::NoAuth,
    clock::{ManualClock, SeededRng},
    layer::StackParts,
    resilience::Resilience,
    transport::{Body, Request, Response, Transport},
};
use connector_salesforce::Salesforce;
use serde_json::Value;

/// One request as the vendor saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) host: String,
    /// The path below the version.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn q(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// `GET /query`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The answer.
pub(crate) enum Answer {
    Json(u16, Value),
    Text(u16, &'static str, String, Vec<(&'static str, String)>),
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

    pub(crate) fn always(status: u16, body: Value) -> Arc<Self> {
        Self::new(move |_| Answer::Json(status, body.clone()))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let body = request.body.collect(usize::MAX).await?;
        let url = &request.head.url;
        let path = url.path();
        let seen = Seen {
            method: request.head.method.to_string(),
            host: url.host_str().unwrap_or_default().to_owned(),
            path: path.strip_prefix("/services/data/v66.0").unwrap_or(path).to_owned(),
            query: url.query_pairs().into_owned().collect(),
            headers: request.head.headers.clone(),
            body,
        };
        self.seen.lock().unwrap().push(seen.clone());
        let (status, kind, text, headers) = match (self.handler)(&seen) {
            Answer::Json(status, Value::Null) => (status, "application/json", String::new(), Vec::new()),
            Answer::Json(status, body) => (status, "application/json", body.to_string(), Vec::new()),
            Answer::Text(status, kind, text, headers) => (status, kind, text, headers),
            Answer::Lost(kind) => return Err(Error::new(kind, "the test cut the connection")),
        };
        let mut response = http::Response::builder().status(status).header("content-type", kind);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        Ok(response.body(Body::from(Bytes::from(text))).unwrap())
    }
}

/// 2026-01-01T12:00:00Z.
pub(crate) const NOON: u64 = 1_767_268_800;

/// A client over the fake, with all inner layers, a clock that stands at noon and seeded chance.
pub(crate) fn client(fake: &Arc<Fake>) -> Salesforce {
    client_at(fake, &Arc::new(ManualClock::at_unix(NOON)))
}

/// The same with this clock.
pub(crate) fn client_at(fake: &Arc<Fake>, clock: &Arc<ManualClock>) -> Salesforce {
    let parts = StackParts::with_clock(Resilience::standard(), clock.clone(), Arc::new(SeededRng::new(7)));
    Salesforce::builder().host("acme.my.salesforce.com").transport(fake.clone()).auth(Arc::new(NoAuth)).resilience(parts).build().unwrap()
}

/// Calls a tool by name.
pub(crate) async fn call(salesforce: &Salesforce, tool: &str, args: Value) -> Result<OpReply> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    let call = OpCall::new(tool, args);
    salesforce.client().connector().call(salesforce.client().cx(), call).await
}

/// Calls a tool by name and gives its output.
pub(crate) async fn output(salesforce: &Salesforce, tool: &str, args: Value) -> Result<Value> {
    call(salesforce, tool, args).await?.body.to_value()
}
