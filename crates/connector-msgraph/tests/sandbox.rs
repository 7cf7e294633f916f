//! The connector over real HTTP against the stateful fake of Graph, token endpoint included; what left is checked against its ledger.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::sync::Arc;

use base64::Engine as _;
use connector_core::{Cursor, ErrorKind, delta::Change};
use connector_http::{EgressPolicy, HttpTransport};
use connector_msgraph::{Config, ID, MsGraph, models::AttachmentInput, ops::ReplyInThread};
use connector_sandbox::{EffectKind, Sandbox, known};

const MAIL: &[u8] = b"From: Ann <ann@client.example>\r\nTo: support@contoso.example\r\nSubject: Printer down\r\nMessage-ID: <1@client.example>\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\n\r\nIt burns.\r\n";

async fn start() -> (Sandbox, MsGraph) {
    let sandbox = Sandbox::builder().vendor(ID).start("127.0.0.1:0").await.unwrap();
    let config = Config {
        base_url: Some(sandbox.base_url(ID)),
        token_url: sandbox.token_url(ID),
        tenant_id: Some(known::GRAPH_TENANT.into()),
        mailbox: Some(known::GRAPH_MAILBOX.into()),
        ..Config::default()
    };
    let transport = Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap());
    let graph = MsGraph::builder(config).client_secret(known::GRAPH_CLIENT_ID, known::GRAPH_CLIENT_SECRET).transport(transport).build().unwrap();
    (sandbox, graph)
}

#[tokio::test]
async fn a_message_is_answered_once_tagged_and_moved() {
    let (sandbox, graph) = start().await;
    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", MAIL).unwrap();
    let unread = graph.list_unread_messages().await.unwrap().value;
    let id = &unread[0].id;
    // A file that needs an upload session: two pieces.
    let mut file = AttachmentInput::default();
    file.name = "big.bin".into();
    file.content_base64 = Some(base64::engine::general_purpose::STANDARD.encode(vec![1_u8; 4_000_000]));
    for round in 0..2 {
        let reply = ReplyInThread::new(id, "<p>We are on it.</p>").attachments(vec![file.clone()]);
        let sent = graph.client().call(reply).idempotency_key("event-1").await.unwrap();
        assert_eq!(sent.reconciled, round > 0);
        assert!(sent.thread_key.is_some_and(|key| key.starts_with("conversation:")));
    }
    graph.add_categories(id, ["Ticketed"]).await.unwrap();
    graph.mark_read(id).await.unwrap();
    let moved = graph.move_message(id, "archive").await.unwrap();
    assert_eq!(&moved.id, id, "immutable ids survive a move");
    let read = graph.get_messages([id.as_str(), "no-such-id"]).await.unwrap();
    assert_eq!(read.results.iter().map(|one| one.status).collect::<Vec<_>>(), [200, 404]);

    let replies = sandbox.ledger().replies_by_message();
    let replies = &replies["<1@client.example>"];
    assert_eq!((replies.len(), replies[0].key.as_deref()), (1, Some("event-1")));
    assert_eq!(sandbox.ledger().count(EffectKind::MailMoved), 1);
    assert_eq!(sandbox.msgraph().tokens_issued(), 1);
}

#[tokio::test]
async fn a_folder_is_followed_and_started_over_when_its_token_is_forgotten() {
    let (sandbox, graph) = start().await;
    let (delta, cx) = (graph.connector().delta().unwrap(), graph.client().cx().clone());
    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", MAIL).unwrap();
    let first = delta.changes(&cx, "messages", None).await.unwrap();
    let [Change::Upsert { key, .. }] = &first.changes[..] else { panic!("{:?}", first.changes) };
    graph.move_message(key, "archive").await.unwrap();
    let second = delta.changes(&cx, "messages", Some(first.next)).await.unwrap();
    assert_eq!(second.changes, [Change::Delete { key: key.clone() }]);
    sandbox.msgraph().expire_delta(known::GRAPH_MAILBOX);
    let error = delta.changes(&cx, "messages", Some(Cursor::new(second.next.as_str()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CursorExpired);
    assert!(delta.changes(&cx, "messages:archive", None).await.unwrap().changes.len() == 1);
}

#[tokio::test]
async fn folders_mime_and_search_work_as_described() {
    let (sandbox, graph) = start().await;
    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", MAIL).unwrap();
    let folder = graph.create_folder("Tickets").await.unwrap();
    assert_eq!(graph.find_folder("Tickets").await.unwrap().value[0].id, folder.id);
    graph.rename_folder(&folder.id, "Done").await.unwrap();
    graph.delete_folder(&folder.id).await.unwrap();
    let hits = graph.search_messages("subject:printer").await.unwrap().value;
    let found = graph.find_by_internet_message_id("<1@client.example>").await.unwrap().value;
    assert_eq!(hits[0].id, found[0].id);
    let mime = graph
        .client()
        .call_dynamic("msgraph_get_message_mime", [("message_id".to_owned(), hits[0].id.as_str().into())].into_iter().collect())
        .await
        .unwrap();
    assert!(matches!(mime.body, connector_core::ReplyBody::Raw { bytes, .. } if bytes.starts_with(b"From: Ann")));
    let send = graph.client().call(connector_msgraph::ops::SendMessage::new(["ann@client.example"], "Hi", "<p>Hi</p>"));
    send.await.unwrap();
    assert_eq!(sandbox.ledger().count(EffectKind::MailSent), 1);
}
