//! Every fault, by its name.

use crate::raw::{Raw, alice, submit};
use connector_sandbox::EffectKind;
use connector_sandbox::mail::{AfterDot, MailServer, Stage, known};

async fn with_message(smtp: &mut Raw, to: &[&str], id: &str) -> String {
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    for to in to {
        assert_eq!(smtp.smtp(&format!("RCPT TO:<{to}>")).await, "250 2.1.5 OK");
    }
    smtp.smtp("DATA").await;
    smtp.smtp(&format!("Message-ID: {id}\r\n\r\nhello\r\n.")).await
}

#[tokio::test]
async fn a_reply_lost_after_the_dot_leaves_an_accepted_message() {
    let server = MailServer::builder().keeps_sent().start().await.unwrap();
    server.faults().after_dot(AfterDot::AcceptedReplyLost);
    let mut smtp = submit(&server).await;
    assert_eq!(with_message(&mut smtp, &["bob@example.test"], "<lost@x>").await, "", "the connection is cut without a word");
    assert_eq!(server.accepted()[0].message_id, "<lost@x>");
    assert!(server.flags(known::ALICE, "Sent", "<lost@x>").is_some(), "a client finds it by its id");
    assert_eq!(server.ledger().count(EffectKind::MailReceived), 1);
}

#[tokio::test]
async fn a_cut_after_the_dot_may_also_mean_nothing_was_accepted() {
    let server = MailServer::builder().start().await.unwrap();
    server.faults().after_dot(AfterDot::NotAccepted);
    assert_eq!(with_message(&mut submit(&server).await, &["bob@example.test"], "<cut@x>").await, "");
    server.faults().after_dot(AfterDot::Refused("550 5.7.1 Message rejected as spam".to_owned()));
    let mut smtp = submit(&server).await;
    assert_eq!(with_message(&mut smtp, &["bob@example.test"], "<spam@x>").await, "550 5.7.1 Message rejected as spam");
    assert_eq!(server.accepted(), []);
    assert!(with_message(&mut smtp, &["bob@example.test"], "<fine@x>").await.starts_with("250"), "one fault is one message");
}

#[tokio::test]
async fn recipients_script_the_fate_of_a_message_without_a_program() {
    let server = MailServer::builder().start().await.unwrap();
    assert_eq!(with_message(&mut submit(&server).await, &["reply-lost@example.test"], "<1@x>").await, "");
    assert_eq!(with_message(&mut submit(&server).await, &["cut@example.test"], "<2@x>").await, "");
    assert_eq!(server.accepted().iter().map(|message| message.message_id.as_str()).collect::<Vec<_>>(), ["<1@x>"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_leaves_the_client_to_its_time_limit() {
    let server = MailServer::builder().start().await.unwrap();
    server.faults().after_dot(AfterDot::AcceptedSilent);
    let mut smtp = submit(&server).await;
    for line in ["MAIL FROM:<alice@example.test>", "RCPT TO:<bob@example.test>", "DATA"] {
        smtp.smtp(line).await;
    }
    smtp.send("Message-ID: <silent@x>\r\n\r\nhello\r\n.").await;
    while server.accepted().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(tokio::time::timeout(std::time::Duration::from_secs(600), smtp.line()).await.is_err());
    assert_eq!(server.accepted().len(), 1);
}

#[tokio::test]
async fn recipients_are_refused_by_their_address() {
    let server = MailServer::builder().faults(|faults| faults.recipient("slow@far.example", "450 4.2.1 Busy", Some(2))).start().await.unwrap();
    let mut smtp = submit(&server).await;
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    for (to, reply) in [
        ("greylisted@far.example", "451 4.7.1 Greylisted, please try again in 300 seconds"),
        ("greylisted@far.example", "250 2.1.5 OK"),
        ("unknown@far.example", "550 5.1.1 The email account that you tried to reach does not exist"),
        ("full@far.example", "452 4.2.2 The recipient's mailbox is full"),
        ("slow@far.example", "450 4.2.1 Busy"),
        ("slow@far.example", "450 4.2.1 Busy"),
        ("slow@far.example", "250 2.1.5 OK"),
        ("not-an-address", "501 5.1.3 That is not an address"),
        ("j\u{fc}rgen@far.example", "553 5.6.7 Non-ASCII addresses need SMTPUTF8"),
    ] {
        assert_eq!(smtp.smtp(&format!("RCPT TO:<{to}>")).await, reply);
    }
    smtp.smtp("DATA").await;
    smtp.smtp("Message-ID: <some@x>\r\n\r\n.").await;
    assert_eq!(server.accepted()[0].recipients, ["greylisted@far.example", "slow@far.example"], "only who was accepted");
}

#[tokio::test]
async fn limits_are_kept() {
    let server = MailServer::builder().message_limit(2000).recipient_limit(1).start().await.unwrap();
    let mut smtp = submit(&server).await;
    assert_eq!(smtp.smtp("MAIL FROM:<alice@example.test> SIZE=2001").await, "552 5.3.4 Message size exceeds fixed limit");
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    smtp.smtp("RCPT TO:<bob@example.test>").await;
    assert_eq!(smtp.smtp("RCPT TO:<alice@example.test>").await, "452 4.5.3 Too many recipients");
    smtp.smtp("DATA").await;
    assert_eq!(smtp.smtp(&format!("{}\r\n.", "x".repeat(999))).await, "554 5.6.0 A line of the message is longer than 998 octets");
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    smtp.smtp("RCPT TO:<bob@example.test>").await;
    smtp.smtp("DATA").await;
    assert_eq!(smtp.smtp(&format!("{}.", "0123456789\r\n".repeat(200))).await, "552 5.3.4 Message size exceeds fixed limit");
    let mut imap = alice(&server).await;
    imap.send("a APPEND Drafts {2001}").await;
    assert_eq!(imap.line().await.unwrap(), "a NO [TOOBIG] that is too big");
    assert_eq!(server.accepted(), []);
}

#[tokio::test]
async fn stages_of_the_dialogue_are_scripted() {
    let server = MailServer::builder().start().await.unwrap();
    let faults = server.faults();
    faults.smtp(Stage::Greeting, "421 4.3.2 Not now", 1);
    let (mut smtp, greeting) = Raw::connect(server.smtp()).await;
    assert_eq!((greeting.as_str(), smtp.line().await), ("421 4.3.2 Not now", None));
    faults.smtp(Stage::Auth, "454 4.7.0 Temporary authentication failure", 1);
    let (mut smtp, _) = Raw::connect(server.smtp()).await;
    smtp.smtp("EHLO c").await;
    assert!(smtp.smtp("AUTH PLAIN AGE=").await.starts_with("454 4.7.0"));
    let mut smtp = submit(&server).await;
    faults.smtp(Stage::Mail, "550 5.4.5 Daily user sending limit exceeded", 1);
    assert!(smtp.smtp("MAIL FROM:<alice@example.test>").await.starts_with("550 5.4.5"));
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    smtp.smtp("RCPT TO:<bob@example.test>").await;
    faults.smtp(Stage::Data, "421 4.7.0 Too much mail", 1);
    assert!(smtp.smtp("DATA").await.starts_with("421"));
    assert_eq!(smtp.line().await, None, "421 closes");
}

#[tokio::test]
async fn imap_commands_are_scripted() {
    let server = MailServer::builder().start().await.unwrap();
    let faults = server.faults();
    let mut imap = alice(&server).await;
    faults.imap("SELECT", "NO [UNAVAILABLE] Try again");
    assert_eq!(imap.imap("a SELECT INBOX").await, ["a NO [UNAVAILABLE] Try again"]);
    assert!(imap.imap("a SELECT INBOX").await.last().unwrap().starts_with("a OK"), "once");
    faults.imap("UID FETCH", "BYE Connection is closed. 13");
    assert_eq!(imap.imap("a UID FETCH 1 (FLAGS)").await, ["* BYE Connection is closed. 13"]);
    let mut imap = alice(&server).await;
    faults.imap("*", "CUT");
    assert_eq!(imap.imap("a NOOP").await, Vec::<String>::new());
    faults.imap("GREETING", "BYE Server shutting down");
    assert_eq!(Raw::connect(server.imap()).await.1, "* BYE Server shutting down");
}

#[tokio::test]
async fn over_quota_stores_nothing() {
    let server = MailServer::builder().start().await.unwrap();
    server.faults().over_quota(true);
    let mut imap = alice(&server).await;
    imap.send("a APPEND Drafts {12+}\r\nSubject: a\r\n").await;
    assert_eq!(imap.line().await.unwrap(), "a NO [OVERQUOTA] Quota exceeded (mailbox for user is full)");
    imap.imap("s SELECT INBOX").await;
    assert!(imap.imap("a UID COPY 1 Archive").await[0].contains("[OVERQUOTA]"));
    let mut smtp = submit(&server).await;
    smtp.smtp("MAIL FROM:<alice@example.test>").await;
    assert_eq!(smtp.smtp("RCPT TO:<bob@example.test>").await, "452 4.2.2 The recipient's mailbox is full");
}

#[tokio::test]
async fn logins_are_refused_and_connections_counted() {
    let server = MailServer::builder().start().await.unwrap();
    let login = format!("a LOGIN {} {}", known::ALICE, known::ALICE_PASSWORD);
    server.faults().refuse_logins(true);
    let (mut imap, _) = Raw::connect(server.imap()).await;
    assert!(imap.imap(&login).await[0].starts_with("a NO [AUTHENTICATIONFAILED]"));
    server.faults().refuse_logins(false);
    server.faults().max_connections(1);
    let mut first = alice(&server).await;
    assert_eq!(imap.imap(&login).await, ["a NO [ALERT] Too many simultaneous connections. (Failure)"]);
    assert_eq!(server.imap_sessions(known::ALICE), 1);
    first.imap("z LOGOUT").await;
    assert_eq!(first.line().await, None);
    while server.imap_sessions(known::ALICE) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(imap.imap(&login).await[0].starts_with("a OK"), "a place is free again");
    let _one = submit(&server).await;
    assert_eq!(Raw::connect(server.smtp()).await.1, "421 4.3.2 Too many connections, try again later");
}

#[tokio::test]
async fn stop_ends_every_session() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.send("a IDLE").await;
    assert_eq!(imap.line().await.unwrap(), "+ idling");
    let (mut smtp, _) = Raw::connect(server.smtp()).await;
    server.stop().await;
    assert_eq!((imap.line().await, smtp.line().await), (None, None));
}
