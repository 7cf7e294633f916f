//! Metadata: where it is looked for, what is believed, how often it is fetched. Time is paused.

use async_trait::async_trait;
use connector_core::{
    clock::SystemClock,
    transport::{Body, Response},
};
use serde_json::{Value, json};

use super::*;
use crate::testing::cx;

/// Documents by URL; everything else is 404. Each answer takes 50 ms.
#[derive(Debug, Default)]
struct Server {
    pages: HashMap<String, (u16, String)>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Server {
    async fn send(&self, _cx: &CallCx, request: Request) -> Result<Response> {
        let url = request.head.url.to_string();
        self.asked.lock().unwrap().push(url.clone());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (status, body) = self.pages.get(&url).cloned().unwrap_or((404, "nothing here".to_owned()));
        let mut response = http::Response::new(Body::Bytes(body.into()));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        Ok(response)
    }
}

fn server(pages: &[(&str, u16, &Value)]) -> Arc<Server> {
    let pages = pages.iter().map(|(url, status, body)| ((*url).to_owned(), (*status, body.as_str().map_or_else(|| body.to_string(), str::to_owned))));
    Arc::new(Server { pages: pages.collect(), asked: Mutex::default() })
}

fn discovery(server: &Arc<Server>) -> Discovery {
    Discovery::new(server.clone(), SystemClock::shared())
}

const INSERTED: &str = "https://id.example/.well-known/oauth-authorization-server/acme";
const APPENDED: &str = "https://id.example/acme/.well-known/openid-configuration";
const ISSUER: &str = "https://id.example/acme";

fn document() -> Value {
    json!({ "issuer": ISSUER, "authorization_endpoint": "https://id.example/acme/authorize", "token_endpoint": "https://token.example/t",
        "scopes_supported": ["a"], "code_challenge_methods_supported": ["plain", "S256"], "authorization_response_iss_parameter_supported": true,
        "response_types_supported": ["code"], "jwks_uri": "https://id.example/jwks" })
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_fetch_once_an_hour() {
    let server = server(&[(INSERTED, 200, &document())]);
    let discovery = Arc::new(discovery(&server));
    let callers: Vec<_> =
        (0..100).map(|_| discovery.clone()).map(|d| tokio::spawn(async move { d.get(&cx("https://api.example"), ISSUER).await })).collect();
    for caller in callers {
        let metadata = caller.await.unwrap().unwrap();
        assert_eq!(metadata.token_endpoint.as_ref().unwrap().as_str(), "https://token.example/t");
        assert!(metadata.authorization_response_iss_parameter_supported && metadata.require_s256().is_ok());
    }
    assert_eq!(*server.asked.lock().unwrap(), [INSERTED]);
    tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
    discovery.get(&cx("https://api.example"), ISSUER).await.unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn openids_place_is_the_second_try_also_after_a_web_page() {
    for first in [(INSERTED, 404, &json!("no")), (INSERTED, 200, &json!("<html>sign in</html>")), (INSERTED, 403, &json!({}))] {
        let server = server(&[first, (APPENDED, 200, &document())]);
        assert_eq!(discovery(&server).get(&cx("https://api.example"), ISSUER).await.unwrap().issuer, ISSUER);
        assert_eq!(*server.asked.lock().unwrap(), [INSERTED, APPENDED]);
    }
    // A server that fails is not asked for something else.
    let server = server(&[(INSERTED, 503, &json!("busy")), (APPENDED, 200, &document())]);
    assert_eq!(discovery(&server).get(&cx("https://api.example"), ISSUER).await.unwrap_err().kind(), ErrorKind::Transient);
}

#[tokio::test(start_paused = true)]
async fn another_issuers_document_and_endpoints_that_are_no_web_addresses_are_refused() {
    let with = |key: &str, value: Value| {
        let mut document = document();
        document[key] = value;
        document
    };
    for bad in [
        with("issuer", json!("https://id.example/acme/")),
        with("issuer", json!("https://evil.example")),
        with("authorization_endpoint", json!("javascript:alert(1)")),
        with("token_endpoint", json!("http://token.example/t")),
        with("token_endpoint", json!("http://127.0.0.1/t")),
        with("revocation_endpoint", json!("file:///etc/passwd")),
        with("device_authorization_endpoint", json!("https://u:p@id.example/d")),
        with("scopes_supported", json!(["x".repeat(70_000)])),
    ] {
        let server = server(&[(INSERTED, 200, &bad), (APPENDED, 200, &document())]);
        let error = discovery(&server).get(&cx("https://api.example"), ISSUER).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert_eq!(server.asked.lock().unwrap().len(), 1, "a lying server is not asked again");
    }
    let weak = document_of(with("code_challenge_methods_supported", json!(["plain"])));
    assert_eq!(weak.require_s256().unwrap_err().kind(), ErrorKind::Config);
}

fn document_of(value: Value) -> ServerMetadata {
    serde_json::from_value::<Document>(value).unwrap().checked(ISSUER).unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_published_is_told_and_remembered_for_a_moment() {
    let server = server(&[]);
    let discovery = discovery(&server);
    for _ in 0..3 {
        let error = discovery.get(&cx("https://api.example"), "https://id.example").await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Config, Some(404)));
    }
    assert_eq!(
        *server.asked.lock().unwrap(),
        ["https://id.example/.well-known/oauth-authorization-server", "https://id.example/.well-known/openid-configuration"]
    );
    for bad in ["http://id.example", "id.example", "https://id.example/?x=1", "https://id.example/#x"] {
        assert_eq!(discovery.get(&cx("https://api.example"), bad).await.unwrap_err().kind(), ErrorKind::Config, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spec_names_its_issuer_with_placeholders() {
    let server = server(&[(INSERTED, 200, &document())]);
    let spec: OAuth2Spec = serde_json::from_value(json!({ "flow": "authorization_code", "issuer": "https://id.example/{org}" })).unwrap();
    let connection = Connection::new("x", "https://api.example").unwrap().with_setting("org", "acme");
    let found = discovery(&server).for_spec(&CallCx::new(Arc::new(connection)), &spec).await.unwrap().unwrap();
    assert_eq!(found.issuer, ISSUER);
    assert!(discovery(&server).for_spec(&cx("https://api.example"), &OAuth2Spec::default()).await.unwrap().is_none());
}
