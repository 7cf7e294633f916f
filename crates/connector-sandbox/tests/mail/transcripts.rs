//! The exchanges of the mail sheet (§2 to §4), as they go over the wire.

use crate::raw::{Raw, alice, submit};
use connector_sandbox::mail::{MailServer, known};
use insta::assert_snapshot;

#[tokio::test]
async fn select_answers_as_the_sheet_shows_it() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    assert_snapshot!(imap.imap("a2 SELECT INBOX (CONDSTORE)").await.join("\n"), @r#"
    * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Forwarded)
    * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Forwarded \*)] Limited
    * 14 EXISTS
    * 0 RECENT
    * OK [UNSEEN 4] first unseen
    * OK [UIDVALIDITY 1763600001] UIDs valid
    * OK [UIDNEXT 15] predicted next UID
    * OK [HIGHESTMODSEQ 715194045021] highest
    a2 OK [READ-WRITE] SELECT completed
    "#);
    assert_snapshot!(imap.imap(r#"a3 LIST "" "*" RETURN (SPECIAL-USE)"#).await.join("\n"), @r#"
    * LIST (\HasNoChildren \Subscribed) "/" "INBOX"
    * LIST (\HasNoChildren \Subscribed \Archive) "/" "Archive"
    * LIST (\HasNoChildren \Subscribed \Drafts) "/" "Drafts"
    * LIST (\HasNoChildren \Subscribed \Junk) "/" "Junk"
    * LIST (\HasNoChildren \Subscribed \Sent) "/" "Sent"
    * LIST (\HasNoChildren \Subscribed \Trash) "/" "Trash"
    a3 OK LIST completed
    "#);
    assert_snapshot!(imap.imap("a4 STATUS Sent (MESSAGES UNSEEN UIDNEXT UIDVALIDITY HIGHESTMODSEQ)").await.join("\n"), @r#"
    * STATUS "Sent" (MESSAGES 2 UNSEEN 0 UIDNEXT 3 UIDVALIDITY 1763600003 HIGHESTMODSEQ 715194045022)
    a4 OK STATUS completed
    "#);
    server.stop().await;
}

#[tokio::test]
async fn capabilities_grow_with_the_login() {
    let server = MailServer::builder().start().await.unwrap();
    let (mut imap, greeting) = Raw::connect(server.imap()).await;
    assert_snapshot!(greeting, @"* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER] connectors sandbox ready");
    assert_eq!(imap.imap(&format!("a LOGIN {} wrong", known::ALICE)).await, ["a NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"]);
    assert_eq!(imap.imap("a SELECT INBOX").await, ["a BAD SELECT is unknown, or not allowed before login"]);
    assert_snapshot!(imap.imap(&format!("a LOGIN {} {}", known::ALICE, known::ALICE_PASSWORD)).await.join("\n"), @"a OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN SPECIAL-USE LIST-EXTENDED LIST-STATUS ESEARCH CONDSTORE QUOTA QRESYNC APPENDLIMIT=35882577] alice@example.test authenticated (Success)");
    assert_snapshot!(imap.imap(r#"a ID ("name" "connectors")"#).await.join("\n"), @r#"
    * ID ("name" "connectors-sandbox" "vendor" "connectors")
    a OK ID completed
    "#);
    assert_snapshot!(imap.imap("a NAMESPACE").await.join("\n"), @r#"
    * NAMESPACE (("" "/")) NIL NIL
    a OK NAMESPACE completed
    "#);
    assert_snapshot!(imap.imap("a LOGOUT").await.join("\n"), @r#"
    * BYE logging out
    a OK LOGOUT completed
    "#);
    assert_eq!(imap.line().await, None);
}

#[tokio::test]
async fn a_login_with_literals_waits_for_the_go_ahead() {
    let server = MailServer::builder().start().await.unwrap();
    let (mut imap, _) = Raw::connect(server.imap()).await;
    imap.send(&format!("a LOGIN {{{}}}", known::ALICE.len())).await;
    assert_eq!(imap.line().await.unwrap(), "+ Ready for literal data");
    imap.send(&format!("{} {{{}+}}\r\n{}", known::ALICE, known::ALICE_PASSWORD.len(), known::ALICE_PASSWORD)).await;
    assert!(imap.line().await.unwrap().starts_with("a OK"));
}

#[tokio::test]
async fn tokens_open_an_account_and_a_bad_one_is_told_why_first() {
    use base64::Engine as _;
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let server = MailServer::builder().start().await.unwrap();
    let xoauth2 = |token: &str| encode(format!("user={}\x01auth=Bearer {token}\x01\x01", known::ALICE));
    let bearer = |token: &str| encode(format!("n,a={},\x01host=h\x01port=993\x01auth=Bearer {token}\x01\x01", known::ALICE));

    let (mut imap, _) = Raw::connect(server.imap()).await;
    imap.send(&format!("a AUTHENTICATE XOAUTH2 {}", xoauth2("stale"))).await;
    assert_snapshot!(imap.line().await.unwrap(), @"+ eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZXhhbXBsZS50ZXN0LyJ9");
    imap.send("").await;
    assert_eq!(imap.line().await.unwrap(), "a NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)");
    imap.send("b AUTHENTICATE OAUTHBEARER").await;
    assert_eq!(imap.line().await.unwrap(), "+ ");
    imap.send(&bearer("stale")).await;
    assert_snapshot!(imap.line().await.unwrap(), @"+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJtYWlsIiwib3BlbmlkLWNvbmZpZ3VyYXRpb24iOiJodHRwczovL2V4YW1wbGUudGVzdC8ud2VsbC1rbm93bi9vcGVuaWQtY29uZmlndXJhdGlvbiJ9");
    imap.send("AQ==").await;
    assert!(imap.line().await.unwrap().starts_with("b NO [AUTHENTICATIONFAILED]"));
    assert!(imap.imap(&format!("c AUTHENTICATE OAUTHBEARER {}", bearer(known::ALICE_TOKEN))).await[0].starts_with("c OK"));

    server.revoke_token(known::BOB_TOKEN);
    let (mut smtp, _) = Raw::connect(server.smtp()).await;
    smtp.smtp("EHLO c").await;
    assert!(smtp.smtp(&format!("AUTH XOAUTH2 {}", xoauth2(known::BOB_TOKEN))).await.starts_with("334 "));
    assert_eq!(smtp.smtp("").await, "535 5.7.8 Authentication credentials invalid");
    assert_eq!(smtp.smtp(&format!("AUTH XOAUTH2 {}", xoauth2(known::ALICE_TOKEN))).await, "235 2.7.0 Authentication successful");
    server.stop().await;
}

#[tokio::test]
async fn submission_answers_as_the_sheet_shows_it() {
    let server = MailServer::builder().start().await.unwrap();
    let (mut smtp, greeting) = Raw::connect(server.smtp()).await;
    assert_eq!(greeting, "220 mail.example.test ESMTP connectors sandbox ready");
    assert_snapshot!(smtp.smtp("EHLO client.example").await, @r#"
    250-mail.example.test greets client.example
    250-SIZE 35882577
    250-8BITMIME
    250-ENHANCEDSTATUSCODES
    250-PIPELINING
    250-CHUNKING
    250-SMTPUTF8
    250 AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER
    "#);
    assert_eq!(smtp.smtp("MAIL FROM:<ann@x.com>").await, "530 5.7.0 Authentication required");
    assert_eq!(smtp.smtp("AUTH LOGIN").await, "334 VXNlcm5hbWU6");
    assert_eq!(smtp.smtp("YWxpY2VAZXhhbXBsZS50ZXN0").await, "334 UGFzc3dvcmQ6");
    assert_eq!(smtp.smtp("d3Jvbmc=").await, "535 5.7.8 Authentication credentials invalid");
    assert_eq!(smtp.smtp("AUTH CRAM-MD5").await, "504 5.5.4 Unrecognized authentication type");

    let mut smtp = submit(&server).await;
    assert_eq!(smtp.smtp("MAIL FROM:<alice@example.test> SIZE=1024 BODY=8BITMIME").await, "250 2.1.0 OK");
    assert_eq!(smtp.smtp("RCPT TO:<bob@example.test>").await, "250 2.1.5 OK");
    assert_eq!(smtp.smtp("RCPT TO:<someone@far.example>").await, "250 2.1.5 OK");
    assert_eq!(smtp.smtp("RCPT TO:<nobody@example.test>").await, "550 5.1.1 The email account that you tried to reach does not exist");
    assert!(smtp.smtp("DATA").await.starts_with("354 "));
    assert_eq!(smtp.smtp("Subject: dots\r\nMessage-ID: <dots@x>\r\n\r\n..one\r\n...two\r\n.").await, "250 2.0.0 OK queued as 000001");
    assert_eq!(smtp.smtp("QUIT").await, "221 2.0.0 Bye");
    let accepted = server.accepted();
    assert_eq!(accepted[0].mime, b"Subject: dots\r\nMessage-ID: <dots@x>\r\n\r\n.one\r\n..two\r\n");
    assert_eq!(accepted[0].recipients, ["bob@example.test", "someone@far.example"]);
    assert_eq!(server.count(known::BOB, "INBOX"), Some(3));
    assert_eq!(server.count(known::ALICE, "Sent"), Some(2), "a plain server keeps no copy of its own");
}

#[tokio::test]
async fn chunks_need_no_dots() {
    let server = MailServer::builder().start().await.unwrap();
    let mut smtp = submit(&server).await;
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    smtp.smtp("RCPT TO:<bob@example.test>").await;
    smtp.send("BDAT 14\r\nSubject: one").await;
    assert_eq!(smtp.reply().await, "250 2.0.0 14 octets received");
    smtp.send("BDAT 8 LAST\r\n\r\n.\r\ntwo").await;
    // The CRLF that `send` puts after the eight octets is an empty command.
    assert_eq!(smtp.reply().await, "250 2.0.0 OK queued as 000001");
    assert_eq!(server.accepted()[0].mime, b"Subject: one\r\n\r\n.\r\ntwo"[..].to_vec());
}

#[tokio::test]
async fn fetch_takes_a_message_apart() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.imap("s EXAMINE INBOX").await;
    assert_snapshot!(imap.imap("a UID FETCH 5 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)").await.join("\n"), @r#"
    * 5 FETCH (UID 5 FLAGS () INTERNALDATE "05-Nov-2026 13:45:00 +0000" RFC822.SIZE 820 ENVELOPE ("Thu, 05 Nov 2026 13:44:10 +0000" "Invoice 2026-118" (("Billing" NIL "billing" "supplier.test")) (("Billing" NIL "billing" "supplier.test")) (("Billing" NIL "billing" "supplier.test")) (("Alice Example" NIL "alice" "example.test")) NIL NIL NIL "<seed-06@supplier.test>") BODYSTRUCTURE (("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 35 1 NIL NIL NIL NIL)("APPLICATION" "PDF" ("NAME" "invoice.pdf") NIL NIL "BASE64" 96 NIL ("attachment" ("FILENAME" "invoice.pdf" "SIZE" "69")) NIL NIL)("TEXT" "CSV" ("CHARSET" "utf-8") NIL NIL "BASE64" 42 1 NIL ("attachment" ("FILENAME*" "UTF-8''%C3%9Cbersicht.csv")) NIL NIL) "MIXED" ("BOUNDARY" "mix-06") NIL NIL NIL))
    a OK FETCH completed
    "#);
    assert_snapshot!(imap.imap("b UID FETCH 3 (BODY.PEEK[HEADER.FIELDS (IN-REPLY-TO REFERENCES Subject)] BODY.PEEK[TEXT]<0.9>)").await.join("\n"), @r#"
    * 3 FETCH (UID 3 BODY[HEADER.FIELDS (IN-REPLY-TO REFERENCES SUBJECT)] {141}
    Subject: Re: Order 4711: delivery date
    In-Reply-To: <seed-03@example.test>
    References: <seed-02@customer.test>
     <seed-03@example.test>

     BODY[TEXT]<0> {9}
    Thank you)
    b OK FETCH completed
    "#);
    // A message inside a message: its header, its parts, the header of a part.
    assert_snapshot!(imap.imap("c UID FETCH 9 (BODY.PEEK[2.HEADER.FIELDS (Subject)] BODY.PEEK[2.2] BODY.PEEK[2.1.MIME] BODY.PEEK[9])").await.join("\n"), @r#"
    * 9 FETCH (UID 9 BODY[2.HEADER.FIELDS (SUBJECT)] {21}
    Subject: Contract

     BODY[2.2] {32}
    Paragraph 1. Both sides agree.
     BODY[2.1.MIME] {43}
    Content-Type: text/plain; charset=utf-8

     BODY[9] NIL)
    c OK FETCH completed
    "#);
    assert_snapshot!(imap.imap("d UID FETCH 6 (ENVELOPE)").await.join("\n"), @r#"
    * 6 FETCH (UID 6 ENVELOPE ("Fri, 06 Nov 2026 12:19:00 +0100" "=?UTF-8?B?U3TDtnJ1bmcgaW0gQsO8cm8gTcO8bmNoZW4=?=" (("=?UTF-8?Q?J=C3=BCrgen_Gr=C3=B6=C3=9F?=" NIL "juergen" "customer.test")) (("=?UTF-8?Q?J=C3=BCrgen_Gr=C3=B6=C3=9F?=" NIL "juergen" "customer.test")) (("=?UTF-8?Q?J=C3=BCrgen_Gr=C3=B6=C3=9F?=" NIL "juergen" "customer.test")) (("Alice Example" NIL "alice" "example.test")) NIL NIL NIL "<seed-07@customer.test>"))
    d OK FETCH completed
    "#);
    assert_eq!(server.flags(known::ALICE, "INBOX", "<seed-05@partner.test>").unwrap(), Vec::<String>::new(), "peeking changes nothing");
}

#[tokio::test]
async fn body_without_peek_sets_seen_unless_the_mailbox_is_examined() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.imap("s EXAMINE INBOX").await;
    imap.imap("a UID FETCH 4 BODY[TEXT]").await;
    assert_eq!(server.flags(known::ALICE, "INBOX", "<seed-05@partner.test>").unwrap(), Vec::<String>::new());
    imap.imap("s SELECT INBOX").await;
    let answer = imap.imap("a UID FETCH 4 BODY[TEXT]").await.join("\n");
    assert!(answer.contains("FLAGS (\\Seen)"), "{answer}");
    assert_eq!(server.flags(known::ALICE, "INBOX", "<seed-05@partner.test>").unwrap(), ["\\Seen"]);
}

#[tokio::test]
async fn search_knows_the_keys_of_the_sheet() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.imap("s EXAMINE INBOX").await;
    let mut found = String::new();
    for keys in [
        "ALL",
        "UNSEEN",
        "SEEN ANSWERED",
        "FLAGGED",
        "KEYWORD $Forwarded",
        "FROM carl",
        "SUBJECT \"order 4711\"",
        "HEADER Message-ID \"<seed-15@customer.test>\"",
        "HEADER Message-ID \"\" NOT SEEN",
        "HEADER Auto-Submitted \"\"",
        "BODY minutes",
        "TEXT 1.2.840",
        "SINCE 13-Nov-2026",
        "BEFORE 3-Nov-2026",
        "ON 3-Nov-2026",
        "SENTSINCE 20-Nov-2026",
        "LARGER 1000",
        "SMALLER 300",
        "UID 900:*",
        "2:3",
        "NOT UID 1:12",
        "OR FROM dora FROM nora",
        "(OR FROM dora FROM nora) UNSEEN",
        "DRAFT",
    ] {
        let lines = imap.imap(&format!("a UID SEARCH {keys}")).await;
        found.push_str(&format!("{keys}:{}\n", lines[0].strip_prefix("* SEARCH").unwrap()));
    }
    assert_snapshot!(found, @r#"
    ALL: 1 2 3 4 5 6 7 8 9 10 11 12 13 14
    UNSEEN: 4 5 6 7 8 10 11 12 13 14
    SEEN ANSWERED: 2
    FLAGGED: 6
    KEYWORD $Forwarded: 9
    FROM carl: 2 3 12
    SUBJECT "order 4711": 2 3 12
    HEADER Message-ID "<seed-15@customer.test>": 14
    HEADER Message-ID "" NOT SEEN: 4 5 6 7 8 10 11 12 14
    HEADER Auto-Submitted "": 8 12
    BODY minutes: 4
    TEXT 1.2.840:
    SINCE 13-Nov-2026: 11 12 13 14
    BEFORE 3-Nov-2026: 1
    ON 3-Nov-2026: 2 3
    SENTSINCE 20-Nov-2026: 14
    LARGER 1000: 8
    SMALLER 300: 13
    UID 900:*: 14
    2:3: 2 3
    NOT UID 1:12: 13 14
    OR FROM dora FROM nora: 1 4 7 11 14
    (OR FROM dora FROM nora) UNSEEN: 4 7 11 14
    DRAFT:
    "#);
    assert_eq!(
        imap.imap("a UID SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN").await[0],
        r#"* ESEARCH (TAG "a") UID MIN 4 MAX 14 COUNT 10 ALL 4:8,10:14"#
    );
    assert_eq!(imap.imap("a UID SEARCH CHARSET KOI8-R ALL").await, ["a NO [BADCHARSET (US-ASCII UTF-8)] unknown charset"]);
    assert_eq!(imap.imap("a UID SEARCH WAT").await, ["a BAD unknown search key WAT"]);
    // Non-ASCII comes as a literal, and finds decoded headers and bodies.
    imap.send("b UID SEARCH CHARSET UTF-8 SUBJECT {8}").await;
    assert_eq!(imap.line().await.unwrap(), "+ Ready for literal data");
    imap.send("München").await;
    assert_eq!(imap.until("b ").await[0], "* SEARCH 6");
}
