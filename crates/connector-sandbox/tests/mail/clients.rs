//! async-imap and lettre, the libraries a mail connector is made of, against the fake: what they cannot parse is the fake's mistake.

use async_imap::Session;
use async_imap::extensions::idle::IdleResponse;
use async_imap::types::Flag;
use connector_sandbox::EffectKind;
use connector_sandbox::mail::{MailServer, known};
use futures_util::TryStreamExt as _;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use std::collections::BTreeSet;
use tokio::net::TcpStream;

pub(crate) async fn session(server: &MailServer, user: &str, password: &str) -> Session<TcpStream> {
    let mut client = async_imap::Client::new(TcpStream::connect(server.imap()).await.unwrap());
    client.read_response().await.unwrap().unwrap();
    client.login(user, password).await.map_err(|(error, _)| error).unwrap()
}

async fn alice(server: &MailServer) -> Session<TcpStream> {
    session(server, known::ALICE, known::ALICE_PASSWORD).await
}

fn sorted(found: impl IntoIterator<Item = u32>) -> Vec<u32> {
    found.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

#[tokio::test]
async fn async_imap_reads_every_seeded_message() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    let capabilities = imap.capabilities().await.unwrap();
    for name in ["IDLE", "MOVE", "UIDPLUS", "CONDSTORE", "QRESYNC", "SPECIAL-USE"] {
        assert!(capabilities.has_str(name), "{name}");
    }
    let id = imap.id([("name", Some("connectors"))]).await.unwrap().unwrap();
    assert_eq!(id["name"], "connectors-sandbox");
    let names: Vec<_> = imap.list(Some(""), Some("*")).await.unwrap().try_collect().await.unwrap();
    assert_eq!(names.iter().map(|name| name.name()).collect::<Vec<_>>(), ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]);
    let mailbox = imap.select_condstore("INBOX").await.unwrap();
    assert_eq!((mailbox.exists, mailbox.uid_next), (14, Some(15)));
    assert!(mailbox.highest_modseq.is_some() && mailbox.uid_validity.is_some());
    let items = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE MODSEQ BODY.PEEK[])";
    let fetched: Vec<_> = imap.uid_fetch("1:*", items).await.unwrap().try_collect().await.unwrap();
    assert_eq!(fetched.len(), 14);
    for message in &fetched {
        assert_eq!(message.size.unwrap() as usize, message.body().unwrap().len());
        assert!(message.envelope().is_some() && message.bodystructure().is_some() && message.internal_date().is_some() && message.modseq.is_some());
    }
    let envelope = fetched[2].envelope().unwrap();
    assert_eq!(envelope.in_reply_to.as_deref(), Some(&b"<seed-03@example.test>"[..]));
    assert_eq!(envelope.from.as_ref().unwrap()[0].host.as_deref(), Some(&b"customer.test"[..]));
    let quota = imap.get_quota_root("INBOX").await.unwrap();
    assert_eq!(quota.1.len(), 1);
    let status = imap.status("Drafts", "(MESSAGES UNSEEN)").await.unwrap();
    assert_eq!((status.exists, status.unseen), (1, Some(0)));
    imap.logout().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn async_imap_changes_moves_and_removes() {
    let server = MailServer::builder().start().await.unwrap();
    let mut imap = alice(&server).await;
    imap.select("INBOX").await.unwrap();
    assert_eq!(sorted(imap.uid_search("UNSEEN FROM dora").await.unwrap()), [11, 14]);
    let changed: Vec<_> = imap.uid_store("14", "+FLAGS (\\Seen $Done)").await.unwrap().try_collect().await.unwrap();
    assert!(changed[0].flags().any(|flag| flag == Flag::Seen));
    assert_eq!(server.flags(known::ALICE, "INBOX", "<seed-15@customer.test>").unwrap(), ["$Done", "\\Seen"]);
    imap.create("Work").await.unwrap();
    imap.uid_copy("1,14", "Work").await.unwrap();
    imap.uid_mv("2:3", "Archive").await.unwrap();
    assert_eq!((server.count(known::ALICE, "Work"), server.count(known::ALICE, "Archive")), (Some(2), Some(3)));
    imap.uid_store("1,4", "+FLAGS.SILENT (\\Deleted)").await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let gone: Vec<u32> = imap.uid_expunge("1").await.unwrap().try_collect().await.unwrap();
    assert_eq!(gone, [1]);
    assert_eq!(server.count(known::ALICE, "INBOX"), Some(11), "4 is marked and was not named");
    imap.rename("Work", "Play").await.unwrap();
    imap.delete("Play").await.unwrap();
    assert!(imap.select("Play").await.is_err());
    let draft = "From: alice@example.test\r\nSubject: later\r\nMessage-ID: <draft@x>\r\n\r\nhello\r\n";
    imap.append("Drafts", Some("(\\Draft \\Seen)"), Some("\"21-Nov-2026 09:00:00 +0000\""), draft).await.unwrap();
    assert_eq!(server.flags(known::ALICE, "Drafts", "<draft@x>").unwrap(), ["\\Draft", "\\Seen"]);
    let ledger = server.ledger();
    assert_eq!(ledger.of_kind(EffectKind::MailDrafted)[0].target, "<draft@x>");
    assert_eq!((ledger.count(EffectKind::MailMoved), ledger.count(EffectKind::MailDeleted)), (2, 1));
    assert_eq!(ledger.of_kind(EffectKind::MailCategorised)[0].detail, serde_json::json!(["$Done"]));
}

#[tokio::test]
async fn async_imap_is_woken_by_a_message_that_lettre_sent() {
    let server = MailServer::builder().start().await.unwrap();
    let mut bob = session(&server, known::BOB, known::BOB_PASSWORD).await;
    bob.select("INBOX").await.unwrap();
    let mut idle = bob.idle();
    idle.init().await.unwrap();
    let (woken, _stop) = idle.wait();
    let transport = transport(&server, known::ALICE_PASSWORD, Mechanism::Plain);
    let (woken, sent) = tokio::join!(woken, transport.send(message("<idle@x>", "bob@example.test")));
    assert!(matches!(woken.unwrap(), IdleResponse::NewData(_)));
    sent.unwrap();
    let mut bob = idle.done().await.unwrap();
    assert_eq!(sorted(bob.uid_search("HEADER Message-ID \"<idle@x>\"").await.unwrap()), [3]);
}

pub(crate) fn transport(server: &MailServer, secret: &str, mechanism: Mechanism) -> AsyncSmtpTransport<Tokio1Executor> {
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(server.smtp().port())
        .credentials(Credentials::new(known::ALICE.to_owned(), secret.to_owned()))
        .authentication(vec![mechanism])
        .build()
}

pub(crate) fn message(id: &str, to: &str) -> Message {
    let text = SinglePart::plain("Zeile\r\n.\r\n..punkte\r\n".to_owned());
    let file = Attachment::new("a.bin".to_owned()).body(vec![0_u8, 255, 10, 13], ContentType::parse("application/octet-stream").unwrap());
    Message::builder()
        .from("Alice <alice@example.test>".parse().unwrap())
        .to(to.parse().unwrap())
        .subject("Größe")
        .message_id(Some(id.to_owned()))
        .multipart(MultiPart::mixed().singlepart(text).singlepart(file))
        .unwrap()
}

#[tokio::test]
async fn lettre_submits_with_every_mechanism_it_has() {
    let server = MailServer::builder().start().await.unwrap();
    for (at, (secret, mechanism)) in
        [(known::ALICE_PASSWORD, Mechanism::Plain), (known::ALICE_PASSWORD, Mechanism::Login), (known::ALICE_TOKEN, Mechanism::Xoauth2)]
            .into_iter()
            .enumerate()
    {
        let email = message(&format!("<lettre-{at}@x>"), "Bob <bob@example.test>");
        let reply = transport(&server, secret, mechanism).send(email.clone()).await.unwrap();
        assert!(reply.is_positive());
        // lettre puts a line end of its own before the dot.
        let sent = [&email.formatted()[..], b"\r\n"].concat();
        assert_eq!(server.accepted()[at].mime, sent, "what came is what was sent, dots and all");
    }
    assert_eq!(server.count(known::BOB, "INBOX"), Some(5));
    let wrong = transport(&server, "wrong", Mechanism::Plain).send(message("<no@x>", "bob@example.test")).await.unwrap_err();
    assert!(wrong.is_permanent() && wrong.to_string().contains("5.7.8"), "{wrong}");
    assert_eq!(server.accepted().len(), 3);
}
