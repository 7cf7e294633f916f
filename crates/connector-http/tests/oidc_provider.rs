//! The client credentials grant against a certified authorization server that somebody else wrote (the npm package `oidc-provider`).
//!
//! Runs where `CONNECTORS_OIDC_PROVIDER` names its base URL, for example `http://127.0.0.1:18081`; the clients are `m2m` and `m2m_basic`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests too")]

use std::sync::Arc;

use bytes::Bytes;
use connector_core::{
    CallCx, Connection, ErrorKind, Result,
    auth::AuthProvider,
    credential::{Credential, MemoryCredentials},
    spec::AuthSpec,
    transport::{Body, Head, Request, Transport},
};
use connector_http::{Auth, AuthDeps, EgressPolicy, HttpTransport};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};

fn provider() -> Option<String> {
    let url = std::env::var("CONNECTORS_OIDC_PROVIDER").ok();
    if url.is_none() {
        eprintln!("skipped: CONNECTORS_OIDC_PROVIDER does not name a running oidc-provider");
    }
    url
}

struct Client {
    transport: Arc<HttpTransport>,
    auth: Arc<dyn AuthProvider>,
    cx: CallCx,
}

impl Client {
    fn new(base: &str, method: &str, id: &str, secret: &str) -> Self {
        let policy = EgressPolicy::new().allow_loopback();
        let transport = Arc::new(HttpTransport::builder().egress(policy).build().unwrap());
        let spec = json!([{ "type": "oauth2", "flow": "client_credentials", "token_url": "/token", "client_auth": method, "scopes": ["api.read"] }]);
        let specs: Vec<AuthSpec> = serde_json::from_value(spec).unwrap();
        let store = Arc::new(MemoryCredentials::with("app", Credential::new([("client_id", id), ("client_secret", secret)])));
        let auth = Auth::for_spec(&specs, store, AuthDeps::new(transport.clone()));
        let cx = CallCx::new(Arc::new(Connection::new("oidc", base).unwrap().with_credential("app")));
        Self { transport, auth, cx }
    }

    async fn token(&self) -> Result<(String, connector_core::auth::CredentialUse)> {
        let mut head = Head { method: Method::GET, url: "https://api.example/".parse().unwrap(), headers: HeaderMap::new() };
        let used = self.auth.authorize(&self.cx, &mut head, &Bytes::new()).await?;
        let header = head.headers[header::AUTHORIZATION].to_str().unwrap();
        Ok((header.strip_prefix("Bearer ").unwrap().to_owned(), used))
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
        let client = Client::new(&base, method, id, secret);
        let (first, second) = tokio::join!(client.token(), client.token());
        let (token, used) = first.unwrap();
        assert_eq!(token, second.unwrap().0, "both callers share one token");
        let facts = client.introspect(&token).await;
        assert_eq!((&facts["active"], &facts["client_id"]), (&json!(true), &json!(id)), "{method}");
        assert!(client.auth.rejected(&client.cx, &used).await.unwrap());
        assert_ne!(client.token().await.unwrap().0, token, "a rejected token is replaced");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_named_as_such() {
    let Some(base) = provider() else { return };
    for (method, id) in [("post", "m2m"), ("basic", "m2m_basic")] {
        let error = Client::new(&base, method, id, "wrong-canary").token().await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("invalid_client")));
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
