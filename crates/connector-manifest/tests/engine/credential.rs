//! The credential: put on each request, refreshed once after a 401, and never shown even if the vendor echoes it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Connector, Error, ErrorKind, OpCall, Result,
    auth::{AuthProvider, CredentialUse},
    transport::{Head, Request},
};
use connector_manifest::{Engine, Hooks, NativeOperation, engine::Authorization};
use connector_testkit::transport::{Replay, Step};
use http::{HeaderValue, Method, header};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::common::{args, builder, cx, run};

/// Short and without digits, so that nothing that merely looks for keys would find it.
const CANARY: &str = "Zürich-canary";

/// Hands out a new token after each rejection, as often as it may.
#[derive(Debug, Default)]
struct Scripted {
    generation: AtomicU64,
    refreshes: u64,
}

impl Scripted {
    fn with(refreshes: u64) -> Arc<Self> {
        Arc::new(Self { refreshes, ..Self::default() })
    }
}

#[async_trait]
impl AuthProvider for Scripted {
    async fn authorize(&self, _: &CallCx, head: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        let generation = self.generation.load(Ordering::SeqCst);
        let mut value = HeaderValue::from_str(&format!("Bearer {CANARY}{generation}")).unwrap();
        value.set_sensitive(true);
        head.headers.insert(header::AUTHORIZATION, value);
        Ok(CredentialUse { generation })
    }

    async fn rejected(&self, _: &CallCx, used: &CredentialUse) -> Result<bool> {
        if used.generation >= self.refreshes {
            return Ok(false);
        }
        self.generation.store(used.generation + 1, Ordering::SeqCst);
        Ok(true)
    }
}

const TOOLS: &str = "errors: { code: .code, message: .message, request_id: .id, inside_success: .error }
tools:
  - { name: shop_get, method: GET, path: /a }
  - { name: shop_post, method: POST, path: /a, params: [{ name: n, type: integer }] }
  - { name: shop_native, native: raw, effect: read }";

fn engine(auth: Arc<Scripted>, replay: &Replay) -> Engine {
    builder(TOOLS).hooks(Hooks::new().native("raw", RawElsewhere)).auth(auth).transport(Arc::new(replay.clone())).build().unwrap()
}

fn tokens(replay: &Replay) -> Vec<String> {
    replay.seen().iter().map(|seen| String::from_utf8_lossy(seen.head.headers[header::AUTHORIZATION].as_bytes()).into_owned()).collect()
}

#[tokio::test]
async fn a_401_refreshes_once_and_sends_once_more_even_a_write() {
    let replay = Replay::new([Step::json(401, json!({})), Step::json(201, json!({ "id": 1 }))]);
    let reply = run(&engine(Scripted::with(9), &replay), "shop_post", json!({ "n": 7 })).await.unwrap();
    assert_eq!(reply.meta.status, 201);
    assert_eq!(tokens(&replay), [format!("Bearer {CANARY}0"), format!("Bearer {CANARY}1")]);
    assert_eq!(replay.seen().iter().map(|seen| seen.json()["n"].clone()).collect::<Vec<_>>(), [7, 7]);
}

#[tokio::test]
async fn a_second_401_gives_up() {
    let replay = Replay::new([Step::json(401, json!({})), Step::json(401, json!({})), Step::json(200, json!({}))]);
    let error = run(&engine(Scripted::with(9), &replay), "shop_get", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), replay.left()), (ErrorKind::AuthExpired, Some(401), 1));
    assert!(error.to_string().contains("connect again"), "{error}");
}

#[tokio::test]
async fn a_401_that_nothing_fresher_can_cure_is_sent_once() {
    let replay = Replay::new([Step::json(401, json!({})), Step::json(200, json!({}))]);
    let error = run(&engine(Scripted::with(0), &replay), "shop_get", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), replay.left()), (ErrorKind::AuthExpired, 1));
}

#[tokio::test]
async fn a_403_is_not_answered_by_a_refresh() {
    let replay = Replay::new([Step::json(403, json!({})), Step::json(200, json!({}))]);
    let error = run(&engine(Scripted::with(9), &replay), "shop_get", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), replay.left()), (ErrorKind::Forbidden, 1));
}

#[tokio::test]
async fn a_credential_the_vendor_echoes_is_never_shown() {
    let echo = format!("{CANARY}0");
    for status in [400, 401, 403, 404, 409, 422, 429, 500, 302] {
        let body = json!({ "code": echo, "message": format!("the header was 'Bearer {echo}'"), "id": echo });
        let replay = Replay::new([Step::json(status, body)]);
        let error = run(&engine(Scripted::with(0), &replay), "shop_get", json!({})).await.unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.vendor_code());
        assert!(!shown.contains("canary"), "{status}: {shown}");
    }
    let inside = json!({ "error": true, "code": echo, "message": format!("bad {echo}") });
    let error = run(&engine(Scripted::with(0), &Replay::new([Step::json(200, inside)])), "shop_get", json!({})).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    // A success is passed on as it came: a vendor may well return what it was given.
    let replay = Replay::new([Step::json(200, json!({ "note": echo }))]);
    let reply = run(&engine(Scripted::with(0), &replay), "shop_get", json!({})).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap(), json!({ "note": echo }));
}

/// Sends one request to the address in its arguments, with the credential or without.
#[derive(Debug)]
struct RawElsewhere;

#[async_trait]
impl NativeOperation for RawElsewhere {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<connector_core::OpReply> {
        let wrong = || Error::invalid("the test's arguments are wrong");
        let url = call.args["url"].as_str().and_then(|url| url.parse().ok()).ok_or_else(wrong)?;
        let raw = engine.send_raw(cx, Request::new(Method::PUT, url), call.args["authorize"] == true).await?;
        if raw.is_success() { connector_core::OpReply::from_value(json!({ "status": raw.status }), None) } else { Err(engine.error_for(cx, &raw)) }
    }
}

#[tokio::test]
async fn a_raw_request_to_another_host_never_carries_the_credential() {
    let yaml = TOOLS.replace("effect: read }", "effect: read, params: [{ name: url, type: string }, { name: authorize, type: boolean }] }");
    let replay = Replay::new([Step::json(201, json!({})), Step::json(202, json!({})), Step::json(409, json!({ "code": "TAKEN" }))]);
    let engine =
        builder(&yaml).hooks(Hooks::new().native("raw", RawElsewhere)).auth(Scripted::with(0)).transport(Arc::new(replay.clone())).build().unwrap();
    let send = |url: &str, authorize: bool| {
        let call = OpCall::new("shop_native", args(json!({ "url": url, "authorize": authorize })));
        let (engine, cx) = (&engine, cx());
        async move { engine.call(&cx, call).await }
    };
    for url in ["https://upload.example/chunk", "http://api.example/v1/a", "https://api.example:8443/v1/a"] {
        let error = send(url, true).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{url}: {error}");
    }
    send("https://upload.example/chunk", false).await.unwrap();
    assert!(replay.seen()[0].head.headers.get(header::AUTHORIZATION).is_none());
    send("https://api.example/other", true).await.unwrap();
    assert!(replay.seen()[1].head.headers.contains_key(header::AUTHORIZATION));
    let error = send("https://api.example/other", true).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code(), error.operation()), (ErrorKind::Conflict, Some("TAKEN"), Some("shop_native")));
}

#[tokio::test]
async fn another_protocol_gets_the_same_credential_and_its_renewal() {
    let engine = engine(Scripted::with(1), &Replay::new([]));
    let (first, used) = engine.authorization(&cx()).await.unwrap();
    assert!(matches!(&first, Authorization::Bearer { token } if token.expose_secret() == format!("{CANARY}0")));
    assert!(!format!("{first:?}").contains("canary"));
    assert!(engine.rejected(&cx(), &used).await.unwrap());
    let (second, used) = engine.authorization(&cx()).await.unwrap();
    assert!(matches!(&second, Authorization::Bearer { token } if token.expose_secret() == format!("{CANARY}1")));
    assert!(!engine.rejected(&cx(), &used).await.unwrap());
}

#[tokio::test]
async fn a_connection_without_a_credential_cannot_speak_another_protocol() {
    let error = builder("tools: [{ name: shop_get, method: GET, path: /a }]").build().unwrap().authorization(&cx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
