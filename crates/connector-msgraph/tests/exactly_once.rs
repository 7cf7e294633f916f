//! Whatever is lost, and wherever the process dies, a reply leaves exactly once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the failure")]

mod fake;

use std::{sync::Arc, time::Duration};

use connector_core::Result;
use connector_msgraph::models::SentMessage;
use fake::{Line, MAILBOX, Mailbox, Mishap, client};
use serde_json::{Value, json};

/// Requests one reply takes at most here; mishaps are placed at each of them.
const REQUESTS: usize = 12;

async fn reply(line: &Arc<Line>) -> Result<SentMessage> {
    let call = client(line.clone()).reply_in_thread("m1", "<p>We are on it, please wait a moment.</p>").idempotency_key("event-1:reply");
    // A process that dies: the call is dropped while it waits, and a fresh client starts over.
    match tokio::time::timeout(Duration::from_secs(25), call.into_future()).await {
        Ok(result) => result,
        Err(_) => Err(connector_core::Error::new(connector_core::ErrorKind::Cancelled, "the process died")),
    }
}

async fn runs_until_done(mailbox: &Mailbox, at: usize, mishap: Mishap) -> SentMessage {
    let line = Line::new(mailbox.clone(), at, mishap);
    for _ in 0..4 {
        if let Ok(sent) = reply(&line).await {
            return sent;
        }
    }
    panic!("{mishap:?} at request {at}: never done; {:?}", mailbox.state().requests);
}

#[tokio::test(start_paused = true)]
async fn a_mishap_at_any_request_never_loses_or_doubles_a_reply() {
    for conversation in [Some("c1"), None] {
        for mishap in [Mishap::AnswerLost, Mishap::GatewayTimeout, Mishap::NotSent, Mishap::Silence] {
            for at in 1..=REQUESTS {
                let mailbox = Mailbox::with_message(conversation);
                let sent = runs_until_done(&mailbox, at, mishap).await;
                let context = format!("{mishap:?} at request {at} (conversation {conversation:?}): {:?}", mailbox.state().requests);
                let left = mailbox.sent();
                assert_eq!(left.len(), 1, "{context}");
                assert_eq!(left[0]["id"], Value::from(sent.id.as_str()), "{context}");
                let content = left[0]["body"]["content"].as_str().unwrap();
                assert_eq!(content.matches("We are on it").count(), 1, "{context}: {content}");
                assert!(content.ends_with("<hr>It burns.</body></html>"), "{context}");
                // And once more, as a repeated event would: nothing leaves.
                let again = runs_until_done(&mailbox, 0, Mishap::AnswerLost).await;
                assert!(again.reconciled && again.id == sent.id, "{context}");
                assert_eq!(mailbox.sent().len(), 1, "{context}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_without_a_conversation_names_its_parent() {
    let mailbox = Mailbox::with_message(None);
    let sent = runs_until_done(&mailbox, 0, Mishap::AnswerLost).await;
    assert_eq!(sent.thread_key.as_deref(), Some("message-id:<1@client.example>"));
    let properties = &mailbox.sent()[0]["singleValueExtendedProperties"];
    assert_eq!(
        *properties,
        json!([{ "id": "String 0x1042", "value": "<1@client.example>" }, { "id": "String 0x1039", "value": "<1@client.example>" }])
    );
}

#[tokio::test(start_paused = true)]
async fn many_replies_at_once_do_not_wait_for_each_other_forever() {
    let mailbox = Mailbox::with_message(Some("c1"));
    let client = client(Line::new(mailbox.clone(), 0, Mishap::AnswerLost));
    let replies =
        (0..32).map(|number| client.reply_in_thread("m1", format!("<p>Answer {number}</p>")).idempotency_key(format!("k{number}")).into_future());
    let done = futures_util::future::join_all(replies).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(mailbox.sent().len(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_new_message_leaves_once_too_and_different_content_is_another_message() {
    for mishap in [Mishap::AnswerLost, Mishap::GatewayTimeout] {
        for at in 1..=8 {
            let mailbox = Mailbox::default();
            let line = Line::new(mailbox.clone(), at, mishap);
            let mut done = false;
            for _ in 0..4 {
                done |= client(line.clone()).send_message(["ann@client.example"], "Your ticket", "<p>Done.</p>").await.is_ok();
            }
            assert!(done && mailbox.sent().len() == 1, "{mishap:?} at {at}: {:?}", mailbox.state().requests);
            client(line).send_message(["ann@client.example"], "Your ticket", "<p>Really done.</p>").await.unwrap();
            assert_eq!(mailbox.sent().len(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attachment_whose_answer_was_lost_is_not_attached_twice() {
    for at in 1..=9 {
        let mailbox = Mailbox::with_message(Some("c1"));
        let line = Line::new(mailbox.clone(), at, Mishap::AnswerLost);
        for _ in 0..4 {
            let args = json!({ "message_id": "m1", "body": "<p>See the file.</p>", "attachments": [{ "name": "a.txt", "content_text": "Hello" }] });
            let cx = client(line.clone()).client().cx().clone().with_idempotency_key("k");
            if client(line.clone()).with_cx(cx).client().call_dynamic("msgraph_reply_in_thread", args.as_object().cloned().unwrap()).await.is_ok() {
                break;
            }
        }
        let sent = mailbox.sent();
        assert_eq!((sent.len(), sent[0]["files"].as_array().map(Vec::len)), (1, Some(1)), "at {at}: {:?}", mailbox.state().requests);
    }
}

#[tokio::test(start_paused = true)]
async fn a_draft_that_nobody_can_send_says_why_instead_of_trying_forever() {
    let mailbox = Mailbox::with_message(Some("c1"));
    let error = client(Line::new(mailbox.clone(), 0, Mishap::AnswerLost)).send_draft("nowhere").await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(mailbox.sent().is_empty());
    assert!(mailbox.state().requests.iter().all(|request| request.contains(MAILBOX)));
}
