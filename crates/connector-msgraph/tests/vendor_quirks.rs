//! What is odd about Graph's mail, one test each, over scripted answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the failure")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Cursor, ErrorKind, OpCall, OpReply, Result,
    auth::{AuthProvider, CredentialUse},
    clock::{ManualClock, SeededRng},
    delta::Change,
    layer::stack::StackParts,
    resilience::Resilience,
    transport::Head,
};
use connector_manifest::{ConnectionOptions, Engine, RawReply, connection};
use connector_msgraph::{Config, ID, MsGraph, hooks, manifest};
use connector_testkit::transport::{Replay, Step};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

const MAILBOX: &str = "support@contoso.com";
const ROOT: &str = "https://graph.microsoft.com/v1.0";

/// Puts a token on every request, so that it shows where one goes.
#[derive(Debug)]
struct Token;

#[async_trait]
impl AuthProvider for Token {
    async fn authorize(&self, _: &CallCx, head: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        head.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer t"));
        Ok(CredentialUse::FIXED)
    }

    async fn rejected(&self, _: &CallCx, _: &CredentialUse) -> Result<bool> {
        Ok(false)
    }
}

/// The wall time of these tests.
const NOW: u64 = 1_795_219_200;

fn parts() -> StackParts {
    StackParts::with_clock(Resilience::standard(), Arc::new(ManualClock::at_unix(NOW)), Arc::new(SeededRng::new(1)))
}

fn client(replay: &Replay) -> MsGraph {
    let config = Config { mailbox: Some(MAILBOX.into()), ..Config::default() };
    MsGraph::builder(config).transport(Arc::new(replay.clone())).auth(Arc::new(Token)).resilience(parts()).build().unwrap()
}

async fn call(client: &MsGraph, operation: &str, args: Value) -> Result<OpReply> {
    client.client().call_dynamic(operation, args.as_object().cloned().unwrap()).await
}

fn ok(body: Value) -> Step {
    Step::json(200, body)
}

fn graph_error(status: u16, code: &str) -> Step {
    Step::json(status, json!({ "error": { "code": code, "message": "m" } }))
}

// ---- errors ----

#[test]
fn the_most_specific_code_decides_wherever_it_is_nested() {
    let engine = Engine::builder(manifest()).hooks(hooks()).build().unwrap();
    let cx = CallCx::new(Arc::new(connection(&manifest(), ID, ConnectionOptions::default(), &|_| None).unwrap()));
    let kind =
        |status: u16, body: Value| engine.error_for(&cx, &RawReply { status, headers: HeaderMap::new(), body: body.to_string().into() }).kind();
    let code = |code: &str| json!({ "error": { "code": code } });
    let inner = |code: &str| json!({ "error": { "code": "BadRequest", "innerError": { "code": code } } });
    for (status, body, expected) in [
        (400, code("ErrorInvalidIdMalformed"), ErrorKind::Invalid),
        (400, code("InefficientFilter"), ErrorKind::Invalid),
        (400, code("syncStateNotFound"), ErrorKind::CursorExpired),
        (400, inner("resyncRequired"), ErrorKind::CursorExpired),
        (404, inner("SyncStateNotFound"), ErrorKind::CursorExpired),
        (404, json!({ "error": { "code": "syncStateNotFound", "innerError": { "code": "other" } } }), ErrorKind::CursorExpired),
        (410, Value::Null, ErrorKind::CursorExpired),
        (401, code("InvalidAuthenticationToken"), ErrorKind::AuthExpired),
        (402, Value::Null, ErrorKind::Quota),
        (403, code("ErrorSendAsDenied"), ErrorKind::Forbidden),
        (404, code("MailboxNotEnabledForRESTAPI"), ErrorKind::NotFound),
        (409, code("nameAlreadyExists"), ErrorKind::Conflict),
        (412, code("ErrorIrresolvableConflict"), ErrorKind::Conflict),
        (413, Value::Null, ErrorKind::Invalid),
        (423, Value::Null, ErrorKind::Transient),
        (429, code("ApplicationThrottled"), ErrorKind::Throttled),
        (503, code("activityLimitReached"), ErrorKind::Throttled),
        (503, code("serviceNotAvailable"), ErrorKind::Transient),
        (500, code("generalException"), ErrorKind::Transient),
        (507, code("quotaLimitReached"), ErrorKind::Quota),
        (509, Value::Null, ErrorKind::Transient),
        (501, Value::Null, ErrorKind::Invalid),
    ] {
        assert_eq!(kind(status, body.clone()), expected, "{status} {body}");
    }
    let error = engine.error_for(
        &cx,
        &RawReply {
            status: 404,
            headers: HeaderMap::new(),
            body: json!({ "error": { "code": "x", "innerError": { "request-id": "r-1" } } }).to_string().into(),
        },
    );
    assert_eq!(error.request_id(), Some("r-1"));
}

// ---- requests ----

#[tokio::test(start_paused = true)]
async fn every_request_asks_for_immutable_ids() {
    let engine = Engine::builder(manifest()).hooks(hooks()).build().unwrap();
    let cx = CallCx::new(Arc::new(connection(&manifest(), ID, ConnectionOptions::default(), &|_| None).unwrap()));
    let spec = connector_core::Connector::spec(&engine).clone();
    for op in spec.operations().iter().filter(|op| op.endpoint != "native") {
        let request = engine.render(&cx, &OpCall::new(op.name.clone(), op.example.args.clone())).unwrap();
        assert!(request.headers["prefer"].as_str().is_some_and(|prefer| prefer.contains("IdType=\"ImmutableId\"")), "{}", op.name);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_text_stays_inside_its_quotes() {
    let replay = Replay::new([ok(json!({ "value": [] })), ok(json!({ "value": [] })), ok(json!({ "value": [] }))]);
    let client = client(&replay);
    call(&client, "msgraph_search_messages", json!({ "query": "from:ann\" OR \"x" })).await.unwrap();
    call(&client, "msgraph_find_by_internet_message_id", json!({ "internet_message_id": "<a' or 1 eq 1 or 'b>" })).await.unwrap();
    call(&client, "msgraph_list_folder_messages", json!({ "folder": "../../other@contoso.com/messages" })).await.unwrap();
    let seen = replay.seen();
    let query = |at: usize, name: &str| {
        let pairs = seen[at].head.url.query_pairs().into_owned();
        pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value).unwrap_or_default()
    };
    assert_eq!(query(0, "$search"), "\"from:ann  OR  x\"");
    assert_eq!(query(1, "$filter"), "internetMessageId eq '<a'' or 1 eq 1 or ''b>'");
    assert!(seen[2].head.url.path().ends_with("/mailFolders/..%2F..%2Fother%40contoso.com%2Fmessages/messages"));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_any_mailbox_says_which_setting_is_missing() {
    let replay = Replay::new([]);
    let client = MsGraph::builder(Config::default()).transport(Arc::new(replay.clone())).auth(Arc::new(Token)).build().unwrap();
    for operation in ["msgraph_list_messages", "msgraph_reply_in_thread"] {
        let args = if operation.ends_with("thread") { json!({ "message_id": "m", "body": "b" }) } else { json!({}) };
        let error = call(&client, operation, args).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("`mailbox`"), "{error}");
    }
    assert!(replay.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn categories_are_added_to_those_somebody_else_added_meanwhile() {
    let etag = |etag: &str, categories: Value| ok(json!({ "@odata.etag": etag, "id": "m", "categories": categories }));
    let replay = Replay::new([
        etag("1", json!(["Gold"])),
        graph_error(412, "ErrorIrresolvableConflict"),
        etag("2", json!(["Gold", "Blue"])),
        etag("3", json!(["Gold", "Blue", "Ticketed"])),
    ]);
    let done = client(&replay).add_categories("m", ["Ticketed"]).await.unwrap();
    assert_eq!(done.categories, Some(vec!["Gold".to_owned(), "Blue".into(), "Ticketed".into()]));
    let seen = replay.seen();
    assert_eq!((seen[1].header("if-match"), seen[3].header("if-match")), (Some("1"), Some("2")));
    assert_eq!(seen[3].json(), json!({ "categories": ["Gold", "Blue", "Ticketed"] }));
}

// ---- delta ----

async fn changes(replay: &Replay, stream: &str, cursor: Option<&str>) -> Result<connector_core::delta::DeltaPage> {
    let client = client(replay);
    let cx = client.client().cx().clone();
    client.connector().delta().unwrap().changes(&cx, stream, cursor.map(Cursor::new)).await
}

#[tokio::test(start_paused = true)]
async fn delta_follows_links_as_they_are_and_keeps_the_last_one() {
    let (next, delta) = (format!("{ROOT}/users('u')/mailFolders('f')/messages/delta?$skiptoken=S%2B1"), format!("{ROOT}/d?$deltatoken=D"));
    let replay = Replay::new([
        ok(json!({ "value": [{ "id": "a", "subject": "A" }], "@odata.nextLink": next })),
        ok(json!({ "value": [{ "id": "b", "@removed": { "reason": "changed" } }], "@odata.deltaLink": delta })),
        ok(json!({ "value": [], "@odata.deltaLink": delta })),
    ]);
    let first = changes(&replay, "messages:sales@contoso.com/archive", None).await.unwrap();
    assert_eq!((first.more, first.next.as_str()), (true, next.as_str()));
    assert!(matches!(&first.changes[..], [Change::Upsert { key, .. }] if key == "a"));
    let second = changes(&replay, "messages", Some(&next)).await.unwrap();
    assert_eq!((second.more, second.next.as_str()), (false, delta.as_str()));
    assert_eq!(second.changes, [Change::Delete { key: "b".into() }]);
    assert!(changes(&replay, "messages", Some(&delta)).await.unwrap().changes.is_empty());
    let seen = replay.seen();
    assert_eq!(seen[0].head.url.path(), "/v1.0/users/sales%40contoso.com/mailFolders/archive/messages/delta");
    assert_eq!(seen[1].head.url.as_str(), next);
    assert!(
        seen.iter()
            .all(|request| request.header("prefer").is_some_and(|prefer| prefer.contains("odata.maxpagesize=100") && prefer.contains("ImmutableId")))
    );
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_delta_token_means_start_over() {
    for answer in [Step::empty(410).with_header("location", format!("{ROOT}/d")), graph_error(400, "syncStateNotFound")] {
        let replay = Replay::new([answer]);
        let error = changes(&replay, "folders", Some(&format!("{ROOT}/d?$deltatoken=old"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CursorExpired);
        assert_eq!(replay.seen().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_to_another_host_never_sees_the_credential() {
    let foreign = || ok(json!({ "value": [], "@odata.nextLink": "https://evil.example/v1.0/d?$skiptoken=1" }));
    // A page that makes no sense is asked for again; the link is not followed any of these times.
    let replay = Replay::new([foreign(), foreign(), foreign()]);
    assert_eq!(changes(&replay, "messages", None).await.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(changes(&replay, "messages", Some("https://evil.example/d")).await.unwrap_err().kind(), ErrorKind::Protocol);
    assert!(replay.seen().len() == 3 && replay.seen().iter().all(|request| request.head.url.host_str() == Some("graph.microsoft.com")));
}

// ---- $batch ----

fn outcome(id: &str, status: u16) -> Value {
    json!({ "id": id, "status": status, "headers": {}, "body": { "id": id } })
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_twenty_and_answers_come_back_in_order() {
    let page = |ids: std::ops::RangeInclusive<u32>| ok(json!({ "responses": ids.rev().map(|id| outcome(&id.to_string(), 200)).collect::<Vec<_>>() }));
    let replay = Replay::new([page(1..=20), page(21..=40), page(41..=45)]);
    let ids: Vec<String> = (0..45).map(|number| format!("m{number}")).collect();
    let done = client(&replay).get_messages(ids.clone()).await.unwrap();
    assert_eq!(done.results.iter().map(|item| item.id.clone()).collect::<Vec<_>>(), ids);
    let sizes: Vec<usize> = replay.seen().iter().map(|request| request.json()["requests"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [20, 20, 5]);
    assert_eq!(replay.seen()[0].json()["requests"][0]["url"], "/users/support@contoso.com/messages/m0");
}

#[tokio::test(start_paused = true)]
async fn only_throttled_items_and_what_depends_on_them_are_sent_again_after_their_wait() {
    let throttled = json!({ "id": "2", "status": 429, "headers": { "Retry-After": "7" }, "body": { "error": { "code": "ApplicationThrottled" } } });
    let replay = Replay::new([
        ok(
            json!({ "responses": [outcome("1", 200), throttled, outcome("3", 424), { "id": "4", "status": 503, "headers": {}, "body": { "error": { "code": "UnknownError" } } }] }),
        ),
        ok(json!({ "responses": [outcome("2", 201), outcome("3", 200)] })),
    ]);
    let requests = json!([
        { "method": "GET", "url": "/a" },
        { "method": "POST", "url": "/b", "body": {} , "dependsOn": ["1"] },
        { "method": "GET", "url": "/c", "dependsOn": ["2"] },
        { "method": "PATCH", "url": "/d", "body": {} },
    ]);
    let before = tokio::time::Instant::now();
    let reply = call(&client(&replay), "msgraph_batch", json!({ "requests": requests })).await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(7));
    let again = replay.seen()[1].json()["requests"].clone();
    assert_eq!(
        again.as_array().unwrap().iter().map(|one| (one["id"].as_str().unwrap(), one["dependsOn"].clone())).collect::<Vec<_>>(),
        [("2", json!([])), ("3", json!(["2"]))]
    );
    let statuses: Vec<_> =
        reply.body.to_value().unwrap()["responses"].as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect();
    // The write that ended in 503 may have happened and is left alone.
    assert_eq!(statuses, [200, 201, 200, 503]);
    assert_eq!(reply.partial.iter().map(|one| (one.index, one.kind)).collect::<Vec<_>>(), [(Some(3), ErrorKind::Transient)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_batch_carried_out_is_told() {
    let page: Vec<Value> = (1..=20).map(|id| outcome(&id.to_string(), 200)).collect();
    let replay = Replay::new([ok(json!({ "responses": page })), Step::Fail(ErrorKind::Transient)]);
    let requests: Vec<Value> = (0..41).map(|_| json!({ "method": "PATCH", "url": "/a", "body": {} })).collect();
    let reply = call(&client(&replay), "msgraph_batch", json!({ "requests": requests })).await.unwrap();
    let kinds: Vec<_> = reply.partial.iter().map(|one| one.kind).collect();
    assert_eq!(kinds.len(), 21);
    assert_eq!((kinds[0], kinds[20]), (ErrorKind::Unknown, ErrorKind::NotSent));
}

// ---- large upload ----

const PIECE: usize = 3_276_800;

fn session(to: &str) -> Step {
    Step::json(201, json!({ "uploadUrl": format!("{to}?authtoken=secret"), "nextExpectedRanges": ["0-"] }))
}

fn expected(at: usize) -> Step {
    ok(json!({ "nextExpectedRanges": [at.to_string()] }))
}

fn finished() -> Step {
    Step::empty(201).with_header("location", "https://outlook.office.com/api/Users('u')/Messages('m')/Attachments('AAk%3D')")
}

async fn upload(replay: &Replay, size: usize) -> Result<connector_msgraph::models::UploadedAttachment> {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(vec![7_u8; size]);
    client(replay).upload_attachment("m", "big.bin", content).await
}

#[tokio::test(start_paused = true)]
async fn pieces_go_in_order_without_the_token() {
    let size = 2 * PIECE + 10;
    let replay =
        Replay::new([ok(json!({ "value": [] })), session("https://outlook.office.com/up"), expected(PIECE), expected(2 * PIECE), finished()]);
    let done = upload(&replay, size).await.unwrap();
    assert_eq!((done.id.as_deref(), done.chunks), (Some("AAk="), Some(3)));
    let seen = replay.seen();
    let ranges: Vec<_> = seen[2..].iter().map(|request| request.header("content-range").unwrap().to_owned()).collect();
    assert_eq!(
        ranges,
        [
            format!("bytes 0-{}/{size}", PIECE - 1),
            format!("bytes {PIECE}-{}/{size}", 2 * PIECE - 1),
            format!("bytes {}-{}/{size}", 2 * PIECE, size - 1)
        ]
    );
    assert!(seen[..2].iter().all(|request| request.header("authorization").is_some()));
    assert!(seen[2..].iter().all(|request| request.header("authorization").is_none() && request.head.url.host_str() == Some("outlook.office.com")));
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_where_the_service_says_and_survives_a_lost_session() {
    let size = PIECE + 10;
    let replay = Replay::new([
        ok(json!({ "value": [] })),
        session("https://outlook.office.com/one"),
        Step::Fail(ErrorKind::Transient),
        // The piece had arrived.
        expected(PIECE),
        Step::empty(404),
        ok(json!({ "value": [] })),
        session("https://outlook.office.com/two"),
        Step::json(429, json!({})).with_header("retry-after", "3"),
        expected(PIECE),
        finished(),
    ]);
    let done = upload(&replay, size).await.unwrap();
    assert_eq!((done.id.as_deref(), replay.left()), (Some("AAk="), 0));
    assert!(replay.lines()[3].starts_with("GET /one"));
}

#[tokio::test(start_paused = true)]
async fn an_upload_address_without_tls_gets_nothing_and_is_in_no_error() {
    let replay = Replay::new([ok(json!({ "value": [] })), session("http://outlook.office.com/up")]);
    let error = upload(&replay, PIECE).await.unwrap_err();
    assert!(error.to_string().contains("not https") && !error.to_string().contains("secret"), "{error}");
    assert_eq!(replay.seen().len(), 2);
}

// ---- subscriptions ----

const RESOURCE: &str = "Users/support@contoso.com/mailFolders('Inbox')/messages";

fn at(minutes: i64) -> String {
    let now = jiff::Timestamp::from_second(i64::try_from(NOW).unwrap()).unwrap();
    (now + jiff::SignedDuration::from_mins(minutes)).to_string()
}

fn subscription(id: &str, minutes: i64) -> Value {
    json!({ "id": id, "resource": RESOURCE, "changeType": "updated,created", "notificationUrl": "https://hub.example/n", "lifecycleNotificationUrl": "https://hub.example/l", "expirationDateTime": at(minutes) })
}

async fn ensure(replay: &Replay) -> Result<Value> {
    let args = json!({ "notification_url": "https://hub.example/n", "lifecycle_url": "https://hub.example/l", "client_state": "0123456789abcdef" });
    call(&client(replay), "msgraph_ensure_subscription", args).await?.body.to_value()
}

#[tokio::test(start_paused = true)]
async fn the_longest_lived_subscription_is_kept_and_extras_go() {
    let foreign = json!({ "id": "other", "resource": RESOURCE, "notificationUrl": "https://elsewhere.example/n", "expirationDateTime": at(9000) });
    let replay = Replay::new([
        ok(json!({ "value": [subscription("short", 6000), foreign], "@odata.nextLink": format!("{ROOT}/subscriptions?$skiptoken=2") })),
        ok(json!({ "value": [subscription("long", 9000)] })),
        Step::empty(204),
    ]);
    let done = ensure(&replay).await.unwrap();
    assert_eq!((&done["action"], &done["removed"], &done["subscription"]["id"]), (&json!("kept"), &json!(["short"]), &json!("long")));
    assert_eq!(replay.lines()[2], "DELETE /v1.0/subscriptions/short");
}

#[tokio::test(start_paused = true)]
async fn past_half_of_its_life_a_subscription_is_renewed_and_a_vanished_one_made_again() {
    let replay = Replay::new([
        ok(json!({ "value": [subscription("s", 5000)] })),
        graph_error(404, "ResourceNotFound"),
        Step::json(201, subscription("new", 10_080)),
    ]);
    let done = ensure(&replay).await.unwrap();
    assert_eq!((&done["action"], &done["subscription"]["id"]), (&json!("created"), &json!("new")));
    let seen = replay.seen();
    assert_eq!((replay.lines()[1].as_str(), replay.lines()[2].as_str()), ("PATCH /v1.0/subscriptions/s", "POST /v1.0/subscriptions"));
    let made = seen[2].json();
    assert_eq!((&made["lifecycleNotificationUrl"], &made["clientState"]), (&json!("https://hub.example/l"), &json!("0123456789abcdef")));
    let end: jiff::Timestamp = made["expirationDateTime"].as_str().unwrap().parse().unwrap();
    assert!(end <= at(10_081).parse().unwrap(), "mail subscriptions live at most 10,080 minutes");
    assert!(!done.to_string().contains("0123456789abcdef"));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_answer_was_lost_is_adopted() {
    let replay = Replay::new([ok(json!({ "value": [] })), Step::Fail(ErrorKind::Transient), ok(json!({ "value": [subscription("s", 10_079)] }))]);
    let done = ensure(&replay).await.unwrap();
    assert_eq!((&done["subscription"]["id"], replay.left()), (&json!("s"), 0));
}

#[tokio::test(start_paused = true)]
async fn one_without_our_lifecycle_address_is_replaced_new_one_first() {
    let mut old = subscription("old", 9000);
    old["lifecycleNotificationUrl"] = Value::Null;
    let replay = Replay::new([ok(json!({ "value": [old] })), Step::json(201, subscription("new", 10_080)), Step::empty(204)]);
    let done = ensure(&replay).await.unwrap();
    assert_eq!((&done["action"], &done["removed"]), (&json!("created"), &json!(["old"])));
    assert_eq!(replay.lines()[1..], ["POST /v1.0/subscriptions", "DELETE /v1.0/subscriptions/old"]);
}

// ---- sending ----

#[tokio::test(start_paused = true)]
async fn send_mail_is_never_sent_twice_and_a_throttled_one_is() {
    let to = || vec![serde_json::from_value(json!({ "emailAddress": { "address": "a@x.example" } })).unwrap()];
    let replay = Replay::new([Step::empty(504)]);
    let error = client(&replay).send_mail("s", "b", to()).await.unwrap_err();
    assert_eq!((error.kind(), replay.seen().len()), (ErrorKind::Unknown, 1));
    let replay = Replay::new([graph_error(429, "ApplicationThrottled").with_header("retry-after", "2"), Step::empty(202)]);
    client(&replay).send_mail("s", "b", to()).await.unwrap();
    assert_eq!(replay.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_mime_message_comes_as_bytes() {
    let replay = Replay::new([Step::text(200, "text/plain", "Subject: x\r\n\r\nHi".as_bytes().to_vec())]);
    let reply = call(&client(&replay), "msgraph_get_message_mime", json!({ "message_id": "m" })).await.unwrap();
    assert!(matches!(reply.body, connector_core::ReplyBody::Raw { bytes, .. } if bytes.starts_with(b"Subject: x\r\n")));
    assert_eq!(replay.lines(), ["GET /v1.0/users/support%40contoso.com/messages/m/$value"]);
}
