//! Against real Dovecot and Exim on this machine: sessions, folders, flags, drafts, sending, changes, the watch, OAuth tokens, and the corpus.
//!
//! Needs `dovecot`, `exim` and `oidc-provider` of the counterparts up (their folder in `CP`). Skips aloud without them, never in CI.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in tests a panic is the failure, a skip is said")]

mod support;

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use connector_core::{CallCx, Connector as _, ErrorKind, Result, delta::Change, webhook::IncomingEvent};
use connector_email::{Sink, Watch, WatchPlace};
use connector_manifest::Engine;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Local, Secret, call, connection_to};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::{mpsc, watch},
};

const IMAPS: u16 = 19_993;
const IMAP: u16 = 19_143;
const SUBMISSION: u16 = 19_587;
const OIDC: u16 = 18_081;

/// The counterparts' certificate, where the servers are up.
async fn up() -> Option<String> {
    let home = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = std::env::var_os("CP").map(PathBuf::from).or_else(|| Some(home()?.join("connectors-counterparts")));
    let certificate = folder.map(|folder| folder.join("run/mail/cert.pem")).filter(|path| path.exists());
    let mut open = true;
    for port in [IMAPS, IMAP, SUBMISSION, OIDC] {
        open &= TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    }
    match certificate {
        Some(certificate) if open => Some(certificate.to_string_lossy().into_owned()),
        _ if std::env::var_os("CI").is_some() => panic!("Dovecot, Exim or the OAuth server is not up; start the counterparts and set CP"),
        _ => {
            eprintln!("skipped: Dovecot, Exim and the OAuth server are not up, or CP does not name their folder");
            None
        }
    }
}

struct Account {
    engine: Arc<Engine>,
    cx: CallCx,
}

impl Account {
    fn new(user: &'static str, certificate: &str) -> Self {
        Self::with(certificate, &[("address", user)], Secret::Password(user, "secret"))
    }

    fn with(certificate: &str, settings: &[(&str, &str)], secret: Secret) -> Self {
        let submission = SUBMISSION.to_string();
        let mut all = vec![("ca_file", certificate), ("smtp_port", submission.as_str()), ("smtp_security", "starttls")];
        all.extend_from_slice(settings);
        let port = if settings.contains(&("imap_security", "starttls")) { IMAP } else { IMAPS };
        let connection = connection_to(&format!("https://127.0.0.1:{port}"), &all);
        let engine = Arc::new(connector_email::engine(Arc::new(Local), Arc::new(secret)).unwrap());
        Self { engine, cx: CallCx::new(Arc::new(connection)) }
    }

    async fn get(&self, tool: &str, args: Value) -> Value {
        self.try_get(tool, args).await.unwrap_or_else(|error| panic!("{tool}: {error} {error:?}"))
    }

    async fn try_get(&self, tool: &str, args: Value) -> Result<Value> {
        call(&self.engine, &self.cx, tool, args).await?.body.to_value()
    }

    /// Looks until something is there; mail takes a moment.
    async fn until(&self, tool: &str, args: Value) -> Value {
        for _ in 0..100 {
            let found = self.get(tool, args.clone()).await;
            if found["total"].as_u64().is_some_and(|total| total > 0) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{tool} {args}: nothing came");
    }
}

/// A name nobody else uses.
fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4().simple())
}

/// Puts messages into a new folder, past the connector.
async fn fill(user: &str, folder: &str, messages: &[Vec<u8>]) {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", IMAP)).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    tagged(&mut stream, format!("a LOGIN {user} secret\r\n").as_bytes()).await;
    tagged(&mut stream, format!("a CREATE {folder}\r\n").as_bytes()).await;
    for message in messages {
        let mut command = format!("a APPEND {folder} {{{}+}}\r\n", message.len()).into_bytes();
        command.extend_from_slice(message);
        command.extend_from_slice(b"\r\n");
        tagged(&mut stream, &command).await;
    }
}

async fn tagged(stream: &mut BufReader<TcpStream>, command: &[u8]) {
    stream.write_all(command).await.unwrap();
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "the server closed");
        if line.starts_with("a ") {
            assert!(line.starts_with("a OK"), "{line}");
            return;
        }
    }
}

#[tokio::test]
async fn both_servers_take_the_credential_over_tls_and_starttls() {
    let Some(certificate) = up().await else { return };
    for security in ["tls", "starttls"] {
        let account = Account::with(
            &certificate,
            &[("address", "alice@example.test"), ("imap_security", security)],
            Secret::Password("alice@example.test", "secret"),
        );
        let verified = account.get("email_verify", json!({})).await;
        assert_eq!((&verified["ok"], &verified["address"]), (&json!(true), &json!("alice@example.test")));
    }
    let account = Account::new("alice@example.test", &certificate);
    assert_eq!(account.get("email_server_info", json!({})).await["delta"], "qresync");
    let wrong = Account::with(&certificate, &[], Secret::Password("alice@example.test", "wrong-canary"));
    let error = wrong.try_get("email_verify", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthExpired);
    // Without the private CA the certificate is one nobody vouches for.
    let untrusted = Account::with("", &[], Secret::Password("alice@example.test", "secret"));
    let error = untrusted.try_get("email_verify", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::NotSent, connector_core::Retry::Never), "{error}");
}

#[tokio::test]
async fn a_message_goes_out_once_is_read_and_answered_in_its_thread() {
    let Some(certificate) = up().await else { return };
    let (alice, bob) = (Account::new("alice@example.test", &certificate), Account::new("bob@example.test", &certificate));
    let subject = format!("Gr\u{fc}\u{df}e {}", unique("offer"));
    let args = json!({
        "to": ["Bob <bob@example.test>"], "cc": ["nobody-here@example.test"], "bcc": ["greylist@example.test"],
        "subject": subject, "text": "Hello\n.\nworld \u{1f600}", "html": "<p>Hello</p>",
        "attachments": [{ "name": "B\u{e4}r.txt", "mime": "text/plain", "base64": "aGVsbG8=" }],
    });
    let mut keyed = Account { engine: alice.engine.clone(), cx: alice.cx.clone().with_idempotency_key(unique("key")) };
    keyed.cx.correlation_id = "x".into();
    let sent = keyed.get("email_send", args.clone()).await;
    assert_eq!(sent["accepted"], json!(["bob@example.test"]));
    let refused: Vec<_> = sent["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["address"].as_str().unwrap(), one["may_be_tried_again"].as_bool().unwrap()))
        .collect();
    assert_eq!(refused, [("nobody-here@example.test", false), ("greylist@example.test", true)]);
    // The same key again: nothing goes out, because sent mail has it.
    let again = keyed.get("email_send", args).await;
    assert_eq!((&again["already_sent"], &again["message_id"]), (&json!(true), &sent["message_id"]));

    let found = bob.until("email_search", json!({ "subject": subject, "preview": true })).await;
    assert_eq!(found["total"], 1, "it came once");
    let message = &found["messages"][0];
    assert_eq!((&message["unread"], &message["subject"]), (&json!(true), &json!(subject)));
    assert!(message["preview"].as_str().unwrap().contains("world \u{1f600}"));
    assert_eq!(message["attachments"][0]["name"], "B\u{e4}r.txt");
    let id = message["id"].as_str().unwrap();
    let file = bob.get("email_get_attachment", json!({ "message": id, "part": message["attachments"][0]["part"] })).await;
    assert_eq!((&file["base64"], &file["name"]), (&json!("aGVsbG8="), &json!("B\u{e4}r.txt")));
    let headers = bob.get("email_get_headers", json!({ "message": id })).await;
    assert!(!headers.to_string().contains("greylist"), "blind copies stay blind");
    let still = bob.get("email_search", json!({ "subject": subject, "unread": true })).await;
    assert_eq!(still["total"], 1, "reading does not mark as read");

    bob.get("email_reply", json!({ "message": id, "text": "Thanks", "quote": true })).await;
    assert_eq!(bob.get("email_search", json!({ "subject": subject, "answered": true })).await["total"], 1);
    let answer = alice.until("email_search", json!({ "header": "In-Reply-To", "header_value": sent["message_id"] })).await;
    let thread = alice.get("email_get_thread", json!({ "message": answer["messages"][0]["id"] })).await;
    let members: Vec<&str> = thread["messages"].as_array().unwrap().iter().filter_map(|message| message["message_id"].as_str()).collect();
    assert_eq!((members.len(), members[0]), (2, sent["message_id"].as_str().unwrap()), "{thread}");
    for (account, found) in [(&bob, id.to_owned()), (&alice, answer["messages"][0]["id"].as_str().unwrap().to_owned())] {
        account.get("email_delete", json!({ "messages": [found] })).await;
    }
}

#[tokio::test]
async fn every_recipient_refused_is_an_error_and_nothing_is_kept() {
    let Some(certificate) = up().await else { return };
    let alice = Account::new("alice@example.test", &certificate);
    for (to, kind) in
        [("nobody-here@example.test", ErrorKind::Invalid), ("greylist@example.test", ErrorKind::Throttled), ("x@elsewhere.test", ErrorKind::Invalid)]
    {
        let subject = unique("refused");
        let error = alice.try_get("email_send", json!({ "to": [to], "subject": subject, "text": "x" })).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{to}: {error}");
        assert_eq!(alice.get("email_search", json!({ "folder": "sent", "subject": subject })).await["total"], 0);
    }
}

#[tokio::test]
async fn folders_flags_keywords_and_moves() {
    let Some(certificate) = up().await else { return };
    let alice = Account::new("alice@example.test", &certificate);
    let (folder, other) = (unique("box"), format!("{}/Entw\u{fc}rfe & \"mehr\"", unique("top")));
    fill(
        "alice@example.test",
        &folder,
        &[b"Message-ID: <1@x>\r\nSubject: one \"two\" \\three\r\n\r\nH\xc3\xa4\r\n".to_vec(), b"Subject: four\r\n\r\nx\r\n".to_vec()],
    )
    .await;
    alice.get("email_create_folder", json!({ "name": other })).await;
    let listed = alice.get("email_list_folders", json!({})).await;
    let names: Vec<&str> = listed["folders"].as_array().unwrap().iter().filter_map(|folder| folder["name"].as_str()).collect();
    assert!(names.contains(&other.as_str()) && names[0] == "INBOX", "{names:?}");
    let found = alice.get("email_search", json!({ "folder": folder, "subject": "one \"two\" \\three" })).await;
    assert_eq!(found["total"], 1, "quotes are looked for, not obeyed");
    let id = found["messages"][0]["id"].clone();
    assert_eq!(alice.get("email_search", json!({ "folder": folder, "body": "H\u{e4}" })).await["total"], 1);
    alice.get("email_star", json!({ "messages": [id] })).await;
    alice.get("email_label", json!({ "messages": [id], "labels": ["Support", "$Done"] })).await;
    alice.get("email_mark_read", json!({ "messages": [id] })).await;
    let found = alice.get("email_search", json!({ "folder": folder, "starred": true, "keyword": "Support", "unread": false })).await;
    assert_eq!((&found["total"], found["messages"][0]["labels"].as_array().unwrap().len()), (&json!(1), 2));
    alice.get("email_unlabel", json!({ "messages": [id], "labels": ["$Done"] })).await;
    assert_eq!(alice.get("email_folder_status", json!({ "folder": folder })).await["unread"], 1);
    let moved = alice.get("email_move", json!({ "messages": [id], "to": other })).await;
    let new = moved["messages"][0]["to"].as_str().unwrap().to_owned();
    assert!(new.starts_with(&other), "{moved}");
    assert_eq!(alice.get("email_find_message", json!({ "message_id": "<1@x>", "folder": other })).await["message"]["id"], json!(new));
    let copied = alice.get("email_copy", json!({ "messages": ["<1@x>"], "to": folder, "folder": other })).await;
    assert!(copied["messages"][0]["to"].as_str().unwrap().starts_with(&folder));
    let error = alice.try_get("email_move", json!({ "messages": [new], "to": unique("nowhere") })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = alice.try_get("email_delete_folder", json!({ "name": folder })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let gone = alice.get("email_delete", json!({ "messages": [new] })).await;
    assert_eq!((&gone["for_good"], gone["messages"].as_array().unwrap().len()), (&json!(true), 1));
    assert_eq!(alice.get("email_delete", json!({ "messages": [new] })).await["already_gone"], json!([new]));
    for name in [&folder, &other] {
        alice.get("email_delete_folder", json!({ "name": name, "with_messages": true })).await;
    }
    assert_eq!(alice.try_get("email_list_messages", json!({ "folder": folder })).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_draft_is_written_changed_and_sent() {
    let Some(certificate) = up().await else { return };
    let (alice, bob) = (Account::new("alice@example.test", &certificate), Account::new("bob@example.test", &certificate));
    let subject = unique("draft");
    let draft = alice.get("email_draft", json!({ "subject": "first", "text": "one", "bcc": ["alice@example.test"] })).await;
    let changed = alice.get("email_update_draft", json!({ "message": draft["id"], "to": ["bob@example.test"], "subject": subject })).await;
    assert_ne!(draft["message_id"], changed["message_id"]);
    let error = alice.try_get("email_get_message", json!({ "message": draft["id"] })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let read = alice.get("email_get_message", json!({ "message": changed["id"] })).await;
    assert_eq!((read["text"].as_str().unwrap().trim(), &read["bcc"][0]["address"]), ("one", &json!("alice@example.test")));
    let sent = alice.get("email_send_draft", json!({ "message": changed["id"] })).await;
    assert_eq!(sent["accepted"], json!(["bob@example.test", "alice@example.test"]));
    let found = bob.until("email_search", json!({ "subject": subject })).await;
    assert_eq!(found["messages"][0]["bcc"], json!([]));
    assert_eq!(alice.get("email_delete_draft", json!({ "message": changed["id"] })).await["deleted"], false);
}

#[tokio::test]
async fn changes_are_told_once_and_what_is_gone_as_gone() {
    let Some(certificate) = up().await else { return };
    let alice = Account::new("alice@example.test", &certificate);
    let folder = unique("delta");
    let messages: Vec<Vec<u8>> = (0..5).map(|n| format!("Subject: m{n}\r\n\r\nx\r\n").into_bytes()).collect();
    fill("alice@example.test", &folder, &messages).await;
    let stream = format!("messages:{folder}");
    let delta = alice.engine.delta().unwrap();
    let first = delta.changes(&alice.cx, &stream, None).await.unwrap();
    assert_eq!((first.changes.len(), first.more), (5, false));
    let quiet = delta.changes(&alice.cx, &stream, Some(first.next.clone())).await.unwrap();
    assert!(quiet.changes.is_empty());
    let keys: Vec<String> = first
        .changes
        .iter()
        .map(|change| match change {
            Change::Upsert { key, .. } | Change::Delete { key } => key.clone(),
        })
        .collect();
    alice.get("email_star", json!({ "messages": [keys[1]] })).await;
    alice.get("email_delete", json!({ "messages": [keys[0], keys[4]] })).await;
    let second = delta.changes(&alice.cx, &stream, Some(first.next)).await.unwrap();
    let gone: Vec<&String> = second
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Delete { key } => Some(key),
            Change::Upsert { .. } => None,
        })
        .collect();
    assert_eq!(gone, [&keys[0], &keys[4]]);
    let Some(Change::Upsert { key, record }) = second.changes.last() else { panic!("{:?}", second.changes) };
    assert_eq!((key, second.changes.len()), (&keys[1], 3));
    assert_eq!(serde_json::from_slice::<Value>(record).unwrap()["starred"], true);
    alice.get("email_delete_folder", json!({ "name": folder, "with_messages": true })).await;
}

/// Hands events to the test.
#[derive(Debug)]
struct Heard(mpsc::UnboundedSender<(Vec<IncomingEvent>, WatchPlace)>);

#[async_trait]
impl Sink for Heard {
    async fn accept(&self, events: Vec<IncomingEvent>, place: WatchPlace) -> Result<()> {
        self.0.send((events, place)).map_err(|_| connector_core::Error::internal("the test is over"))
    }

    async fn rebuilt(&self, _: WatchPlace) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_watch_tells_of_new_mail_and_goes_on_where_it_stood() {
    let Some(certificate) = up().await else { return };
    let alice = Account::new("alice@example.test", &certificate);
    let folder = unique("watch");
    fill("alice@example.test", &folder, &[b"Subject: old\r\n\r\nx\r\n".to_vec()]).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let sink: Arc<dyn Sink> = Arc::new(Heard(tell));
    let run = |place: Option<WatchPlace>| {
        let (stop, stopped) = watch::channel(false);
        let watch = Watch::new(alice.engine.clone(), alice.cx.clone(), sink.clone()).folder(&folder);
        (stop, tokio::spawn(async move { watch.run(place, stopped).await }))
    };
    let (stop, task) = run(Some(WatchPlace { uid_validity: validity(&alice, &folder).await, last_uid: 1 }));
    tokio::time::sleep(Duration::from_millis(300)).await;
    add(&folder, "new").await;
    let (events, place) = tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap();
    assert_eq!((events.len(), &*events[0].event_type), (1, "message_received"));
    assert_eq!(events[0].id.as_deref(), Some(format!("{folder};{};2", place.uid_validity).as_str()));
    let payload: Value = serde_json::from_slice(&events[0].payload).unwrap();
    assert_eq!(payload["message"]["subject"], "new");
    stop.send_replace(true);
    task.await.unwrap().unwrap();
    // What came while nobody watched is told at once.
    add(&folder, "meanwhile").await;
    let (stop, task) = run(Some(place));
    let (events, _) = tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap();
    assert_eq!(events[0].id.as_deref(), Some(format!("{folder};{};3", place.uid_validity).as_str()));
    stop.send_replace(true);
    task.await.unwrap().unwrap();
    alice.get("email_delete_folder", json!({ "name": folder, "with_messages": true })).await;
}

async fn validity(account: &Account, folder: &str) -> u32 {
    u32::try_from(account.get("email_folder_status", json!({ "folder": folder })).await["uidvalidity"].as_u64().unwrap()).unwrap()
}

async fn add(folder: &str, subject: &str) {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", IMAP)).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    tagged(&mut stream, b"a LOGIN alice@example.test secret\r\n").await;
    let message = format!("Subject: {subject}\r\n\r\nx\r\n");
    tagged(&mut stream, format!("a APPEND {folder} {{{}+}}\r\n{message}\r\n", message.len()).as_bytes()).await;
}

#[tokio::test]
async fn tokens_of_the_oauth_server_are_taken_and_others_are_not() {
    let Some(certificate) = up().await else { return };
    let Some(token) = token().await else { return };
    for mechanism in ["xoauth2", "oauthbearer"] {
        let settings = [("address", "alice@example.test"), ("mechanism", mechanism)];
        let account = Account::with(&certificate, &settings, Secret::Token(token.clone()));
        assert!(account.get("email_list_folders", json!({})).await["folders"].as_array().unwrap().len() >= 4);
        account.get("email_verify", json!({})).await;
        let other = Account::with(&certificate, &settings, Secret::Token("not-a-token-canary".into()));
        let error = other.try_get("email_list_folders", json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthExpired, "{mechanism}: {error}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

/// An access token of alice, by the code flow; a script stands in for her at the browser.
async fn token() -> Option<String> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("CONNECTORS_SHARED").map_or(beside, PathBuf::from);
    let robot = root.join("counterparts/oidc_robot.py");
    if !robot.exists() {
        assert!(std::env::var_os("CI").is_none(), "the stand-in for the person at the browser is absent; set CONNECTORS_SHARED");
        eprintln!("skipped: the stand-in for the person at the browser is not here");
        return None;
    }
    let verifier = unique("verifier-of-the-test");
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let redirect = "http%3A%2F%2F127.0.0.1%3A18999%2Fcb";
    let url = format!(
        "http://127.0.0.1:{OIDC}/auth?client_id=app&response_type=code&redirect_uri={redirect}&scope=openid%20offline_access&prompt=consent&state=s&code_challenge={challenge}&code_challenge_method=S256"
    );
    let out =
        tokio::process::Command::new("python3").arg(robot).arg(url).env("LOGIN", "alice@example.test").stdin(Stdio::null()).output().await.unwrap();
    let address = String::from_utf8(out.stdout).unwrap();
    let code = address
        .split(['?', '&'])
        .find_map(|pair| pair.strip_prefix("code="))
        .unwrap_or_else(|| panic!("{address} {:?}", String::from_utf8_lossy(&out.stderr)))
        .trim()
        .to_owned();
    let form = format!("grant_type=authorization_code&code={code}&redirect_uri={redirect}&code_verifier={verifier}");
    let basic = base64::engine::general_purpose::STANDARD.encode("app:app-secret");
    let request = format!(
        "POST /token HTTP/1.0\r\nHost: 127.0.0.1:{OIDC}\r\nAuthorization: Basic {basic}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", OIDC)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()]).unwrap();
    Some(body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {}", body["error"])).to_owned())
}

#[tokio::test]
async fn the_corpus_in_a_real_mailbox_is_listed_and_read_whole() {
    let Some(certificate) = up().await else { return };
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("CONNECTORS_SHARED").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(root.join("mail")) else {
        assert!(std::env::var_os("CI").is_none(), "the corpus of mail is absent; set CONNECTORS_SHARED");
        eprintln!("skipped: the corpus of mail is not here");
        return;
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "eml")).collect();
    paths.sort();
    let messages: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(path).unwrap()).filter(|bytes| !bytes.is_empty() && !bytes.contains(&0)).collect();
    let alice = Account::new("alice@example.test", &certificate);
    let folder = unique("corpus");
    fill("alice@example.test", &folder, &messages).await;
    let listed = alice.get("email_list_messages", json!({ "folder": folder, "limit": 500, "preview": true })).await;
    assert_eq!(listed["messages"].as_array().unwrap().len(), messages.len(), "none is lost in a listing");
    let mut files = 0;
    for message in listed["messages"].as_array().unwrap() {
        let told = alice.get("email_get_message", json!({ "message": message["id"], "html": true })).await;
        assert_eq!(told["id"], message["id"]);
        for file in message["attachments"].as_array().into_iter().flatten() {
            alice.get("email_get_attachment", json!({ "message": message["id"], "part": file["part"] })).await;
            files += 1;
        }
    }
    assert!(files > 20, "{files}");
    alice.get("email_delete_folder", json!({ "name": folder, "with_messages": true })).await;
}
