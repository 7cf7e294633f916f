//! Two sessions on one mailbox, and coming back after a while: unsolicited answers, CONDSTORE, QRESYNC (RFC 7162), IDLE (RFC 2177).

use crate::raw::{Raw, alice};
use connector_sandbox::mail::{MailServer, known};

fn code(lines: &[String], name: &str) -> u64 {
    let line = lines.iter().find(|line| line.contains(name)).unwrap();
    line.split(name).nth(1).unwrap().trim_start().split(']').next().unwrap().parse().unwrap()
}

async fn selected(server: &MailServer) -> Raw {
    let mut imap = alice(server).await;
    imap.imap("s SELECT INBOX").await;
    imap
}

#[tokio::test]
async fn a_session_learns_what_another_did_at_its_next_command() {
    let server = MailServer::builder().start().await.unwrap();
    let (mut one, mut two) = (selected(&server).await, selected(&server).await);
    one.imap("a UID STORE 4 +FLAGS.SILENT (\\Seen)").await;
    one.imap("a UID MOVE 2 Archive").await;
    server.deliver(known::ALICE, "INBOX", b"Subject: new\r\nMessage-ID: <new@x>\r\n\r\nhello\r\n").unwrap();
    assert_eq!(two.imap("b NOOP").await, ["* 2 EXPUNGE", "* 14 EXISTS", "* 3 FETCH (UID 4 FLAGS (\\Seen))", "b OK NOOP completed"]);
    assert_eq!(two.imap("b NOOP").await, ["b OK NOOP completed"], "news is told once");
    assert_eq!(one.imap("a NOOP").await, ["* 14 EXISTS", "a OK NOOP completed"], "its own changes are no news");
}

#[tokio::test]
async fn expunge_waits_while_sequence_numbers_are_in_use() {
    let server = MailServer::builder().start().await.unwrap();
    let (mut one, mut two) = (selected(&server).await, selected(&server).await);
    one.imap("a UID MOVE 1 Archive").await;
    let answer = two.imap("b FETCH 2 (UID)").await;
    assert_eq!(answer, ["* 2 FETCH (UID 2)", "b OK FETCH completed"]);
    assert_eq!(two.imap("b UID FETCH 2 (FLAGS)").await[1], "* 1 EXPUNGE");
}

#[tokio::test]
async fn idle_tells_at_once() {
    let server = MailServer::builder().start().await.unwrap();
    let (mut one, mut two) = (selected(&server).await, selected(&server).await);
    two.send("b IDLE").await;
    assert_eq!(two.line().await.unwrap(), "+ idling");
    server.deliver(known::ALICE, "INBOX", b"Subject: new\r\n\r\n").unwrap();
    assert_eq!(two.line().await.unwrap(), "* 15 EXISTS");
    assert_eq!(one.imap("a NOOP").await[0], "* 15 EXISTS", "who does not idle learns it from the next command");
    one.imap("a UID STORE 15 +FLAGS (\\Flagged \\Deleted)").await;
    assert_eq!(two.line().await.unwrap(), "* 15 FETCH (UID 15 FLAGS (\\Deleted \\Flagged))");
    one.imap("a UID EXPUNGE 15").await;
    assert_eq!(two.line().await.unwrap(), "* 15 EXPUNGE");
    two.send("DONE").await;
    assert_eq!(two.line().await.unwrap(), "b OK IDLE terminated");
}

#[tokio::test]
async fn an_idle_may_be_ended_by_the_server() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = selected(&server).await;
    imap.send("b IDLE").await;
    assert_eq!(imap.line().await.unwrap(), "+ idling");
    server.end_idle("BYE idle for too long");
    assert_eq!((imap.line().await.as_deref(), imap.line().await), (Some("* BYE idle for too long"), None));
}

#[tokio::test]
async fn changedsince_gives_what_changed() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    let modseq = code(&imap.imap("s SELECT INBOX (CONDSTORE)").await, "HIGHESTMODSEQ");
    imap.imap("a UID STORE 7 +FLAGS (\\Seen)").await;
    let changed = imap.imap(&format!("a UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})")).await;
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert!(changed[0].starts_with("* 7 FETCH (UID 7 FLAGS (\\Seen) MODSEQ ("), "{changed:?}");
}

#[tokio::test]
async fn unchangedsince_loses_against_a_change_and_says_which() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    let modseq = code(&imap.imap("s SELECT INBOX (CONDSTORE)").await, "HIGHESTMODSEQ");
    selected(&server).await.imap("x UID STORE 8 +FLAGS (\\Seen)").await;
    let answer = imap.imap(&format!("a UID STORE 7,8 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT ($Done)")).await;
    assert_eq!(answer.last().unwrap(), "a OK [MODIFIED 8] Conditional STORE failed");
    assert_eq!(server.flags(known::ALICE, "INBOX", "<seed-09@example.test>").unwrap(), ["\\Seen"], "8 is the other's");
    assert_eq!(server.flags(known::ALICE, "INBOX", "<seed-08@partner.test>").unwrap(), ["$Done"], "7 is ours");
}

#[tokio::test]
async fn qresync_brings_a_client_up_to_date_in_one_command() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    assert_eq!(imap.imap("e SELECT INBOX (QRESYNC (1 1))").await, ["e BAD QRESYNC must be enabled first"]);
    assert_eq!(imap.imap("e ENABLE QRESYNC").await, ["* ENABLED QRESYNC", "e OK ENABLE completed"]);
    let opened = imap.imap("s SELECT INBOX").await;
    let (uidvalidity, modseq) = (code(&opened, "UIDVALIDITY"), code(&opened, "HIGHESTMODSEQ"));
    let mut other = selected(&server).await;
    other.imap("x UID MOVE 2:4,9 Archive").await;
    other.imap("x UID STORE 5 +FLAGS (\\Seen)").await;
    let again = imap.imap(&format!("s SELECT INBOX (QRESYNC ({uidvalidity} {modseq} 1:14))")).await;
    assert_eq!(again[0], "* OK [CLOSED] the earlier mailbox is closed");
    assert!(again.contains(&"* VANISHED (EARLIER) 2:4,9".to_owned()), "{again:?}");
    let changes: Vec<&String> = again.iter().filter(|line| line.contains(" FETCH ")).collect();
    assert!(matches!(changes[..], [change] if change.starts_with("* 2 FETCH (UID 5 FLAGS (\\Seen) MODSEQ (")), "{again:?}");
    // After that VANISHED stands in for EXPUNGE, and FETCH can ask for it.
    other.imap("x UID MOVE 1 Archive").await;
    assert_eq!(imap.imap("n NOOP").await, ["* VANISHED 1", "n OK NOOP completed"]);
    let gone = imap.imap(&format!("f UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")).await;
    assert_eq!(gone[0], "* VANISHED (EARLIER) 1:4,9");
}

#[tokio::test]
async fn a_reset_uidvalidity_ends_the_session_and_voids_what_was_known() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.imap("e ENABLE QRESYNC").await;
    let opened = imap.imap("s SELECT INBOX").await;
    let (uidvalidity, modseq) = (code(&opened, "UIDVALIDITY"), code(&opened, "HIGHESTMODSEQ"));
    assert!(server.reset_uidvalidity(known::ALICE, "INBOX"));
    assert_eq!(imap.imap("n NOOP").await, ["* BYE UIDVALIDITY of the selected mailbox changed"]);
    let mut imap = alice(&server).await;
    imap.imap("e ENABLE QRESYNC").await;
    let again = imap.imap(&format!("s SELECT INBOX (QRESYNC ({uidvalidity} {modseq}))")).await;
    assert_ne!(code(&again, "UIDVALIDITY"), uidvalidity);
    assert!(!again.iter().any(|line| line.contains("VANISHED") || line.contains("FETCH")), "{again:?}");
}
