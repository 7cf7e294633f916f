//! A server without an extension: not announced, not there; what a client falls back to.

use crate::raw::{Raw, alice};
use connector_sandbox::mail::{MailServer, known};

#[tokio::test]
async fn what_is_left_out_is_neither_announced_nor_there() {
    let hidden = [
        "MOVE",
        "UIDPLUS",
        "CONDSTORE",
        "QRESYNC",
        "IDLE",
        "ENABLE",
        "SPECIAL-USE",
        "LIST-EXTENDED",
        "LIST-STATUS",
        "ESEARCH",
        "QUOTA",
        "ID",
        "NAMESPACE",
        "UNSELECT",
        "LITERAL+",
        "KEYWORDS",
    ];
    let server = hidden.into_iter().fold(MailServer::builder(), |builder, name| builder.without(name)).start().await.unwrap();
    let mut imap = alice(&server).await;
    let announced = imap.imap("a CAPABILITY").await[0].clone();
    for name in hidden {
        assert!(!announced.split(' ').any(|word| word == name), "{name} in {announced}");
    }
    let opened = imap.imap("s SELECT INBOX").await.join("\n");
    assert!(!opened.contains("HIGHESTMODSEQ") && !opened.contains("\\*"), "{opened}");
    for command in [
        "a UID MOVE 1 Archive",
        "a UID EXPUNGE 1",
        "a UID FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
        "a UID FETCH 1 (MODSEQ)",
        "a UID STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
        "a UID SEARCH MODSEQ 1",
        "a UID SEARCH RETURN (ALL) ALL",
        "a IDLE",
        "a ENABLE QRESYNC",
        "a NAMESPACE",
        "a ID NIL",
        "a UNSELECT",
        "a GETQUOTAROOT INBOX",
        "a STATUS INBOX (HIGHESTMODSEQ)",
        "a LIST \"\" \"*\" RETURN (SPECIAL-USE)",
        "a APPEND Drafts {3+}",
    ] {
        assert!(imap.imap(command).await[0].starts_with("a BAD "), "{command}");
    }
    assert_eq!(imap.imap("a UID STORE 1 +FLAGS ($Done)").await, ["a NO [CANNOT] keywords are not kept in this mailbox"]);
    assert!(!imap.imap("a UID COPY 1 Archive").await[0].contains("COPYUID"));
    assert!(!imap.imap(r#"a LIST "" "*""#).await.join("").contains("\\Sent"));
}

#[tokio::test]
async fn without_sasl_ir_the_response_waits_for_the_go_ahead() {
    let server = MailServer::builder().without("SASL-IR").without("AUTH=XOAUTH2").start().await.unwrap();
    let (mut imap, greeting) = Raw::connect(server.imap()).await;
    assert!(!greeting.contains("XOAUTH2"));
    assert!(imap.imap("a AUTHENTICATE PLAIN AGEAYg==").await[0].starts_with("a BAD"));
    assert!(imap.imap("a AUTHENTICATE XOAUTH2").await[0].starts_with("a NO [CANNOT]"));
    imap.send("a AUTHENTICATE PLAIN").await;
    assert_eq!(imap.line().await.unwrap(), "+ ");
    imap.send("AGFsaWNlQGV4YW1wbGUudGVzdABzYW5kYm94LWFsaWNlLXBhc3N3b3Jk").await;
    assert!(imap.line().await.unwrap().starts_with("a OK"));
}

#[tokio::test]
async fn mailboxes_are_made_named_and_removed() {
    let server = MailServer::builder().delimiter('.').start().await.unwrap();
    let mut imap = alice(&server).await;
    for (command, answer) in [
        ("a CREATE Work.2026", "a OK CREATE completed"),
        ("a CREATE work.2026*", "a NO [CANNOT] that is not a name for a mailbox"),
        ("a CREATE inbox", "a NO [ALREADYEXISTS] there is such a mailbox"),
        ("a CREATE Work", "a OK CREATE completed"),
        ("a DELETE Work", "a NO [CANNOT] this mailbox cannot be deleted"),
        ("a RENAME Work Play", "a OK RENAME completed"),
        ("a DELETE Sent", "a NO [CANNOT] this mailbox cannot be deleted"),
        ("a DELETE Play.2026", "a OK DELETE completed"),
        ("a STATUS Nowhere (MESSAGES)", "a NO [NONEXISTENT] there is no such mailbox"),
        ("a CREATE Entw&APw-rfe", "a OK CREATE completed"),
    ] {
        assert_eq!(imap.imap(command).await, [answer], "{command}");
    }
    imap.send("a APPEND Nowhere {12+}\r\nSubject: a\r\n").await;
    assert_eq!(imap.line().await.unwrap(), "a NO [TRYCREATE] there is no such mailbox");
    let listed = imap.imap(r#"a LIST (SPECIAL-USE) "" ("S%" "Dr*") RETURN (STATUS (MESSAGES UNSEEN))"#).await;
    assert_eq!(
        listed,
        [
            r#"* LIST (\HasNoChildren \Subscribed \Drafts) "." "Drafts""#,
            r#"* STATUS "Drafts" (MESSAGES 1 UNSEEN 0)"#,
            r#"* LIST (\HasNoChildren \Subscribed \Sent) "." "Sent""#,
            r#"* STATUS "Sent" (MESSAGES 2 UNSEEN 0)"#,
            "a OK LIST completed"
        ]
    );
}

#[tokio::test]
async fn append_answers_where_the_message_is() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.send("a APPEND \"Drafts\" (\\Draft \\Seen) \"21-Nov-2026 09:00:00 +0100\" {39}").await;
    assert_eq!(imap.line().await.unwrap(), "+ Ready for literal data");
    imap.send("Subject: b\r\nMessage-ID: <b@x>\r\n\r\nhello\r").await;
    let answer = imap.until("a ").await;
    assert!(answer[0].starts_with("a OK [APPENDUID 1763600002 2]"), "{answer:?}");
    imap.imap("s EXAMINE Drafts").await;
    assert_eq!(
        imap.imap("f UID FETCH 2 (INTERNALDATE RFC822.SIZE)").await[0],
        r#"* 2 FETCH (UID 2 INTERNALDATE "21-Nov-2026 08:00:00 +0000" RFC822.SIZE 39)"#
    );
    assert_eq!(server.flags(known::ALICE, "Drafts", "<b@x>").unwrap(), ["\\Draft", "\\Seen"]);
    assert_eq!(imap.imap("x UID STORE 1 +FLAGS (\\Seen)").await, ["x NO [NOPERM] the mailbox is open for reading only"]);
    imap.imap("s SELECT Drafts").await;
    imap.imap("x UID STORE 1 +FLAGS (\\Deleted)").await;
    assert_eq!(imap.imap("x UID COPY 2 Archive").await, ["x OK [COPYUID 1763600006 2 2] COPY completed"]);
    assert_eq!(imap.imap("x CLOSE").await, ["x OK CLOSE completed"]);
    assert_eq!(server.count(known::ALICE, "Drafts"), Some(1), "CLOSE removed what was marked");
}
