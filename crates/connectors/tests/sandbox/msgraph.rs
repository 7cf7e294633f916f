//! Microsoft 365 mail: every operation, and a folder followed through a full start-over.

use base64::Engine as _;
use connector_sandbox::{EffectKind, Sandbox, known};
use connectors::{Cursor, ErrorKind, core::delta::Change, msgraph::MsGraph};
use serde_json::{Value, json};

use crate::{
    receiver::Receiver,
    world::{World, mail, msgraph, tireless},
};

/// Operations the fake cannot answer, each with its reason.
const NOT_IN_SANDBOX: [(&str, &str); 0] = [];

const USER: &str = known::GRAPH_MAILBOX;

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_default().to_owned()
}

/// The files of the manifest that are about mail.
const MAIL: [&str; 8] = [
    include_str!("../../../connector-msgraph/manifest/attachments.yaml"),
    include_str!("../../../connector-msgraph/manifest/batch.yaml"),
    include_str!("../../../connector-msgraph/manifest/connector.yaml"),
    include_str!("../../../connector-msgraph/manifest/drafts.yaml"),
    include_str!("../../../connector-msgraph/manifest/folders.yaml"),
    include_str!("../../../connector-msgraph/manifest/messages.yaml"),
    include_str!("../../../connector-msgraph/manifest/subscriptions.yaml"),
    include_str!("../../../connector-msgraph/manifest/triage.yaml"),
];

#[tokio::test]
async fn every_operation_about_mail_succeeds() {
    let sandbox = Sandbox::builder().vendor("msgraph").start("127.0.0.1:0").await.unwrap();
    let world = World::watching(&msgraph(&sandbox, &tireless()));
    let message = sandbox.msgraph().inject_mime(USER, "inbox", &mail("a@client.example")).unwrap();
    reading(&world, &message).await;
    folders(&world, &message).await;
    writing(&world, &message).await;
    attachments(&world, &sandbox, &message).await;
    tagging(&world, &message).await;
    bulk(&world, &sandbox).await;
    subscriptions(&world).await;
    world.with("msgraph_delete_message", json!({ "message_id": message })).await;
    // What is beyond mail is called, all of it, in `connector-msgraph/tests/office_sandbox.rs`.
    world.finish_of(|name| MAIL.iter().any(|file| file.contains(&format!("name: {name}\n"))), &NOT_IN_SANDBOX);
}

async fn reading(world: &World, message: &str) {
    for operation in ["msgraph_list_messages", "msgraph_list_folder_messages", "msgraph_list_unread_messages", "msgraph_list_messages_from"] {
        let since = if operation.ends_with("list_messages") { json!({ "user": USER }) } else { json!({ "user": USER, "since": null }) };
        world.like_example(operation, since).await;
    }
    let headers = world.with("msgraph_get_message_headers", json!({ "message_id": message })).await;
    world.expect(headers["internetMessageHeaders"].is_array(), || format!("msgraph_get_message_headers: {headers}"));
    let one = world.like_example("msgraph_get_message", json!({ "user": USER, "message_id": message })).await;
    world.expect(one["subject"] == "Printer down", || format!("msgraph_get_message: {one}"));
    let conversation = one["conversationId"].clone();
    world.with("msgraph_get_message_mime", json!({ "message_id": message })).await;
    for (operation, over) in [
        ("msgraph_search_messages", json!({ "user": USER, "query": "subject:printer" })),
        ("msgraph_search_folder_messages", json!({ "user": USER, "folder": "inbox", "query": "subject:printer" })),
        ("msgraph_find_by_internet_message_id", json!({ "user": USER, "internet_message_id": "<a@client.example>" })),
        ("msgraph_list_conversation", json!({ "user": USER, "conversation_id": conversation })),
    ] {
        let found = world.like_example(operation, over).await;
        world.expect(found["value"].as_array().is_some_and(|found| found.len() == 1), || format!("{operation}: {found}"));
    }
    let immutable = world.like_example("msgraph_translate_ids", json!({ "user": USER, "ids": [message] })).await;
    world.expect(immutable.to_string().contains("targetId"), || format!("msgraph_translate_ids: {immutable}"));
    let page = world.like_example("msgraph_delta_messages", json!({ "user": USER })).await;
    world.expect(page["value"].as_array().is_some_and(|found| found.len() == 1), || format!("msgraph_delta_messages: {page}"));
    world.like_example("msgraph_delta_folders", json!({ "user": USER })).await;
}

async fn folders(world: &World, message: &str) {
    world.with("msgraph_list_folders", json!({})).await;
    world.like_example("msgraph_get_folder", json!({ "user": USER })).await;
    let top = id(&world.like_example("msgraph_create_folder", json!({ "user": USER })).await);
    let child = id(&world.like_example("msgraph_create_child_folder", json!({ "user": USER, "folder": top })).await);
    let found = world.like_example("msgraph_find_folder", json!({ "user": USER, "display_name": "Tickets" })).await;
    world.expect(found["value"][0]["id"] == top.as_str(), || format!("msgraph_find_folder: {found}"));
    let children = world.like_example("msgraph_list_child_folders", json!({ "user": USER, "folder": top })).await;
    world.expect(children["value"][0]["id"] == child.as_str(), || format!("msgraph_list_child_folders: {children}"));
    let renamed = world.like_example("msgraph_rename_folder", json!({ "user": USER, "folder": child })).await;
    world.expect(renamed["displayName"] == "Solved", || format!("msgraph_rename_folder: {renamed}"));
    let copy = world.like_example("msgraph_copy_message", json!({ "user": USER, "message_id": message, "destination": child })).await;
    world.expect(id(&copy) != message, || format!("msgraph_copy_message: {copy}"));
    let moved = world.like_example("msgraph_move_message", json!({ "user": USER, "message_id": id(&copy), "destination": top })).await;
    world.expect(moved["parentFolderId"] == top.as_str(), || format!("msgraph_move_message: {moved}"));
    world.with("msgraph_delete_folder", json!({ "folder": child })).await;
}

async fn writing(world: &World, message: &str) {
    for reply in ["msgraph_reply", "msgraph_reply_all", "msgraph_forward"] {
        world.like_example(reply, json!({ "user": USER, "message_id": message })).await;
    }
    for draft in ["msgraph_create_reply_draft", "msgraph_create_reply_all_draft", "msgraph_create_forward_draft"] {
        let made = world.like_example(draft, json!({ "user": USER, "message_id": message })).await;
        world.expect(made["isDraft"] == true, || format!("{draft}: {made}"));
    }
    for send in ["msgraph_send_draft", "msgraph_send_draft_once"] {
        let draft = id(&world.like_example("msgraph_create_draft", json!({ "user": USER })).await);
        let changed = world.like_example("msgraph_update_draft", json!({ "user": USER, "message_id": draft })).await;
        world.expect(changed["subject"] == "Your ticket 4711", || format!("msgraph_update_draft: {changed}"));
        world.with(send, json!({ "message_id": draft })).await;
    }
    world.like_example("msgraph_send_mail", json!({ "user": USER })).await;
    world.like_example("msgraph_send_message", json!({ "user": USER })).await;
    let mime = base64::engine::general_purpose::STANDARD.encode(format!("From: {USER}\r\nTo: ann@client.example\r\nSubject: Hi\r\n\r\nHi\r\n"));
    world.with("msgraph_send_mime", json!({ "mime_base64": mime })).await;
    let sent = world.like_example("msgraph_reply_in_thread", json!({ "user": USER, "message_id": message })).await;
    world.expect(sent["reconciled"] == false, || format!("msgraph_reply_in_thread: {sent}"));
}

async fn attachments(world: &World, sandbox: &Sandbox, message: &str) {
    let draft = id(&world.like_example("msgraph_create_draft", json!({ "user": USER })).await);
    let on = |more: Value| {
        let mut args = json!({ "user": USER, "message_id": draft });
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    let small = id(&world.like_example("msgraph_add_attachment", on(json!({}))).await);
    let session = world.like_example("msgraph_create_upload_session", on(json!({}))).await;
    world.expect(session["uploadUrl"].is_string(), || format!("msgraph_create_upload_session: {session}"));
    let bytes: Vec<u8> = (0..6_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let large = base64::engine::general_purpose::STANDARD.encode(&bytes);
    let uploaded = world.with("msgraph_upload_attachment", on(json!({ "name": "big.bin", "content_base64": large }))).await;
    world.expect(uploaded["chunks"].as_u64().is_some_and(|chunks| chunks > 1), || format!("msgraph_upload_attachment: {uploaded}"));
    let listed = world.with("msgraph_list_attachments", on(json!({}))).await;
    world.expect(listed["value"].as_array().is_some_and(|all| all.len() == 2), || format!("msgraph_list_attachments: {listed}"));
    let whole = world.with("msgraph_get_attachment", on(json!({ "attachment_id": uploaded["id"] }))).await;
    world.expect(whole["contentBytes"] == large.as_str(), || "msgraph_get_attachment: the bytes differ from those uploaded".into());
    let raw = world.with("msgraph_get_attachment_raw", on(json!({ "attachment_id": small }))).await;
    world.expect(raw["base64"] == "SGk=", || format!("msgraph_get_attachment_raw: {raw}"));
    world.with("msgraph_delete_attachment", on(json!({ "attachment_id": small }))).await;

    let forwarded = "From: Ann <ann@client.example>\r\nTo: support@contoso.example\r\nSubject: FW\r\nMessage-ID: <fw@client.example>\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n\
        From: Bob <bob@client.example>\r\nSubject: Inner\r\n\r\nInside.\r\n--b--\r\n";
    let outer = sandbox.msgraph().inject_mime(USER, "inbox", forwarded.as_bytes()).unwrap();
    let inside = world.with("msgraph_list_attachments", json!({ "message_id": outer })).await;
    let item = world.with("msgraph_get_attached_item", json!({ "message_id": outer, "attachment_id": inside["value"][0]["id"] })).await;
    world.expect(item["item"]["subject"] == "Inner", || format!("msgraph_get_attached_item: {item}"));
    assert_ne!(outer, message);
}

async fn tagging(world: &World, message: &str) {
    for operation in
        ["mark_read", "mark_unread", "set_categories", "add_categories", "set_flag", "set_importance", "set_inference", "remove_categories"]
    {
        world.like_example(&format!("msgraph_{operation}"), json!({ "user": USER, "message_id": message })).await;
    }
    let one = world.with("msgraph_get_message", json!({ "message_id": message })).await;
    world.expect(one["categories"] == json!(["Gold"]) && one["importance"] == "high", || format!("tagging: {one}"));
    world.like_example("msgraph_create_master_category", json!({ "user": USER })).await;
    let all = world.with("msgraph_list_master_categories", json!({})).await;
    world.expect(all.to_string().contains("Ticketed"), || format!("msgraph_list_master_categories: {all}"));
}

async fn bulk(world: &World, sandbox: &Sandbox) {
    let moved = sandbox.ledger().count(EffectKind::MailMoved);
    let ids: Vec<String> =
        (0..23).map(|n| sandbox.msgraph().inject_mime(USER, "inbox", &mail(&format!("bulk{n}@client.example"))).unwrap()).collect();
    let read = world.with("msgraph_get_messages", json!({ "message_ids": ids, "select": ["subject"] })).await;
    world.expect(read["results"].as_array().is_some_and(|all| all.len() == 23) && read["failed"] == 0, || format!("msgraph_get_messages: {read}"));
    let asked = json!({ "message_ids": [ids[0], "AAkALg-nothing", ids[1]] });
    let some = world.client.call_dynamic("msgraph_get_messages", asked.as_object().unwrap().clone()).await.unwrap();
    let failed: Vec<_> = some.partial.iter().map(|one| (one.index, one.kind)).collect();
    world.expect(failed == [(Some(1), ErrorKind::NotFound)], || format!("msgraph_get_messages: {failed:?}"));
    let requests = json!([
        { "method": "GET", "url": format!("/users/{USER}/messages/{}?$select=subject", ids[0]) },
        { "method": "PATCH", "url": format!("/users/{USER}/messages/{}", ids[0]), "body": { "isRead": false } },
    ]);
    let answers = world.with("msgraph_batch", json!({ "requests": requests })).await;
    world.expect(answers["failed"] == 0, || format!("msgraph_batch: {answers}"));
    for (operation, more) in [
        ("msgraph_update_messages", json!({ "categories": ["Bulk"], "is_read": true })),
        ("msgraph_move_messages", json!({ "destination": "archive" })),
    ] {
        let mut args = json!({ "message_ids": ids });
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let done = world.with(operation, args).await;
        world.expect(done["failed"] == 0, || format!("{operation}: {done}"));
    }
    assert_eq!((sandbox.msgraph().count_in(USER, "archive"), sandbox.ledger().count(EffectKind::MailMoved) - moved), (23, 23));
}

async fn subscriptions(world: &World) {
    let secret = "2f6b0c61d6f24c0e9f8f";
    let receiver = Receiver::start(world.client.connector().clone(), secret).await;
    let at = |days: i64| jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_hours(24 * days)).unwrap().to_string();
    let over = json!({ "resource": format!("/users/{USER}/mailFolders('inbox')/messages"), "notification_url": receiver.url, "lifecycle_url": receiver.url,
        "expires": at(1) });
    let one = id(&world.like_example("msgraph_create_subscription", over).await);
    let all = world.with("msgraph_list_subscriptions", json!({})).await;
    world.expect(all["value"].as_array().is_some_and(|all| all.len() == 1), || format!("msgraph_list_subscriptions: {all}"));
    let until = at(2);
    let renewed = world.with("msgraph_renew_subscription", json!({ "subscription_id": one, "expires": until })).await;
    let read = world.with("msgraph_get_subscription", json!({ "subscription_id": one })).await;
    world.expect(renewed["expirationDateTime"] == read["expirationDateTime"], || format!("msgraph_renew_subscription: {renewed} {read}"));
    world.with("msgraph_reauthorize_subscription", json!({ "subscription_id": one })).await;
    let wanted = json!({ "notification_url": receiver.url, "lifecycle_url": receiver.url, "client_state": secret });
    let ensured = world.with("msgraph_ensure_subscription", wanted).await;
    world.expect(ensured["subscription"]["id"].is_string(), || format!("msgraph_ensure_subscription: {ensured}"));
    world.with("msgraph_delete_subscription", json!({ "subscription_id": ensured["subscription"]["id"] })).await;
}

#[tokio::test]
async fn a_folder_is_followed_and_started_over_without_losing_a_message() {
    let sandbox = Sandbox::builder().vendor("msgraph").start("127.0.0.1:0").await.unwrap();
    let graph = MsGraph::from_client(msgraph(&sandbox, &tireless()));
    let (delta, cx) = (graph.connector().delta().unwrap(), graph.client().cx());
    let mut expected: Vec<String> =
        (0..60).map(|n| sandbox.msgraph().inject_mime(USER, "inbox", &mail(&format!("d{n}@client.example"))).unwrap()).collect();
    let mut seen = Vec::new();
    let mut cursor: Option<Cursor> = None;
    let mut expired = 0;
    for round in 0..6 {
        if round == 2 {
            sandbox.msgraph().expire_delta(USER);
        }
        loop {
            match delta.changes(cx, "messages", cursor.clone()).await {
                Ok(page) => {
                    for change in page.changes {
                        let Change::Upsert { key, .. } = change else { continue };
                        seen.push(key);
                    }
                    cursor = Some(page.next);
                    if !page.more {
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::CursorExpired, "{error}");
                    expired += 1;
                    cursor = None;
                }
            }
        }
        expected.push(sandbox.msgraph().inject_mime(USER, "inbox", &mail(&format!("late{round}@client.example"))).unwrap());
    }
    assert_eq!(expired, 1);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 65, "60 at the start and one after each of five rounds");
    // Ids are immutable ones; count what is in the folder instead of comparing texts.
    assert_eq!(sandbox.msgraph().count_in(USER, "inbox"), expected.len());
}
