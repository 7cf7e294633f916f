//! What a connect flow asks: codes, devices, revocation. Each errand is one request, and strange answers show nothing.

use std::sync::Arc;

use connector_core::{
    clock::Instant,
    context::{CallCx, Connection},
    credential::{Credential, CredentialQuery},
    error::{Error, ErrorKind, Retry},
    token::{MemoryTokens, TokenSet, TokenStore as _},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{CodeExchange, DeviceCodes, OAuth2Client};
use crate::{AuthDeps, testing::FakeEndpoint};

const TOKENS: &str = r#"{"access_token":"access-canary","refresh_token":"refresh-canary","expires_in":3600,"scope":"a b"}"#;

fn client(endpoint: &Arc<FakeEndpoint>, more: Value) -> OAuth2Client {
    let mut spec = json!({
        "flow": "authorization_code", "token_url": "https://id.example/token", "revoke_url": "https://id.example/revoke",
        "device_url": "https://id.example/device", "scopes": ["a"], "base_scopes": ["offline"],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    OAuth2Client::new(serde_json::from_value(spec).unwrap(), AuthDeps::new(endpoint.clone())).unwrap()
}

fn cx() -> CallCx {
    CallCx::new(Arc::new(Connection::new("crm", "https://api.example").unwrap().with_credential("app")))
}

fn credential() -> Credential {
    Credential::new([("client_id", "app"), ("client_secret", "secret-canary")])
}

fn pairs(form: &[(&str, &str)]) -> Vec<(String, String)> {
    form.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn shows_nothing(shown: &impl std::fmt::Debug) {
    assert!(!format!("{shown:?}").contains("canary"), "{shown:?}");
}

async fn exchange(client: &OAuth2Client) -> Result<connector_core::token::TokenRecord, Error> {
    let (code, verifier): (SecretString, SecretString) = ("code-canary".into(), "verifier-canary".into());
    let ask = CodeExchange { code: &code, redirect_uri: "http://127.0.0.1:9/cb", verifier: &verifier };
    shows_nothing(&ask);
    client.exchange(&cx(), &credential(), ask).await
}

#[tokio::test(start_paused = true)]
async fn a_code_is_exchanged_with_its_verifier() {
    let endpoint = FakeEndpoint::new(&[(200, TOKENS)]);
    let record = exchange(&client(&endpoint, json!({}))).await.unwrap();
    shows_nothing(&record);
    assert_eq!((record.tokens.access.expose_secret(), record.tokens.refresh.unwrap().expose_secret()), ("access-canary", "refresh-canary"));
    assert_eq!((record.facts.scopes.len(), record.facts.expires_at), (2, Some(record.facts.obtained_at + 3_600_000)));
    let form = &[
        ("grant_type", "authorization_code"),
        ("code", "code-canary"),
        ("redirect_uri", "http://127.0.0.1:9/cb"),
        ("code_verifier", "verifier-canary"),
        ("client_id", "app"),
        ("client_secret", "secret-canary"),
    ];
    assert_eq!(endpoint.seen()[0].form, pairs(form));
}

#[tokio::test(start_paused = true)]
async fn a_public_client_names_itself_and_proves_nothing() {
    let endpoint = FakeEndpoint::new(&[(200, TOKENS)]);
    exchange(&client(&endpoint, json!({ "client_auth": "none" }))).await.unwrap();
    let seen = endpoint.seen().pop().unwrap();
    assert!(seen.form.contains(&("client_id".into(), "app".into())) && !seen.body.contains("secret-canary"));
}

#[tokio::test(start_paused = true)]
async fn bodies_are_json_where_the_vendor_wants_that() {
    let endpoint = FakeEndpoint::new(&[(200, TOKENS)]);
    let dialect = json!({ "body": "json", "client_auth": "basic", "params": { "expires_in": "1800" } });
    exchange(&client(&endpoint, dialect)).await.unwrap();
    let seen = endpoint.seen().pop().unwrap();
    // base64("app:secret-canary")
    assert_eq!(seen.authorization.as_deref(), Some("Basic YXBwOnNlY3JldC1jYW5hcnk="));
    assert_eq!(seen.content_type.as_deref(), Some("application/json"));
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    let expected = json!({ "grant_type": "authorization_code", "code": "code-canary", "redirect_uri": "http://127.0.0.1:9/cb",
        "code_verifier": "verifier-canary", "expires_in": "1800" });
    assert_eq!(body, expected);
}

#[tokio::test(start_paused = true)]
async fn a_code_is_never_sent_twice() {
    for (status, body, kind) in [
        (400, r#"{"error":"invalid_grant","error_description":"code-canary"}"#, ErrorKind::AuthExpired),
        (401, r#"{"error":"invalid_client"}"#, ErrorKind::AuthExpired),
        (503, "canary", ErrorKind::Transient),
        (0, "", ErrorKind::Timeout),
        (200, "<html>canary", ErrorKind::Protocol),
        (200, r#"{"ok":false,"error":"invalid_code"}"#, ErrorKind::Config),
    ] {
        let endpoint = FakeEndpoint::new(&[(status, body)]);
        let error = exchange(&client(&endpoint, json!({}))).await.unwrap_err();
        assert_eq!((error.kind(), error.retry(), endpoint.requests()), (kind, Retry::Never, 1), "{status} {body}");
        shows_nothing(&error);
    }
}

#[tokio::test(start_paused = true)]
async fn keeping_a_consent_replaces_what_was_there_and_serials_only_grow() {
    let endpoint = FakeEndpoint::new(&[(200, TOKENS)]);
    let mut client = client(&endpoint, json!({}));
    let tokens = Arc::new(MemoryTokens::default());
    client.endpoint.deps.tokens = tokens.clone();
    let first = client.keep(&cx(), exchange(&client).await.unwrap()).await.unwrap();
    let second = client.keep(&cx(), exchange(&client).await.unwrap()).await.unwrap();
    assert!(second.serial > first.serial);
    let cx = cx();
    let query = CredentialQuery::of(&cx, "app");
    assert_eq!(tokens.load(&query).await.unwrap().unwrap().record.facts, second);
    let nameless = CallCx::new(Arc::new(Connection::new("crm", "https://api.example").unwrap()));
    assert_eq!(client.facts(&nameless).await.unwrap_err().kind(), ErrorKind::Config);
}

/// The answer with the codes, then these.
fn device(answers: &[(u16, &str)]) -> Arc<FakeEndpoint> {
    let codes = r#"{"device_code":"device-canary","user_code":"WDJB-MJHT","verification_uri":"https://id.example/device",
        "verification_uri_complete":"https://id.example/device?user_code=WDJB-MJHT","expires_in":300,"interval":5}"#;
    let mut all = vec![(200, codes)];
    all.extend(answers);
    FakeEndpoint::new(&all)
}

async fn codes(client: &OAuth2Client) -> DeviceCodes {
    client.device_codes(&cx(), &credential(), &[]).await.unwrap()
}

const PENDING: (u16, &str) = (400, r#"{"error":"authorization_pending"}"#);

#[tokio::test(start_paused = true)]
async fn a_device_asks_at_the_servers_pace_until_somebody_confirmed() {
    let slow = (400, r#"{"error":"slow_down"}"#);
    // GitHub answers 200 with an error.
    let endpoint = device(&[PENDING, slow, (200, PENDING.1), (0, ""), (503, ""), (200, TOKENS)]);
    let client = client(&endpoint, json!({ "flow": "device_code" }));
    let mut codes = codes(&client).await;
    shows_nothing(&codes);
    assert_eq!((codes.user_code.as_str(), codes.verification_uri.as_str()), ("WDJB-MJHT", "https://id.example/device"));
    assert_eq!(endpoint.seen()[0].form, pairs(&[("scope", "offline a"), ("client_id", "app"), ("client_secret", "secret-canary")]));
    let mut waited = Vec::new();
    let record = loop {
        let before = Instant::now();
        let outcome = client.poll_device(&cx(), &credential(), &mut codes).await.unwrap();
        waited.push(before.elapsed().as_secs());
        if let Some(record) = outcome {
            break record;
        }
    };
    assert_eq!((record.tokens.access.expose_secret(), waited), ("access-canary", vec![5, 5, 10, 10, 20, 40]));
    assert_eq!(
        endpoint.seen()[1].form[..2],
        pairs(&[("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", "device-canary")])
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_stops_when_somebody_refused_or_nobody_came() {
    for (answer, kind) in [
        ((400, r#"{"error":"access_denied"}"#), ErrorKind::Forbidden),
        ((400, r#"{"error":"expired_token"}"#), ErrorKind::AuthExpired),
        ((400, r#"{"error":"invalid_grant"}"#), ErrorKind::AuthExpired),
        ((401, r#"{"error":"invalid_client"}"#), ErrorKind::AuthExpired),
        ((400, r#"{"error":"unsupported_grant_type"}"#), ErrorKind::Config),
    ] {
        let endpoint = device(&[answer]);
        let client = client(&endpoint, json!({ "flow": "device_code" }));
        let mut codes = codes(&client).await;
        assert_eq!(client.poll_device(&cx(), &credential(), &mut codes).await.unwrap_err().kind(), kind);
    }
    let endpoint = device(&[PENDING]);
    let client = client(&endpoint, json!({ "flow": "device_code" }));
    let mut codes = codes(&client).await;
    let before = Instant::now();
    let error = loop {
        match client.poll_device(&cx(), &credential(), &mut codes).await {
            Ok(outcome) => assert!(outcome.is_none()),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), before.elapsed().as_secs()), (ErrorKind::AuthExpired, 300));
    assert!(error.message().contains("connect again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn codes_that_lead_nowhere_good_are_refused() {
    for body in [
        "<html>canary",
        r#"{"device_code":"canary","user_code":"A"}"#,
        r#"{"device_code":7,"user_code":"A","verification_uri":"https://id.example/"}"#,
        r#"{"device_code":"canary","user_code":"A","verification_uri":"javascript:alert(1)"}"#,
        r#"{"device_code":"canary","user_code":"A","verification_uri":"http://id.example/"}"#,
    ] {
        let error = client(&FakeEndpoint::new(&[(200, body)]), json!({})).device_codes(&cx(), &credential(), &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{body}");
        shows_nothing(&error);
    }
    let nowhere = client(&FakeEndpoint::new(&[(200, "")]), json!({ "device_url": null }));
    assert_eq!(nowhere.device_codes(&cx(), &credential(), &[]).await.unwrap_err().kind(), ErrorKind::Config);
}

fn tokens() -> TokenSet {
    TokenSet { access: "access-canary".into(), refresh: Some("refresh-canary".into()) }
}

#[tokio::test(start_paused = true)]
async fn both_tokens_are_revoked_and_unknown_ones_count_as_revoked() {
    for answers in [
        &[(200, "")][..],
        &[(200, "{}"), (400, r#"{"error":"unsupported_token_type"}"#)],
        &[(400, r#"{"error":"invalid_token"}"#)],
        &[(200, r#"{"ok":false,"error":"invalid_auth"}"#), (200, r#"{"ok":true,"revoked":true}"#)],
    ] {
        let endpoint = FakeEndpoint::new(answers);
        let client = client(&endpoint, json!({ "params": { "audience": "x" } }));
        assert!(client.revoke(&cx(), &credential(), &tokens()).await.unwrap(), "{answers:?}");
        let seen = endpoint.seen();
        assert_eq!((seen[0].url.as_str(), seen.len()), ("https://id.example/revoke", 2));
        let client = [("client_id", "app"), ("client_secret", "secret-canary")];
        for (seen, token, hint) in [(&seen[0], "refresh-canary", "refresh_token"), (&seen[1], "access-canary", "access_token")] {
            assert_eq!(seen.form, pairs(&[("token", token), ("token_type_hint", hint), client[0], client[1]]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_may_not_have_happened_is_an_error() {
    for (status, body, kind) in [
        (503, "", ErrorKind::Transient),
        (0, "", ErrorKind::Timeout),
        (401, r#"{"error":"invalid_client"}"#, ErrorKind::AuthExpired),
        (400, r#"{"error":"unsupported_token_type"}"#, ErrorKind::Config),
    ] {
        let endpoint = FakeEndpoint::new(&[(status, body)]);
        let error = client(&endpoint, json!({})).revoke(&cx(), &credential(), &tokens()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {body}");
        shows_nothing(&error);
    }
    let endpoint = FakeEndpoint::new(&[(200, "")]);
    let nowhere = client(&endpoint, json!({ "revoke_url": null }));
    assert!(!nowhere.revoke(&cx(), &credential(), &tokens()).await.unwrap());
    assert_eq!(endpoint.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_are_not_named_are_read_from_the_issuers_metadata() {
    let metadata =
        r#"{"issuer":"https://id.example","token_endpoint":"https://id.example/v9/token","revocation_endpoint":"https://id.example/v9/revoke"}"#;
    let endpoint = FakeEndpoint::new(&[(200, metadata), (200, TOKENS), (200, "")]);
    let client = client(&endpoint, json!({ "issuer": "https://id.example", "token_url": "", "revoke_url": null, "device_url": null }));
    exchange(&client).await.unwrap();
    assert!(client.revoke(&cx(), &credential(), &tokens()).await.unwrap());
    let urls: Vec<_> = endpoint.seen().into_iter().map(|seen| seen.url).collect();
    assert_eq!(urls[1..3], ["https://id.example/v9/token", "https://id.example/v9/revoke"]);
    let error = client.device_codes(&cx(), &credential(), &[]).await.unwrap_err();
    assert!(error.message().contains("names no device authorization endpoint"), "{error}");
}
