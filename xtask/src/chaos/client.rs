//! Plain requests to servers on this machine, through the product's own transport.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use connector_core::{
    CallCx, Connection,
    transport::{Body, Request, Response, Transport},
};
use connector_http::{EgressPolicy, HttpTransport};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

/// The longest answer that is read.
const MAX_BODY: usize = 4 << 20;

/// Talks to servers on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    transport: Arc<HttpTransport>,
    cx: CallCx,
}

impl Client {
    /// A client with a pool of its own.
    pub(crate) fn new() -> Result<Self> {
        let connection = Connection::new("chaos", "http://127.0.0.1")?;
        Ok(Self { transport: loopback()?, cx: CallCx::new(Arc::new(connection)) })
    }

    /// Sends one request and gives what comes back, its body still to be read.
    pub(crate) async fn send(&self, method: Method, url: &str, headers: HeaderMap, body: Bytes) -> Result<Response> {
        let mut request = Request::new(method, url.parse().with_context(|| format!("`{url}` is not a URL"))?);
        request.head.headers = headers;
        request.body = Body::from(body);
        Ok(self.transport.send(&self.cx, request).await?)
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn fetch(&self, method: Method, url: &str, headers: HeaderMap, body: Bytes) -> Result<Answer> {
        let (parts, body) = self.send(method, url, headers, body).await?.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.collect(MAX_BODY).await? })
    }

    /// Posts JSON and reads JSON.
    pub(crate) async fn json(&self, method: Method, url: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let answer = self.fetch(method, url, headers, body.into()).await?;
        let value = serde_json::from_slice(&answer.body).with_context(|| format!("{url} answered {} without JSON", answer.status))?;
        Ok((answer.status, value))
    }
}

/// An answer that was read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The product's transport, allowed to talk to this machine.
pub(crate) fn loopback() -> Result<Arc<HttpTransport>> {
    Ok(Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build()?))
}
