//! The fake Graph's mail half over loopback: reading, threading, sending, triage, attachments.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector_sandbox::{EffectKind, Sandbox, WallClock, known};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use support::{Caller, graph, graph_token, graph_token_with, mail};

const BOX: &str = "/users/support@contoso.example";

async fn start() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let graph = graph(&sandbox).await;
    (sandbox, graph)
}

fn inject(sandbox: &Sandbox, id: &str, subject: &str) -> String {
    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &mail(id, subject, "")).unwrap()
}

#[tokio::test]
async fn tokens_expire_and_wrong_secrets_are_refused() {
    let seconds = Arc::new(AtomicI64::new(1_800_000_000));
    let source = seconds.clone();
    let clock = WallClock::from_fn(move || jiff::Timestamp::from_second(source.load(Ordering::SeqCst)).unwrap());
    let sandbox = Sandbox::builder().clock(clock).token_lifetime_s(60).start("127.0.0.1:0").await.unwrap();
    let refused = graph_token_with(&sandbox, "wrong").await;
    let body = refused.expect(401);
    assert_eq!(body["error"], "invalid_client");
    assert_eq!(body["error_codes"], json!([7_000_215]));
    assert_eq!(graph_token(&sandbox).await.expect(200)["expires_in"], 60);
    let caller = graph(&sandbox).await;
    caller.get(&format!("{BOX}/messages")).await.expect(200);
    seconds.fetch_add(61, Ordering::SeqCst);
    let expired = caller.get(&format!("{BOX}/messages")).await.expect(401);
    assert_eq!(expired["error"]["code"], "InvalidAuthenticationToken");
    assert_eq!(sandbox.msgraph().tokens_issued(), 2);
}

#[tokio::test]
async fn lists_filter_search_select_and_page() {
    let (sandbox, graph) = start().await;
    for n in 0..25 {
        inject(&sandbox, &format!("m{n}@x"), &format!("Printer {n}"));
    }
    let first = graph.get(&format!("{BOX}/mailFolders/inbox/messages?$select=subject&$count=true")).await.expect(200);
    assert_eq!(first["@odata.count"], 25);
    assert_eq!(first["value"].as_array().unwrap().len(), 10);
    let keys: Vec<&String> = first["value"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["@odata.etag", "id", "subject"]);
    let mut seen = 10;
    let mut next = first["@odata.nextLink"].as_str().map(str::to_owned);
    while let Some(link) = next {
        let page = graph.get(&link).await.expect(200);
        seen += page["value"].as_array().unwrap().len();
        next = page["@odata.nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, 25);
    let by_id = graph.get(&format!("{BOX}/messages?$filter=internetMessageId%20eq%20'%3Cm7%40x%3E'")).await.expect(200);
    assert_eq!(by_id["value"][0]["subject"], "Printer 7");
    assert_eq!(by_id["value"].as_array().unwrap().len(), 1);
    let found = graph.get(&format!("{BOX}/messages?$search=%22subject:%5C%22Printer%2012%5C%22%22")).await.expect(200);
    assert_eq!(found["value"].as_array().unwrap().len(), 1);
    let bad = graph.get(&format!("{BOX}/messages?$filter=isRead%20eq%20false&$orderby=receivedDateTime%20desc")).await.expect(400);
    assert_eq!(bad["error"]["code"], "InefficientFilter");
    graph
        .get(&format!(
            "{BOX}/messages?$filter=receivedDateTime%20ge%202026-01-01T00:00:00Z%20and%20isRead%20eq%20false&$orderby=receivedDateTime%20desc"
        ))
        .await
        .expect(200);
    assert_eq!(graph.get(&format!("{BOX}/messages?$filter=shoeSize%20eq%201")).await.status, 400);
    assert_eq!(graph.get("/users/nobody@contoso.example/messages").await.expect(404)["error"]["code"], "ResourceNotFound");
}

#[tokio::test]
async fn folders_have_well_known_names_and_live_counts() {
    let (sandbox, graph) = start().await;
    inject(&sandbox, "a@x", "one");
    let inbox = graph.get(&format!("{BOX}/mailFolders/inbox")).await.expect(200);
    assert_eq!((&inbox["totalItemCount"], &inbox["unreadItemCount"]), (&json!(1), &json!(1)));
    let made = graph.post(&format!("{BOX}/mailFolders/inbox/childFolders"), json!({"displayName": "Done"})).await.expect(201);
    assert_eq!(made["parentFolderId"], inbox["id"]);
    let again = graph.post(&format!("{BOX}/mailFolders/inbox/childFolders"), json!({"displayName": "done"})).await;
    assert_eq!(again.status, 409);
    let children = graph.get(&format!("{BOX}/mailFolders/inbox/childFolders")).await.expect(200);
    assert_eq!(children["value"][0]["displayName"], "Done");
    let url = format!("{BOX}/mailFolders/{}", made["id"].as_str().unwrap());
    assert_eq!(graph.patch(&url, json!({"displayName": "Finished"})).await.expect(200)["displayName"], "Finished");
    graph.patch(&url, json!({"displayName": "Done"})).await.expect(200);
    let all = graph.get(&format!("{BOX}/mailFolders?$top=100")).await.expect(200);
    assert!(all["value"].as_array().unwrap().iter().all(|f| f["displayName"] != "Deletions"));
    let delta = graph.get(&format!("{BOX}/mailFolders/delta")).await.expect(200);
    assert!(delta["value"].as_array().unwrap().iter().any(|f| f["displayName"] == "Done"));
    let id = inject(&sandbox, "b@x", "two");
    graph.post(&format!("{BOX}/messages/{id}/move"), json!({"destinationId": made["id"]})).await.expect(201);
    assert_eq!(graph.delete(&url).await.status, 204);
    assert_eq!(graph.get(&url).await.status, 404);
    let delta = graph.get(delta["@odata.deltaLink"].as_str().unwrap()).await.expect(200);
    assert_eq!(delta["value"], json!([{"id": made["id"], "@removed": {"reason": "deleted"}}]));
    assert_eq!(graph.get(&format!("{BOX}/messages")).await.expect(200)["value"].as_array().unwrap().len(), 1, "its mail went with it");
    assert_eq!(graph.delete(&format!("{BOX}/mailFolders/inbox")).await.status, 403);
}

#[tokio::test]
async fn a_reply_is_drafted_edited_and_sent_in_its_thread() {
    let (sandbox, graph) = start().await;
    let id = inject(&sandbox, "root@acme", "Shop down");
    let graph = graph.with("prefer", "IdType=\"ImmutableId\"");
    let original = graph.get(&format!("{BOX}/messages/{id}")).await.expect(200);
    let draft = graph
        .post(
            &format!("{BOX}/messages/{id}/createReply"),
            json!({"message": {"internetMessageHeaders": [{"name": "x-connector-key", "value": "k1"}]}}),
        )
        .await
        .expect(201);
    assert_eq!((&draft["isDraft"], &draft["subject"]), (&json!(true), &json!("RE: Shop down")));
    assert_eq!(draft["conversationId"], original["conversationId"]);
    assert_eq!(draft["toRecipients"][0]["emailAddress"]["address"], "ada@acme.example");
    assert!(draft["body"]["content"].as_str().unwrap().contains("the shop is down"));
    let draft_id = draft["id"].as_str().unwrap();
    graph.patch(&format!("{BOX}/messages/{draft_id}"), json!({"body": {"contentType": "html", "content": "<p>On it</p>"}})).await.expect(200);
    graph.post(&format!("{BOX}/messages/{draft_id}/send"), Value::Null).await.expect(202);
    // The immutable id survives the move to Sent Items.
    let sent = graph.get(&format!("{BOX}/messages/{draft_id}?$select=isDraft,internetMessageHeaders,subject")).await.expect(200);
    assert_eq!(sent["isDraft"], false);
    let headers = sent["internetMessageHeaders"].to_string();
    assert!(headers.contains("<root@acme>") && headers.contains("k1"), "{headers}");
    assert_eq!(graph.post(&format!("{BOX}/messages/{draft_id}/send"), Value::Null).await.status, 400);
    let replies = sandbox.ledger().replies_by_message();
    assert_eq!(replies["<root@acme>"].len(), 1);
    assert_eq!(replies["<root@acme>"][0].key.as_deref(), Some("k1"));
    assert_eq!(sandbox.msgraph().count_in(known::GRAPH_MAILBOX, "sentitems"), 1);
}

#[tokio::test]
async fn one_shot_replies_forwards_and_send_mail() {
    let (sandbox, graph) = start().await;
    let text = mail("root@acme", "Shop down", "Cc: Bo <bo@acme.example>\r\nReply-To: desk@acme.example\r\n");
    let id = sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &text).unwrap();
    let both = json!({"comment": "x", "message": {"body": {"contentType": "text", "content": "y"}}});
    assert_eq!(graph.post(&format!("{BOX}/messages/{id}/reply"), both).await.status, 400);
    graph.post(&format!("{BOX}/messages/{id}/replyAll"), json!({"comment": "we look"})).await.expect(202);
    let to = json!({"comment": "fyi", "toRecipients": [{"emailAddress": {"address": "noc@contoso.example"}}]});
    graph.post(&format!("{BOX}/messages/{id}/forward"), to).await.expect(202);
    let message = json!({"subject": "News", "body": {"contentType": "text", "content": "hi"}, "toRecipients": [{"emailAddress": {"address": "bo@acme.example"}}]});
    graph.post(&format!("{BOX}/sendMail"), json!({"message": message, "saveToSentItems": false})).await.expect(202);
    let mut own = message.clone();
    own["from"] = json!({"emailAddress": {"address": "boss@contoso.example"}});
    assert_eq!(graph.post(&format!("{BOX}/sendMail"), json!({"message": own})).await.expect(403)["error"]["code"], "ErrorSendAsDenied");
    // In-Reply-To through extended properties, as sendMail has no other way.
    let mut threaded = message.clone();
    threaded["singleValueExtendedProperties"] =
        json!([{"id": "String 0x1042", "value": "<root@acme>"}, {"id": "String 0x1039", "value": "<root@acme>"}]);
    graph.post(&format!("{BOX}/sendMail"), json!({"message": threaded})).await.expect(202);
    let replies = sandbox.ledger().replies_by_message();
    assert_eq!(replies["<root@acme>"].len(), 2);
    assert_eq!(replies["<root@acme>"][0].detail["to"], json!(["desk@acme.example"]));
    assert_eq!(replies["<root@acme>"][0].conversation, replies["<root@acme>"][1].conversation);
    assert_eq!(sandbox.ledger().count(EffectKind::MailForwarded), 1);
    assert_eq!(sandbox.ledger().count(EffectKind::MailSent), 1);
    assert_eq!(sandbox.msgraph().count_in(known::GRAPH_MAILBOX, "sentitems"), 3);
}

#[tokio::test]
async fn mime_round_trips_in_both_directions() {
    let (sandbox, graph) = start().await;
    let text = mail("mime@acme", "Shop down", "");
    let id = sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &text).unwrap();
    assert_eq!(graph.get(&format!("{BOX}/messages/{id}/$value")).await.bytes, text);
    let own = b"To: bo@acme.example\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\r\n\r\nhi\r\n";
    let plain = graph.with("content-type", "text/plain");
    let draft = plain.raw("POST", &format!("{BOX}/messages"), STANDARD.encode(own)).await.unwrap().expect(201);
    assert_eq!(draft["subject"], "Grüße");
    let bad = plain.raw("POST", &format!("{BOX}/sendMail"), "not base64!").await.unwrap().expect(400);
    assert_eq!(bad["error"]["code"], "ErrorMimeContentInvalidBase64String");
    let made = graph.post(&format!("{BOX}/messages"), json!({"subject": "Grüße", "body": {"contentType": "text", "content": "ä"}})).await.expect(201);
    let mime = graph.get(&format!("{BOX}/messages/{}/$value", made["id"].as_str().unwrap())).await;
    assert!(String::from_utf8_lossy(&mime.bytes).contains("Subject: =?utf-8?B?R3LDvMOfZQ==?="));
}

#[tokio::test]
async fn broken_mail_is_stored_with_its_bytes() {
    let (sandbox, graph) = start().await;
    for broken in [&b""[..], b"\xff\xfe\x00garbage", b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nno end"] {
        let id = sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", broken).unwrap();
        assert_eq!(graph.get(&format!("{BOX}/messages/{id}/$value")).await.bytes, broken);
        graph.get(&format!("{BOX}/messages/{id}")).await.expect(200);
    }
    assert_eq!(sandbox.ledger().count(EffectKind::MailReceived), 3);
}

#[tokio::test]
async fn moving_changes_the_default_id_but_not_the_immutable_one() {
    let (sandbox, graph) = start().await;
    let id = inject(&sandbox, "a@x", "one");
    let immutable = graph.with("prefer", "IdType=\"ImmutableId\"").get(&format!("{BOX}/messages/{id}")).await.expect(200)["id"].clone();
    let moved = graph.post(&format!("{BOX}/messages/{id}/move"), json!({"destinationId": "archive"})).await.expect(201);
    assert_ne!(moved["id"], json!(id));
    assert_eq!(graph.get(&format!("{BOX}/messages/{id}")).await.status, 404);
    graph.get(&format!("{BOX}/messages/{}", immutable.as_str().unwrap())).await.expect(200);
    let copy = graph.post(&format!("{BOX}/messages/{}/copy", moved["id"].as_str().unwrap()), json!({"destinationId": "inbox"})).await.expect(201);
    assert_ne!(copy["id"], moved["id"]);
    let url = format!("{BOX}/messages/{}", moved["id"].as_str().unwrap());
    assert_eq!(graph.delete(&url).await.status, 204);
    assert_eq!(graph.delete(&url).await.status, 404);
    assert_eq!(sandbox.msgraph().count_in(known::GRAPH_MAILBOX, "deleteditems"), 1);
    let ids = json!({"inputIds": [copy["id"]], "sourceIdType": "restId", "targetIdType": "restImmutableEntryId"});
    let translated = graph.post(&format!("{BOX}/translateExchangeIds"), ids).await.expect(200);
    assert!(translated["value"][0]["targetId"].as_str().unwrap().starts_with("AAkALg"));
}

#[tokio::test]
async fn triage_respects_etags_and_leaves_received_text_alone() {
    let (sandbox, graph) = start().await;
    let id = inject(&sandbox, "a@x", "one");
    let url = format!("{BOX}/messages/{id}");
    let etag = graph.get(&url).await.expect(200)["@odata.etag"].as_str().unwrap().to_owned();
    let changed = graph.with("if-match", &etag).patch(&url, json!({"categories": ["Ticketed"], "isRead": true})).await.expect(200);
    assert_eq!((&changed["categories"], &changed["isRead"]), (&json!(["Ticketed"]), &json!(true)));
    assert_eq!(graph.with("if-match", &etag).patch(&url, json!({"isRead": false})).await.status, 412);
    assert_eq!(graph.patch(&url, json!({"subject": "rewritten"})).await.expect(403)["error"]["code"], "ErrorAccessDenied");
    assert_eq!(sandbox.ledger().categories_by_message()["<a@x>"].len(), 1);
    let flagged = graph.get(&format!("{BOX}/messages?$filter=categories/any(c:c%20eq%20'Ticketed')")).await.expect(200);
    assert_eq!(flagged["value"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn attachments_travel_small_and_large() {
    let (sandbox, graph) = start().await;
    let parts = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nSubject: f\r\nMessage-ID: <f@x>\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee file\r\n--b\r\nContent-Type: text/csv; name=a.csv\r\nContent-Disposition: attachment; filename=a.csv\r\n\r\n1,2\r\n--b--\r\n";
    let id = sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", parts.as_bytes()).unwrap();
    let list = graph.get(&format!("{BOX}/messages/{id}/attachments?$select=id,name,size")).await.expect(200);
    assert_eq!(list["value"][0]["name"], "a.csv");
    let aid = list["value"][0]["id"].as_str().unwrap();
    let raw = graph.get(&format!("{BOX}/messages/{id}/attachments/{aid}/$value")).await;
    assert_eq!(String::from_utf8_lossy(&raw.bytes).trim(), "1,2");
    let file = json!({"@odata.type": "#microsoft.graph.fileAttachment", "name": "n.txt", "contentType": "text/plain", "contentBytes": "SGk="});
    assert_eq!(graph.post(&format!("{BOX}/messages/{id}/attachments"), file.clone()).await.status, 403, "only drafts take attachments");

    let draft = graph.post(&format!("{BOX}/messages"), json!({"subject": "d"})).await.expect(201);
    let url = format!("{BOX}/messages/{}", draft["id"].as_str().unwrap());
    graph.post(&format!("{url}/attachments"), file).await.expect(201);
    let item = json!({"AttachmentItem": {"attachmentType": "file", "name": "big.bin", "size": 10}});
    let session = graph.post(&format!("{url}/attachments/createUploadSession"), item).await.expect(201);
    let target = session["uploadUrl"].as_str().unwrap();
    let chunk = |range: &str| Caller::new("", &[("content-range", range), ("content-type", "application/octet-stream")]);
    let with_token = graph.with("content-range", "bytes 0-5/10").raw("PUT", target, "012345").await.unwrap();
    assert_eq!(with_token.status, 401);
    assert_eq!(chunk("bytes 6-9/10").raw("PUT", target, "6789").await.unwrap().status, 416);
    let half = chunk("bytes 0-5/10").raw("PUT", target, "012345").await.unwrap().expect(200);
    assert_eq!(half["nextExpectedRanges"], json!(["6"]));
    let done = chunk("bytes 6-9/10").raw("PUT", target, "6789").await.unwrap();
    assert_eq!(done.status, 201);
    assert!(done.header("location").contains("/Attachments('"), "{}", done.header("location"));
    let list = graph.get(&format!("{url}/attachments")).await.expect(200);
    assert_eq!(list["value"][1]["contentBytes"], STANDARD.encode("0123456789"));
    assert_eq!(graph.get(&url).await.expect(200)["hasAttachments"], true);
    assert_eq!(chunk("bytes 0-1/2").raw("PUT", target, "ab").await.unwrap().status, 404, "a finished session is gone");
}

#[tokio::test]
async fn an_attached_message_can_be_opened() {
    let (sandbox, graph) = start().await;
    let outer = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nSubject: outer\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee mail\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: bo@acme.example\r\n\r\nhello\r\n--b--\r\n";
    let id = sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", outer.as_bytes()).unwrap();
    let list = graph.get(&format!("{BOX}/messages/{id}/attachments")).await.expect(200);
    assert_eq!(list["value"][0]["@odata.type"], "#microsoft.graph.itemAttachment");
    let url = format!("{BOX}/messages/{id}/attachments/{}", list["value"][0]["id"].as_str().unwrap());
    let opened = graph.get(&format!("{url}?$expand=microsoft.graph.itemattachment/item")).await.expect(200);
    assert_eq!((&opened["item"]["subject"], &opened["item"]["from"]["emailAddress"]["address"]), (&json!("inner"), &json!("bo@acme.example")));
    assert!(graph.get(&format!("{url}/$value")).await.bytes.starts_with(b"Subject: inner"));
}

#[tokio::test]
async fn some_messages_may_lack_their_conversation() {
    let sandbox = Sandbox::builder().hide_conversation_every(2).start("127.0.0.1:0").await.unwrap();
    let graph = graph(&sandbox).await;
    let shown = inject(&sandbox, "a@x", "one");
    let hidden = inject(&sandbox, "b@x", "two");
    assert!(graph.get(&format!("{BOX}/messages/{shown}")).await.expect(200)["conversationId"].is_string());
    assert!(graph.get(&format!("{BOX}/messages/{hidden}")).await.expect(200).get("conversationId").is_none());
}
