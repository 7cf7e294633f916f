//! Slack's deliveries through the whole ingress: what is kept, under which id, and what is refused on the way.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::sync::Arc;

use bytes::Bytes;
use connector_core::{
    Connector as _,
    clock::ManualClock,
    context::{TenantId, WorkspaceId},
    state::{EventFilter, Store, StoredEvent},
    webhook::RawWebhook,
};
use connector_manifest::Engine;
use connector_slack::{SlackSignature, hooks, manifest};
use connector_state::MemoryState;
use connector_webhook::ingress::{ConnectionKeys, IngressAnswer, IngressLimits, IngressPipeline, IngressTarget, Outcome};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, Method};
use serde_json::{Value, json};

const NOW: u64 = 1_767_225_600;
const SECRET: &str = "slack-signing-secret-77aa";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

struct Bench {
    state: Arc<MemoryState>,
    pipeline: IngressPipeline,
    engine: Engine,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at_unix(NOW));
        let state = Arc::new(MemoryState::new(clock.clone()));
        let pipeline = IngressPipeline::new(state.clone(), clock, IngressLimits::default());
        Self { state, pipeline, engine: Engine::builder(manifest()).hooks(hooks()).build().unwrap() }
    }

    /// Signs and sends a body; `more` are further headers.
    async fn send(&self, kind: &str, body: &str, more: &[(&str, &str)]) -> IngressAnswer {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("v0:{NOW}:{body}").as_bytes());
        let signature = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
        let stamp = NOW.to_string();
        let mut headers = HeaderMap::new();
        let own = [("content-type", kind), ("x-slack-signature", &signature), ("x-slack-request-timestamp", &stamp)];
        for (name, value) in own.iter().chain(more) {
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let body = Bytes::copy_from_slice(body.as_bytes());
        let (tenant, workspace) = (TenantId::from("acme"), WorkspaceId::from("support"));
        let keys = [ConnectionKeys { connection: "slack".into(), secrets: vec!["the-next-one".into(), SECRET.into()] }];
        let verifier = SlackSignature::default();
        let target = IngressTarget::new(&tenant, &workspace, self.engine.spec(), &verifier, &keys);
        let request = RawWebhook { method: &Method::POST, url: "https://hub.example/x", query: "", headers: &headers, body: &body };
        self.pipeline.receive(&target, request).await
    }

    async fn kept(&self) -> Vec<StoredEvent> {
        let store: &dyn Store = &*self.state;
        store.events(&"acme".into(), EventFilter::default()).await.unwrap()
    }

    /// The only event that was kept: kind, id, payload.
    async fn only(&self) -> (String, String, Value) {
        let mut kept = self.kept().await;
        assert_eq!(kept.len(), 1);
        let event = kept.remove(0);
        assert_eq!(event.flags, [""; 0], "nothing is odd about it");
        (event.event_type.to_string(), event.event_id, serde_json::from_slice(&event.payload).unwrap())
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn message() -> Value {
    json!({ "token": "the-old-token", "team_id": "T0ACME", "api_app_id": "A0HUB", "type": "event_callback", "event_id": "Ev1", "event_time": NOW,
        "event": { "type": "message", "channel": "C0OPS", "user": "U0ANN", "text": "deploy done", "ts": "1767225600.000100" } })
}

#[tokio::test]
async fn a_retried_event_is_one_event() {
    let bench = Bench::new();
    assert_eq!(bench.send(JSON, &message().to_string(), &[]).await.outcome, Outcome::Accepted);
    for attempt in ["1", "2", "3"] {
        let retry = [("x-slack-retry-num", attempt), ("x-slack-retry-reason", "http_timeout")];
        let answer = bench.send(JSON, &message().to_string(), &retry).await;
        assert_eq!((answer.status, answer.outcome), (202, Outcome::Duplicate));
    }
    let (kind, id, payload) = bench.only().await;
    assert_eq!((kind.as_str(), id.as_str(), payload.get("token")), ("message_received", "Ev1", None));
    assert_eq!(payload["event"]["text"], "deploy done");
}

#[tokio::test]
async fn a_slash_command_is_an_event_under_its_trigger() {
    let bench = Bench::new();
    let body = form(&[
        ("token", "the-old-token"),
        ("team_id", "T0ACME"),
        ("channel_id", "C0OPS"),
        ("user_id", "U0ANN"),
        ("command", "/hub"),
        ("text", "status HUB-7 & more"),
        ("response_url", "https://hooks.slack.com/commands/T0ACME/1/abc"),
        ("trigger_id", "1.2.abc"),
    ]);
    assert_eq!(bench.send(&format!("{FORM}; charset=utf-8"), &body, &[]).await.status, 202);
    let (kind, id, payload) = bench.only().await;
    assert_eq!((kind.as_str(), id.as_str()), ("slash_command", "1.2.abc"));
    assert_eq!((payload["command"].as_str(), payload["text"].as_str()), (Some("/hub"), Some("status HUB-7 & more")));
    assert_eq!((payload["type"].as_str(), payload.get("token")), (Some("slash_command"), None));
}

#[tokio::test]
async fn an_interaction_is_an_event_with_what_slack_sent() {
    let bench = Bench::new();
    let pressed = json!({ "type": "block_actions", "token": "the-old-token", "user": { "id": "U0ANN" }, "trigger_id": "3.4.def",
        "response_url": "https://hooks.slack.com/actions/T0ACME/1/x", "actions": [{ "action_id": "approve", "value": "act_01J9" }] });
    assert_eq!(bench.send(FORM, &form(&[("payload", &pressed.to_string())]), &[]).await.status, 202);
    let (kind, id, payload) = bench.only().await;
    assert_eq!((kind.as_str(), id.as_str(), payload["interaction_type"].as_str()), ("interaction", "3.4.def", Some("block_actions")));
    assert_eq!((&payload["payload"]["actions"][0]["value"], payload["payload"].get("token")), (&json!("act_01J9"), None));

    let bench = Bench::new();
    let closed = json!({ "type": "view_closed", "view": { "id": "V1", "hash": "1.a" }, "user": { "id": "U0ANN" } });
    assert_eq!(bench.send(FORM, &form(&[("payload", &closed.to_string())]), &[]).await.status, 202);
    assert_eq!(bench.only().await.1, "view_closed:V1:1.a");
}

#[tokio::test]
async fn left_out_events_are_told_once_a_minute() {
    let bench = Bench::new();
    let limited = |minute: u64| {
        json!({ "token": "x", "type": "app_rate_limited", "team_id": "T0ACME", "minute_rate_limited": minute, "api_app_id": "A0HUB" }).to_string()
    };
    assert_eq!(bench.send(JSON, &limited(NOW), &[]).await.outcome, Outcome::Accepted);
    assert_eq!(bench.send(JSON, &limited(NOW), &[]).await.outcome, Outcome::Duplicate);
    let (kind, id, _) = bench.only().await;
    assert_eq!((kind.as_str(), id), ("app_rate_limited", format!("app_rate_limited:T0ACME:{NOW}")));
    assert_eq!(bench.send(JSON, &limited(NOW + 60), &[]).await.outcome, Outcome::Accepted);
}

#[tokio::test]
async fn handshakes_are_answered_only_if_they_are_signed_and_can_be_echoed() {
    let bench = Bench::new();
    let answer = bench.send(JSON, &json!({ "type": "url_verification", "challenge": "hubChallenge01", "token": "x" }).to_string(), &[]).await;
    assert_eq!((answer.status, &answer.body[..], answer.outcome), (200, &b"hubChallenge01"[..], Outcome::Handshake));
    let unsigned = bench.send(JSON, r#"{"type":"url_verification","challenge":"x"}"#, &[("x-slack-signature", "v0=00")]).await;
    assert_eq!((unsigned.status, unsigned.outcome), (401, Outcome::WrongProof));
    let odd = bench.send(JSON, &json!({ "type": "url_verification", "challenge": "<script>\u{e9}" }).to_string(), &[]).await;
    assert_eq!(odd.status, 400);
    let checked = bench.send(FORM, &form(&[("ssl_check", "1"), ("token", "x")]), &[]).await;
    assert_eq!((checked.status, checked.outcome), (200, Outcome::Handshake));
    assert!(bench.kept().await.is_empty());
}

#[tokio::test]
async fn what_is_genuine_but_nothing_of_slacks_is_refused() {
    let bench = Bench::new();
    for (kind, body, status) in [
        (JSON, "[1]", 400),
        (JSON, "{", 400),
        (JSON, r#"{"type":"event_callback","event_id":"E","event_id":"F"}"#, 400),
        (FORM, "payload=%5B1", 400),
        (FORM, "payload=7", 400),
        (FORM, "a=b", 400),
        ("text/plain", r#"{"type":"event_callback"}"#, 415),
    ] {
        assert_eq!(bench.send(kind, body, &[]).await.status, status, "{body}");
    }
    assert!(bench.kept().await.is_empty());
}
