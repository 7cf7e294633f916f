//! A reverse proxy in front of a token endpoint that counts what really went over the wire. It forwards everything and changes nothing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::task::JoinHandle;

use super::client::Client;

/// The longest request body that is forwarded.
const MAX_BODY: usize = 1 << 20;

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<TokenCall>>>,
    server: JoinHandle<()>,
}

/// One request to the token endpoint. Holds no secret.
#[derive(Debug, Clone)]
pub(crate) struct TokenCall {
    /// The status the server answered with; `None`: it did not.
    pub(crate) status: Option<StatusCode>,
    /// The member `error` of a refusal.
    pub(crate) error: Option<String>,
    /// How long the server took.
    pub(crate) took: Duration,
}

#[derive(Clone)]
struct Shared {
    upstream: String,
    client: Client,
    seen: Arc<Mutex<Vec<TokenCall>>>,
}

impl Proxy {
    /// Starts to forward to `upstream` (`http://127.0.0.1:18081`, no slash at the end).
    pub(crate) async fn start(upstream: &str) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { upstream: upstream.to_owned(), client: Client::new()?, seen: seen.clone() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("binding the proxy")?;
        let addr = listener.local_addr()?;
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, Router::new().fallback(forward).with_state(shared)).await {
                eprintln!("the proxy ended: {error}");
            }
        });
        Ok(Self { addr, seen, server })
    }

    /// Where the token endpoint is, seen through the proxy.
    pub(crate) fn token_url(&self) -> String {
        format!("http://{}/token", self.addr)
    }

    /// How many token requests went through so far.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The token requests from number `first` on.
    pub(crate) fn since(&self, first: usize) -> Vec<TokenCall> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().skip(first).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(State(shared): State<Shared>, request: Request) -> Response {
    let is_token = request.method() == Method::POST && request.uri().path() == "/token";
    let began = Instant::now();
    // Counted when it arrives: a client that dies before the answer has sent it all the same.
    let index = is_token.then(|| {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(TokenCall { status: None, error: None, took: Duration::ZERO });
        seen.len() - 1
    });
    match answer(&shared, request).await {
        Ok((status, headers, body)) => {
            if let Some(call) = index.and_then(|index| {
                shared.seen.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index).map(|call| {
                    call.status = Some(status);
                    call.took = began.elapsed();
                    call.error = (!status.is_success()).then(|| refusal(&body)).flatten();
                    call.clone()
                })
            }) {
                tracing::debug!(status = ?call.status, error = ?call.error, "token request");
            }
            (status, headers, Body::from(body)).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn answer(shared: &Shared, request: Request) -> Result<(StatusCode, HeaderMap, bytes::Bytes)> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.context("reading the request")?;
    let mut headers = parts.headers;
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = shared.client.fetch(parts.method, &format!("{}{path}", shared.upstream), headers, body).await?;
    let mut headers = answer.headers;
    for name in [header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_ENCODING] {
        headers.remove(name);
    }
    Ok((answer.status, headers, answer.body))
}

/// The error code of a refusal; never the rest of the answer.
fn refusal(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    answer.get("error")?.as_str().map(str::to_owned)
}
