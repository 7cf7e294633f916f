//! Tokens: how many are asked for, when, how, and what is made of strange answers. Time is paused throughout.

use std::{sync::Arc, time::Duration};

use connector_core::{
    auth::{AuthProvider, CredentialUse},
    context::{CallCx, Connection},
    credential::{Credential, MemoryCredentials},
    error::{Error, ErrorKind, Result, Retry},
    spec::AuthSpec,
    transport::Head,
};
use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    Auth, AuthDeps,
    testing::{FakeEndpoint, Seen},
};

/// A provider, its credentials and its endpoint.
struct Rig {
    auth: Arc<dyn AuthProvider>,
    credentials: Arc<MemoryCredentials>,
    endpoint: Arc<FakeEndpoint>,
    cx: CallCx,
}

impl Rig {
    fn new(endpoint: Arc<FakeEndpoint>) -> Self {
        Self::with(endpoint, json!({ "token_url": "https://id.example/{tenant_id}/token", "scopes": ["{resource}/.default"] }))
    }

    fn with(endpoint: Arc<FakeEndpoint>, more: Value) -> Self {
        let mut spec = json!({ "type": "oauth2", "flow": "client_credentials" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let specs: Vec<AuthSpec> = serde_json::from_value(json!([spec])).unwrap();
        let credentials = Arc::new(MemoryCredentials::with("app", credential("s3cret-canary")));
        let auth = Auth::for_spec(&specs, credentials.clone(), AuthDeps::new(endpoint.clone()));
        Self { auth, credentials, endpoint, cx: connection("c1", &[]) }
    }

    async fn ask(&self, cx: &CallCx) -> Result<(String, CredentialUse)> {
        let mut head = Head { method: Method::GET, url: "https://api.example/x".parse().unwrap(), headers: http::HeaderMap::new() };
        let used = self.auth.authorize(cx, &mut head, &bytes::Bytes::new()).await?;
        let header = &head.headers["authorization"];
        assert!(header.is_sensitive());
        Ok((header.to_str().unwrap().to_owned(), used))
    }

    async fn token(&self) -> String {
        self.ask(&self.cx).await.unwrap().0
    }

    async fn error(&self) -> Error {
        self.ask(&self.cx).await.unwrap_err()
    }

    fn last(&self) -> Seen {
        self.endpoint.seen().pop().unwrap()
    }
}

fn credential(secret: &str) -> Credential {
    Credential::new([("client_id", "m2m"), ("client_secret", secret)])
}

fn connection(id: &str, settings: &[(&str, &str)]) -> CallCx {
    let connection = Connection::named(id.into(), "default".into(), "msgraph", "https://api.example/v1").unwrap().with_credential("app");
    let connection = connection.with_setting("tenant_id", "contoso").with_setting("resource", "https://api.example");
    let connection = settings.iter().fold(connection, |connection, (key, value)| connection.with_setting(*key, *value));
    CallCx::new(Arc::new(connection))
}

fn pairs(form: &[(&str, &str)]) -> Vec<(String, String)> {
    form.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn sixty_four_first_callers_ask_once() {
    let rig = Arc::new(Rig::new(FakeEndpoint::issuing(3600)));
    let callers: Vec<_> = (0..64).map(|_| (rig.clone(), ())).map(|(rig, ())| tokio::spawn(async move { rig.token().await })).collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "Bearer t1");
    }
    assert_eq!(rig.endpoint.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_callers_share_one_failure_and_the_next_asks_again() {
    let rig = Arc::new(Rig::new(FakeEndpoint::new(&[(503, "busy"), (200, r#"{"access_token":"t#","expires_in":60}"#)])));
    let callers: Vec<_> = (0..64).map(|_| rig.clone()).map(|rig| tokio::spawn(async move { rig.error().await.kind() })).collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), ErrorKind::NotSent);
    }
    assert_eq!(rig.endpoint.requests(), 1);
    sleep(Duration::from_secs(7)).await;
    assert_eq!(rig.token().await, "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_shared_by_those_who_waited_and_by_nobody_else() {
    let rig = Arc::new(Rig::new(FakeEndpoint::new(&[(0, ""), (200, r#"{"access_token":"t#"}"#)])));
    let callers: Vec<_> = (0..64).map(|_| rig.clone()).map(|rig| tokio::spawn(async move { rig.error().await.kind() })).collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), ErrorKind::NotSent);
    }
    assert_eq!(rig.endpoint.requests(), 1);
    assert_eq!(rig.token().await, "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_leaves_the_others_their_token() {
    let rig = Arc::new(Rig::new(FakeEndpoint::issuing(3600)));
    let (first, second) = (rig.clone(), rig.clone());
    let first = tokio::spawn(async move { first.token().await });
    tokio::task::yield_now().await;
    let second = tokio::spawn(async move { second.token().await });
    sleep(Duration::from_millis(10)).await;
    first.abort();
    assert_eq!(second.await.unwrap(), "Bearer t2");
    assert_eq!(rig.endpoint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_request_is_a_form_with_the_client_in_it() {
    let rig = Rig::new(FakeEndpoint::issuing(3600));
    rig.token().await;
    let seen = rig.last();
    assert_eq!(seen.url, "https://id.example/contoso/token");
    assert_eq!(seen.authorization, None);
    assert_eq!(
        seen.form,
        pairs(&[
            ("grant_type", "client_credentials"),
            ("scope", "https://api.example/.default"),
            ("client_id", "m2m"),
            ("client_secret", "s3cret-canary")
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn basic_client_authentication_is_form_encoded_first() {
    let endpoint = FakeEndpoint::issuing(3600);
    let rig = Rig::with(endpoint, json!({ "token_url": "/token", "client_auth": "basic", "params": { "audience": "api://{resource}" } }));
    rig.credentials.set("default".into(), "app", Credential::new([("client_id", "m2m_basic"), ("client_secret", "se/cret%")]));
    rig.token().await;
    let seen = rig.last();
    // base64("m2m_basic:se%2Fcret%25"), RFC 6749 section 2.3.1
    assert_eq!(seen.authorization.as_deref(), Some("Basic bTJtX2Jhc2ljOnNlJTJGY3JldCUyNQ=="));
    assert_eq!(seen.form, pairs(&[("grant_type", "client_credentials"), ("audience", "api://https://api.example")]));
    assert_eq!(seen.url, "https://api.example/v1/token", "a token URL that starts with a slash is below the base URL");
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_name_another_token_url() {
    let rig = Rig::new(FakeEndpoint::issuing(3600));
    rig.ask(&connection("c2", &[("token_url", "http://127.0.0.1:9/{tenant_id}/t")])).await.unwrap();
    assert_eq!(rig.last().url, "http://127.0.0.1:9/contoso/t");
}

#[tokio::test(start_paused = true)]
async fn settings_fill_placeholders_and_never_change_the_shape_of_the_url() {
    let rig = Rig::new(FakeEndpoint::issuing(3600));
    rig.ask(&connection("c2", &[("tenant_id", "a/../b?x#y%")])).await.unwrap();
    assert_eq!(rig.last().url, "https://id.example/a%2F..%2Fb%3Fx%23y%25/token");
    for value in ["", ".", ".."] {
        let error = rig.ask(&connection("c2", &[("tenant_id", value)])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("connection `c2` needs the setting `tenant_id`"), "{error}");
    }
    let hosts = Rig::with(FakeEndpoint::issuing(3600), json!({ "token_url": "https://{tenant_id}.id.example/token" }));
    for value in ["evil.example/", "evil.example#", "evil.example?", "u@evil.example", "evil.example:1"] {
        let outcome = hosts.ask(&connection("c2", &[("tenant_id", value)])).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Config, "{value}");
    }
    assert_eq!(hosts.endpoint.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_kept_by_tenant_credential_url_and_scopes() {
    let rig = Rig::new(FakeEndpoint::issuing(3600));
    rig.credentials.set("other".into(), "app", credential("theirs"));
    let mut foreign = Connection::named("c1".into(), "other".into(), "msgraph", "https://api.example/v1").unwrap().with_credential("app");
    foreign.settings = rig.cx.connection.settings.clone();
    let foreign = CallCx::new(Arc::new(foreign));
    assert_eq!(rig.token().await, "Bearer t1");
    assert_eq!(rig.ask(&connection("c9", &[])).await.unwrap().0, "Bearer t1", "another connection, the same everything");
    assert_eq!(rig.ask(&foreign).await.unwrap().0, "Bearer t2");
    assert_eq!(rig.ask(&connection("c1", &[("tenant_id", "fabrikam")])).await.unwrap().0, "Bearer t3");
    assert_eq!(rig.ask(&connection("c1", &[("resource", "https://b.example")])).await.unwrap().0, "Bearer t4");
    assert_eq!(rig.token().await, "Bearer t1");
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_gets_a_new_token() {
    let rig = Rig::new(FakeEndpoint::issuing(3600));
    assert_eq!(rig.token().await, "Bearer t1");
    rig.credentials.set("default".into(), "app", credential("rotated"));
    assert_eq!(rig.token().await, "Bearer t2");
    assert!(rig.last().form.contains(&("client_secret".to_owned(), "rotated".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_beside_the_calls_before_it_expires() {
    // 3600 s live, so the margin is 10 %: 360 s.
    let rig = Rig::new(FakeEndpoint::issuing(3600));
    assert_eq!(rig.token().await, "Bearer t1");
    sleep(Duration::from_secs(3600 - 360 - 1)).await;
    assert_eq!((rig.token().await, rig.endpoint.requests()), ("Bearer t1".into(), 1));
    sleep(Duration::from_secs(2)).await;
    for _ in 0..10 {
        assert_eq!(rig.token().await, "Bearer t1", "the old one serves while the new one is fetched");
    }
    sleep(Duration::from_millis(60)).await;
    assert_eq!((rig.token().await, rig.endpoint.requests()), ("Bearer t2".into(), 2));
}

#[tokio::test(start_paused = true)]
async fn the_margin_is_sixty_seconds_at_least_and_fifteen_minutes_at_most() {
    for (lifetime, margin) in [(300, 60), (36_000, 900), (60, 30)] {
        let rig = Rig::new(FakeEndpoint::issuing(lifetime));
        rig.token().await;
        sleep(Duration::from_secs(u64::from(lifetime) - margin - 1)).await;
        rig.token().await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.endpoint.requests(), 1, "{lifetime}");
        sleep(Duration::from_secs(1)).await;
        rig.token().await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.endpoint.requests(), 2, "{lifetime}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_never_sent() {
    let rig = Rig::new(FakeEndpoint::issuing(3600));
    rig.token().await;
    sleep(Duration::from_secs(3600 - 4)).await;
    assert_eq!(rig.token().await, "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_refresh_leaves_the_old_token_and_is_not_repeated_at_once() {
    let ok = r#"{"access_token":"t#","expires_in":3600}"#;
    let rig = Rig::new(FakeEndpoint::new(&[(200, ok), (500, ""), (200, ok)]));
    rig.token().await;
    sleep(Duration::from_secs(3300)).await;
    for _ in 0..3 {
        assert_eq!(rig.token().await, "Bearer t1");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.endpoint.requests(), 2);
    sleep(Duration::from_secs(10)).await;
    rig.token().await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.token().await, "Bearer t3");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_replaced_exactly_once() {
    let rig = Arc::new(Rig::new(FakeEndpoint::issuing(3600)));
    let (_, used) = rig.ask(&rig.cx).await.unwrap();
    let callers: Vec<_> =
        (0..64).map(|_| rig.clone()).map(|rig| tokio::spawn(async move { rig.auth.rejected(&rig.cx, &used).await.unwrap() })).collect();
    for caller in callers {
        assert!(caller.await.unwrap());
    }
    assert_eq!(rig.endpoint.requests(), 2);
    let (token, newer) = rig.ask(&rig.cx).await.unwrap();
    assert_eq!(token, "Bearer t2");
    assert!(newer.generation > used.generation);
    assert!(rig.auth.rejected(&rig.cx, &used).await.unwrap(), "a late 401 of the old token needs no third request");
    assert_eq!(rig.endpoint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn refusals_have_their_class_and_advice_and_repeat_no_prose() {
    for (status, body, kind, advice) in [
        (401, r#"{"error":"invalid_client","error_description":"s3cret-canary"}"#, ErrorKind::AuthExpired, "client id and client secret"),
        (400, r#"{"error":"unauthorized_client"}"#, ErrorKind::AuthExpired, "allow this client"),
        (400, r#"{"error":"invalid_scope"}"#, ErrorKind::Config, "scopes"),
        (400, r#"{"error":"unsupported_grant_type"}"#, ErrorKind::Config, "this grant"),
        (403, r#"{"error":"access_denied"}"#, ErrorKind::Forbidden, "consent"),
        (400, r#"{"error":"temporarily_unavailable"}"#, ErrorKind::NotSent, "may pass"),
        (503, "<html>s3cret-canary</html>", ErrorKind::NotSent, "may pass"),
        (429, "", ErrorKind::Throttled, "fewer"),
        (302, "", ErrorKind::Config, "redirects"),
        (404, "no", ErrorKind::Config, "token URL"),
        (400, r#"{"error":"s3cret canary <script>"}"#, ErrorKind::Config, "no error code"),
        (200, r#"{"ok":false,"error":"invalid_client"}"#, ErrorKind::AuthExpired, "client id and client secret"),
        (200, "<html>", ErrorKind::NotSent, "RFC 6749"),
        (200, r#"{"access_token":{"s3cret-canary":1}}"#, ErrorKind::NotSent, "RFC 6749"),
        (200, r#"{"access_token":""}"#, ErrorKind::NotSent, "no access token"),
        (200, r#"{"access_token":"a\nb-canary"}"#, ErrorKind::NotSent, "header cannot carry"),
        (200, r#"{"access_token":"canary","token_type":"mac"}"#, ErrorKind::NotSent, "`mac`"),
        (0, "", ErrorKind::NotSent, "in time"),
    ] {
        let rig = Rig::new(FakeEndpoint::new(&[(status, body)]));
        let error = rig.error().await;
        assert_eq!(error.kind(), kind, "{status} {body}: {error}");
        assert!(error.message().contains(advice), "{status} {body}: {error}");
        assert!(!format!("{error} {error:?} {:?}", rig.auth).contains("canary"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_not_tried_again_and_again_until_it_changes() {
    let rig = Rig::new(FakeEndpoint::new(&[(401, r#"{"error":"invalid_client"}"#)]));
    for _ in 0..20 {
        assert_eq!(rig.error().await.vendor_code(), Some("invalid_client"));
    }
    assert_eq!(rig.endpoint.requests(), 1);
    rig.credentials.set("default".into(), "app", credential("corrected"));
    rig.error().await;
    assert_eq!(rig.endpoint.requests(), 2);
    sleep(Duration::from_secs(31)).await;
    rig.error().await;
    assert_eq!(rig.endpoint.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_endpoints_retry_after_is_honoured() {
    let rig = Rig::new(FakeEndpoint::new(&[(429, ""), (200, r#"{"access_token":"t#"}"#)]));
    assert_eq!(rig.error().await.retry(), Retry::After(Duration::from_secs(7)));
    sleep(Duration::from_secs(3)).await;
    let again = rig.error().await;
    assert_eq!((again.kind(), again.retry(), rig.endpoint.requests()), (ErrorKind::Throttled, Retry::After(Duration::from_secs(4)), 1));
    sleep(Duration::from_secs(4)).await;
    assert_eq!(rig.token().await, "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_read_with_tolerance() {
    let huge = format!(r#","more":"{}""#, "x".repeat(1 << 20));
    for (more, lifetime) in [
        (r#","expires_in":3600"#, 3600),
        (r#","expires_in":"3600""#, 3600),
        (r#","expires_in":3600.9"#, 3600),
        ("", 300),
        (r#","expires_in":null"#, 300),
        (r#","expires_in":0"#, 300),
        (r#","expires_in":-5"#, 300),
        (r#","expires_in":"soon""#, 300),
        (r#","expires_in":[1]"#, 300),
        (r#","expires_in":1e300"#, 86_400),
        (r#","expires_in":18446744073709551615"#, 86_400),
        (r#","token_type":"bearer","scope":["a"],"refresh_token":null,"deep":{"a":[{}]}"#, 300),
        (huge.as_str(), 300),
    ] {
        let rig = Rig::new(FakeEndpoint::new(&[(200, &format!(r#"{{"access_token":"t#"{more}}}"#))]));
        assert_eq!(rig.token().await, "Bearer t1");
        sleep(Duration::from_secs(lifetime - 6)).await;
        assert_eq!(rig.token().await, "Bearer t1", "{more:.60}");
        sleep(Duration::from_secs(7)).await;
        assert_ne!(rig.token().await, "Bearer t1", "{more:.60}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_beyond_the_cap_is_refused() {
    let body = format!(r#"{{"access_token":"t#","more":"{}"}}"#, "x".repeat(3 << 20));
    let error = Rig::new(FakeEndpoint::new(&[(200, &body)])).error().await;
    assert!(error.message().contains("longer than 2097152 bytes"), "{error}");
}

#[tokio::test]
async fn parameters_that_follow_from_other_keys_are_refused() {
    let rig = Rig::with(FakeEndpoint::issuing(1), json!({ "token_url": "/t", "params": { "client_secret": "x" } }));
    let error = rig.error().await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("`client_secret`"), "{error}");
}
