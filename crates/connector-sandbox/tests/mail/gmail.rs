//! The Gmail mode: labels are mailboxes, ids are of the message, X-GM-RAW searches (Google's IMAP extensions).

use crate::raw::{alice, submit};
use connector_sandbox::mail::{MailServer, known};
use insta::assert_snapshot;

#[tokio::test]
async fn gmail_offers_its_extensions_and_no_qresync() {
    let server = MailServer::builder().gmail().start().await.unwrap();
    let mut imap = alice(&server).await;
    let capabilities = imap.imap("a CAPABILITY").await[0].clone();
    assert!(capabilities.contains("X-GM-EXT-1") && !capabilities.contains("QRESYNC"), "{capabilities}");
    assert_snapshot!(imap.imap(r#"a LIST "" "*""#).await.join("\n"), @r#"
    * LIST (\HasNoChildren \Subscribed) "/" "INBOX"
    * LIST (\HasChildren \Noselect \Subscribed) "/" "[Gmail]"
    * LIST (\HasNoChildren \Subscribed \All) "/" "[Gmail]/All Mail"
    * LIST (\HasNoChildren \Subscribed \Drafts) "/" "[Gmail]/Drafts"
    * LIST (\HasNoChildren \Subscribed \Sent) "/" "[Gmail]/Sent Mail"
    * LIST (\HasNoChildren \Subscribed \Junk) "/" "[Gmail]/Spam"
    * LIST (\HasNoChildren \Subscribed \Flagged) "/" "[Gmail]/Starred"
    * LIST (\HasNoChildren \Subscribed \Trash) "/" "[Gmail]/Trash"
    a OK LIST completed
    "#);
    assert_eq!(imap.imap("a SELECT [Gmail]").await, ["a NO [NONEXISTENT] there is no such mailbox"]);
}

#[tokio::test]
async fn labels_are_stored_and_searched() {
    let server = MailServer::builder().gmail().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.imap("s SELECT INBOX").await;
    let answer = imap.imap(r#"a UID STORE 5 +X-GM-LABELS ("Support/Open")"#).await;
    assert_eq!(answer[0], r#"* 5 FETCH (UID 5 X-GM-LABELS ("\\Inbox" "Support/Open"))"#);
    assert_eq!(server.count(known::ALICE, "Support/Open"), Some(1));
    assert_eq!(imap.imap("b UID SEARCH X-GM-LABELS Support/Open").await[0], "* SEARCH 5");
    let ids = imap.imap("c UID FETCH 2:3 (X-GM-THRID X-GM-MSGID)").await;
    let thread = |line: &str| line.split("X-GM-THRID ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(thread(&ids[0]), thread(&ids[1]), "one thread");
    assert_eq!(imap.imap(&format!("d UID SEARCH X-GM-THRID {}", thread(&ids[0]))).await[0], "* SEARCH 2 3");
    imap.imap(r#"e UID STORE 5 -X-GM-LABELS (\Inbox)"#).await;
    assert_eq!(server.count(known::ALICE, "INBOX"), Some(13));
    assert_eq!(server.count(known::ALICE, "[Gmail]/All Mail"), Some(18), "it is archived, not gone");
}

#[tokio::test]
async fn gmails_own_search_language_is_understood() {
    let server = MailServer::builder().gmail().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.imap("s EXAMINE INBOX").await;
    for (query, found) in [
        ("has:attachment from:billing", "* SEARCH 5"),
        ("is:unread subject:urgent", "* SEARCH 14"),
        ("rfc822msgid:seed-07@customer.test", "* SEARCH 6"),
        ("from:dora -is:unread", "* SEARCH 1"),
        ("after:2026/11/18 before:2026/11/20", "* SEARCH 13"),
        ("what:ever", "* SEARCH"),
    ] {
        assert_eq!(imap.imap(&format!("a UID SEARCH X-GM-RAW \"{query}\"")).await[0], found, "{query}");
    }
}

#[tokio::test]
async fn moving_to_the_bin_takes_every_label_off() {
    let server = MailServer::builder().gmail().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.imap("s SELECT INBOX").await;
    imap.imap("a UID STORE 1 +X-GM-LABELS (Office)").await;
    imap.imap(r#"a UID MOVE 1 "[Gmail]/Trash""#).await;
    assert_eq!((server.count(known::ALICE, "Office"), server.count(known::ALICE, "[Gmail]/Trash")), (Some(0), Some(2)));
    assert_eq!(server.flags(known::ALICE, "[Gmail]/All Mail", "<seed-01@customer.test>"), None);
}

#[tokio::test]
async fn sent_mail_is_kept_by_the_server() {
    let server = MailServer::builder().gmail().start().await.unwrap();
    let mut smtp = submit(&server).await;
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    smtp.smtp("RCPT TO:<someone@far.example>").await;
    smtp.smtp("DATA").await;
    smtp.smtp("Message-ID: <kept@x>\r\n\r\nhello\r\n.").await;
    assert_eq!(server.flags(known::ALICE, "[Gmail]/Sent Mail", "<kept@x>").unwrap(), ["\\Seen"]);
}
