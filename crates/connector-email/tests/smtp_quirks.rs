//! What submission servers do that a client must live with, one test each, against a scripted server.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod support;

use std::sync::Arc;

use connector_core::{Connector as _, ErrorKind, OpCall};
use serde_json::{Value, json};
use support::{Script, Secret, World};

fn message() -> Value {
    json!({ "to": ["bob@example.test"], "subject": "Hi", "text": "Hello" })
}

fn keeps_sent() -> [(&'static str, &'static str); 1] {
    [("save_sent", "never")]
}

fn ann() -> Arc<Secret> {
    Arc::new(Secret::Password("ann@example.test", "pass-canary"))
}

#[tokio::test]
async fn each_recipient_has_an_outcome() {
    let smtp = Script::smtp()
        .on("MAIL FROM:<ann@example.test> SIZE=", "250 ok\r\n")
        .on("RCPT TO:<bob@example.test>", "250 ok\r\n")
        .on("RCPT TO:<nobody@example.test>", "550-5.1.1 there is\r\n550 5.1.1 nobody\r\n")
        .on("RCPT TO:<grey@example.test>", "451 4.7.1 come back\r\n")
        .on("DATA", "354 go\r\n")
        .message("250 2.0.0 queued as 9F2\r\n");
    let world = World::with([], [smtp], &keeps_sent(), ann()).await;
    let args = json!({ "to": ["bob@example.test"], "cc": ["nobody@example.test"], "bcc": ["grey@example.test"], "subject": "Hi", "text": ".dot\n" });
    let reply = world.call("email_send", args).await.unwrap();
    let sent = reply.body.to_value().unwrap();
    assert_eq!((&sent["accepted"], &sent["already_sent"]), (&json!(["bob@example.test"]), &json!(false)));
    assert_eq!(
        sent["refused"],
        json!([
            { "address": "nobody@example.test", "code": "550 5.1.1", "may_be_tried_again": false },
            { "address": "grey@example.test", "code": "451 4.7.1", "may_be_tried_again": true }
        ])
    );
    let kinds: Vec<_> = reply.partial.iter().map(|item| (item.index, item.kind, item.retryable)).collect();
    assert_eq!(kinds, [(Some(1), ErrorKind::Invalid, false), (Some(2), ErrorKind::Throttled, true)]);
    let seen = world.smtp.seen();
    let written = seen.iter().find(|text| text.contains("Message-ID")).unwrap();
    assert!(written.contains("\r\n..dot\r\n") && !written.contains("grey@example.test"), "{written}");
}

#[tokio::test]
async fn if_every_recipient_is_refused_nothing_is_sent() {
    for (answer, kind) in [
        ("550 5.1.1 nobody\r\n", ErrorKind::Invalid),
        ("451 4.7.1 greylisted\r\n", ErrorKind::Throttled),
        ("550 5.7.1 policy\r\n", ErrorKind::Forbidden),
    ] {
        let smtp = Script::smtp().on("MAIL", "250 ok\r\n").on("RCPT", answer);
        let world = World::with([], [smtp], &keeps_sent(), ann()).await;
        let error = world.call("email_send", message()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!world.smtp.seen().iter().any(|line| line.contains("DATA")));
    }
}

#[tokio::test]
async fn a_loss_before_the_last_dot_is_certainly_not_sent() {
    for smtp in [
        Script::new().say("220 hi\r\n").on("EHLO", "250-x\r\n250 AUTH PLAIN\r\n").on("AUTH", "235 in\r\n").on("MAIL", "not smtp\r\n"),
        Script::smtp().on("MAIL", "250 ok\r\n").on("RCPT", "250 ok\r\n").on("DATA", "421 4.3.2 closing\r\n"),
    ] {
        let world = World::with([], [smtp], &keeps_sent(), ann()).await;
        let error = world.call("email_send", message()).await.unwrap_err();
        assert!(!matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Transient | ErrorKind::Timeout), "{error}");
    }
}

fn until_lost() -> Script {
    Script::smtp().on("MAIL", "250 ok\r\n").on("RCPT", "250 ok\r\n").on("DATA", "354 go\r\n").message("")
}

#[tokio::test]
async fn a_loss_after_the_last_dot_is_resolved_by_the_message_id_in_sent_mail() {
    let imap =
        Script::imap("").folders().open("EXAMINE \"Sent\"", 9).on("UID SEARCH UNDELETED HEADER Message-ID \"<", "* SEARCH 4\r\n$T OK done\r\n");
    let world = World::with([imap], [until_lost()], &keeps_sent(), ann()).await;
    let reply = world.call("email_send", message()).await.unwrap();
    assert!(reply.meta.reconciled);
    let sent = reply.body.to_value().unwrap();
    assert_eq!(sent["already_sent"], true);
    let id = sent["message_id"].as_str().unwrap();
    assert!(world.smtp.seen().iter().any(|text| text.contains(&format!("Message-ID: {id}"))));
    assert!(world.imap.seen().iter().any(|text| text.contains(id)));
    assert_eq!(world.smtp.connections(), 1, "it is not sent again");
}

#[tokio::test]
async fn a_loss_after_the_last_dot_where_nobody_can_tell_is_unknown() {
    // We would have put the copy into sent mail ourselves, so that it is not there says nothing.
    let world = World::with([], [until_lost()], &[("save_sent", "always")], ann()).await;
    let error = world.call("email_send", message()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    assert!(error.context_value("message_id").unwrap().ends_with("@example.test>"));
    assert_eq!(world.smtp.connections(), 1);
}

#[tokio::test]
async fn a_repeat_with_the_same_key_looks_before_it_sends() {
    let imap = Script::imap("").folders().open("EXAMINE \"Sent\"", 9).on("HEADER Message-ID", "* SEARCH 4\r\n$T OK done\r\n");
    let mut world = World::with([imap], [], &keeps_sent(), ann()).await;
    world.cx = world.cx.clone().with_idempotency_key("k1");
    let reply = world.call("email_send", message()).await.unwrap();
    assert!(reply.meta.reconciled);
    assert_eq!(world.smtp.connections(), 0);
}

#[tokio::test]
async fn the_copy_goes_to_sent_mail_where_the_provider_keeps_none() {
    let imap = Script::imap("UIDPLUS").folders().on("APPEND \"Sent\" (\\Seen) {", "$T OK [APPENDUID 9 5] done\r\n");
    let smtp = Script::smtp().on("MAIL", "250 ok\r\n").on("RCPT", "250 ok\r\n").on("DATA", "354 go\r\n").message("250 ok\r\n");
    let world = World::new([imap], [smtp]).await;
    let sent = world.output("email_send", message()).await.unwrap();
    assert_eq!((&sent["saved_to_sent"], &sent["refused"]), (&json!(true), &json!([])));
    assert!(world.imap.seen().iter().any(|text| text.contains("APPEND") && text.contains("Subject: Hi")));
}

#[tokio::test]
async fn starttls_that_was_stripped_ends_before_the_password() {
    let smtp = Script::new().say("220 hi\r\n").on("EHLO", "250-mx\r\n250 AUTH PLAIN\r\n");
    let settings = [("smtp_security", "starttls"), ("save_sent", "never")];
    let world = World::with([], [smtp], &settings, ann()).await;
    let error = world.call("email_send", message()).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Denied, Some("STARTTLS_MISSING")));
    assert_eq!(world.smtp.seen().len(), 1);
}

#[tokio::test]
async fn refused_credentials_are_told_apart_and_never_shown() {
    for (answer, kind) in [
        ("535 5.7.8 pass-canary is wrong\r\n", ErrorKind::AuthExpired),
        ("550 5.7.30 Basic authentication is not supported for Client Submission\r\n", ErrorKind::AuthExpired),
        ("454 4.7.0 too many logins\r\n", ErrorKind::Throttled),
        ("530 5.7.0 Must issue a STARTTLS command first\r\n", ErrorKind::Config),
    ] {
        let smtp = Script::new().say("220 hi\r\n").on("EHLO", "250-mx\r\n250 AUTH PLAIN\r\n").on("AUTH PLAIN", answer);
        let world = World::with([], [smtp], &keeps_sent(), ann()).await;
        let error = world.call("email_send", message()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{answer}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_sent() {
    let file = |size: usize| json!({ "name": "a.bin", "base64": "A".repeat(size) });
    let world = World::with([], [], &[("max_message_bytes", "50000")], ann()).await;
    for (args, said) in [
        (json!({ "to": ["bob@example.test\r\nBcc: eve@example.test"], "subject": "x" }), "control character"),
        (json!({ "to": ["bob@example.test"], "subject": "x\r\nBcc: eve@example.test" }), "control character"),
        (json!({ "to": ["bob"], "subject": "x" }), "not an e-mail address"),
        (json!({ "to": ["bob@example.test"], "attachments": [file(60_000)] }), "at most 50000"),
        (json!({ "to": ["bob@example.test"], "attachments": [{ "name": "a", "base64": "!" }] }), "not base64"),
    ] {
        let error = world.call("email_send", args).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(said), "{error}");
    }
    let many: Vec<Value> = (0..1_000).map(|_| file(4)).collect();
    let error = world.call("email_send", json!({ "to": ["bob@example.test"], "attachments": many })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!((world.smtp.connections(), world.imap.connections()), (0, 0));
}

#[tokio::test]
async fn a_server_that_takes_less_says_so_and_is_believed() {
    let smtp = Script::new().say("220 hi\r\n").on("EHLO", "250-mx\r\n250-SIZE 200\r\n250 AUTH PLAIN\r\n").on("AUTH", "235 in\r\n");
    let world = World::with([], [smtp], &keeps_sent(), ann()).await;
    let error = world.call("email_send", message()).await.unwrap_err();
    assert!(error.message().contains("takes 200"), "{error}");
    assert_eq!(world.smtp.seen().len(), 2);
}

#[tokio::test]
async fn an_answer_keeps_its_thread_and_leaves_the_message_unread() {
    let original = "Message-ID: <2@x.example>\r\nReferences: <1@x.example>\r\nFrom: Bob <bob@example.test>\r\nTo: ann@example.test, Cy <cy@example.test>\r\nSubject: RE: Offer\r\n\r\nYes?\r\n";
    let whole = format!("* 1 FETCH (UID 5 BODY[] {{{}}}\r\n{original})\r\n$T OK done\r\n", original.len());
    let imap = Script::imap("")
        .open("EXAMINE \"INBOX\"", 7)
        .on("UID FETCH 5 (UID FLAGS", &format!("* 1 FETCH (UID 5 FLAGS () RFC822.SIZE {})\r\n$T OK done\r\n", original.len()))
        .on("UID FETCH 5 (UID BODY.PEEK[])", &whole)
        .open("SELECT \"INBOX\"", 7)
        .on("UID STORE 5 +FLAGS.SILENT (\\Answered)", "$T OK done\r\n");
    let smtp = Script::smtp()
        .on("MAIL", "250 ok\r\n")
        .on("RCPT TO:<bob@", "250 ok\r\n")
        .on("RCPT TO:<cy@", "250 ok\r\n")
        .on("DATA", "354 go\r\n")
        .message("250 ok\r\n");
    let world = World::with([imap], [smtp], &keeps_sent(), ann()).await;
    let sent = world.output("email_reply_all", json!({ "message": "INBOX;7;5", "text": "No.", "quote": true })).await.unwrap();
    assert_eq!(sent["accepted"], json!(["bob@example.test", "cy@example.test"]));
    let seen = world.smtp.seen();
    let written = seen.iter().find(|text| text.contains("Message-ID")).unwrap();
    for line in [
        "Subject: Re: Offer\r\n",
        "In-Reply-To: <2@x.example>\r\n",
        "References: <1@x.example> <2@x.example>\r\n",
        "To: bob@example.test\r\n",
        "Cc: cy@example.test\r\n",
    ] {
        assert!(written.contains(line), "{line} is missing in {written}");
    }
    assert!(written.contains("> Yes?"));
    assert!(world.imap.seen().iter().any(|command| command.contains("\\Answered")));
}

#[tokio::test]
async fn machines_do_not_answer_machines() {
    let original = "Message-ID: <2@x.example>\r\nAuto-Submitted: auto-replied\r\nFrom: bob@example.test\r\n\r\nI am away.\r\n";
    let imap = Script::imap("")
        .open("EXAMINE \"INBOX\"", 7)
        .on("UID FETCH 5 (UID FLAGS", "* 1 FETCH (UID 5 FLAGS () RFC822.SIZE 99)\r\n$T OK done\r\n")
        .on("UID FETCH 5 (UID BODY.PEEK[])", &format!("* 1 FETCH (UID 5 BODY[] {{{}}}\r\n{original})\r\n$T OK done\r\n", original.len()));
    let world = World::with([imap], [], &keeps_sent(), ann()).await;
    let error = world.call("email_reply", json!({ "message": "INBOX;7;5", "text": "Me too", "automatic": true })).await.unwrap_err();
    assert!(error.message().contains("Auto-Submitted"), "{error}");
    assert_eq!(world.smtp.connections(), 0);
}

#[tokio::test]
async fn a_draft_is_sent_without_its_blind_copies_and_goes_from_the_drafts() {
    let draft = "Message-ID: <d@x.example>\r\nFrom: ann@example.test\r\nTo: bob@example.test\r\nBcc: eve@example.test\r\nSubject: D\r\n\r\nText\r\n";
    let imap = Script::imap("UIDPLUS")
        .open("EXAMINE \"Drafts\"", 3)
        .on("UID FETCH 5 (UID FLAGS", "* 1 FETCH (UID 5 FLAGS (\\Draft) RFC822.SIZE 99)\r\n$T OK done\r\n")
        .on("UID FETCH 5 (UID BODY.PEEK[])", &format!("* 1 FETCH (UID 5 BODY[] {{{}}}\r\n{draft})\r\n$T OK done\r\n", draft.len()))
        .folders()
        .folders()
        .open("EXAMINE \"Sent\"", 9)
        .on("HEADER Message-ID \"<d@x.example>\"", "* SEARCH\r\n$T OK done\r\n")
        .open("SELECT \"Drafts\"", 3)
        .on("UID STORE 5 +FLAGS.SILENT (\\Deleted)", "$T OK done\r\n")
        .on("UID EXPUNGE 5", "$T OK done\r\n");
    let smtp = Script::smtp()
        .on("MAIL", "250 ok\r\n")
        .on("RCPT TO:<bob@", "250 ok\r\n")
        .on("RCPT TO:<eve@", "250 ok\r\n")
        .on("DATA", "354 go\r\n")
        .message("250 ok\r\n");
    let world = World::with([imap], [smtp], &keeps_sent(), ann()).await;
    let sent = world.output("email_send_draft", json!({ "message": "Drafts;3;5" })).await.unwrap();
    assert_eq!(sent["accepted"], json!(["bob@example.test", "eve@example.test"]));
    let seen = world.smtp.seen();
    assert!(seen.iter().any(|text| text.contains("Subject: D")) && !seen.iter().any(|text| text.contains("Bcc")));
    assert!(world.imap.seen().last().unwrap().contains("UID EXPUNGE 5"));
}

#[tokio::test]
async fn unknown_arguments_are_refused_by_the_engine() {
    let world = World::with([], [], &keeps_sent(), ann()).await;
    let args = json!({ "to": ["bob@example.test"], "subjct": "x" });
    let error = world.engine.call(&world.cx, OpCall::new("email_send", args.as_object().cloned().unwrap())).await.unwrap_err();
    assert!(error.message().contains("did you mean `subject`?"), "{error}");
}
