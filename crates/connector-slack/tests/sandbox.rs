//! The connector over real HTTP against the stateful fake of Slack: every operation of the manifest, the fake's own refusals and limits, and
//! what really happened by its ledger.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Client, Connector as _, ErrorKind, OpCall, Result,
    auth::{AuthProvider, CredentialUse},
    clock::{Clock, ManualClock},
    transport::Head,
};
use connector_http::{EgressPolicy, HttpTransport};
use connector_manifest::{ConnectionOptions, Engine, connection};
use connector_sandbox::{EffectKind, Sandbox, known};
use connector_slack::{ID, Slack, engine, hooks, manifest};
use http::{HeaderValue, header};
use serde_json::{Value, json};

/// One token for everything.
#[derive(Debug)]
struct Fixed(&'static str);

#[async_trait]
impl AuthProvider for Fixed {
    async fn authorize(&self, _: &CallCx, head: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        head.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", self.0)).unwrap());
        Ok(CredentialUse::FIXED)
    }

    async fn rejected(&self, _: &CallCx, _: &CredentialUse) -> Result<bool> {
        Ok(false)
    }
}

/// A client without retries and without limits of its own: what the fake says is what comes out.
fn client(sandbox: &Sandbox, token: &'static str) -> Slack {
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let engine = engine(Arc::new(transport), Arc::new(Fixed(token))).unwrap();
    let options = ConnectionOptions { base_url: Some(sandbox.base_url(ID)), ..ConnectionOptions::default() };
    let cx = CallCx::new(Arc::new(connection(&manifest(), ID, options, &|_| None).unwrap()));
    Slack::from_client(Client::new(Arc::new(engine), cx))
}

async fn start() -> (Sandbox, Slack) {
    let sandbox = Sandbox::builder().vendor(ID).start("127.0.0.1:0").await.unwrap();
    let slack = client(&sandbox, known::SLACK_BOT_TOKEN);
    (sandbox, slack)
}

async fn call(slack: &Slack, tool: &str, args: Value) -> Result<Value> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    slack.client().call_dynamic(tool, args).await?.body.to_value()
}

async fn refused(slack: &Slack, tool: &str, args: Value) -> (ErrorKind, String) {
    let error = call(slack, tool, args).await.unwrap_err();
    (error.kind(), error.vendor_code().unwrap_or_default().to_owned())
}

/// The items of all pages.
async fn pages(slack: &Slack, tool: &str, args: Value, items: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), None);
    let Value::Object(args) = args else { panic!("args must be an object") };
    for _ in 0..50 {
        let op = OpCall::new(tool, args.clone()).with_cursor(cursor.take());
        let reply = slack.client().connector().call(slack.client().cx(), op).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
        cursor = reply.next.clone();
        all.extend(reply.body.to_value().unwrap().pointer(items).and_then(Value::as_array).cloned().unwrap_or_default());
        if cursor.is_none() {
            return all;
        }
    }
    panic!("{tool} has no last page");
}

/// Calls operations, holds their replies against the declared shapes, and remembers which ones worked.
struct Walk {
    called: BTreeSet<String>,
    shapes: BTreeMap<String, jsonschema::Validator>,
}

impl Walk {
    async fn ok(&mut self, slack: &Slack, tool: &str, args: Value) -> Value {
        let reply = call(slack, tool, args).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
        if let Err(error) = self.shapes[tool].validate(&reply) {
            panic!("{tool}: {error} in {reply}");
        }
        self.called.insert(tool.to_owned());
        reply
    }
}

fn text(value: &Value, at: &str) -> String {
    value.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("no {at} in {value}")).to_owned()
}

#[tokio::test]
async fn every_operation_works_against_the_fake_and_gives_what_it_declares() {
    let (sandbox, bot) = start().await;
    let (person, app) = (client(&sandbox, known::SLACK_USER_TOKEN), client(&sandbox, known::SLACK_APP_TOKEN));
    let spec = Engine::builder(manifest()).hooks(hooks()).build().unwrap().spec().clone();
    let shapes = spec.operations().iter().map(|op| (op.name.to_string(), jsonschema::validator_for(&op.output_schema).unwrap())).collect();
    let mut walk = Walk { called: BTreeSet::new(), shapes };

    // Channels and people.
    let all = walk.ok(&bot, "slack_list_channels", json!({ "limit": 2 })).await;
    assert!(all["response_metadata"]["next_cursor"].as_str().unwrap().ends_with('='));
    let names: Vec<String> =
        pages(&bot, "slack_list_channels", json!({ "limit": 2 }), "/channels").await.iter().map(|one| text(one, "/name")).collect();
    assert_eq!(names, ["general", "ops", "random"], "the archived one is left out after paging, the private ones are not asked for");
    assert_eq!(walk.ok(&bot, "slack_find_channel", json!({ "name": "#OPS" })).await["id"], "C0OPS");
    walk.ok(&bot, "slack_list_own_channels", json!({ "types": ["public_channel", "private_channel"] })).await;
    assert_eq!(walk.ok(&bot, "slack_get_channel", json!({ "channel": "C0OPS" })).await["num_members"], 3);
    walk.ok(&bot, "slack_list_members", json!({ "channel": "C0OPS" })).await;
    walk.ok(&bot, "slack_join_channel", json!({ "channel": "C0RANDOM" })).await;
    walk.ok(&bot, "slack_join_channel", json!({ "channel": "C0RANDOM" })).await;
    walk.ok(&bot, "slack_leave_channel", json!({ "channel": "C0RANDOM" })).await;
    walk.ok(&bot, "slack_leave_channel", json!({ "channel": "C0RANDOM" })).await;
    let made = walk.ok(&bot, "slack_create_channel", json!({ "name": "incident-42" })).await;
    let incident = text(&made, "/id");
    walk.ok(&bot, "slack_invite_to_channel", json!({ "channel": incident, "users": "U0ANN,U0BOB" })).await;
    walk.ok(&bot, "slack_invite_to_channel", json!({ "channel": incident, "users": "U0ANN,U0BOB" })).await;
    walk.ok(&bot, "slack_remove_from_channel", json!({ "channel": incident, "user": "U0BOB" })).await;
    walk.ok(&bot, "slack_rename_channel", json!({ "channel": incident, "name": "incident-42-closed" })).await;
    walk.ok(&bot, "slack_set_topic", json!({ "channel": incident, "topic": "on-call: Bob" })).await;
    walk.ok(&bot, "slack_set_purpose", json!({ "channel": incident, "purpose": "Running things" })).await;
    walk.ok(&bot, "slack_archive_channel", json!({ "channel": incident })).await;
    walk.ok(&bot, "slack_archive_channel", json!({ "channel": incident })).await;
    walk.ok(&bot, "slack_unarchive_channel", json!({ "channel": incident })).await;
    let direct = walk.ok(&bot, "slack_open_conversation", json!({ "users": "U0ANN" })).await;
    walk.ok(&bot, "slack_close_conversation", json!({ "channel": direct["id"] })).await;
    walk.ok(&bot, "slack_close_conversation", json!({ "channel": direct["id"] })).await;
    assert_eq!(walk.ok(&bot, "slack_get_user", json!({ "user": "U0ANN" })).await["name"], "ann");
    assert_eq!(walk.ok(&bot, "slack_get_user_by_email", json!({ "email": "ana@acme.test" })).await["id"], "U0ANA");
    walk.ok(&bot, "slack_list_users", json!({ "limit": 4 })).await;
    assert_eq!(pages(&bot, "slack_list_users", json!({ "limit": 4 }), "/members").await.len(), 6);
    assert_eq!(walk.ok(&bot, "slack_get_profile", json!({ "user": "U0ANN" })).await["status_text"], "on-call");
    assert_eq!(walk.ok(&bot, "slack_get_team", json!({})).await["id"], "T0ACME");

    // Messages.
    let sent = walk.ok(&bot, "slack_send_message", json!({ "channel": "C0OPS", "text": "Deploy of *hub* <finished>" })).await;
    assert_eq!(sent["message"]["text"], "Deploy of *hub* &lt;finished&gt;");
    let ts = text(&sent, "/ts");
    walk.ok(&bot, "slack_mark_read", json!({ "channel": "C0OPS", "ts": ts })).await;
    let reply = walk.ok(&bot, "slack_post_message", json!({ "channel": "C0OPS", "text": "and https://hub.acme.test/t/7", "thread_ts": ts })).await;
    walk.ok(&bot, "slack_post_ephemeral", json!({ "channel": "C0OPS", "user": "U0ANN", "text": "only you" })).await;
    walk.ok(&bot, "slack_me_message", json!({ "channel": "C0OPS", "text": "is deploying" })).await;
    walk.ok(&bot, "slack_update_message", json!({ "channel": "C0OPS", "ts": ts, "text": "Deploy rolled back" })).await;
    let unfurls = json!({ "https://hub.acme.test/t/7": { "text": "HUB-7: open" } });
    walk.ok(&bot, "slack_unfurl", json!({ "channel": "C0OPS", "ts": text(&reply, "/ts"), "unfurls": unfurls })).await;
    walk.ok(&bot, "slack_get_permalink", json!({ "channel": "C0OPS", "message_ts": ts })).await;
    let later = unix_now() + 3_600;
    let scheduled = walk.ok(&bot, "slack_schedule_message", json!({ "channel": "C0OPS", "post_at": later, "text": "Stand-up" })).await;
    let waiting = walk.ok(&bot, "slack_list_scheduled_messages", json!({ "channel": "C0OPS" })).await;
    assert_eq!(waiting["scheduled_messages"][0]["id"], scheduled["scheduled_message_id"]);
    let gone = json!({ "channel": "C0OPS", "scheduled_message_id": scheduled["scheduled_message_id"] });
    walk.ok(&bot, "slack_delete_scheduled_message", gone.clone()).await;
    walk.ok(&bot, "slack_delete_scheduled_message", gone).await;
    let history = walk.ok(&bot, "slack_read_channel", json!({ "channel": "C0OPS", "limit": 2 })).await;
    assert_eq!((history["messages"].as_array().unwrap().len(), &history["has_more"]), (2, &json!(true)));
    let whole = pages(&bot, "slack_read_channel", json!({ "channel": "C0OPS", "limit": 2 }), "/messages").await;
    assert_eq!(whole.len(), 4, "two of the seed, the message and /me; not the reply, not what one person sees");
    let thread = walk.ok(&bot, "slack_read_thread", json!({ "channel": "C0OPS", "ts": ts })).await;
    assert_eq!((thread["messages"][0]["reply_count"].as_i64(), &thread["messages"][1]["ts"]), (Some(1), &reply["ts"]));
    let found = walk.ok(&person, "slack_search_messages", json!({ "query": "deploy in:#ops from:@bob" })).await;
    assert_eq!(found["messages"]["total"], 1);

    // An answer to a command, at the address the command came with.
    let hooks = Receiver::start().await;
    sandbox.slack().set_webhook(&hooks.url);
    sandbox.slack().slash_command("U0ANN", "C0OPS", "/hub", "status");
    sandbox.settled().await;
    let command = hooks.taken().into_iter().find(|body| body.contains("response_url")).unwrap();
    let address = url::form_urlencoded::parse(command.as_bytes()).find(|(name, _)| name == "response_url").unwrap().1.into_owned();
    walk.ok(&bot, "slack_respond", json!({ "response_url": address, "text": "all is well" })).await;

    // Reactions and pins.
    let mark = json!({ "channel": "C0OPS", "timestamp": ts, "name": "eyes" });
    walk.ok(&bot, "slack_react", mark.clone()).await;
    walk.ok(&bot, "slack_react", mark.clone()).await;
    let item = walk.ok(&bot, "slack_get_reactions", json!({ "channel": "C0OPS", "timestamp": ts })).await;
    assert_eq!(item["message"]["reactions"][0]["users"], json!(["U0BOT"]));
    assert_eq!(walk.ok(&bot, "slack_list_reactions", json!({})).await["items"][0]["message"]["ts"], ts.as_str());
    walk.ok(&bot, "slack_remove_reaction", mark.clone()).await;
    walk.ok(&bot, "slack_remove_reaction", mark).await;
    let pin = json!({ "channel": "C0OPS", "timestamp": ts });
    walk.ok(&bot, "slack_pin", pin.clone()).await;
    walk.ok(&bot, "slack_pin", pin.clone()).await;
    assert_eq!(walk.ok(&bot, "slack_list_pins", json!({ "channel": "C0OPS" })).await["items"][0]["message"]["ts"], ts.as_str());
    walk.ok(&bot, "slack_unpin", pin.clone()).await;
    walk.ok(&bot, "slack_unpin", pin).await;

    // Files.
    let file =
        walk.ok(&bot, "slack_upload_file", json!({ "filename": "report.csv", "content": "a,b\n1,2\n", "channel": "C0OPS", "title": "Report" })).await;
    assert_eq!(sandbox.slack().file("report.csv").as_deref(), Some(&b"a,b\n1,2\n"[..]));
    assert_eq!(walk.ok(&bot, "slack_get_file", json!({ "file": file["id"] })).await["title"], "Report");
    assert_eq!(walk.ok(&bot, "slack_list_files", json!({ "channel": "C0OPS" })).await["files"][0]["id"], file["id"]);
    let address = walk.ok(&bot, "slack_get_upload_address", json!({ "filename": "b.txt", "length": 3 })).await;
    let url = text(&address, "/upload_url");
    let uploaded = connector_sandbox::client::send(http::Method::POST, &url, http::HeaderMap::new(), "abc").await.unwrap();
    assert_eq!(&uploaded.body()[..], b"OK - 3");
    walk.ok(&bot, "slack_complete_upload", json!({ "files": [{ "id": address["file_id"], "title": "B" }], "channel": "C0OPS" })).await;

    // Forms: each needs a trigger of its own.
    let form = json!({ "type": "modal", "title": { "type": "plain_text", "text": "Approve" }, "blocks": [] });
    let trigger = || sandbox.slack().slash_command("U0ANN", "C0OPS", "/hub", "approve");
    let view = walk.ok(&bot, "slack_open_view", json!({ "trigger_id": trigger(), "view": form })).await;
    walk.ok(&bot, "slack_update_view", json!({ "view_id": view["id"], "hash": view["hash"], "view": form })).await;
    walk.ok(&bot, "slack_push_view", json!({ "trigger_id": trigger(), "view": form })).await;
    walk.ok(&bot, "slack_publish_home", json!({ "user_id": "U0ANN", "view": { "type": "home", "blocks": [] } })).await;

    // The app itself, and the end.
    let socket = walk.ok(&app, "slack_open_socket", json!({})).await;
    assert!(text(&socket, "/url").starts_with("ws://127.0.0.1:"));
    assert_eq!(walk.ok(&bot, "slack_auth_test", json!({})).await["user_id"], "U0BOT");
    walk.ok(&bot, "slack_delete_message", json!({ "channel": "C0OPS", "ts": ts })).await;
    walk.ok(&bot, "slack_delete_message", json!({ "channel": "C0OPS", "ts": ts })).await;
    walk.ok(&person, "slack_revoke_token", json!({})).await;
    walk.ok(&person, "slack_revoke_token", json!({})).await;

    let declared: BTreeSet<String> = spec.operations().iter().map(|op| op.name.to_string()).collect();
    let missing: Vec<&String> = declared.difference(&walk.called).collect();
    assert!(missing.is_empty(), "never called: {missing:?}");
    assert_eq!(walk.called.len(), connector_slack::generated::OPERATIONS);
}

fn unix_now() -> i64 {
    #[allow(clippy::disallowed_methods, reason = "the sandbox is a process of its own and reads the real clock")]
    let now = std::time::SystemTime::now();
    i64::try_from(now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

#[tokio::test]
async fn the_fake_refuses_what_slack_refuses() {
    let (sandbox, bot) = start().await;
    let post = |channel: &str, text: &str| json!({ "channel": channel, "text": text });
    for (tool, args, kind, code) in [
        ("slack_post_message", post("C0NONE", "x"), ErrorKind::NotFound, "channel_not_found"),
        ("slack_post_message", post("C0SECRET", "x"), ErrorKind::NotFound, "channel_not_found"),
        ("slack_post_message", post("C0OLD", "x"), ErrorKind::Conflict, "is_archived"),
        ("slack_post_message", json!({ "channel": "C0OPS" }), ErrorKind::Invalid, "no_text"),
        ("slack_post_message", json!({ "channel": "C0OPS", "text": "x", "thread_ts": "1.000000" }), ErrorKind::Invalid, "cannot_reply_to_message"),
        ("slack_post_ephemeral", json!({ "channel": "C0OPS", "user": "U0ANA", "text": "x" }), ErrorKind::Invalid, "user_not_in_channel"),
        ("slack_read_channel", json!({ "channel": "C0RANDOM" }), ErrorKind::Forbidden, "not_in_channel"),
        ("slack_read_thread", json!({ "channel": "C0OPS", "ts": "1.000000" }), ErrorKind::NotFound, "thread_not_found"),
        ("slack_create_channel", json!({ "name": "ops" }), ErrorKind::Conflict, "name_taken"),
        ("slack_create_channel", json!({ "name": "Not a name" }), ErrorKind::Invalid, "invalid_name_specials"),
        ("slack_archive_channel", json!({ "channel": "C0GENERAL" }), ErrorKind::Invalid, "cant_archive_general"),
        ("slack_get_user", json!({ "user": "U0NOBODY" }), ErrorKind::NotFound, "user_not_found"),
        ("slack_get_user_by_email", json!({ "email": "olaf@acme.test" }), ErrorKind::NotFound, "users_not_found"),
        ("slack_react", json!({ "channel": "C0OPS", "timestamp": "1.000000", "name": "eyes" }), ErrorKind::NotFound, "message_not_found"),
        ("slack_schedule_message", json!({ "channel": "C0OPS", "post_at": 1, "text": "x" }), ErrorKind::Invalid, "time_in_past"),
        ("slack_open_view", json!({ "trigger_id": "1.2.x", "view": { "type": "modal", "blocks": [] } }), ErrorKind::Invalid, "exchanged_trigger_id"),
        ("slack_search_messages", json!({ "query": "x" }), ErrorKind::Forbidden, "not_allowed_token_type"),
        ("slack_get_file", json!({ "file": "F0NONE" }), ErrorKind::NotFound, "file_not_found"),
    ] {
        assert_eq!(refused(&bot, tool, args.clone()).await, (kind, code.to_owned()), "{tool} {args}");
    }
    for (token, code) in [("xoxb-nobody-knows-it", "invalid_auth"), (known::SLACK_APP_TOKEN, "not_allowed_token_type")] {
        assert_eq!(refused(&client(&sandbox, token), "slack_get_team", json!({})).await.1, code);
    }
    // Another's message is nobody's to change.
    let ts = sandbox.slack().say("U0BOB", "C0OPS", "mine", None).unwrap();
    let (kind, code) = refused(&bot, "slack_update_message", json!({ "channel": "C0OPS", "ts": ts, "text": "yours" })).await;
    assert_eq!((kind, code.as_str()), (ErrorKind::Conflict, "cant_update_message"));
}

#[tokio::test]
async fn a_post_whose_answer_is_lost_is_there_once() {
    let (sandbox, bot) = start().await;
    sandbox.faults().set(connector_sandbox::FaultProfile { cut: 0.4, ..connector_sandbox::FaultProfile::none() });
    let mut sent = 0;
    for round in 0..30 {
        let message = json!({ "channel": "C0OPS", "text": format!("message {round}") });
        sent += usize::from(call(&bot, "slack_send_message", message).await.is_ok());
    }
    sandbox.faults().set(connector_sandbox::FaultProfile::none());
    let mut by_key: BTreeMap<String, usize> = BTreeMap::new();
    for effect in sandbox.ledger().of_kind(EffectKind::ChatPosted) {
        *by_key.entry(effect.key.unwrap()).or_default() += 1;
    }
    assert!(by_key.values().all(|count| *count == 1), "{by_key:?}");
    assert!(sent >= 10 && by_key.len() >= sent, "{sent} of {} known", by_key.len());
}

#[tokio::test]
async fn tiers_and_a_message_a_second_answer_429_with_the_wait() {
    let clock = ManualClock::at_unix(1_767_225_600);
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let sandbox = Sandbox::builder().vendor(ID).enforce_limits(true).clock(shared).start("127.0.0.1:0").await.unwrap();
    let bot = client(&sandbox, known::SLACK_BOT_TOKEN);
    let post = |channel: &str| json!({ "channel": channel, "text": "x" });
    call(&bot, "slack_post_message", post("C0OPS")).await.unwrap();
    let error = call(&bot, "slack_post_message", post("C0OPS")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(1))));
    call(&bot, "slack_post_message", post("C0GENERAL")).await.unwrap();
    clock.advance(Duration::from_secs(1));
    call(&bot, "slack_post_message", post("C0OPS")).await.unwrap();
    // Tier 2: twenty a minute, and only that method stands still.
    for _ in 0..20 {
        call(&bot, "slack_list_users", json!({})).await.unwrap();
    }
    let error = call(&bot, "slack_list_users", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(60))));
    call(&bot, "slack_get_user", json!({ "user": "U0ANN" })).await.unwrap();
    clock.advance(Duration::from_secs(60));
    call(&bot, "slack_list_users", json!({})).await.unwrap();
    // Apps sold outside the Marketplace read once a minute.
    sandbox.slack().restrict_history(true);
    call(&bot, "slack_read_channel", json!({ "channel": "C0OPS" })).await.unwrap();
    assert_eq!(call(&bot, "slack_read_channel", json!({ "channel": "C0OPS" })).await.unwrap_err().kind(), ErrorKind::Throttled);
}

#[tokio::test]
async fn a_command_is_answered_at_its_own_address_five_times() {
    let (sandbox, bot) = start().await;
    let hooks = Receiver::start().await;
    sandbox.slack().set_webhook(&hooks.url);
    sandbox.slack().slash_command("U0ANN", "C0OPS", "/hub", "status HUB-7");
    sandbox.settled().await;
    let form = hooks.taken();
    let address = url::form_urlencoded::parse(form[0].as_bytes()).find(|(name, _)| name == "response_url").unwrap().1.into_owned();
    for round in 1..=5 {
        let answer = json!({ "response_url": address, "text": format!("<answer> {round}"), "response_type": "in_channel" });
        call(&bot, "slack_respond", answer).await.unwrap();
    }
    let sixth = call(&bot, "slack_respond", json!({ "response_url": address, "text": "too many" })).await.unwrap_err();
    assert_eq!(sixth.kind(), ErrorKind::Conflict);
    assert!(!sixth.to_string().contains("hooks/response"), "the address is a secret: {sixth}");
    let said = sandbox.slack().messages("C0OPS");
    assert_eq!(said.iter().filter(|one| one["text"].as_str().unwrap().starts_with("&lt;answer&gt;")).count(), 5);
    assert_eq!(sandbox.ledger().count(EffectKind::ChatAnswered), 5, "the sixth was not even sent");
    // Another process, which has not counted, hears it from Slack.
    let other = client(&sandbox, known::SLACK_BOT_TOKEN);
    assert_eq!(call(&other, "slack_respond", json!({ "response_url": address, "text": "x" })).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn answers_go_to_slack_and_nowhere_else() {
    let (_sandbox, bot) = start().await;
    for address in [
        "https://evil.example/commands/T0/1/abc",
        "http://hooks.slack.com/commands/T0/1/abc",
        "https://hooks.slack.com.evil.example/x",
        "https://hooks.slack.com:8443/x",
        "https://user:pass@hooks.slack.com/x",
        "https://evil.example#hooks.slack.com",
        "http://169.254.169.254/latest/meta-data",
    ] {
        let error = call(&bot, "slack_respond", json!({ "response_url": address, "text": "x" })).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{address}");
    }
    let nothing = call(&bot, "slack_respond", json!({ "response_url": "https://hooks.slack.com/x" })).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Invalid);
}

/// A webhook receiver on loopback that keeps the bodies it was sent.
struct Receiver {
    url: String,
    bodies: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start() -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let bodies: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let kept = bodies.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
                loop {
                    let text = String::from_utf8_lossy(&read).into_owned();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
                        if body.len() >= length.unwrap_or(0) {
                            kept.lock().unwrap().push(body.to_owned());
                            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
                            break;
                        }
                    }
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => break,
                        Ok(count) => read.extend_from_slice(&buffer[..count]),
                    }
                }
            }
        });
        Self { url, bodies }
    }

    fn taken(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}
