//! A vendor that is as careless with secrets as a vendor can be: its errors repeat whatever was sent, decoded where it can.
//!
//! What it does is the first part of the path: `/{mode}/{connection}/…`. It remembers what only it gets to see (PKCE verifiers).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{StatusCode, header};
use serde_json::{Value, json};
use url::form_urlencoded;

/// How requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As the operation's example says.
    Good,
    /// 400 that repeats everything.
    Invalid,
    /// 401 that repeats everything.
    Unauthorized,
    /// 500 that repeats everything.
    Broken,
    /// A web page with status 200 that repeats everything.
    Page,
    /// JSON with status 200 that ends in the middle of what it repeats.
    Truncated,
    /// A redirect to an address that repeats everything.
    Redirect,
    /// No answer.
    Silent,
    /// Like `Good`, but every token request is refused with everything repeated.
    TokenRefused,
    /// Like `Good`, but every token request is answered with something that is no token answer, with everything repeated.
    TokenGarbage,
}

impl Mode {
    pub(crate) const ALL: [Self; 10] = [
        Self::Good,
        Self::Invalid,
        Self::Unauthorized,
        Self::Broken,
        Self::Page,
        Self::Truncated,
        Self::Redirect,
        Self::Silent,
        Self::TokenRefused,
        Self::TokenGarbage,
    ];

    /// Its name in paths and connection ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Broken => "broken",
            Self::Page => "page",
            Self::Truncated => "truncated",
            Self::Redirect => "redirect",
            Self::Silent => "silent",
            Self::TokenRefused => "tokenrefused",
            Self::TokenGarbage => "tokengarbage",
        }
    }
}

/// What token requests are answered with.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    /// A token that occurs nowhere but in the vendor's own error texts.
    pub(crate) echoed: String,
}

/// A running hostile vendor; ended when dropped.
#[derive(Debug)]
pub(crate) struct Hostile {
    addr: SocketAddr,
    shared: Shared,
    stop: Arc<tokio::sync::Notify>,
}

#[derive(Debug, Clone)]
struct Shared {
    tokens: Tokens,
    replies: Arc<Mutex<HashMap<String, (u16, Value)>>>,
    verifiers: Arc<Mutex<Vec<String>>>,
    requests: Arc<Mutex<u64>>,
}

impl Hostile {
    /// Starts it on a thread of its own, where nothing is logged: what a vendor logs is not ours to check.
    pub(crate) fn start(tokens: Tokens) -> Result<Self> {
        let shared = Shared { tokens, replies: Arc::default(), verifiers: Arc::default(), requests: Arc::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("binding the vendor")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let stop = Arc::new(tokio::sync::Notify::new());
        let stopped = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("vendor".into()).spawn(move || {
            let _quiet = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    served = axum::serve(listener, router) => served,
                    () = stopped.notified() => Ok(()),
                }
            });
            if let Err(error) = served {
                eprintln!("the vendor ended: {error}");
            }
        })?;
        Ok(Self { addr, shared, stop })
    }

    /// The base URL of a connection in this mode.
    pub(crate) fn base(&self, mode: Mode, connection: &str) -> String {
        format!("http://{}/{}/{connection}", self.addr, mode.name())
    }

    /// What the next good answers to this connection are.
    pub(crate) fn reply(&self, connection: &str, status: u16, reply: Value) {
        self.shared.replies.lock().unwrap_or_else(PoisonError::into_inner).insert(connection.to_owned(), (status, reply));
    }

    /// PKCE verifiers it was sent so far.
    pub(crate) fn verifiers(&self) -> Vec<String> {
        self.shared.verifiers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests it got.
    pub(crate) fn requests(&self) -> u64 {
        *self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    *shared.requests.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 16 << 20).await else { return StatusCode::BAD_REQUEST.into_response() };
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = parts.uri.path().to_owned();
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let mode = segments.next().and_then(|name| Mode::ALL.into_iter().find(|mode| mode.name() == name)).unwrap_or(Mode::Good);
    let connection = segments.next().unwrap_or_default().to_owned();
    let is_token = body.contains("grant_type=") || body.contains("\"grant_type\"");
    if let Some((_, verifier)) = form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "code_verifier") {
        shared.verifiers.lock().unwrap_or_else(PoisonError::into_inner).push(verifier.into_owned());
    }
    let turn = *shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
    let single = single(&shared.tokens, &parts.headers, &body, usize::try_from(turn).unwrap_or(0));
    // A request id is shown so that a person can ask the vendor about it: what was sent must not stand there, the vendor's own marks may.
    let id = if single == shared.tokens.echoed { "c0ffee-1".to_owned() } else { single.clone() };
    // The one secret first: most people and programs show no more than the beginning.
    let said = format!("wrong credential '{single}'; {}", repeat(&shared.tokens, &parts.headers, &parts.uri.to_string(), &body));
    if is_token {
        return match mode {
            Mode::TokenRefused => fault(StatusCode::BAD_REQUEST, &said, &single, &id),
            Mode::TokenGarbage => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], format!("{{\"access\": \"{said}")).into_response(),
            Mode::Silent => silence().await,
            _ => axum::Json(json!({
                "access_token": shared.tokens.access, "refresh_token": shared.tokens.refresh, "token_type": "Bearer", "expires_in": 3600,
                "scope": "read write",
            }))
            .into_response(),
        };
    }
    match mode {
        Mode::Good | Mode::TokenRefused | Mode::TokenGarbage => {
            let reply = shared.replies.lock().unwrap_or_else(PoisonError::into_inner).get(&connection).cloned();
            let (status, reply) = reply.unwrap_or((200, json!({})));
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            if reply.is_null() { status.into_response() } else { (status, axum::Json(reply)).into_response() }
        }
        Mode::Invalid => fault(StatusCode::BAD_REQUEST, &said, &single, &id),
        Mode::Unauthorized => fault(StatusCode::UNAUTHORIZED, &said, &single, &id),
        Mode::Broken => fault(StatusCode::INTERNAL_SERVER_ERROR, &said, &single, &id),
        Mode::Page => {
            let page = format!("<html><head><title>{said}</title></head><body><pre>{said}</pre></body></html>");
            (StatusCode::OK, [(header::CONTENT_TYPE, "text/html")], page).into_response()
        }
        Mode::Truncated => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], format!("{{\"value\": [\"{said}")).into_response(),
        Mode::Redirect => {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("was", &said).finish();
            (StatusCode::FOUND, [(header::LOCATION, format!("https://login.example/?{query}"))], "moved").into_response()
        }
        Mode::Silent => silence().await,
    }
}

async fn silence() -> Response {
    tokio::time::sleep(Duration::from_secs(30)).await;
    Body::empty().into_response()
}

/// Everything that was sent, in the vendor's own words.
fn repeat(tokens: &Tokens, headers: &http::HeaderMap, uri: &str, body: &str) -> String {
    let mut said = format!("we did not like your request to {uri}; your session {} is over", tokens.echoed);
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        said.push_str(&format!("; you sent {name}: {value}"));
        // Some servers say which password was wrong.
        if let Some(decoded) = value.strip_prefix("Basic ").and_then(|basic| STANDARD.decode(basic).ok()) {
            said.push_str(&format!(", that is the password {}", String::from_utf8_lossy(&decoded).replacen(':', " of user ", 1)));
        }
    }
    said.push_str(&format!("; and the body {body}"));
    for (name, value) in form_urlencoded::parse(body.as_bytes()) {
        said.push_str(&format!("; field {name} was '{value}'"));
    }
    said
}

/// One of the secrets that were sent, alone, each in its turn.
fn single(tokens: &Tokens, headers: &http::HeaderMap, body: &str, turn: usize) -> String {
    let mut all = vec![tokens.echoed.clone()];
    for name in ["authorization", "x-api-key"] {
        let Some(value) = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()) else { continue };
        if let Some(decoded) = value.strip_prefix("Basic ").and_then(|basic| STANDARD.decode(basic).ok()) {
            let decoded = String::from_utf8_lossy(&decoded).into_owned();
            all.push(decoded.split_once(':').map_or(decoded.clone(), |(_, password)| password.to_owned()));
        }
        all.push(value.split_once(' ').map_or(value.clone(), |(_, token)| token.to_owned()));
    }
    let secret = |name: &str| matches!(name, "client_secret" | "refresh_token" | "code" | "code_verifier" | "assertion");
    all.extend(form_urlencoded::parse(body.as_bytes()).filter(|(name, _)| secret(name)).map(|(_, value)| value.into_owned()));
    all.swap_remove(turn % all.len())
}

/// An error in the shapes of all vendors at once: everything in its words, one secret where a code or an id belongs.
fn fault(status: StatusCode, said: &str, single: &str, id: &str) -> Response {
    let body = json!({
        "message": said, "detail": said, "title": said, "error_description": said, "category": "VALIDATION_ERROR", "correlationId": id, "code": single,
        "status": "error", "errors": [{ "message": said, "code": single, "detail": said, "context": { "was": [said] } }],
        "error": { "code": "BadRequest", "message": said, "detail": said, "innerError": { "code": single, "message": said, "request-id": id } },
        "non_field_errors": [said],
    });
    // An OAuth error is a text, a vendor's an object: which one is looked at depends on who looks.
    let body = if said.contains("grant_type") {
        let mut body = body;
        body["error"] = json!("invalid_grant_type_whatever");
        body["error_uri"] = json!(said);
        body
    } else {
        body
    };
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", said.replace('"', "'").replace(['\r', '\n'], " "));
    let challenge = http::HeaderValue::from_str(&challenge).unwrap_or(http::HeaderValue::from_static("Bearer"));
    (status, [(header::WWW_AUTHENTICATE, challenge)], axum::Json(body)).into_response()
}
