//! What IMAP servers do that a client must live with, one test each, against a scripted server.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod support;

use std::sync::Arc;

use connector_core::{Connector as _, Cursor, ErrorKind, delta::Change};
use serde_json::json;
use support::{Script, Secret, World};

#[tokio::test]
async fn a_greeting_of_bye_is_not_sent() {
    let world = World::new([Script::new().say("* BYE [UNAVAILABLE] down for maintenance\r\n")], []).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSent, "{error}");
}

#[tokio::test]
async fn a_preauthenticated_greeting_is_refused() {
    let world = World::new([Script::new().say("* PREAUTH welcome back\r\n")], []).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Protocol, Some("PREAUTH")));
}

#[tokio::test]
async fn starttls_that_was_stripped_ends_before_the_password() {
    let scripts = [Script::new().say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")];
    let world = World::with(scripts, [], &[("imap_security", "starttls")], Arc::new(Secret::Password("ann", "pass-canary"))).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Denied, Some("STARTTLS_MISSING")));
    assert_eq!(world.imap.seen(), Vec::<String>::new(), "nothing was said to a server without TLS");
}

#[tokio::test]
async fn data_between_starttls_and_tls_is_an_error() {
    let scripts =
        [Script::new().say("* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n").on("STARTTLS", "$T OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")];
    let world = World::with(scripts, [], &[("imap_security", "starttls")], Arc::new(Secret::Password("ann", "pass-canary"))).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    // What came late is not seen before the handshake, which it then breaks: either way nothing goes on.
    assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::NotSent), "{error}");
    assert!(!world.imap.seen().iter().any(|line| line.contains("AUTH")));
}

#[tokio::test]
async fn login_is_refused_where_the_server_says_so() {
    let scripts = [Script::new().say("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\r\n")];
    let world = World::new(scripts, []).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(world.imap.seen().is_empty());
}

#[tokio::test]
async fn login_is_used_where_there_is_no_sasl_and_its_values_stay_values() {
    let scripts = [Script::new()
        .say("* OK hi\r\n")
        .on("CAPABILITY", "* CAPABILITY IMAP4rev1\r\n$T OK\r\n")
        .on("LOGIN", "$T OK in\r\n")
        .on("CAPABILITY", "* CAPABILITY IMAP4rev1\r\n$T OK\r\n")
        .folders()];
    let secret = Secret::Password("ann@example.test", "p\"a\\ss");
    let world = World::with(scripts, [], &[], Arc::new(secret)).await;
    world.call("email_list_folders", json!({})).await.unwrap();
    assert_eq!(world.imap.seen()[1], "a2 LOGIN \"ann@example.test\" {6}\r\np\"a\\ss");
}

#[tokio::test]
async fn no_without_a_code_at_login_is_a_refused_credential_and_never_shown() {
    let scripts =
        [Script::new().say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n").on("AUTHENTICATE PLAIN", "$T NO pass-canary is wrong\r\n")];
    let world = World::new(scripts, []).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthExpired);
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_tried_once_more() {
    let capabilities = "IMAP4rev1 AUTH=XOAUTH2 SASL-IR";
    let refused = Script::new()
        .say(&format!("* OK [CAPABILITY {capabilities}] hi\r\n"))
        .on("AUTHENTICATE XOAUTH2", "+ eyJzdGF0dXMiOiI0MDAifQ==\r\n")
        // The empty answer to the challenge; its `tag` is empty, so the tag is spelt out.
        .on("", "a1 NO [AUTHENTICATIONFAILED] invalid\r\n");
    let taken = Script::new()
        .say(&format!("* OK [CAPABILITY {capabilities}] hi\r\n"))
        .on("AUTHENTICATE XOAUTH2", &format!("$T OK [CAPABILITY {capabilities}] in\r\n"))
        .folders();
    let secret = Secret::tokens(1);
    let world = World::with([refused.clone(), taken], [], &[("address", "ann@example.test")], secret.clone()).await;
    world.call("email_list_folders", json!({})).await.unwrap();
    assert_eq!((secret.asked(), world.imap.connections()), (1, 2));
    // A second refusal is the answer.
    let secret = Secret::tokens(5);
    let world = World::with([refused.clone(), refused], [], &[("address", "ann@example.test")], secret.clone()).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), secret.asked(), world.imap.connections()), (ErrorKind::AuthExpired, 1, 2));
}

#[tokio::test]
async fn oauthbearer_answers_a_refusal_with_a_single_one() {
    let scripts = [Script::new()
        .say("* OK [CAPABILITY IMAP4rev1 AUTH=OAUTHBEARER] hi\r\n")
        .on("AUTHENTICATE OAUTHBEARER", "+\r\n")
        .on("", "+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\r\n")
        .on("AQ==", "a1 NO [AUTHENTICATIONFAILED] invalid\r\n")];
    let world = World::with(scripts, [], &[("address", "ann@example.test")], Secret::tokens(0)).await;
    assert_eq!(world.call("email_list_folders", json!({})).await.unwrap_err().kind(), ErrorKind::AuthExpired);
    assert_eq!(world.imap.seen().len(), 3);
}

#[tokio::test]
async fn uid_n_star_always_has_the_last_message_and_it_is_left_out() {
    let scripts = [Script::imap("").open("EXAMINE \"INBOX\"", 7).on("UID 9:*", "* SEARCH 8\r\n$T OK done\r\n")];
    let world = World::new(scripts, []).await;
    let found = world.output("email_search", json!({ "uid_from": 9 })).await.unwrap();
    assert_eq!((&found["total"], &found["messages"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn quotes_in_a_search_stay_literals() {
    let evil = "x\" OR ALL (\r\na9 DELETE INBOX\r\n";
    let scripts = [Script::imap("").open("EXAMINE \"INBOX\"", 7).on("UID SEARCH", "* SEARCH\r\n$T OK done\r\n")];
    let world = World::new(scripts, []).await;
    world.call("email_search", json!({ "from": evil, "unread": true })).await.unwrap();
    assert_eq!(world.imap.seen()[2], format!("a3 UID SEARCH UNDELETED FROM {{{}+}}\r\n{evil} UNSEEN", evil.len()));
}

#[tokio::test]
async fn literals_may_hold_anything_and_other_messages_may_come_between() {
    let header = "Message-ID: <1@x>\r\nSubject: a) {5}\r\n\r\n";
    let fetched = format!(
        "* 9 EXISTS\r\n* 1 FETCH (FLAGS (\\Seen) UID 4)\r\n* 2 FETCH (BODY[HEADER.FIELDS (X)] {{{}}}\r\n{header} X-UNKNOWN (a (b \"c)\")) UID 5 FLAGS (\\Flagged $Junk))\r\n* 8 EXPUNGE\r\n$T OK done\r\n",
        header.len()
    );
    let scripts = [Script::imap("").open("EXAMINE \"INBOX\"", 7).on("UID SEARCH", "* SEARCH 5\r\n$T OK done\r\n").on("UID FETCH 5 ", &fetched)];
    let world = World::new(scripts, []).await;
    let found = world.output("email_list_messages", json!({})).await.unwrap();
    let message = &found["messages"][0];
    assert_eq!(found["messages"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&message["id"], &message["subject"], &message["starred"], &message["labels"]),
        (&json!("INBOX;7;5"), &json!("a) {5}"), &json!(true), &json!(["$Junk"]))
    );
}

#[tokio::test]
async fn an_id_of_a_rebuilt_folder_names_nothing_any_more() {
    let world = World::new([Script::imap("").open("EXAMINE \"INBOX\"", 8)], []).await;
    let error = world.call("email_get_message", json!({ "message": "INBOX;7;5" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CursorExpired, "{error}");
}

#[tokio::test]
async fn a_rebuilt_folder_ends_its_cursor() {
    let first = Script::imap("CONDSTORE")
        .open("EXAMINE \"INBOX\" (CONDSTORE)", 7)
        .on("UID SEARCH ALL", "* SEARCH\r\n$T OK done\r\n")
        .open("EXAMINE \"INBOX\" (CONDSTORE)", 8);
    let world = World::new([first], []).await;
    let delta = world.engine.delta().unwrap();
    let page = delta.changes(&world.cx, "messages", None).await.unwrap();
    assert!(!page.more && page.changes.is_empty());
    let error = delta.changes(&world.cx, "messages", Some(page.next)).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::CursorExpired, Some("UIDVALIDITY")));
    assert_eq!(delta.changes(&world.cx, "messages", Some(Cursor::new("other"))).await.unwrap_err().kind(), ErrorKind::CursorExpired);
    assert_eq!(delta.changes(&world.cx, "contacts", None).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn qresync_tells_what_is_gone_and_only_what_was_known_counts() {
    let header = "Subject: x\r\n\r\n";
    let fetch = |uid: u32| format!("* 1 FETCH (UID {uid} FLAGS () BODY[HEADER.FIELDS (X)] {{{}}}\r\n{header})\r\n", header.len());
    let open = "* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [HIGHESTMODSEQ 20] x\r\n$T OK open\r\n";
    let again = "* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [HIGHESTMODSEQ 30] x\r\n* VANISHED (EARLIER) 2,100:4294967295\r\n* 1 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (25))\r\n$T OK open\r\n";
    let script = Script::imap("ENABLE CONDSTORE QRESYNC")
        .on("EXAMINE", open)
        .on("UID SEARCH ALL", "* SEARCH 2 1\r\n$T OK done\r\n")
        .on("UID FETCH 1:2", &format!("{}{}$T OK done\r\n", fetch(1), fetch(2)))
        .on("ENABLE QRESYNC", "* ENABLED QRESYNC\r\n$T OK\r\n")
        .on("(QRESYNC (7 20))", again)
        .on("UID FETCH 3", &format!("{}$T OK done\r\n", fetch(3)))
        .on("(QRESYNC (7 30))", "* OK [UIDVALIDITY 7] x\r\n* OK [HIGHESTMODSEQ 30] x\r\n$T OK open\r\n");
    let world = World::new([script], []).await;
    let delta = world.engine.delta().unwrap();
    let first = delta.changes(&world.cx, "messages", None).await.unwrap();
    assert_eq!(first.changes.len(), 2);
    let second = delta.changes(&world.cx, "messages", Some(first.next)).await.unwrap();
    assert_eq!(second.changes[0], Change::Delete { key: "INBOX;7;2".into() });
    assert!(matches!(&second.changes[1], Change::Upsert { key, .. } if key == "INBOX;7;3"));
    assert_eq!(second.changes.len(), 2);
    let third = delta.changes(&world.cx, "messages", Some(second.next.clone())).await.unwrap();
    assert_eq!((third.changes.len(), third.next), (0, second.next));
}

#[tokio::test]
async fn without_move_it_is_copy_mark_and_expunge_of_exactly_these() {
    let script = Script::imap("UIDPLUS")
        .open("SELECT \"INBOX\"", 7)
        .on("UID SEARCH UID 5", "* SEARCH 5\r\n$T OK done\r\n")
        .on("UID COPY 5 \"Archive\"", "$T OK [COPYUID 9 5 41] done\r\n")
        .on("UID STORE 5 +FLAGS.SILENT (\\Deleted)", "$T OK done\r\n")
        .on("UID EXPUNGE 5", "* 1 EXPUNGE\r\n$T OK done\r\n");
    let world = World::new([script], []).await;
    let moved = world.output("email_move", json!({ "messages": ["INBOX;7;5"], "to": "Archive" })).await.unwrap();
    assert_eq!(moved, json!({ "folder": "Archive", "messages": [{ "from": "INBOX;7;5", "to": "Archive;9;41" }] }));
    assert_eq!(world.imap.seen().len(), 6);
}

#[tokio::test]
async fn without_uidplus_nothing_of_others_is_expunged() {
    let script = Script::imap("")
        .open("SELECT \"INBOX\"", 7)
        .on("UID SEARCH UID 5", "* SEARCH 5\r\n$T OK done\r\n")
        .on("UID STORE 5 +FLAGS.SILENT (\\Deleted)", "$T OK done\r\n");
    let world = World::new([script], []).await;
    let gone = world.output("email_delete", json!({ "messages": ["INBOX;7;5"] })).await.unwrap();
    assert_eq!((&gone["messages"], &gone["for_good"]), (&json!(["INBOX;7;5"]), &json!(false)));
    assert!(!world.imap.seen().iter().any(|command| command.contains("EXPUNGE")));
}

#[tokio::test]
async fn what_is_gone_is_told_for_each_message() {
    let script = Script::imap("MOVE")
        .open("SELECT \"INBOX\"", 7)
        .on("UID SEARCH UID 5:6", "* SEARCH 6\r\n$T OK done\r\n")
        .on("UID STORE 6 +FLAGS.SILENT (\\Seen)", "$T OK done\r\n");
    let world = World::new([script], []).await;
    let reply = world.call("email_mark_read", json!({ "messages": ["INBOX;7;5", "INBOX;7;6"] })).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap(), json!({ "messages": ["INBOX;7;6"] }));
    assert_eq!(reply.partial.iter().map(|item| (item.index, item.kind)).collect::<Vec<_>>(), [(Some(0), ErrorKind::NotFound)]);
}

#[tokio::test]
async fn gmail_labels_are_labels_and_elsewhere_they_are_keywords() {
    let gmail = Script::imap("X-GM-EXT-1")
        .open("SELECT \"INBOX\"", 7)
        .on("UID SEARCH UID 5", "* SEARCH 5\r\n$T OK done\r\n")
        .on("X-GM-LABELS (\"Support/Open\" \"Entw&APw-rfe\")", "$T OK done\r\n");
    let world = World::new([gmail], []).await;
    let labelled = world.output("email_label", json!({ "messages": ["INBOX;7;5"], "labels": ["Support/Open", "Entw\u{fc}rfe"] })).await.unwrap();
    assert_eq!(labelled["kind"], "gmail_label");
    let plain = Script::imap("")
        .open("SELECT \"INBOX\"", 7)
        .on("UID SEARCH UID 5", "* SEARCH 5\r\n$T OK done\r\n")
        .on("UID STORE 5 +FLAGS.SILENT (Support)", "$T OK done\r\n");
    let world = World::new([plain], []).await;
    assert_eq!(world.output("email_label", json!({ "messages": ["INBOX;7;5"], "labels": ["Support"] })).await.unwrap()["kind"], "keyword");
    let error = world.call("email_label", json!({ "messages": ["INBOX;7;5"], "labels": ["a b"] })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let script = Script::imap("")
        .open("EXAMINE \"INBOX\"", 7)
        .on("UID SEARCH", "* SEARCH 5\r\n$T OK done\r\n")
        .on("UID FETCH", "* 1 FETCH (UID 5 BODY[] {99999999999}\r\nx");
    let world = World::new([script], []).await;
    let error = world.call("email_list_messages", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_session_that_broke_is_not_used_again() {
    let broken = Script::imap("").open("EXAMINE \"INBOX\"", 7).on("UID SEARCH", "* BYE Connection is closed. 13\r\n* what (\r\n");
    let whole = Script::imap("").open("EXAMINE \"INBOX\"", 7).on("UID SEARCH", "* SEARCH\r\n$T OK done\r\n");
    let world = World::new([broken, whole], []).await;
    assert!(world.call("email_list_messages", json!({})).await.is_err());
    world.call("email_list_messages", json!({})).await.unwrap();
    assert_eq!(world.imap.connections(), 2);
}

#[tokio::test]
async fn throttling_in_words_is_waited_for() {
    let scripts = [Script::new()
        .say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
        .on("AUTHENTICATE", "$T NO [ALERT] Too many simultaneous connections. (Failure)\r\n")];
    let world = World::new(scripts, []).await;
    let error = world.call("email_list_folders", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.retry_after().is_some());
}
