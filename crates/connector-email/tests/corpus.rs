//! Real messages that nobody here wrote: each is read without a panic, none is lost, and what is said of it can be sent as JSON.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in tests a panic is the failure, a skip is said")]

mod support;

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use support::{Script, World};

/// The corpus; `None`, said aloud, where it is not there (never in CI).
fn corpus() -> Option<Vec<(String, Vec<u8>)>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("CONNECTORS_SHARED").map_or(beside, PathBuf::from);
    match std::fs::read_dir(root.join("mail")) {
        Ok(entries) => {
            let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "eml"));
            let mut found: Vec<_> =
                paths.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect();
            found.sort();
            Some(found)
        }
        Err(_) if std::env::var_os("CI").is_some() => panic!("the corpus of mail is absent; set CONNECTORS_SHARED"),
        Err(_) => {
            eprintln!("skipped: the corpus of mail is not here");
            None
        }
    }
}

#[tokio::test]
async fn every_message_of_the_corpus_is_read_and_none_is_lost() {
    let Some(corpus) = corpus() else { return };
    assert!(corpus.len() >= 100, "{}", corpus.len());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let messages: Vec<Vec<u8>> = corpus.iter().map(|(_, bytes)| bytes.clone()).collect();
    tokio::spawn(serve(listener, messages));
    let mut world = World::new([Script::new()], []).await;
    let settings = [("imap_security", "none"), ("smtp_security", "none"), ("allow_plaintext_loopback", "true")];
    world.cx = connector_core::CallCx::new(std::sync::Arc::new(support::connection_to(&format!("https://127.0.0.1:{port}"), &settings)));
    let mut with_text = 0;
    for (at, (name, bytes)) in corpus.iter().enumerate() {
        let id = format!("INBOX;7;{}", at + 1);
        let told = world.output("email_get_message", json!({ "message": id, "html": true })).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(told["id"], id, "{name}");
        with_text += usize::from(told["text"].as_str().is_some_and(|text| !text.trim().is_empty()));
        let raw = world.output("email_get_raw_message", json!({ "message": id })).await.unwrap();
        assert_eq!(STANDARD.decode(raw["base64"].as_str().unwrap()).unwrap(), *bytes, "{name} came back changed");
    }
    assert!(with_text * 10 >= corpus.len() * 8, "only {with_text} of {} messages have a text", corpus.len());
}

/// A server of one mailbox, for one client at a time: just what reading a message asks.
async fn serve(listener: tokio::net::TcpListener, messages: Vec<Vec<u8>>) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    while let Ok((stream, _)) = listener.accept().await {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n").await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap_or_default() > 0 {
            let (tag, rest) = line.trim_end().split_once(' ').unwrap();
            let mut answer = Vec::new();
            if rest.starts_with("EXAMINE") {
                answer.extend_from_slice(b"* OK [UIDVALIDITY 7] x\r\n");
            } else if let Some(rest) = rest.strip_prefix("UID FETCH ") {
                let uid: usize = rest.split(' ').next().unwrap().parse().unwrap();
                let bytes = &messages[uid - 1];
                if rest.contains("BODY.PEEK[]") {
                    answer.extend_from_slice(format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n", bytes.len()).as_bytes());
                    answer.extend_from_slice(bytes);
                    answer.extend_from_slice(b")\r\n");
                } else {
                    answer.extend_from_slice(format!("* {uid} FETCH (UID {uid} FLAGS () RFC822.SIZE {})\r\n", bytes.len()).as_bytes());
                }
            }
            answer.extend_from_slice(format!("{tag} OK done\r\n").as_bytes());
            stream.write_all(&answer).await.unwrap();
            line.clear();
        }
    }
}
