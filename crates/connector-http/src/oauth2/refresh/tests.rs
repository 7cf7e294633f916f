//! Renewal against a server that rotates refresh tokens and takes reuse for theft. Time is paused throughout; a "process" is a provider of
//! its own over the shared store.

mod failures;
mod races;
mod seeds;
mod times;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    auth::{AuthProvider, CredentialUse},
    clock::{Clock, Instant, SeededRng},
    context::{CallCx, Connection},
    credential::{Credential, CredentialQuery, CredentialStore as _, MemoryCredentials},
    error::{Error, ErrorKind, Result},
    spec::AuthSpec,
    state::Condition,
    token::{CredentialNotice, CredentialWatch, MemoryTokens, TokenFacts, TokenLease, TokenRecord, TokenRow, TokenState, TokenStore},
    transport::{Body, Head, Request, Response, Transport},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{Auth, AuthDeps};

/// What the server does with a request.
#[derive(Debug, Clone)]
enum Says {
    /// Renews, if the refresh token is the newest; otherwise ends the family.
    Renews,
    /// Renews, and the answer is lost on its way.
    RenewsUnheard(ErrorKind),
    /// Renews, and the answer is this.
    RenewsBut(&'static str),
    /// Does nothing and answers this.
    Answers(u16, &'static str),
    /// Never sees it.
    Unreached,
}

/// A server with one family of refresh tokens: `r1`, `r2`, …; the access tokens are `a2`, `a3`, …
#[derive(Debug)]
struct Server {
    script: Mutex<VecDeque<Says>>,
    state: Mutex<Family>,
    /// How long an answer takes.
    latency: Mutex<Duration>,
}

#[derive(Debug)]
struct Family {
    newest: u64,
    revoked: bool,
    expires_in: Option<u64>,
    posts: Vec<Vec<(String, String)>>,
    at: Vec<Instant>,
    /// The client secrets that are taken; empty: all.
    secrets: Vec<&'static str>,
}

impl Server {
    fn start() -> Arc<Self> {
        let family = Family { newest: 1, revoked: false, expires_in: Some(3600), posts: Vec::new(), at: Vec::new(), secrets: Vec::new() };
        Arc::new(Self { script: Mutex::default(), state: Mutex::new(family), latency: Mutex::new(Duration::from_millis(50)) })
    }

    /// What it does with the next requests; after them it renews.
    fn will(&self, says: &[Says]) {
        self.script.lock().unwrap().extend(says.iter().cloned());
    }

    fn takes(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    fn issues(&self, expires_in: Option<u64>) {
        self.state.lock().unwrap().expires_in = expires_in;
    }

    fn accepts(&self, secrets: &[&'static str]) {
        self.state.lock().unwrap().secrets = secrets.to_vec();
    }

    fn posts(&self) -> usize {
        self.state.lock().unwrap().posts.len()
    }

    fn last(&self, name: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        state.posts.last()?.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    fn revoked(&self) -> bool {
        self.state.lock().unwrap().revoked
    }

    fn answer(&self, says: &Says, form: &[(String, String)]) -> (u16, String) {
        let text = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        if let Says::Answers(status, body) = says {
            return (*status, (*body).to_owned());
        }
        if !state.secrets.is_empty() && !state.secrets.contains(&text("client_secret")) {
            return (401, r#"{"error":"invalid_client"}"#.to_owned());
        }
        assert_eq!(text("grant_type"), "refresh_token");
        if state.revoked || text("refresh_token") != format!("r{}", state.newest) {
            state.revoked = true;
            return (400, r#"{"error":"invalid_grant","error_description":"canary"}"#.to_owned());
        }
        state.newest += 1;
        let number = state.newest;
        if let Says::RenewsBut(body) = says {
            return (200, (*body).to_owned());
        }
        let mut answer = json!({ "access_token": format!("a{number}"), "token_type": "bearer", "refresh_token": format!("r{number}"), "hub_id": 7 });
        if let Some(expires_in) = state.expires_in {
            answer["expires_in"] = expires_in.into();
        }
        (200, answer.to_string())
    }
}

#[async_trait]
impl Transport for Server {
    async fn send(&self, _cx: &CallCx, request: Request) -> Result<Response> {
        let says = self.script.lock().unwrap().pop_front().unwrap_or(Says::Renews);
        let body = request.body.collect(1 << 16).await?;
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
        {
            let mut state = self.state.lock().unwrap();
            state.posts.push(form.clone());
            state.at.push(Instant::now());
        }
        let latency = *self.latency.lock().unwrap();
        if matches!(says, Says::Unreached) {
            return Err(Error::new(ErrorKind::NotSent, "connection refused"));
        }
        let (status, body) = self.answer(&says, &form);
        sleep(latency).await;
        if let Says::RenewsUnheard(kind) = says {
            return Err(Error::new(kind, "the connection was lost"));
        }
        let mut response = http::Response::new(Body::Bytes(body.into()));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        if status == 429 {
            response.headers_mut().insert("retry-after", http::HeaderValue::from_static("7"));
        }
        Ok(response)
    }
}

/// Paused time whose wall clock is wrong by some seconds.
#[derive(Debug)]
struct SkewedClock {
    start: Instant,
    skew: AtomicI64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        let seconds = 1_800_000_000 + self.skew.load(Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()) + self.start.elapsed()
    }
}

/// Hears notices.
#[derive(Debug, Default)]
struct Ear(Mutex<Vec<CredentialNotice>>);

#[async_trait]
impl CredentialWatch for Ear {
    async fn notice(&self, _query: &CredentialQuery<'_>, notice: CredentialNotice) {
        self.0.lock().unwrap().push(notice);
    }
}

impl Ear {
    /// The distinct notices, as a watcher that tells each trouble once would pass them on.
    fn told(&self) -> Vec<CredentialNotice> {
        let mut told: Vec<CredentialNotice> = Vec::new();
        for notice in self.0.lock().unwrap().iter() {
            if !told.contains(notice) {
                told.push(notice.clone());
            }
        }
        told
    }
}

/// The world of a test: server, store, credentials; processes are made of it.
struct World {
    server: Arc<Server>,
    tokens: Arc<dyn TokenStore>,
    credentials: Arc<MemoryCredentials>,
    ear: Arc<Ear>,
    spec: Value,
    start: Instant,
}

impl World {
    /// Somebody has connected: the row holds `a1`, which lives an hour, and `r1`; the vendor's refresh tokens rotate.
    async fn connected() -> Self {
        Self::with(json!({ "rotates": true })).await
    }

    async fn with(more: Value) -> Self {
        let world = Self::unconnected(more, Credential::new([("client_id", "app"), ("client_secret", "s1")]));
        let record = TokenRecord {
            tokens: connector_core::token::TokenSet { access: "a1".into(), refresh: Some("r1".into()) },
            facts: TokenFacts {
                serial: 1,
                obtained_at: 1_800_000_000_000,
                expires_at: Some(1_800_003_600_000),
                seeded_from: 1,
                ..TokenFacts::default()
            },
        };
        world.save(&record).await;
        world
    }

    fn unconnected(more: Value, credential: Credential) -> Self {
        let mut spec = json!({ "type": "oauth2", "flow": "authorization_code", "token_url": "https://id.example/token", "keep": ["hub_id"] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Self {
            server: Server::start(),
            tokens: Arc::new(MemoryTokens::default()),
            credentials: Arc::new(MemoryCredentials::with("crm", credential)),
            ear: Arc::default(),
            spec,
            start: Instant::now(),
        }
    }

    fn process(&self) -> Process {
        self.process_at(0)
    }

    /// A process whose wall clock is wrong by this many seconds.
    fn process_at(&self, skew: i64) -> Process {
        self.process_over(skew, self.tokens.clone())
    }

    fn process_over(&self, skew: i64, tokens: Arc<dyn TokenStore>) -> Process {
        let specs: Vec<AuthSpec> = serde_json::from_value(json!([self.spec])).unwrap();
        let clock = Arc::new(SkewedClock { start: self.start, skew: AtomicI64::new(skew) });
        let deps = AuthDeps {
            clock: clock.clone(),
            rng: Arc::new(SeededRng::new(7)),
            tokens,
            watch: Some(self.ear.clone()),
            ..AuthDeps::new(self.server.clone())
        };
        Process { auth: Auth::for_spec(&specs, self.credentials.clone(), deps), clock }
    }

    async fn row(&self) -> TokenRow {
        self.tokens.load(&CredentialQuery::of(&cx(), "crm")).await.unwrap().expect("a row")
    }

    async fn facts(&self) -> TokenFacts {
        self.row().await.record.facts
    }

    async fn save(&self, record: &TokenRecord) {
        self.tokens.save(&CredentialQuery::of(&cx(), "crm"), record, Condition::Any).await.unwrap().expect("saved");
    }

    /// Changes the row as another process would.
    async fn change(&self, change: impl FnOnce(&mut TokenRecord)) {
        let mut record = self.row().await.record;
        change(&mut record);
        self.save(&record).await;
    }
}

#[derive(Clone)]
struct Process {
    auth: Arc<dyn AuthProvider>,
    clock: Arc<SkewedClock>,
}

impl Process {
    async fn ask(&self) -> Result<(String, CredentialUse)> {
        let mut head = Head { method: http::Method::GET, url: "https://api.example/x".parse().unwrap(), headers: http::HeaderMap::new() };
        let used = self.auth.authorize(&cx(), &mut head, &Bytes::new()).await?;
        assert!(head.headers["authorization"].is_sensitive());
        Ok((head.headers["authorization"].to_str().unwrap().to_owned(), used))
    }

    async fn token(&self) -> String {
        self.ask().await.unwrap().0
    }

    async fn error(&self) -> Error {
        let error = self.ask().await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        error
    }
}

fn cx() -> CallCx {
    CallCx::new(Arc::new(Connection::new("hubspot", "https://api.example").unwrap().with_credential("crm")))
}

/// Lets an hour's token end.
async fn an_hour() {
    sleep(Duration::from_secs(3600)).await;
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
