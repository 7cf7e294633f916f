//! Grants with signed assertions, and the client secret from before a rotation.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use connector_core::{
    auth::AuthProvider,
    context::{CallCx, Connection},
    credential::{Credential, MemoryCredentials},
    error::{Error, ErrorKind, Result},
    spec::AuthSpec,
    transport::Head,
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{Auth, AuthDeps, testing::FakeEndpoint};

struct Rig {
    auth: Arc<dyn AuthProvider>,
    endpoint: Arc<FakeEndpoint>,
}

impl Rig {
    fn new(endpoint: Arc<FakeEndpoint>, spec: Value, credential: Credential) -> Self {
        let mut whole = json!({ "type": "oauth2", "token_url": "https://id.example/token", "scopes": ["a", "b"] });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let specs: Vec<AuthSpec> = serde_json::from_value(json!([whole])).unwrap();
        let store = Arc::new(MemoryCredentials::with("app", credential));
        Self { auth: Auth::for_spec(&specs, store, AuthDeps::new(endpoint.clone())), endpoint }
    }

    async fn ask(&self, user: &str) -> Result<String> {
        let connection = Connection::new("vendor", "https://api.example").unwrap().with_credential("app").with_setting("user", user);
        let mut head = Head { method: http::Method::GET, url: "https://api.example/x".parse().unwrap(), headers: http::HeaderMap::new() };
        self.auth.authorize(&CallCx::new(Arc::new(connection)), &mut head, &bytes::Bytes::new()).await?;
        Ok(head.headers["authorization"].to_str().unwrap().to_owned())
    }

    async fn token(&self) -> String {
        self.ask("ada").await.unwrap()
    }

    async fn error(&self) -> Error {
        self.ask("ada").await.unwrap_err()
    }

    fn sent(&self, at: usize, name: &str) -> Option<String> {
        self.endpoint.seen()[at].form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    fn claims(&self, at: usize, name: &str) -> Value {
        let assertion = self.sent(at, name).unwrap();
        let claims = assertion.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
    }
}

fn key() -> String {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem()
}

fn signer() -> Credential {
    Credential::new([("client_id", "robot".to_owned()), ("private_key", key()), ("subject", "ada@example.com".to_owned())])
}

#[tokio::test(start_paused = true)]
async fn an_assertion_is_a_grant_and_its_token_is_kept() {
    let spec = json!({ "flow": "jwt_bearer", "assertion": { "algorithm": "ES256" } });
    let rig = Rig::new(FakeEndpoint::issuing(3600), spec, signer());
    assert_eq!((rig.token().await, rig.token().await, rig.endpoint.requests()), ("Bearer t1".into(), "Bearer t1".into(), 1));
    let names: Vec<_> = rig.endpoint.seen()[0].form.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["grant_type", "assertion", "scope"], "the assertion names and proves the client");
    assert_eq!(rig.sent(0, "grant_type").unwrap(), "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let claims = rig.claims(0, "assertion");
    assert_eq!(
        (claims["iss"].as_str(), claims["sub"].as_str(), claims["aud"].as_str()),
        (Some("robot"), Some("ada@example.com"), Some("https://id.example/token"))
    );
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.token().await, "Bearer t2");
    assert_ne!(rig.sent(0, "assertion"), rig.sent(1, "assertion"));
}

#[tokio::test(start_paused = true)]
async fn scopes_go_where_the_vendor_reads_them_and_people_are_kept_apart() {
    let spec = json!({ "flow": "jwt_bearer", "assertion": { "algorithm": "ES256", "scope_claim": true, "subject": "{user}@example.com" } });
    let rig = Rig::new(FakeEndpoint::issuing(3600), spec, signer());
    assert_eq!((rig.ask("ada").await.unwrap(), rig.ask("bob").await.unwrap()), ("Bearer t1".into(), "Bearer t2".into()));
    assert_eq!(rig.ask("ada").await.unwrap(), "Bearer t1");
    assert_eq!((rig.sent(0, "scope"), rig.claims(0, "assertion")["scope"].as_str()), (None, Some("a b")));
    assert_eq!(rig.claims(1, "assertion")["sub"].as_str(), Some("bob@example.com"));
}

#[tokio::test(start_paused = true)]
async fn a_client_proves_itself_with_an_assertion() {
    let spec = json!({ "flow": "client_credentials", "client_auth": "private_key_jwt", "assertion": { "algorithm": "ES256" } });
    let rig = Rig::new(FakeEndpoint::issuing(3600), spec, signer());
    assert_eq!(rig.token().await, "Bearer t1");
    assert_eq!((rig.sent(0, "client_secret"), rig.sent(0, "client_id").as_deref()), (None, Some("robot")));
    assert_eq!(rig.sent(0, "client_assertion_type").unwrap(), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let claims = rig.claims(0, "client_assertion");
    assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("robot"), Some("robot")));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_sign_is_named_and_not_shown() {
    let credential = Credential::new([("client_id", "robot"), ("private_key", "key-canary")]);
    let rig = Rig::new(FakeEndpoint::issuing(3600), json!({ "flow": "jwt_bearer" }), credential);
    let error = rig.error().await;
    assert_eq!((error.kind(), rig.endpoint.requests()), (ErrorKind::Config, 0));
    assert!(error.message().contains("`private_key`") && !format!("{error:?}").contains("canary"), "{error}");
}

fn rotated() -> Credential {
    let mut new = Credential::new([("client_id", "app"), ("client_secret", "new")]);
    new.version = 2;
    new.with_previous(Some(Arc::new(Credential::new([("client_id", "app"), ("client_secret", "old")]))))
}

const WRONG: (u16, &str) = (401, r#"{"error":"invalid_client"}"#);
const RIGHT: (u16, &str) = (200, r#"{"access_token":"t#","expires_in":10}"#);

#[tokio::test(start_paused = true)]
async fn the_secret_before_is_tried_once_and_goes_first_for_a_minute() {
    let rig = Rig::new(FakeEndpoint::new(&[WRONG, RIGHT]), json!({ "flow": "client_credentials" }), rotated());
    assert_eq!(rig.token().await, "Bearer t2", "nobody notices");
    sleep(Duration::from_secs(30)).await;
    rig.token().await;
    sleep(Duration::from_secs(31)).await;
    rig.token().await;
    let secrets: Vec<_> = (0..rig.endpoint.requests()).map(|at| rig.sent(at, "client_secret").unwrap()).collect();
    assert_eq!(secrets, ["new", "old", "old", "new"]);
}

#[tokio::test(start_paused = true)]
async fn if_neither_secret_is_taken_the_error_is_that_of_the_first() {
    let rig = Rig::new(FakeEndpoint::new(&[WRONG]), json!({ "flow": "client_credentials" }), rotated());
    let error = rig.error().await;
    assert_eq!((error.kind(), error.vendor_code(), rig.endpoint.requests()), (ErrorKind::AuthExpired, Some("invalid_client"), 2));
}

#[tokio::test(start_paused = true)]
async fn only_a_refused_client_is_worth_the_other_secret() {
    for answer in [(400, r#"{"error":"invalid_scope"}"#), (500, ""), (0, ""), (400, r#"{"error":"invalid_grant"}"#)] {
        let rig = Rig::new(FakeEndpoint::new(&[answer]), json!({ "flow": "client_credentials" }), rotated());
        rig.error().await;
        assert_eq!(rig.endpoint.requests(), 1, "{answer:?}");
    }
}
