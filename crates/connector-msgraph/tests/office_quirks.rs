//! What is odd about Graph's calendar, Teams, SharePoint and OneDrive, one test each: over scripted answers where an answer must be lost, over
//! the fake where it keeps state.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the failure")]

mod support;

use std::sync::Arc;

use base64::Engine as _;
use connector_core::{
    Cursor, ErrorKind, Result,
    clock::{ManualClock, SeededRng},
    delta::Change,
    layer::stack::StackParts,
    resilience::Resilience,
};
use connector_msgraph::{Config, MsGraph};
use connector_sandbox::{EffectKind, known};
use connector_testkit::transport::{Replay, Step};
use serde_json::{Value, json};
use support::{NoAuth, app, person, sandbox};

/// The wall time of scripted tests: 2026-11-21T00:00:00Z.
const NOW: u64 = 1_795_219_200;
const PLACE: [(&str, &str); 2] = [("team_id", "t"), ("channel_id", "19:ops@thread.tacv2")];

fn scripted(replay: &Replay, access: &str) -> MsGraph {
    let mut config = Config { mailbox: Some("support@contoso.com".into()), ..Config::default() };
    config.settings.insert("access".into(), access.into());
    let parts = StackParts::with_clock(Resilience::standard(), Arc::new(ManualClock::at_unix(NOW)), Arc::new(SeededRng::new(1)));
    MsGraph::builder(config).transport(Arc::new(replay.clone())).auth(Arc::new(NoAuth)).resilience(parts).build().unwrap()
}

async fn call(client: &MsGraph, operation: &str, args: Value) -> Result<Value> {
    client.client().call_dynamic(operation, args.as_object().cloned().unwrap()).await?.body.to_value()
}

fn in_place(more: Value) -> Value {
    let mut args = json!({});
    for (name, value) in PLACE {
        args[name] = value.into();
    }
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

fn message(id: &str, content: &str) -> Value {
    json!({ "id": id, "createdDateTime": "2026-11-21T00:00:01Z", "body": { "contentType": "html", "content": content } })
}

// ---- people only ----

#[tokio::test]
async fn what_an_app_alone_may_not_do_is_refused_before_anything_is_sent() {
    let replay = Replay::new([]);
    let app = scripted(&replay, "app");
    for (operation, args, permission) in [
        ("msgraph_find_meeting_times", json!({}), "Calendars.Read.Shared"),
        ("msgraph_send_channel_message", in_place(json!({ "content": "x" })), "ChannelMessage.Send"),
        ("msgraph_post_channel_message", in_place(json!({ "content": "x" })), "ChannelMessage.Send"),
        ("msgraph_soft_delete_channel_message", in_place(json!({ "message_id": "1" })), "ChannelMessage.ReadWrite"),
        ("msgraph_send_chat_message", json!({ "chat_id": "c", "content": "x" }), "ChatMessage.Send"),
        ("msgraph_set_chat_reaction", json!({ "chat_id": "c", "message_id": "1", "reaction": "👍" }), "ChatMessage.Send"),
    ] {
        let error = call(&app, operation, args).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{operation}");
        assert!(error.message().contains(permission) && error.message().contains("Nothing was sent"), "{error}");
    }
    assert_eq!(replay.seen().len(), 0);
}

#[tokio::test]
async fn an_app_alone_names_the_owner_of_a_new_team() {
    let replay = Replay::new([]);
    let error = call(&scripted(&replay, "app"), "msgraph_create_team", json!({ "display_name": "Night" })).await.unwrap_err();
    assert!(error.message().contains("`owner`"), "{error}");
    assert_eq!(replay.seen().len(), 0);
}

// ---- posting once ----

#[tokio::test(start_paused = true)]
async fn a_message_whose_answer_was_lost_is_found_by_its_words_however_teams_writes_them() {
    let found = message("7", "<p>Disk full on <strong>db-3</strong></p>");
    let replay = Replay::new([Step::Fail(ErrorKind::Transient), Step::json(200, json!({ "value": [message("6", "<p>other</p>"), found] }))]);
    let sent =
        call(&scripted(&replay, "delegated"), "msgraph_send_channel_message", in_place(json!({ "content": "Disk full on <b>db-3</b>" }))).await;
    let sent = sent.unwrap();
    assert_eq!((&sent["message"]["id"], &sent["reconciled"]), (&json!("7"), &json!(true)));
    assert_eq!(replay.lines()[1], "GET /v1.0/teams/t/channels/19%3Aops%40thread.tacv2/messages?$top=50");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_did_not_arrive_is_posted_again_once() {
    let replay = Replay::new([Step::empty(504), Step::json(200, json!({ "value": [] })), Step::json(201, message("8", "<p>x</p>"))]);
    let sent = call(&scripted(&replay, "delegated"), "msgraph_send_chat_message", json!({ "chat_id": "c", "content": "x" })).await.unwrap();
    assert_eq!((&sent["message"]["id"], &sent["reconciled"], replay.left()), (&json!("8"), &json!(false), 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_read_leaves_the_outcome_unknown() {
    let denied = json!({ "error": { "code": "Forbidden", "message": "Missing role permissions on the request." } });
    let replay = Replay::new([Step::empty(504), Step::json(403, denied)]);
    let error = call(&scripted(&replay, "delegated"), "msgraph_send_chat_message", json!({ "chat_id": "c", "content": "x" })).await.unwrap_err();
    assert_eq!((error.kind(), replay.seen().len()), (ErrorKind::Unknown, 2));
}

#[tokio::test]
async fn a_card_is_a_text_in_an_attachment_that_the_body_names_and_a_keyed_one_is_posted_once() {
    let sandbox = sandbox().await;
    let ann = person(&sandbox, &["ChatMessage.Send", "Chat.Read"]);
    let card = json!({ "type": "AdaptiveCard", "version": "1.4", "body": [{ "type": "TextBlock", "text": "HUB-7" }] });
    let args = json!({ "chat_id": known::GRAPH_CHAT, "content": "Look & <b>act</b>", "content_type": "text", "card": card });
    let with_key = |key: &str| ann.with_cx(ann.client().cx().clone().with_idempotency_key(key));
    let first = call(&with_key("k1"), "msgraph_send_chat_message", args.clone()).await.unwrap();
    let attachment = &first["message"]["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(serde_json::from_str::<Value>(attachment["content"].as_str().unwrap()).unwrap(), card);
    let body = first["message"]["body"]["content"].as_str().unwrap();
    assert!(body.contains(&format!("<attachment id=\"{}\"></attachment>", attachment["id"].as_str().unwrap())), "{body}");
    assert!(body.contains("Look &amp; &lt;b&gt;act&lt;/b&gt;"), "a text stays a text: {body}");
    // Another process with the same key.
    let again = call(&with_key("k1"), "msgraph_send_chat_message", args.clone()).await.unwrap();
    assert_eq!((&again["reconciled"], &again["message"]["id"]), (&json!(true), &first["message"]["id"]));
    call(&with_key("k2"), "msgraph_send_chat_message", args).await.unwrap();
    assert_eq!(sandbox.ledger().count(EffectKind::ChatPosted), 2);
}

#[tokio::test]
async fn a_message_above_28_kb_is_refused_before_anything_is_sent() {
    let replay = Replay::new([]);
    let card = json!({ "chat_id": "c", "card": { "type": "AdaptiveCard", "text": "x".repeat(30_000) } });
    let error = call(&scripted(&replay, "delegated"), "msgraph_send_chat_message", card).await.unwrap_err();
    assert_eq!((error.kind(), replay.seen().len()), (ErrorKind::Invalid, 0));
}

// ---- appointments ----

fn event() -> Value {
    json!({ "subject": "Window", "start": { "dateTime": "2026-11-23T09:00:00", "timeZone": "UTC" }, "end": { "dateTime": "2026-11-23T10:00:00", "timeZone": "UTC" } })
}

#[tokio::test(start_paused = true)]
async fn an_unclear_creation_is_repeated_under_the_same_transaction_id() {
    let replay = Replay::new([Step::empty(504), Step::json(201, json!({ "id": "e1" }))]);
    call(&scripted(&replay, "app"), "msgraph_create_event", event()).await.unwrap();
    let ids: Vec<Value> = replay.seen().iter().map(|seen| seen.json()["transactionId"].clone()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0].as_str().unwrap().len(), 36);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_id_that_is_called_a_duplicate_leads_to_the_appointment_that_is_there() {
    let probe = Replay::new([Step::json(201, json!({ "id": "e1" }))]);
    let keyed = |replay: &Replay| {
        let client = scripted(replay, "app");
        client.with_cx(client.client().cx().clone().with_idempotency_key("ticket-7"))
    };
    call(&keyed(&probe), "msgraph_create_event", event()).await.unwrap();
    let id = probe.seen()[0].json()["transactionId"].clone();
    let duplicate = json!({ "error": { "code": "ErrorDuplicateTransactionId", "message": "m" } });
    let listed = json!({ "value": [{ "id": "e0", "transactionId": "other" }, { "id": "e1", "transactionId": id }] });
    let replay = Replay::new([Step::json(409, duplicate), Step::json(200, listed)]);
    assert_eq!(call(&keyed(&replay), "msgraph_create_event", event()).await.unwrap()["id"], "e1");
}

// ---- quotes ----

#[tokio::test]
async fn quotes_never_break_out_of_a_filter_or_a_search() {
    let page = || Step::json(200, json!({ "value": [] }));
    let replay = Replay::new([page(), page(), page(), page(), page()]);
    let app = scripted(&replay, "app");
    let evil = "x' or 1 eq 1 or '";
    call(&app, "msgraph_find_team", json!({ "display_name": evil })).await.unwrap();
    call(&app, "msgraph_find_channel", json!({ "team_id": "t", "display_name": evil })).await.unwrap();
    call(&app, "msgraph_find_events_by_subject", json!({ "subject": evil })).await.unwrap();
    call(&app, "msgraph_find_items", json!({ "site_id": "s", "list_id": "l", "column": "Title", "value": evil })).await.unwrap();
    call(&app, "msgraph_search_drive", json!({ "drive_id": "d", "query": evil })).await.unwrap();
    for seen in replay.seen() {
        let url = percent_decoded(seen.head.url.as_str());
        assert!(url.contains("x'' or 1 eq 1 or ''"), "{url}");
    }
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn a_path_or_a_name_never_leaves_its_folder() {
    let replay = Replay::new([]);
    let app = scripted(&replay, "app");
    for path in ["../secret", "a/../../b", "a//b", "a:b", "x?y"] {
        assert_eq!(
            call(&app, "msgraph_get_drive_item_by_path", json!({ "drive_id": "d", "path": path })).await.unwrap_err().kind(),
            ErrorKind::Invalid,
            "{path}"
        );
    }
    let args = json!({ "drive_id": "d", "parent_id": "root", "name": "../x", "content_text": "x" });
    assert_eq!(call(&app, "msgraph_upload_file", args).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(replay.seen().len(), 0);
}

// ---- sizes ----

#[tokio::test]
async fn an_attachment_above_3_mb_is_refused_before_anything_is_sent() {
    let replay = Replay::new([]);
    let content = "A".repeat(4_200_000);
    let args = json!({ "event_id": "e", "name": "big.bin", "content_base64": content });
    let error = call(&scripted(&replay, "app"), "msgraph_add_event_attachment", args).await.unwrap_err();
    assert_eq!((error.kind(), replay.seen().len()), (ErrorKind::Invalid, 0));
}

// ---- files ----

/// What one piece of a drive's upload session has here.
const PIECE: usize = 16 * 320 * 1024;

fn big(size: usize) -> Value {
    let content = base64::engine::general_purpose::STANDARD.encode(vec![7_u8; size]);
    json!({ "drive_id": "d", "parent_id": "root", "name": "big.bin", "content_base64": content })
}

#[tokio::test(start_paused = true)]
async fn pieces_are_multiples_of_320_kib_and_go_on_where_the_service_says_without_the_token() {
    let size = 2 * PIECE + 10;
    let session = Step::json(200, json!({ "uploadUrl": "https://contoso.sharepoint.com/up", "nextExpectedRanges": ["0-"] }));
    let expected = |at: usize| json!({ "nextExpectedRanges": [format!("{at}-")] });
    let replay = Replay::new([
        session,
        Step::json(202, expected(PIECE)),
        // The second piece arrived, but its answer did not.
        Step::Fail(ErrorKind::Transient),
        Step::json(200, expected(2 * PIECE)),
        Step::json(201, json!({ "id": "01BIG", "size": size })),
    ]);
    let done = call(&scripted(&replay, "app"), "msgraph_upload_file", big(size)).await.unwrap();
    assert_eq!((&done["id"], replay.left()), (&json!("01BIG"), 0));
    let seen = replay.seen();
    let ranges: Vec<Option<&str>> = seen[1..].iter().map(|seen| seen.header("content-range")).collect();
    let range = |from: usize, until: usize| format!("bytes {from}-{}/{size}", until - 1);
    assert_eq!(ranges, [Some(&*range(0, PIECE)), Some(&*range(PIECE, 2 * PIECE)), None, Some(&*range(2 * PIECE, size))]);
    assert_eq!(PIECE % 327_680, 0);
    assert!(seen[1..].iter().all(|seen| seen.header("authorization").is_none() && seen.head.url.host_str() == Some("contoso.sharepoint.com")));
}

#[tokio::test(start_paused = true)]
async fn a_name_conflict_on_the_last_piece_gives_the_session_up() {
    let session = Step::json(200, json!({ "uploadUrl": "https://contoso.sharepoint.com/up" }));
    let conflict = json!({ "error": { "code": "nameAlreadyExists", "message": "m" } });
    let replay =
        Replay::new([session, Step::json(202, json!({ "nextExpectedRanges": [format!("{PIECE}-")] })), Step::json(409, conflict), Step::empty(204)]);
    let mut args = big(PIECE + 1);
    args["conflict"] = "fail".into();
    let error = call(&scripted(&replay, "app"), "msgraph_upload_file", args).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(replay.lines().last().unwrap(), "DELETE /up");
}

#[tokio::test]
async fn a_large_file_goes_through_a_session_of_the_fake_and_a_lost_session_is_replaced() {
    let sandbox = sandbox().await;
    let mut args = big(2 * PIECE + 5);
    args["drive_id"] = known::GRAPH_DRIVE.into();
    let item = call(&app(&sandbox), "msgraph_upload_file", args).await.unwrap();
    assert_eq!(item["size"], 2 * PIECE + 5);
    assert_eq!(sandbox.msgraph().file(known::GRAPH_DRIVE, "big.bin").unwrap().len(), 2 * PIECE + 5);
    assert_eq!(sandbox.msgraph().open_uploads(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_download_goes_where_graph_sends_and_takes_no_token_there() {
    let replay = Replay::new([
        Step::empty(302).with_header("location", "https://contoso.sharepoint.com/dl?tempauth=s3cret"),
        Step::text(206, "text/plain", "hel"),
    ]);
    let args = json!({ "drive_id": "d", "item_id": "i", "range": "bytes=0-2" });
    let got = call(&scripted(&replay, "app"), "msgraph_download_file", args).await.unwrap();
    assert_eq!(got["base64"], "aGVs");
    let seen = replay.seen();
    assert_eq!((seen[0].header("range"), seen[1].header("range"), seen[1].header("authorization")), (None, Some("bytes=0-2"), None));
    let replay = Replay::new([Step::empty(302).with_header("location", "http://contoso.sharepoint.com/dl?tempauth=s3cret")]);
    let error = call(&scripted(&replay, "app"), "msgraph_download_file", json!({ "drive_id": "d", "item_id": "i" })).await.unwrap_err();
    assert!(error.to_string().contains("not https") && !error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_copy_is_looked_after_until_it_is_there() {
    let sandbox = sandbox().await;
    let app = app(&sandbox);
    let file =
        call(&app, "msgraph_upload_file", json!({ "drive_id": known::GRAPH_DRIVE, "parent_id": "root", "name": "a.txt", "content_text": "hello" }))
            .await
            .unwrap();
    sandbox.msgraph().slow_copies(2);
    let args = json!({ "drive_id": known::GRAPH_DRIVE, "item_id": file["id"], "name": "b.txt" });
    let done = call(&app, "msgraph_copy_drive_item", args).await.unwrap();
    assert_eq!((&done["status"], done.get("monitor")), (&json!("completed"), None));
    let copy = call(&app, "msgraph_get_drive_item", json!({ "drive_id": known::GRAPH_DRIVE, "item_id": done["item_id"] })).await.unwrap();
    assert_eq!(copy["name"], "b.txt");
    let elsewhere = call(&app, "msgraph_copy_drive_item", json!({ "drive_id": "d", "item_id": "i", "to_drive_id": "e" })).await.unwrap_err();
    assert!(elsewhere.message().contains("to_parent_id"), "{elsewhere}");
}

#[tokio::test]
async fn a_full_drive_is_a_quota_and_a_locked_file_passes() {
    let sandbox = sandbox().await;
    let app = app(&sandbox);
    let upload = json!({ "drive_id": known::GRAPH_DRIVE, "parent_id": "root", "name": "a.txt", "content_text": "hello" });
    let file = call(&app, "msgraph_upload_file", upload.clone()).await.unwrap();
    call(&app, "msgraph_check_out_file", json!({ "drive_id": known::GRAPH_DRIVE, "item_id": file["id"] })).await.unwrap();
    let locked = json!({ "error": { "code": "resourceLocked", "message": "m" } });
    let replay = Replay::new([Step::json(423, locked), Step::json(200, json!({ "id": "01" }))]);
    assert_eq!(call(&scripted(&replay, "app"), "msgraph_get_drive_item", json!({ "drive_id": "d", "item_id": "i" })).await.unwrap()["id"], "01");
    call(&app, "msgraph_check_in_file", json!({ "drive_id": known::GRAPH_DRIVE, "item_id": file["id"] })).await.unwrap();
    sandbox.msgraph().set_quota(known::GRAPH_DRIVE, 1);
    let mut more = upload;
    more["name"] = "b.txt".into();
    assert_eq!(call(&app, "msgraph_upload_file", more).await.unwrap_err().kind(), ErrorKind::Quota);
}

// ---- streams ----

async fn follow(client: &MsGraph, stream: &str, from: Option<Cursor>) -> Result<(Vec<Change>, Cursor)> {
    let (delta, cx) = (client.connector().delta().unwrap(), client.client().cx().clone());
    let (mut changes, mut at) = (Vec::new(), from);
    loop {
        let page = delta.changes(&cx, stream, at.take()).await?;
        changes.extend(page.changes);
        if !page.more {
            return Ok((changes, page.next));
        }
        at = Some(page.next);
    }
}

fn keys(changes: &[Change]) -> Vec<(&str, bool)> {
    changes
        .iter()
        .map(|change| match change {
            Change::Upsert { key, .. } => (key.as_str(), true),
            Change::Delete { key } => (key.as_str(), false),
        })
        .collect()
}

#[tokio::test]
async fn calendars_drives_lists_and_channels_are_followed_and_started_over_when_their_tokens_are_forgotten() {
    let sandbox = sandbox().await;
    let (app, graph) = (app(&sandbox), sandbox.msgraph());
    let (list, channel) = (
        format!("list_items:{}/{}", known::GRAPH_SITE, known::GRAPH_LIST),
        format!("channel_messages:{}/{}", known::GRAPH_TEAM, known::GRAPH_CHANNEL),
    );
    let drive = format!("drive_items:{}", known::GRAPH_DRIVE);
    let made = call(&app, "msgraph_create_event", {
        let mut event = event();
        let start = jiff::Timestamp::now().to_string();
        event["start"]["dateTime"] = start[..19].into();
        event["end"]["dateTime"] = start[..19].into();
        event
    });
    let event = made.await.unwrap()["id"].as_str().unwrap().to_owned();
    call(&app, "msgraph_create_item", json!({ "site_id": known::GRAPH_SITE, "list_id": known::GRAPH_LIST, "fields": { "Title": "a" } }))
        .await
        .unwrap();
    let said = graph.say_in_channel(known::GRAPH_TEAM, known::GRAPH_CHANNEL, "Disk full").unwrap();
    let file =
        call(&app, "msgraph_upload_file", json!({ "drive_id": known::GRAPH_DRIVE, "parent_id": "root", "name": "a.txt", "content_text": "x" }))
            .await
            .unwrap();
    let file = file["id"].as_str().unwrap().to_owned();

    let (events, at_events) = follow(&app, "events", None).await.unwrap();
    let (items, at_items) = follow(&app, &list, None).await.unwrap();
    let (messages, at_messages) = follow(&app, &channel, None).await.unwrap();
    let (files, at_files) = follow(&app, &drive, None).await.unwrap();
    assert_eq!(keys(&events), [(&*event, true)]);
    assert_eq!(keys(&items), [("1", true)]);
    assert_eq!(keys(&messages), [(&*said, true)]);
    assert_eq!(keys(&files).len(), 2, "the root and the file");

    call(&app, "msgraph_delete_event", json!({ "event_id": event })).await.unwrap();
    call(&app, "msgraph_delete_item", json!({ "site_id": known::GRAPH_SITE, "list_id": known::GRAPH_LIST, "item_id": "1" })).await.unwrap();
    let ann = person(&sandbox, &["ChannelMessage.ReadWrite"]);
    call(
        &ann,
        "msgraph_soft_delete_channel_message",
        json!({ "team_id": known::GRAPH_TEAM, "channel_id": known::GRAPH_CHANNEL, "message_id": said }),
    )
    .await
    .unwrap();
    call(&app, "msgraph_delete_drive_item", json!({ "drive_id": known::GRAPH_DRIVE, "item_id": file })).await.unwrap();
    assert_eq!(keys(&follow(&app, "events", Some(at_events.clone())).await.unwrap().0), [(&*event, false)]);
    assert_eq!(keys(&follow(&app, &list, Some(at_items.clone())).await.unwrap().0), [("1", false)]);
    assert_eq!(keys(&follow(&app, &channel, Some(at_messages.clone())).await.unwrap().0), [(&*said, false)]);
    assert_eq!(keys(&follow(&app, &drive, Some(at_files.clone())).await.unwrap().0).last(), Some(&(&*file, false)));

    graph.expire_calendar(known::GRAPH_MAILBOX);
    graph.expire_list(known::GRAPH_SITE, known::GRAPH_LIST);
    graph.expire_channel(known::GRAPH_TEAM, known::GRAPH_CHANNEL);
    graph.expire_drive(known::GRAPH_DRIVE);
    for (stream, at) in [("events", at_events), (&list, at_items), (&channel, at_messages), (&drive, at_files)] {
        assert_eq!(follow(&app, stream, Some(at)).await.unwrap_err().kind(), ErrorKind::CursorExpired, "{stream}");
    }
}

// ---- limits and permissions ----

#[tokio::test]
async fn a_spent_budget_of_sharepoint_is_waited_out() {
    let sandbox = sandbox().await;
    let app = app(&sandbox);
    sandbox.msgraph().throttle_files(1, 1);
    assert_eq!(call(&app, "msgraph_get_drive", json!({ "drive_id": known::GRAPH_DRIVE })).await.unwrap()["id"], known::GRAPH_DRIVE);
}

#[tokio::test]
async fn a_permission_that_was_not_given_is_forbidden_in_all_three_services_words() {
    let sandbox = sandbox().await;
    let app = app(&sandbox);
    sandbox.msgraph().set_roles(&["Mail.Read"]);
    for (operation, args) in [
        ("msgraph_list_events", json!({})),
        ("msgraph_list_teams", json!({})),
        ("msgraph_get_drive", json!({ "drive_id": known::GRAPH_DRIVE })),
        ("msgraph_get_site", json!({ "site_id": known::GRAPH_SITE })),
    ] {
        assert_eq!(call(&app, operation, args).await.unwrap_err().kind(), ErrorKind::Forbidden, "{operation}");
    }
}
