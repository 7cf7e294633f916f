//! OAuth against a certified authorization server that somebody else wrote (the npm package `oidc-provider`): strict about clients and PKCE,
//! and the reuse of a refresh token ends the whole family.
//!
//! Runs where a server answers at `http://127.0.0.1:18081` (or where `CONNECTORS_OIDC_PROVIDER` says) and `shared/counterparts` lies beside the
//! workspace (or where `CONNECTORS_SHARED` says): its `oidc_robot.py` plays the person at the browser. The clients are `app`, `m2m` and
//! `m2m_basic`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests too")]

use std::{net::TcpStream, path::PathBuf, process::Command, sync::Arc};

use bytes::Bytes;
use connector_core::{
    CallCx, Connection, ErrorKind, Result,
    auth::{AuthProvider, CredentialUse},
    clock::SystemClock,
    credential::{Credential, CredentialQuery, CredentialStore as _, MemoryCredentials},
    spec::{AuthSpec, OAuth2Spec},
    state::Condition,
    token::{MemoryTokens, TokenRecord, TokenSet, TokenState, TokenStore as _},
    transport::{Body, Head, Request, Transport},
};
use connector_http::{
    Auth, AuthDeps, EgressPolicy, HttpTransport,
    oauth2::{AuthorizeAsk, CodeExchange, Discovery, OAuth2Client, RedirectAnswer, authorize_request, new_state, read_redirect},
};
use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

/// Where the person comes back to; registered for the client `app`. Nothing listens there: the robot stops before.
const REDIRECT: &str = "http://127.0.0.1:18999/cb";

/// The server's base URL, if it answers.
fn provider() -> Option<String> {
    let url = std::env::var("CONNECTORS_OIDC_PROVIDER").unwrap_or_else(|_| "http://127.0.0.1:18081".into());
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    if TcpStream::connect(&address).is_ok() {
        return Some(url);
    }
    skip(&format!("no oidc-provider answers at {url}"))
}

/// The robot that plays the person.
fn robot() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("CONNECTORS_SHARED").map_or(beside, PathBuf::from).join("counterparts/oidc_robot.py");
    if path.exists() { Some(path) } else { skip("the shared folder with counterparts/oidc_robot.py is not here; CONNECTORS_SHARED may say where") }
}

fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    None
}

fn transport() -> Arc<HttpTransport> {
    Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap())
}

async fn header_of(auth: &dyn AuthProvider, cx: &CallCx) -> Result<(String, CredentialUse)> {
    let mut head = Head { method: Method::GET, url: "https://api.example/".parse().unwrap(), headers: HeaderMap::new() };
    let used = auth.authorize(cx, &mut head, &Bytes::new()).await?;
    let header = head.headers[header::AUTHORIZATION].to_str().unwrap();
    Ok((header.strip_prefix("Bearer ").unwrap().to_owned(), used))
}

/// A program of its own: the grant that needs nobody.
struct Machine {
    transport: Arc<HttpTransport>,
    auth: Arc<dyn AuthProvider>,
    cx: CallCx,
}

impl Machine {
    fn new(base: &str, method: &str, id: &str, secret: &str) -> Self {
        let transport = transport();
        let spec = json!([{ "type": "oauth2", "flow": "client_credentials", "token_url": "/token", "client_auth": method, "scopes": ["api.read"] }]);
        let specs: Vec<AuthSpec> = serde_json::from_value(spec).unwrap();
        let store = Arc::new(MemoryCredentials::with("app", Credential::new([("client_id", id), ("client_secret", secret)])));
        let auth = Auth::for_spec(&specs, store, AuthDeps::new(transport.clone()));
        let cx = CallCx::new(Arc::new(Connection::new("oidc", base).unwrap().with_credential("app")));
        Self { transport, auth, cx }
    }

    async fn token(&self) -> Result<(String, CredentialUse)> {
        header_of(&*self.auth, &self.cx).await
    }

    /// What the server itself says about a token (RFC 7662), asked as the client `m2m`.
    async fn introspect(&self, token: &str) -> Value {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("token", token), ("client_id", "m2m"), ("client_secret", "m2m-secret")])
            .finish();
        let mut request = Request::new(Method::POST, format!("{}/token/introspection", self.cx.connection.base()).parse().unwrap());
        request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.body = Body::Bytes(form.into());
        let body = self.transport.send(&self.cx, request).await.unwrap().into_body().collect(1 << 16).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

#[tokio::test]
async fn tokens_are_issued_for_both_ways_of_client_authentication() {
    let Some(base) = provider() else { return };
    for (method, id, secret) in [("post", "m2m", "m2m-secret"), ("basic", "m2m_basic", "m2m:se/cret%")] {
        let machine = Machine::new(&base, method, id, secret);
        let (first, second) = tokio::join!(machine.token(), machine.token());
        let (token, used) = first.unwrap();
        assert_eq!(token, second.unwrap().0, "both callers share one token");
        let facts = machine.introspect(&token).await;
        assert_eq!((&facts["active"], &facts["client_id"]), (&json!(true), &json!(id)), "{method}");
        assert!(machine.auth.rejected(&machine.cx, &used).await.unwrap());
        assert_ne!(machine.token().await.unwrap().0, token, "a rejected token is replaced");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_named_as_such() {
    let Some(base) = provider() else { return };
    for (method, id) in [("post", "m2m"), ("basic", "m2m_basic")] {
        let error = Machine::new(&base, method, id, "wrong-canary").token().await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_client")));
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn the_secret_from_before_a_rotation_is_tried_where_the_new_one_is_refused() {
    let Some(base) = provider() else { return };
    let machine = Machine::new(&base, "post", "m2m", "unused");
    let old = Arc::new(Credential::new([("client_id", "m2m"), ("client_secret", "m2m-secret")]));
    let mut new = Credential::new([("client_id", "m2m"), ("client_secret", "not-there-yet")]).with_previous(Some(old));
    new.version = 2;
    let spec = json!([{ "type": "oauth2", "flow": "client_credentials", "token_url": "/token", "scopes": ["api.read"] }]);
    let specs: Vec<AuthSpec> = serde_json::from_value(spec).unwrap();
    let auth = Auth::for_spec(&specs, Arc::new(MemoryCredentials::with("app", new)), AuthDeps::new(machine.transport.clone()));
    let (token, _) = header_of(&*auth, &machine.cx).await.unwrap();
    assert_eq!(machine.introspect(&token).await["active"], json!(true));
}

/// Somebody's consent, and what is made of it.
struct Person {
    transport: Arc<HttpTransport>,
    tokens: Arc<MemoryTokens>,
    credentials: Arc<MemoryCredentials>,
    spec: OAuth2Spec,
    client: OAuth2Client,
    cx: CallCx,
}

/// What came back with the person.
struct Consent {
    code: SecretString,
    verifier: SecretString,
}

impl Person {
    fn new(base: &str) -> Self {
        let spec = json!({ "flow": "authorization_code", "issuer": base, "client_auth": "basic", "rotates": true,
            "scopes": ["openid", "api.read"], "base_scopes": ["offline_access"], "authorize_params": { "prompt": "consent" } });
        let spec: OAuth2Spec = serde_json::from_value(spec).unwrap();
        let transport = transport();
        let tokens = Arc::new(MemoryTokens::default());
        let credential = Credential::new([("client_id", "app"), ("client_secret", "app-secret")]);
        let client = OAuth2Client::new(spec.clone(), AuthDeps { tokens: tokens.clone(), ..AuthDeps::new(transport.clone()) }).unwrap();
        let cx = CallCx::new(Arc::new(Connection::new("oidc", base).unwrap().with_credential("app")));
        Self { transport, tokens, credentials: Arc::new(MemoryCredentials::with("app", credential)), spec, client, cx }
    }

    /// A process that uses the consent.
    fn process(&self) -> Arc<dyn AuthProvider> {
        let deps = AuthDeps { tokens: self.tokens.clone(), ..AuthDeps::new(self.transport.clone()) };
        Auth::for_spec(&[AuthSpec::OAuth2(Box::new(self.spec.clone()))], self.credentials.clone(), deps)
    }

    /// Sends the person to the server and checks what comes back.
    async fn consent(&self, robot: PathBuf) -> Consent {
        let discovery = Discovery::new(self.transport.clone(), SystemClock::shared());
        let metadata = discovery.for_spec(&self.cx, &self.spec).await.unwrap().unwrap();
        let state = new_state().unwrap();
        let ask = AuthorizeAsk { redirect_uri: REDIRECT, state: &state, scopes: &[], resource: None };
        let request = authorize_request(&self.spec, &self.cx.connection, "app", Some(&metadata), &ask).unwrap();
        let (url, issuer) = (request.url.to_string(), request.issuer.clone());
        let output = tokio::task::spawn_blocking(move || Command::new("python3").arg(robot).arg(url).output().unwrap()).await.unwrap();
        let redirect = String::from_utf8(output.stdout).unwrap();
        let redirect = url::Url::parse(redirect.trim()).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let pairs: Vec<(String, String)> = redirect.query_pairs().into_owned().collect();
        assert!(pairs.contains(&("state".into(), state)));
        match read_redirect(&pairs, issuer.as_deref(), metadata.authorization_response_iss_parameter_supported).unwrap() {
            RedirectAnswer::Code(code) => Consent { code, verifier: request.verifier },
            RedirectAnswer::Refused { error, .. } => panic!("{error}"),
        }
    }

    async fn exchange(&self, consent: &Consent, verifier: &SecretString) -> Result<TokenRecord> {
        let credential = self.credentials.get(&CredentialQuery::of(&self.cx, "app")).await.unwrap();
        self.client.exchange(&self.cx, &credential, CodeExchange { code: &consent.code, redirect_uri: REDIRECT, verifier }).await
    }

    /// Connects, the whole way.
    async fn connect(base: &str, robot: PathBuf) -> Self {
        let person = Self::new(base);
        let consent = person.consent(robot).await;
        let record = person.exchange(&consent, &consent.verifier).await.unwrap();
        person.client.keep(&person.cx, record).await.unwrap();
        person
    }

    async fn row(&self) -> TokenRecord {
        self.tokens.load(&CredentialQuery::of(&self.cx, "app")).await.unwrap().unwrap().record
    }

    async fn refresh_token(&self) -> String {
        self.row().await.tokens.refresh.unwrap().expose_secret().to_owned()
    }

    /// The status of a call that needs the person's token.
    async fn call(&self, token: &str) -> u16 {
        let mut request = Request::new(Method::GET, format!("{}/me", self.cx.connection.base()).parse().unwrap());
        request.head.headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        self.transport.send(&self.cx, request).await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_person_connects_and_what_was_granted_is_renewed() {
    let (Some(base), Some(robot)) = (provider(), robot()) else { return };
    let person = Person::connect(&base, robot).await;
    let facts = person.client.facts(&person.cx).await.unwrap().unwrap();
    assert!(facts.scopes.contains(&"api.read".to_owned()) && facts.expires_at.is_some(), "{facts:?}");
    let auth = person.process();
    let (token, used) = header_of(&*auth, &person.cx).await.unwrap();
    assert_eq!(person.call(&token).await, 200);
    for _ in 0..3 {
        let refresh = person.refresh_token().await;
        let (_, used) = header_of(&*auth, &person.cx).await.unwrap();
        // Another process each time, so that none remembers that the last 401 was a moment ago.
        assert!(person.process().rejected(&person.cx, &used).await.unwrap());
        assert!(auth.rejected(&person.cx, &used).await.unwrap(), "the others use what was fetched");
        assert_ne!(person.refresh_token().await, refresh, "the server rotates");
    }
    let (newest, after) = header_of(&*auth, &person.cx).await.unwrap();
    assert_eq!(person.call(&newest).await, 200);
    assert_eq!(after.generation, used.generation + 3);
}

#[tokio::test]
async fn many_processes_renew_once_and_the_family_survives() {
    let (Some(base), Some(robot)) = (provider(), robot()) else { return };
    let person = Arc::new(Person::connect(&base, robot).await);
    let processes: Vec<_> = (0..4).map(|_| person.process()).collect();
    let (_, used) = header_of(&*processes[0], &person.cx).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|at| (processes[at % 4].clone(), person.clone()))
        .map(|(auth, person)| tokio::spawn(async move { auth.rejected(&person.cx, &used).await }))
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().unwrap());
    }
    assert_eq!(person.row().await.facts.serial, used.generation + 1, "one renewal");
    for process in &processes {
        let (token, _) = header_of(&**process, &person.cx).await.unwrap();
        assert_eq!(person.call(&token).await, 200);
    }
}

/// The control of the test above: this server really takes the reuse of a refresh token for theft.
#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_family_and_a_person_is_asked_for() {
    let (Some(base), Some(robot)) = (provider(), robot()) else { return };
    let person = Person::connect(&base, robot).await;
    let burnt = person.row().await;
    let (_, used) = header_of(&*person.process(), &person.cx).await.unwrap();
    assert!(person.process().rejected(&person.cx, &used).await.unwrap());
    let (token, used) = header_of(&*person.process(), &person.cx).await.unwrap();
    assert_eq!(person.call(&token).await, 200);
    // Somebody restores yesterday's backup of the tokens.
    let thief = Person::new(&base);
    thief.tokens.save(&CredentialQuery::of(&thief.cx, "app"), &burnt, Condition::Absent).await.unwrap().unwrap();
    let error = thief.process().rejected(&thief.cx, &CredentialUse { generation: burnt.facts.serial }).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_grant")));
    // The innocent ones are out as well.
    assert_eq!(person.call(&token).await, 401);
    let error = person.process().rejected(&person.cx, &used).await.unwrap_err();
    assert!(error.message().ends_with(": connect again"), "{error}");
    assert_eq!(person.row().await.facts.state, TokenState::ReauthRequired);
}

#[tokio::test]
async fn a_code_works_once_and_only_with_its_verifier() {
    let (Some(base), Some(robot)) = (provider(), robot()) else { return };
    let person = Person::new(&base);
    let consent = person.consent(robot.clone()).await;
    let record = person.exchange(&consent, &consent.verifier).await.unwrap();
    assert!(record.tokens.refresh.is_some());
    let again = person.exchange(&consent, &consent.verifier).await.unwrap_err();
    assert_eq!((again.kind(), again.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_grant")));
    let stolen = person.consent(robot).await;
    let error = person.exchange(&stolen, &SecretString::from("x".repeat(64))).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_grant")));
}

#[tokio::test]
async fn revoked_tokens_are_dead() {
    let (Some(base), Some(robot)) = (provider(), robot()) else { return };
    let person = Person::connect(&base, robot).await;
    let (token, used) = header_of(&*person.process(), &person.cx).await.unwrap();
    assert_eq!(person.call(&token).await, 200);
    let credential = person.credentials.get(&CredentialQuery::of(&person.cx, "app")).await.unwrap();
    assert!(person.client.revoke(&person.cx, &credential, &person.row().await.tokens).await.unwrap());
    assert_eq!(person.call(&token).await, 401);
    let error = person.process().rejected(&person.cx, &used).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_grant")));
    let unknown = TokenSet { access: "nobody-knows-this".into(), refresh: None };
    assert!(person.client.revoke(&person.cx, &credential, &unknown).await.unwrap(), "what the server does not know counts as revoked");
}
