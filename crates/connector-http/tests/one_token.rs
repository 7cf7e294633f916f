//! Token and call over real sockets, through the public API alone: one token request, guarded like every other.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::sync::Arc;

use bytes::Bytes;
use connector_core::{
    CallCx, Connection, ErrorKind, Result,
    auth::AuthProvider,
    credential::{Credential, MemoryCredentials},
    spec::AuthSpec,
    transport::{Request, Transport},
};
use connector_http::{Auth, AuthDeps, EgressPolicy, HttpTransport};
use http::Method;
use serde_json::json;

#[derive(Clone)]
struct Client {
    transport: Arc<HttpTransport>,
    auth: Arc<dyn AuthProvider>,
    cx: CallCx,
}

impl Client {
    fn new(base: &str, token_url: &str) -> Self {
        let transport = Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap());
        let spec = json!([{ "type": "oauth2", "flow": "client_credentials", "token_url": token_url }]);
        let specs: Vec<AuthSpec> = serde_json::from_value(spec).unwrap();
        let credential = Credential::new([("client_id", "m2m"), ("client_secret", "s3cret-canary")]);
        let store = Arc::new(MemoryCredentials::with("app", credential));
        let auth = Auth::for_spec(&specs, store, AuthDeps::new(transport.clone()));
        let cx = CallCx::new(Arc::new(Connection::new("vendor", base).unwrap().with_credential("app")));
        Self { transport, auth, cx }
    }

    async fn call(&self) -> Result<u16> {
        let mut request = Request::new(Method::GET, format!("{}/things", self.cx.connection.base()).parse().unwrap());
        self.auth.authorize(&self.cx, &mut request.head, &Bytes::new()).await?;
        Ok(self.transport.send(&self.cx, request).await?.status().as_u16())
    }
}

#[tokio::test]
async fn sixty_four_first_callers_make_one_token_request() {
    let mut server = mockito::Server::new_async().await;
    let token = server
        .mock("POST", "/token")
        .match_body(mockito::Matcher::UrlEncoded("client_secret".into(), "s3cret-canary".into()))
        .with_body(r#"{"access_token":"t1","expires_in":3600}"#)
        .expect(1)
        .create_async()
        .await;
    let things = server.mock("GET", "/things").match_header("authorization", "Bearer t1").expect(64).create_async().await;
    let client = Client::new(&server.url(), "/token");
    let callers: Vec<_> = (0..64).map(|_| client.clone()).map(|client| tokio::spawn(async move { client.call().await })).collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), 200);
    }
    token.assert_async().await;
    things.assert_async().await;
}

#[tokio::test]
async fn a_token_request_is_guarded_like_every_other() {
    for url in ["http://169.254.169.254/token", "https://10.0.0.1/token", "https://metadata.google.internal/token", "https://vendor.example:22/token"]
    {
        let error = Client::new("https://vendor.example", url).call().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_token_endpoint_that_redirects_does_not_move_the_secret() {
    let mut server = mockito::Server::new_async().await;
    let elsewhere = server.mock("POST", "/elsewhere").expect(0).create_async().await;
    let target = format!("{}/elsewhere", server.url());
    server.mock("POST", "/token").with_status(307).with_header("location", &target).create_async().await;
    let error = Client::new(&server.url(), "/token").call().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("redirects"), "{error}");
    elsewhere.assert_async().await;
}
