//! How vendors speak OAuth, each by its own documentation's example: the section of a manifest, what is asked with it, and what is made of the
//! answer. `dialects.json` holds the examples; the guide `docs/guide/oauth-dialects.md` has the same sections for people.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    CallCx, Connection, ErrorKind, Result,
    credential::{Credential, MemoryCredentials},
    spec::{AuthSpec, OAuth2Spec},
    token::MemoryTokens,
    transport::{Body, Head, Request, Response, Transport},
};
use connector_http::{
    Auth, AuthDeps,
    oauth2::{AuthorizeAsk, CodeExchange, OAuth2Client, authorize_request},
};
use http::{HeaderMap, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const REDIRECT: &str = "http://127.0.0.1:8912/oauth/callback";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dialect {
    name: String,
    /// Where the facts come from.
    source: String,
    base_url: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    auth: Value,
    authorize: Authorize,
    exchange: Exchange,
    /// What a renewal says besides.
    #[serde(default)]
    renewal: Map<String, Value>,
    answer: Value,
    tokens: Tokens,
    /// The answer to a refresh token that does not work any more.
    dead: Dead,
}

#[derive(Debug, Deserialize)]
struct Authorize {
    at: String,
    query: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Exchange {
    url: String,
    r#type: String,
    #[serde(default)]
    basic: bool,
    body: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    access: String,
    refresh: Option<String>,
    lifetime: Option<u64>,
    scopes: Vec<String>,
    keep: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Dead {
    status: u16,
    body: Value,
}

fn dialects() -> Vec<Dialect> {
    serde_json::from_str(include_str!("dialects.json")).unwrap()
}

/// What the endpoint saw, read by its content type.
#[derive(Debug)]
struct Seen {
    url: String,
    content_type: String,
    authorization: Option<String>,
    body: Map<String, Value>,
}

/// Gives one answer after the other.
#[derive(Debug, Default)]
struct Endpoint {
    answers: Mutex<Vec<(u16, Value)>>,
    seen: Mutex<Vec<Seen>>,
}

#[async_trait]
impl Transport for Endpoint {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let text = |name| request.head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (content_type, authorization) = (text(header::CONTENT_TYPE).unwrap_or_default(), text(header::AUTHORIZATION));
        let bytes = request.body.collect(1 << 16).await?;
        let body = match &*content_type {
            "application/json" => serde_json::from_slice(&bytes).unwrap(),
            _ => url::form_urlencoded::parse(&bytes).map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect(),
        };
        self.seen.lock().unwrap().push(Seen { url: request.head.url.into(), content_type, authorization, body });
        let (status, answer) = self.answers.lock().unwrap().remove(0);
        Ok(http::Response::builder().status(status).body(Body::Bytes(answer.to_string().into())).unwrap())
    }
}

struct Rig {
    spec: OAuth2Spec,
    endpoint: Arc<Endpoint>,
    deps: AuthDeps,
    cx: CallCx,
}

impl Dialect {
    fn rig(&self, answers: &[(u16, &Value)]) -> Rig {
        let AuthSpec::OAuth2(spec) = serde_json::from_value(self.auth.clone()).unwrap() else { panic!("{}", self.name) };
        let mut connection = Connection::new("vendor", &self.base_url).unwrap().with_credential("app");
        for (name, value) in &self.settings {
            connection = connection.with_setting(name, value);
        }
        let answers = answers.iter().map(|(status, body)| (*status, (*body).clone())).collect();
        let endpoint = Arc::new(Endpoint { answers: Mutex::new(answers), ..Endpoint::default() });
        let deps = AuthDeps { tokens: Arc::new(MemoryTokens::default()), ..AuthDeps::new(endpoint.clone()) };
        Rig { spec: (*spec).clone(), endpoint, deps, cx: CallCx::new(Arc::new(connection)) }
    }

    /// The request must prove the client as the vendor wants it, say these parameters and no others.
    fn expect(&self, seen: &Seen, more: &Map<String, Value>) {
        let mut body = self.exchange.body.clone();
        body.extend(more.clone());
        assert_eq!(seen.body, body, "{}", self.name);
        assert_eq!((&seen.url, &seen.content_type), (&self.exchange.url, &self.exchange.r#type), "{}", self.name);
        // RFC 6749 §2.3.1: both parts are form-encoded before they are put together.
        let basic = self.exchange.basic.then(|| format!("Basic {}", STANDARD.encode("app:s%2Fe+cret")));
        assert_eq!(seen.authorization, basic, "{}", self.name);
    }
}

fn credential() -> Credential {
    Credential::new([("client_id", "app"), ("client_secret", "s/e cret")])
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn sections_are_read_without_loss() {
    for dialect in dialects() {
        let spec: AuthSpec = serde_json::from_value(dialect.auth.clone()).unwrap();
        let written = object(serde_json::to_value(spec).unwrap());
        for (key, value) in dialect.auth.as_object().unwrap() {
            assert_eq!(written.get(key), Some(value), "{}: `{key}`", dialect.name);
        }
        assert!(!dialect.source.is_empty());
    }
}

#[test]
fn people_are_sent_where_the_vendor_says() {
    for dialect in dialects() {
        let rig = dialect.rig(&[]);
        let ask = AuthorizeAsk { redirect_uri: REDIRECT, state: "state", scopes: &[], resource: None };
        let request = authorize_request(&rig.spec, &rig.cx.connection, "app", None, &ask).unwrap();
        assert_eq!(&request.url[..url::Position::AfterPath], dialect.authorize.at, "{}", dialect.name);
        let mut query: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        assert_eq!(query.remove("code_challenge").map(|challenge| challenge.len()), Some(43), "{}", dialect.name);
        let mut expected = dialect.authorize.query.clone();
        for (name, value) in
            [("response_type", "code"), ("client_id", "app"), ("redirect_uri", REDIRECT), ("state", "state"), ("code_challenge_method", "S256")]
        {
            expected.insert(name.to_owned(), value.to_owned());
        }
        assert_eq!(query, expected, "{}", dialect.name);
    }
}

#[tokio::test(start_paused = true)]
async fn codes_are_exchanged_and_answers_understood() {
    for dialect in dialects() {
        let rig = dialect.rig(&[(200, &dialect.answer)]);
        let (code, verifier) = (SecretString::from("c0de"), SecretString::from("v".repeat(64)));
        let client = OAuth2Client::new(rig.spec.clone(), rig.deps.clone()).unwrap();
        let exchange = CodeExchange { code: &code, redirect_uri: REDIRECT, verifier: &verifier };
        let record = client.exchange(&rig.cx, &credential(), exchange).await.unwrap();
        let more = json!({ "grant_type": "authorization_code", "code": "c0de", "redirect_uri": REDIRECT, "code_verifier": verifier.expose_secret() });
        dialect.expect(&rig.endpoint.seen.lock().unwrap()[0], &object(more));

        let want = &dialect.tokens;
        assert_eq!(record.tokens.access.expose_secret(), want.access, "{}", dialect.name);
        assert_eq!(record.tokens.refresh.as_ref().map(|token| token.expose_secret().to_owned()), want.refresh, "{}", dialect.name);
        assert_eq!((&record.facts.scopes, &record.facts.keep), (&want.scopes, &want.keep), "{}", dialect.name);
        let lifetime = record.facts.expires_at.map(|end| Duration::from_millis(end - record.facts.obtained_at).as_secs());
        assert_eq!(lifetime, want.lifetime, "{}", dialect.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_once_and_a_dead_one_asks_for_a_person() {
    for dialect in dialects() {
        let Some(refresh) = &dialect.tokens.refresh else { continue };
        let rig = dialect.rig(&[(200, &dialect.answer), (200, &dialect.answer), (dialect.dead.status, &dialect.dead.body)]);
        let (code, verifier) = (SecretString::from("c0de"), SecretString::from("v".repeat(64)));
        let client = OAuth2Client::new(rig.spec.clone(), rig.deps.clone()).unwrap();
        let exchange = CodeExchange { code: &code, redirect_uri: REDIRECT, verifier: &verifier };
        client.keep(&rig.cx, client.exchange(&rig.cx, &credential(), exchange).await.unwrap()).await.unwrap();

        let credentials = Arc::new(MemoryCredentials::with("app", credential()));
        let auth = Auth::for_spec(&[AuthSpec::OAuth2(Box::new(rig.spec.clone()))], credentials, rig.deps.clone());
        let mut used = Vec::new();
        for _ in 0..2 {
            let mut head = Head { method: Method::GET, url: "https://api.example/".parse().unwrap(), headers: HeaderMap::new() };
            used.push(auth.authorize(&rig.cx, &mut head, &Bytes::new()).await.unwrap());
            assert_eq!(head.headers[header::AUTHORIZATION].to_str().unwrap(), format!("Bearer {}", dialect.tokens.access), "{}", dialect.name);
            if used.len() == 1 {
                assert!(auth.rejected(&rig.cx, &used[0]).await.unwrap(), "{}", dialect.name);
            }
        }
        let mut more = object(json!({ "grant_type": "refresh_token", "refresh_token": refresh }));
        more.extend(dialect.renewal.clone());
        dialect.expect(&rig.endpoint.seen.lock().unwrap()[1], &more);

        // Past the pause between two renewals of tokens that a vendor refuses.
        tokio::time::advance(Duration::from_secs(600)).await;
        let error = auth.rejected(&rig.cx, &used[1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthExpired, "{}: {error}", dialect.name);
        assert_eq!(rig.endpoint.seen.lock().unwrap().len(), 3, "{}", dialect.name);
        // Nothing is tried any more.
        let mut head = Head { method: Method::GET, url: "https://api.example/".parse().unwrap(), headers: HeaderMap::new() };
        let error = auth.authorize(&rig.cx, &mut head, &Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthExpired, "{}: {error}", dialect.name);
        assert_eq!(rig.endpoint.seen.lock().unwrap().len(), 3, "{}", dialect.name);
    }
}
