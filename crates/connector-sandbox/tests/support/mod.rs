//! What every sandbox test shares: a running sandbox, a tiny JSON client, and a receiver for notifications. It knows no vendor rule.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its own part; an unwrap that fails is a failed test")]

use bytes::Bytes;
use connector_sandbox::{Sandbox, client, known};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A reply, read.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Got {
    /// The body as JSON; panics if it is none, which fails the test.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    /// Asserts the status and gives the body.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }
}

/// A caller with fixed headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) base: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Caller {
    pub(crate) fn new(base: impl Into<String>, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { base: base.into(), headers }
    }

    /// The same caller with one more header.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.retain(|(k, _)| k != name);
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    /// Sends bytes; `url` may be absolute.
    pub(crate) async fn raw(&self, method: &str, url: &str, body: impl Into<Bytes>) -> std::io::Result<Got> {
        let url = if url.starts_with("http") { url.to_owned() } else { format!("{}{url}", self.base) };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let reply = client::send(method.parse::<Method>().unwrap(), &url, headers, body).await?;
        let (head, bytes) = reply.into_parts();
        Ok(Got { status: head.status.as_u16(), headers: head.headers, bytes })
    }

    pub(crate) async fn get(&self, url: &str) -> Got {
        self.raw("GET", url, Bytes::new()).await.unwrap()
    }

    pub(crate) async fn delete(&self, url: &str) -> Got {
        self.raw("DELETE", url, Bytes::new()).await.unwrap()
    }

    pub(crate) async fn post(&self, url: &str, body: Value) -> Got {
        self.send("POST", url, body).await
    }

    pub(crate) async fn patch(&self, url: &str, body: Value) -> Got {
        self.send("PATCH", url, body).await
    }

    pub(crate) async fn put(&self, url: &str, body: Value) -> Got {
        self.send("PUT", url, body).await
    }

    async fn send(&self, method: &str, url: &str, body: Value) -> Got {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.with("content-type", "application/json").raw(method, url, body).await.unwrap()
    }
}

/// A fresh Graph access token.
pub(crate) async fn graph_token(sandbox: &Sandbox) -> Got {
    graph_token_with(sandbox, known::GRAPH_CLIENT_SECRET).await
}

pub(crate) async fn graph_token_with(sandbox: &Sandbox, secret: &str) -> Got {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", known::GRAPH_CLIENT_ID)
        .append_pair("client_secret", secret)
        .append_pair("grant_type", "client_credentials")
        .append_pair("scope", "https://graph.microsoft.com/.default")
        .finish();
    let caller = Caller::new("", &[("content-type", "application/x-www-form-urlencoded")]);
    caller.raw("POST", &sandbox.token_url("msgraph").unwrap(), form).await.unwrap()
}

/// A caller on the Graph root with a good token.
pub(crate) async fn graph(sandbox: &Sandbox) -> Caller {
    let token = graph_token(sandbox).await.expect(200)["access_token"].as_str().unwrap().to_owned();
    Caller::new(sandbox.base_url("msgraph"), &[("authorization", &format!("Bearer {token}"))])
}

/// A caller with a bearer token.
pub(crate) fn bearer(base: String, token: &str) -> Caller {
    Caller::new(base, &[("authorization", &format!("Bearer {token}"))])
}

pub(crate) fn hubspot(sandbox: &Sandbox) -> Caller {
    bearer(sandbox.base_url("hubspot"), known::HUBSPOT_TOKEN)
}

/// A plain message.
pub(crate) fn mail(id: &str, subject: &str, more: &str) -> Vec<u8> {
    format!(
        "From: Ada Abel <ada@acme.example>\r\nTo: support@contoso.example\r\nSubject: {subject}\r\nMessage-ID: <{id}>\r\nDate: Fri, 20 Nov 2026 09:00:00 +0000\r\n{more}\r\nHello, the shop is down.\r\n"
    )
    .into_bytes()
}

/// One POST a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A webhook receiver on loopback: echoes validation tokens, answers with the queued statuses, then 202.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    hits: Arc<Mutex<Vec<Hit>>>,
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Self { url, hits: Arc::default(), answers: Arc::default() };
        let state = receiver.clone();
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| state.clone().take(request));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        receiver
    }

    async fn take(self, request: axum::extract::Request) -> (axum::http::StatusCode, String) {
        let (head, body) = request.into_parts();
        let query: Vec<(String, String)> = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        if let Some((_, token)) = query.into_iter().find(|(k, _)| k == "validationToken") {
            return (axum::http::StatusCode::OK, token);
        }
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        self.hits.lock().unwrap().push(Hit { headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() });
        let status = self.answers.lock().unwrap().pop().unwrap_or(202);
        (axum::http::StatusCode::from_u16(status).unwrap(), String::new())
    }

    /// The next answers, last first.
    pub(crate) fn answer_with(&self, statuses: &[u16]) {
        *self.answers.lock().unwrap() = statuses.to_vec();
    }

    pub(crate) fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    /// Every notification item received so far.
    pub(crate) fn items(&self) -> Vec<Value> {
        let bodies = self.hits().into_iter().map(|h| serde_json::from_str::<Value>(&h.body).unwrap());
        bodies
            .flat_map(|b| match b {
                Value::Array(events) => events,
                other => other["value"].as_array().cloned().unwrap_or_else(|| vec![other]),
            })
            .collect()
    }
}

/// A subscription to the inbox with both URLs at the receiver.
pub(crate) fn subscription(receiver: &Receiver) -> Value {
    let until = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_hours(24)).unwrap();
    json!({"changeType": "created,updated,deleted", "notificationUrl": receiver.url, "lifecycleNotificationUrl": receiver.url,
        "resource": "/users/support@contoso.example/mailFolders('inbox')/messages", "expirationDateTime": until.to_string(), "clientState": "s3cret"})
}
