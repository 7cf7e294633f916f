//! Against the sandbox's mail server, which keeps state and fails on request: TLS and STARTTLS, losses after the last dot, Gmail, the three
//! ways to follow a mailbox, rebuilt folders, a watch that comes back, tokens that are taken back.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{CallCx, Connector as _, ErrorKind, Result, clock::SeededRng, delta::Change, webhook::IncomingEvent};
use connector_email::{Sink, Watch, WatchPlace, WatchPolicy};
use connector_manifest::Engine;
use connector_sandbox::mail::{AfterDot, MailBuilder, MailServer, known};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use support::{Local, Secret, call, connection_to};
use tokio::sync::{mpsc, watch};

struct Mailbox {
    server: MailServer,
    engine: Arc<Engine>,
    cx: CallCx,
}

impl Mailbox {
    async fn new(builder: MailBuilder, settings: &[(&str, &str)]) -> Self {
        Self::with(builder.start().await.unwrap(), settings, Secret::Password(known::ALICE, known::ALICE_PASSWORD))
    }

    fn with(server: MailServer, settings: &[(&str, &str)], secret: Secret) -> Self {
        let plain = [("imap_security", "none"), ("smtp_security", "none"), ("allow_plaintext_loopback", "true"), ("address", known::ALICE)];
        let (imap, smtp) = (server.imap(), server.smtp());
        Self::at(server, imap, smtp, &plain.into_iter().chain(settings.iter().copied()).collect::<Vec<_>>(), secret)
    }

    fn at(server: MailServer, imap: SocketAddr, smtp: SocketAddr, settings: &[(&str, &str)], secret: Secret) -> Self {
        let (imap_port, smtp_port) = (imap.port().to_string(), smtp.port().to_string());
        let mut all = vec![("imap_port", imap_port.as_str()), ("smtp_port", smtp_port.as_str())];
        all.extend_from_slice(settings);
        let cx = CallCx::new(Arc::new(connection_to("https://localhost", &all)));
        let engine = Arc::new(connector_email::engine(Arc::new(Local), Arc::new(secret)).unwrap());
        Self { server, engine, cx }
    }

    async fn get(&self, tool: &str, args: Value) -> Value {
        self.try_get(tool, args).await.unwrap_or_else(|error| panic!("{tool}: {error} {error:?}"))
    }

    async fn try_get(&self, tool: &str, args: Value) -> Result<Value> {
        call(&self.engine, &self.cx, tool, args).await?.body.to_value()
    }
}

fn message() -> Value {
    json!({ "to": [known::BOB], "subject": "Hi", "text": "Hello" })
}

#[tokio::test]
async fn a_message_is_sent_kept_and_read_by_its_recipient() {
    let alice = Mailbox::new(MailServer::builder().empty(), &[]).await;
    let sent = alice.get("email_send", message()).await;
    let accepted = alice.server.accepted();
    assert_eq!((accepted.len(), accepted[0].message_id.as_str()), (1, sent["message_id"].as_str().unwrap()));
    assert_eq!((alice.server.count(known::ALICE, "Sent"), alice.server.count(known::BOB, "INBOX")), (Some(1), Some(1)));
    let found = alice.get("email_find_message", json!({ "message_id": sent["message_id"] })).await;
    assert_eq!(found["message"]["folder"], "Sent");
    alice.server.stop().await;
}

#[tokio::test]
async fn tls_and_starttls_with_a_private_certificate() {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![pair.cert.der().clone()], key).unwrap());
    let folder = std::env::temp_dir().join(format!("connector-email-{}", uuid::Uuid::new_v4().simple()));
    std::fs::write(&folder, pair.cert.pem()).unwrap();
    let file = folder.to_string_lossy().into_owned();
    let password = || Secret::Password(known::ALICE, known::ALICE_PASSWORD);
    let server = MailServer::builder().tls(config.clone()).start().await.unwrap();
    let (imaps, submissions, imap, smtp) = (server.imaps().unwrap(), server.submissions().unwrap(), server.imap(), server.smtp());
    let tls = Mailbox::at(server, imaps, submissions, &[("address", known::ALICE), ("ca_file", &file)], password());
    assert_eq!(tls.get("email_verify", json!({})).await["ok"], true);
    let starttls = [("address", known::ALICE), ("ca_file", file.as_str()), ("imap_security", "starttls"), ("smtp_security", "starttls")];
    let second = Mailbox::at(tls.server, imap, smtp, &starttls, password());
    assert_eq!(second.get("email_verify", json!({})).await["ok"], true);
    // Without the file nobody vouches for the certificate; with the offer stripped or something injected nothing is said.
    let untrusted = Mailbox::at(second.server, imaps, submissions, &[("address", known::ALICE)], password());
    assert_eq!(untrusted.try_get("email_verify", json!({})).await.unwrap_err().kind(), ErrorKind::NotSent);
    untrusted.server.faults().strip_starttls(true);
    let third = Mailbox::at(untrusted.server, imap, smtp, &starttls, password());
    assert_eq!(third.try_get("email_verify", json!({})).await.unwrap_err().vendor_code(), Some("STARTTLS_MISSING"));
    third.server.faults().strip_starttls(false);
    third.server.faults().inject_after_starttls(true);
    let error = third.try_get("email_verify", json!({})).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::NotSent), "{error}");
    third.server.stop().await;
    std::fs::remove_file(folder).unwrap();
}

#[tokio::test]
async fn a_lost_reply_to_the_last_dot_is_found_in_sent_mail_where_the_provider_keeps_it() {
    let alice = Mailbox::new(MailServer::builder().empty().keeps_sent(), &[("save_sent", "never")]).await;
    alice.server.faults().after_dot(AfterDot::AcceptedReplyLost);
    let reply = call(&alice.engine, &alice.cx, "email_send", message()).await.unwrap();
    assert!(reply.meta.reconciled);
    assert_eq!(alice.server.accepted().len(), 1, "it went out once");
    alice.server.stop().await;
}

#[tokio::test]
async fn a_cut_after_the_last_dot_is_unknown_and_never_sent_again_by_itself() {
    let alice = Mailbox::new(MailServer::builder().empty(), &[]).await;
    alice.server.faults().after_dot(AfterDot::NotAccepted);
    let error = alice.try_get("email_send", message()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert!(alice.server.accepted().is_empty());
    alice.server.faults().after_dot(AfterDot::Refused("550 5.7.1 Message rejected as spam".into()));
    assert_eq!(alice.try_get("email_send", message()).await.unwrap_err().kind(), ErrorKind::Forbidden);
    alice.server.stop().await;
}

#[tokio::test]
async fn recipients_have_outcomes() {
    let alice = Mailbox::new(MailServer::builder().empty(), &[]).await;
    let to = [known::BOB, "unknown@example.test", "full@example.test", "greylisted@example.test"];
    let sent = alice.get("email_send", json!({ "to": to, "subject": "Hi", "text": "x" })).await;
    assert_eq!(sent["accepted"], json!([known::BOB]));
    let again: Vec<bool> = sent["refused"].as_array().unwrap().iter().map(|one| one["may_be_tried_again"].as_bool().unwrap()).collect();
    assert_eq!(again, [false, true, true]);
    alice.server.stop().await;
}

#[tokio::test]
async fn on_gmail_labels_threads_and_sent_mail_are_its_own() {
    let alice = Mailbox::new(MailServer::builder().empty().gmail(), &[("save_sent", "never")]).await;
    alice.server.deliver(known::ALICE, "INBOX", b"Message-ID: <1@x.example>\r\nFrom: b@x.example\r\nSubject: one\r\n\r\nx\r\n").unwrap();
    let info = alice.get("email_server_info", json!({})).await;
    assert_eq!((&info["gmail"], &info["delta"]), (&json!(true), &json!("condstore")));
    let inbox = alice.get("email_list_messages", json!({})).await;
    let id = inbox["messages"][0]["id"].clone();
    assert!(inbox["messages"][0]["thread_id"].is_string());
    let labelled = alice.get("email_label", json!({ "messages": [id], "labels": ["Support/Open"] })).await;
    assert_eq!(labelled["kind"], "gmail_label");
    let labels = alice.get("email_list_messages", json!({})).await["messages"][0]["labels"].clone();
    assert!(labels.as_array().unwrap().contains(&json!("Support/Open")), "{labels}");
    let error = alice.try_get("email_delete", json!({ "messages": [id] })).await.unwrap_err();
    assert!(error.message().contains("bin"), "{error}");
    alice.server.stop().await;
}

#[tokio::test]
async fn changes_are_followed_whatever_the_server_has() {
    for hidden in [vec![], vec!["QRESYNC"], vec!["QRESYNC", "CONDSTORE"]] {
        let builder = hidden.iter().fold(MailServer::builder().empty(), |builder, name| builder.without(name));
        let alice = Mailbox::new(builder, &[]).await;
        for n in 1..=3 {
            alice.server.deliver(known::ALICE, "INBOX", format!("Message-ID: <{n}@x>\r\nSubject: {n}\r\n\r\nx\r\n").as_bytes()).unwrap();
        }
        let delta = alice.engine.delta().unwrap();
        let first = delta.changes(&alice.cx, "messages", None).await.unwrap();
        assert_eq!(first.changes.len(), 3, "{hidden:?}");
        let keys: Vec<String> = first.changes.iter().map(key).collect();
        alice.get("email_delete", json!({ "messages": [keys[0]] })).await;
        alice.server.deliver(known::ALICE, "INBOX", b"Subject: 4\r\n\r\nx\r\n").unwrap();
        let second = delta.changes(&alice.cx, "messages", Some(first.next)).await.unwrap();
        assert_eq!(second.changes[0], Change::Delete { key: keys[0].clone() }, "{hidden:?}");
        assert_eq!(second.changes.len(), 2, "{hidden:?}: {:?}", second.changes);
        let third = delta.changes(&alice.cx, "messages", Some(second.next.clone())).await.unwrap();
        assert!(third.changes.is_empty(), "{hidden:?}: {:?}", third.changes);
        assert!(alice.server.reset_uidvalidity(known::ALICE, "INBOX"));
        let error = delta.changes(&alice.cx, "messages", Some(third.next)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::CursorExpired | ErrorKind::Transient), "{hidden:?}: {error}");
        let error = delta.changes(&alice.cx, "messages", Some(second.next)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CursorExpired, "{hidden:?}: {error}");
        alice.server.stop().await;
    }
}

fn key(change: &Change) -> String {
    match change {
        Change::Upsert { key, .. } | Change::Delete { key } => key.clone(),
    }
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_refused() {
    let server = MailServer::builder().start().await.unwrap();
    let alice = Mailbox::with(server, &[], Secret::Token(known::ALICE_TOKEN.to_owned()));
    assert!(alice.get("email_read_inbox", json!({})).await["total"].as_u64().unwrap() > 5);
    alice.server.revoke_token(known::ALICE_TOKEN);
    let fresh = Mailbox::with(alice.server, &[], Secret::Token(known::ALICE_TOKEN.to_owned()));
    assert_eq!(fresh.try_get("email_read_inbox", json!({})).await.unwrap_err().kind(), ErrorKind::AuthExpired);
    fresh.server.stop().await;
}

#[tokio::test]
async fn never_more_than_three_sessions_are_open_for_an_account() {
    let alice = Mailbox::new(MailServer::builder(), &[]).await;
    let calls = (0..12).map(|_| alice.get("email_list_messages", json!({ "limit": 3 })));
    assert_eq!(futures_util::future::join_all(calls).await.len(), 12);
    assert!(alice.server.imap_sessions(known::ALICE) <= 3, "{}", alice.server.imap_sessions(known::ALICE));
    alice.server.stop().await;
}

#[derive(Debug)]
struct Heard(mpsc::UnboundedSender<Vec<IncomingEvent>>);

#[async_trait]
impl Sink for Heard {
    async fn accept(&self, events: Vec<IncomingEvent>, _: WatchPlace) -> Result<()> {
        self.0.send(events).map_err(|_| connector_core::Error::internal("the test is over"))
    }

    async fn rebuilt(&self, _: WatchPlace) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_watch_comes_back_after_the_server_ended_it() {
    let alice = Mailbox::new(MailServer::builder().empty(), &[]).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let policy = WatchPolicy { first_wait: Duration::from_millis(10), longest_wait: Duration::from_millis(50), ..WatchPolicy::default() };
    let watcher = Watch::new(alice.engine.clone(), alice.cx.clone(), Arc::new(Heard(tell))).with_policy(policy).with_rng(Arc::new(SeededRng::new(7)));
    let place = {
        let status = alice.get("email_folder_status", json!({})).await;
        WatchPlace { uid_validity: u32::try_from(status["uidvalidity"].as_u64().unwrap()).unwrap(), last_uid: 0 }
    };
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(async move { watcher.run(Some(place), stopped).await });
    let mut next = async || tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap();
    alice.server.deliver(known::ALICE, "INBOX", b"Subject: one\r\n\r\nx\r\n").unwrap();
    let first = next().await;
    assert_eq!(first[0].id.as_deref(), Some(format!("INBOX;{};1", place.uid_validity).as_str()));
    alice.server.end_idle("BYE Connection is closed. 13");
    alice.server.deliver(known::ALICE, "INBOX", b"Subject: two\r\n\r\nx\r\n").unwrap();
    let second = next().await;
    assert_eq!((second.len(), second[0].id.as_deref()), (1, Some(format!("INBOX;{};2", place.uid_validity).as_str())));
    stop.send_replace(true);
    task.await.unwrap().unwrap();
    alice.server.stop().await;
}
