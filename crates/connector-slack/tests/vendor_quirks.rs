//! Slack's oddities, one test each: refusals in a 200, double posts, text that wakes people, deliveries in three shapes.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, OpReply, Result,
    auth::NoAuth,
    clock::{ManualClock, SeededRng},
    layer::StackParts,
    resilience::Resilience,
    transport::{Body, Request, Response, Transport},
    webhook::{IncomingEvent, Ingress, RawWebhook, WebhookVerifier as _},
};
use connector_slack::{Slack, SlackSignature};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::SecretString;
use serde_json::{Value, json};

const NOW: u64 = 1_767_225_600;

/// A request as Slack saw it: the method's name, and query or body.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    method: String,
    sent: Value,
}

enum Answer {
    Json(u16, Value),
    Lost(ErrorKind),
}

type Handler = Box<dyn Fn(&Seen, usize) -> Answer + Send + Sync>;

/// A Slack made of a function; the second argument counts the requests for that method.
struct Fake(Handler, Mutex<Vec<Seen>>);

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    fn new(handler: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self(Box::new(handler), Mutex::default()))
    }

    fn methods(&self) -> Vec<String> {
        self.1.lock().unwrap().iter().map(|seen| seen.method.clone()).collect()
    }

    fn sent(&self, at: usize) -> Value {
        self.1.lock().unwrap()[at].sent.clone()
    }
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let body = request.body.collect(usize::MAX).await?;
        let query = || request.head.url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
        let sent = serde_json::from_slice(&body).unwrap_or_else(|_| Value::Object(query()));
        let method = request.head.url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let seen = Seen { method: method.clone(), sent };
        let count = {
            let mut all = self.1.lock().unwrap();
            all.push(seen.clone());
            all.iter().filter(|one| one.method == method).count()
        };
        match (self.0)(&seen, count) {
            Answer::Json(status, body) => {
                let response = http::Response::builder().status(status).header("content-type", "application/json");
                Ok(response.body(Body::from(Bytes::from(body.to_string()))).unwrap())
            }
            Answer::Lost(kind) => Err(Error::new(kind, "the test cut the connection")),
        }
    }
}

fn slack(fake: &Arc<Fake>) -> Slack {
    let parts = StackParts::with_clock(Resilience::standard(), Arc::new(ManualClock::at_unix(NOW)), Arc::new(SeededRng::new(7)));
    Slack::builder().transport(fake.clone()).auth(Arc::new(NoAuth)).resilience(parts).build().unwrap()
}

async fn call(fake: &Arc<Fake>, tool: &str, args: Value) -> Result<OpReply> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    slack(fake).client().call_dynamic(tool, args).await
}

fn refused(code: &'static str) -> Arc<Fake> {
    Fake::new(move |_, _| Answer::Json(200, json!({ "ok": false, "error": code })))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_a_200_is_an_error_of_its_class() {
    for (code, kind) in [
        ("invalid_auth", ErrorKind::AuthExpired),
        ("token_revoked", ErrorKind::AuthExpired),
        ("missing_scope", ErrorKind::Forbidden),
        ("not_allowed_token_type", ErrorKind::Forbidden),
        ("not_in_channel", ErrorKind::Forbidden),
        ("channel_not_found", ErrorKind::NotFound),
        ("is_archived", ErrorKind::Conflict),
        ("msg_too_long", ErrorKind::Invalid),
        ("an_error_nobody_has_seen_yet", ErrorKind::Invalid),
    ] {
        let error = call(&refused(code), "slack_get_channel", json!({ "channel": "C1" })).await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (kind, Some(code)));
    }
}

#[tokio::test(start_paused = true)]
async fn both_spellings_of_too_fast_are_waited_out() {
    for code in ["ratelimited", "rate_limited"] {
        let fake = Fake::new(move |_, count| match count {
            1 => Answer::Json(200, json!({ "ok": false, "error": code })),
            _ => Answer::Json(200, json!({ "ok": true, "channel": { "id": "C1" } })),
        });
        call(&fake, "slack_get_channel", json!({ "channel": "C1" })).await.unwrap();
        assert_eq!(fake.methods().len(), 2, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_so_already_is_done() {
    for (tool, args, code) in [
        ("slack_react", json!({ "channel": "C1", "timestamp": "1.2", "name": "eyes" }), "already_reacted"),
        ("slack_remove_reaction", json!({ "channel": "C1", "timestamp": "1.2", "name": "eyes" }), "no_reaction"),
        ("slack_delete_message", json!({ "channel": "C1", "ts": "1.2" }), "message_not_found"),
        ("slack_pin", json!({ "channel": "C1", "timestamp": "1.2" }), "already_pinned"),
        ("slack_archive_channel", json!({ "channel": "C1" }), "already_archived"),
        ("slack_leave_channel", json!({ "channel": "C1" }), "not_in_channel"),
    ] {
        call(&refused(code), tool, args).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
    }
}

const POSTED: &str = "1767225600.000100";

fn history(messages: Value) -> Answer {
    Answer::Json(200, json!({ "ok": true, "messages": messages }))
}

#[tokio::test(start_paused = true)]
async fn a_post_whose_answer_was_lost_is_found_and_not_repeated() {
    let posted: Arc<Mutex<Option<Value>>> = Arc::default();
    let kept = posted.clone();
    let fake = Fake::new(move |seen, _| match seen.method.as_str() {
        "chat.postMessage" => {
            *kept.lock().unwrap() = Some(seen.sent["metadata"].clone());
            Answer::Lost(ErrorKind::Timeout)
        }
        _ => history(json!([{ "ts": "9.9", "text": "other" }, { "ts": POSTED, "text": "done", "metadata": kept.lock().unwrap().clone() }])),
    });
    let reply = call(&fake, "slack_send_message", json!({ "channel": "C1", "text": "done" })).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap()["ts"], POSTED);
    assert_eq!(fake.methods(), ["chat.postMessage", "conversations.history"]);
    assert_eq!(fake.sent(1)["oldest"], format!("{}.000000", NOW - 60));
    assert!(posted.lock().unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_post_that_did_not_arrive_is_sent_again_in_its_thread() {
    let fake = Fake::new(|seen, count| match (seen.method.as_str(), count) {
        ("chat.postMessage", 1) => Answer::Json(500, json!({ "ok": false, "error": "internal_error" })),
        ("chat.postMessage", _) => Answer::Json(200, json!({ "ok": true, "channel": "C1", "ts": POSTED, "message": { "text": "done" } })),
        _ => history(json!([{ "ts": "1.1" }])),
    });
    let reply = call(&fake, "slack_send_message", json!({ "channel": "C1", "text": "done", "thread_ts": "1.1" })).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap()["ts"], POSTED);
    assert_eq!(fake.methods(), ["chat.postMessage", "conversations.replies", "chat.postMessage"]);
    assert_eq!(fake.sent(0)["metadata"], fake.sent(2)["metadata"], "one message, one mark");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_up_is_unknown_and_not_repeated() {
    let fake = Fake::new(|seen, _| match seen.method.as_str() {
        "chat.postMessage" => Answer::Lost(ErrorKind::Timeout),
        _ => Answer::Json(200, json!({ "ok": false, "error": "missing_scope", "needed": "channels:history", "provided": "chat:write" })),
    });
    let error = call(&fake, "slack_send_message", json!({ "channel": "C1", "text": "done" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert_eq!(fake.methods().iter().filter(|method| *method == "chat.postMessage").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_used_before_finds_its_message() {
    let mark: Arc<Mutex<Value>> = Arc::default();
    let kept = mark.clone();
    let fake = Fake::new(move |seen, _| match seen.method.as_str() {
        "chat.postMessage" => {
            *kept.lock().unwrap() = seen.sent["metadata"].clone();
            Answer::Json(200, json!({ "ok": true, "channel": "C1", "ts": POSTED, "message": {} }))
        }
        _ if kept.lock().unwrap().is_null() => history(json!([])),
        _ => history(json!([{ "ts": POSTED, "metadata": kept.lock().unwrap().clone() }])),
    });
    let slack = slack(&fake);
    for _ in 0..2 {
        let sent = slack.send_message().with(|message| message.channel("C1").text("done")).idempotency_key("order-7").await.unwrap();
        assert_eq!(sent.ts, POSTED);
    }
    assert_eq!(fake.methods(), ["conversations.history", "chat.postMessage", "conversations.history"]);
    assert!(!mark.lock().unwrap().to_string().contains("order-7"), "others can read the mark");
}

#[tokio::test(start_paused = true)]
async fn foreign_text_wakes_nobody_unless_it_is_meant_to() {
    let fake = Fake::new(|_, _| Answer::Json(200, json!({ "ok": true, "channel": "C1", "ts": POSTED, "message": {} })));
    call(&fake, "slack_send_message", json!({ "channel": "C1", "text": "<!channel> *a* & b" })).await.unwrap();
    call(&fake, "slack_send_message", json!({ "channel": "C1", "text": "<!here>", "mentions": true })).await.unwrap();
    assert_eq!((fake.sent(0)["text"].as_str(), fake.sent(1)["text"].as_str()), (Some("&lt;!channel&gt; *a* &amp; b"), Some("<!here>")));
    assert_eq!((&fake.sent(0)["parse"], &fake.sent(0)["link_names"]), (&json!("none"), &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_found_behind_empty_pages() {
    let fake = Fake::new(|_, count| {
        let (channels, next) = match count {
            1 => (json!([{ "id": "C1", "name": "general" }]), "a=="),
            2 => (json!([]), "b=="),
            _ => (json!([{ "id": "C9", "name": "ops" }]), ""),
        };
        Answer::Json(200, json!({ "ok": true, "channels": channels, "response_metadata": { "next_cursor": next } }))
    });
    let found = call(&fake, "slack_find_channel", json!({ "name": "#OPS" })).await.unwrap().body.to_value().unwrap();
    assert_eq!(found["id"], "C9");
    assert_eq!(fake.sent(1)["cursor"], "a==");
    let none = call(&fake, "slack_find_channel", json!({ "name": "nowhere" })).await.unwrap().body.to_value().unwrap();
    assert_eq!(none, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_file_goes_to_slacks_own_host_and_is_shared_once() {
    let fake = Fake::new(|seen, _| match seen.method.as_str() {
        "files.getUploadURLExternal" => {
            Answer::Json(200, json!({ "ok": true, "upload_url": "https://files.slack.com/upload/v1/ABC", "file_id": "F1" }))
        }
        "ABC" => Answer::Json(200, json!("OK - 3")),
        "files.completeUploadExternal" => Answer::Lost(ErrorKind::Timeout),
        _ => Answer::Json(200, json!({ "ok": true, "file": { "id": "F1", "shares": { "public": { "C1": [{ "ts": "1.1" }] } } } })),
    });
    let file = call(&fake, "slack_upload_file", json!({ "filename": "a.txt", "content": "abc", "channel": "C1" })).await.unwrap();
    assert_eq!(file.body.to_value().unwrap()["id"], "F1");
    assert_eq!(fake.methods(), ["files.getUploadURLExternal", "ABC", "files.completeUploadExternal", "files.info"]);
    let elsewhere = Fake::new(|_, _| Answer::Json(200, json!({ "ok": true, "upload_url": "https://evil.example/x", "file_id": "F1" })));
    let error = call(&elsewhere, "slack_upload_file", json!({ "filename": "a.txt", "content": "abc" })).await.unwrap_err();
    assert_eq!((error.kind(), elsewhere.methods().len()), (ErrorKind::Denied, 1));
}

fn verify(body: &str, signature: &str, at: u64, form: bool, now: u64) -> Result<Ingress> {
    let mut headers = HeaderMap::new();
    headers.insert("x-slack-signature", HeaderValue::from_str(signature).unwrap());
    headers.insert("x-slack-request-timestamp", HeaderValue::from(at));
    headers.insert("content-type", HeaderValue::from_static(if form { "application/x-www-form-urlencoded" } else { "application/json" }));
    let body = Bytes::copy_from_slice(body.as_bytes());
    let request = RawWebhook { method: &Method::POST, url: "https://hub.example/x", query: "", headers: &headers, body: &body };
    let secrets = [SecretString::from("another"), SecretString::from("slack-signing-secret-77aa")];
    SlackSignature::default().verify(&request, &secrets, SystemTime::UNIX_EPOCH + Duration::from_secs(now))
}

fn one(ingress: Result<Ingress>) -> IncomingEvent {
    match ingress.unwrap() {
        Ingress::Events(mut events) if events.len() == 1 => events.remove(0),
        other => panic!("{other:?}"),
    }
}

const EVENT: &str = r#"{"token":"deprecated","team_id":"T0ACME","api_app_id":"A0HUB","event":{"type":"message","channel":"C0OPS","user":"U0ANN","text":"deploy done","ts":"1767225600.000100","event_ts":"1767225600.000100","channel_type":"channel"},"type":"event_callback","event_id":"Ev0HUB0001","event_time":1767225600}"#;
const EVENT_SIGNATURE: &str = "v0=bff1ca2821a43c754516771df8fc299039534e99110328b0af0ee443cddda1cb";
const COMMAND: &str = "team_id=T0ACME&channel_id=C0OPS&user_id=U0ANN&command=%2Fhub&text=status+HUB-7&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT0ACME%2F1%2Fabc&trigger_id=1.2.abc";
const COMMAND_SIGNATURE: &str = "v0=82da2ab8b073c0a2f55a7734b05fa3b78decfaeb43e20257a70f5a1f42233384";
const SENT: u64 = 1_767_225_601;

#[test]
fn the_vectors_of_the_sheet_are_accepted_and_one_changed_bit_is_not() {
    let event = one(verify(EVENT, EVENT_SIGNATURE, SENT, false, SENT));
    assert_eq!((event.id.as_deref(), &*event.event_type, event.order_key.as_deref()), (Some("Ev0HUB0001"), "message_received", Some("T0ACME:C0OPS")));
    let command = one(verify(COMMAND, COMMAND_SIGNATURE, SENT, true, SENT));
    assert_eq!((command.id.as_deref(), &*command.event_type), (Some("1.2.abc"), "slash_command"));
    let payload: Value = serde_json::from_slice(&command.payload).unwrap();
    assert_eq!((payload["command"].as_str(), payload["text"].as_str()), (Some("/hub"), Some("status HUB-7")));
    for (body, signature) in [(EVENT, EVENT_SIGNATURE), (COMMAND, COMMAND_SIGNATURE)] {
        let error = verify(&body.replacen('A', "B", 1), signature, SENT, false, SENT).unwrap_err();
        assert_eq!((error.kind(), error.context_value("reason")), (ErrorKind::Denied, Some("mismatch")));
        let stale = verify(body, signature, SENT, false, SENT + 301).unwrap_err();
        assert_eq!(stale.context_value("reason"), Some("stale"));
    }
    for signature in ["v1=00", "v0=zz", &EVENT_SIGNATURE[3..]] {
        assert_eq!(verify(EVENT, signature, SENT, false, SENT).unwrap_err().context_value("reason"), Some("malformed"), "{signature}");
    }
}

#[test]
fn without_a_secret_nothing_is_believed() {
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(b"{}"));
    let request = RawWebhook { method: &Method::POST, url: "", query: "", headers: &headers, body: &body };
    for secrets in [vec![], vec![SecretString::from(" ")]] {
        assert_eq!(SlackSignature::default().verify(&request, &secrets, SystemTime::UNIX_EPOCH).unwrap_err().kind(), ErrorKind::Config);
    }
}
