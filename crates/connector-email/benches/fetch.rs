//! Fetch and parse of 1,000 messages from Dovecot: this connector against async-imap with mail-parser alone, in CPU time of this process.
//!
//! `CP=.. cargo bench -p connector-email --bench fetch`. Needs Dovecot of the counterparts on 19993/19143; says so and ends well without it,
//! fails without it in CI. The promise is a ratio of at most 1.2. Peak memory of each way is told as well: it must not grow with the mailbox.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic and must print")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use connector_core::CallCx;
use futures_util::StreamExt as _;
use mail_parser::MessageParser;
use serde_json::json;
use support::{Local, Secret, call, connection_to};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

const IMAP: u16 = 19_143;
const FOLDER: &str = "bench-fetch";
const MESSAGES: usize = 1_000;
const ROUNDS: usize = 5;
const USER: &str = "alice@example.test";

/// CPU time this process has used.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap(), u32::try_from(used.tv_nsec).unwrap())
}

/// The greatest memory this process had at once, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

async fn tagged(stream: &mut BufReader<TcpStream>, command: &[u8]) {
    stream.write_all(command).await.unwrap();
    let mut line = String::new();
    while !line.starts_with("a ") {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0);
    }
}

/// A folder of a thousand messages of 8 KiB.
async fn prepare() {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", IMAP)).await.unwrap());
    tagged(&mut stream, format!("a LOGIN {USER} secret\r\n").as_bytes()).await;
    tagged(&mut stream, format!("a DELETE {FOLDER}\r\n").as_bytes()).await;
    tagged(&mut stream, format!("a CREATE {FOLDER}\r\n").as_bytes()).await;
    let body = "The quick brown fox jumps over the lazy dog, and over it again.\r\n".repeat(120);
    for n in 0..MESSAGES {
        let message = format!(
            "Message-ID: <{n}@bench.example>\r\nReferences: <a@bench.example> <b@bench.example>\r\nFrom: Ann <ann@bench.example>\r\nTo: Bob <bob@bench.example>\r\nSubject: =?utf-8?Q?Nachricht_{n}_=C3=BC?=\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}"
        );
        tagged(&mut stream, format!("a APPEND {FOLDER} {{{}+}}\r\n{message}\r\n", message.len()).as_bytes()).await;
    }
}

/// What the connector does: list with previews, page by page.
async fn ours(engine: &connector_manifest::Engine, cx: &CallCx) -> usize {
    let (mut read, mut before) = (0, None);
    loop {
        let args = json!({ "folder": FOLDER, "limit": 500, "preview": true, "before_uid": before });
        let page = call(engine, cx, "email_list_messages", args).await.unwrap().body.to_value().unwrap();
        read += page["messages"].as_array().unwrap().len();
        before = page["next_before_uid"].as_u64();
        if before.is_none() {
            return read;
        }
    }
}

/// The same by async-imap and mail-parser: fetch the same items, parse header and text, and build the same fields.
async fn raw() -> usize {
    let stream = TcpStream::connect(("127.0.0.1", IMAP)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = async_imap::Client::new(stream);
    client.read_response().await.unwrap();
    let mut session = client.login(USER, "secret").await.map_err(|(error, _)| error).unwrap();
    session.examine(FOLDER).await.unwrap();
    let mut uids: Vec<u32> = session.uid_search("ALL").await.unwrap().into_iter().collect();
    uids.sort_unstable();
    let mut read = 0;
    for batch in uids.chunks(500) {
        let set = format!("{}:{}", batch[0], batch[batch.len() - 1]);
        let items = "(UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE BODY.PEEK[HEADER] BODY.PEEK[]<0.65536>)";
        let mut fetched = session.uid_fetch(set, items).await.unwrap();
        while let Some(message) = fetched.next().await {
            let message = message.unwrap();
            let header = MessageParser::default().parse_headers(message.header().unwrap_or_default()).is_some();
            let body = message.body().unwrap_or_default();
            let parsed = MessageParser::default().parse(body);
            let text = parsed.as_ref().and_then(|parsed| parsed.body_text(0)).map_or(0, |text| text.len());
            read += usize::from(header && text > 0);
        }
    }
    session.logout().await.unwrap();
    read
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if TcpStream::connect(("127.0.0.1", IMAP)).await.is_err() {
        assert!(std::env::var_os("CI").is_none(), "Dovecot is not up");
        println!("skipped: Dovecot is not up on {IMAP}");
        return;
    }
    prepare().await;
    // Both ways in the clear on this machine, so that TLS is in neither number.
    let port = IMAP.to_string();
    let settings = [("imap_security", "none"), ("smtp_security", "none"), ("allow_plaintext_loopback", "true"), ("imap_port", port.as_str())];
    let cx = CallCx::new(Arc::new(connection_to("https://127.0.0.1", &settings)));
    let engine = connector_email::engine(Arc::new(Local), Arc::new(Secret::Password(USER, "secret"))).unwrap();
    let (mut own, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        let start = cpu();
        assert_eq!(raw().await, MESSAGES);
        plain.push(cpu().saturating_sub(start));
        let start = cpu();
        assert_eq!(ours(&engine, &cx).await, MESSAGES);
        own.push(cpu().saturating_sub(start));
    }
    // The first round warms up.
    let median = |times: &mut Vec<Duration>| {
        times.remove(0);
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (own, plain) = (median(&mut own), median(&mut plain));
    let ratio = own.as_secs_f64() / plain.as_secs_f64();
    println!(
        "fetch and parse of {MESSAGES} messages: connector {own:?}, async-imap with mail-parser {plain:?}, ratio {ratio:.2}, peak memory {} KiB",
        peak()
    );
}
