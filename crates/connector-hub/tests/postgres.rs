//! Several hubs on one PostgreSQL database, as real processes: one first key, each event once, streams that go on at another hub and after a
//! restart, the same dead letters everywhere.
//!
//! Needs a server; without one the test says so and ends, with `CI` set that is a failure.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on should panic")]
#![cfg(unix)]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use base64::Engine as _;
use common::hub::{Hub, stderr, stdout};
use connector_core::{
    ErrorKind, TenantId, WorkspaceId,
    clock::{Clock as _, SystemClock, unix_seconds},
    state::{EventFilter, EventLog as _, JobError, JobQueue as _, NewJob},
};
use connector_state::{PostgresOptions, PostgresState};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_postgres::NoTls;

/// Servers that may be there, besides the one that `CONNECTORS_TEST_POSTGRES` names.
const USUAL: [&str; 2] = ["postgres://root@127.0.0.1:5432/test", "postgres://postgres@127.0.0.1:15432/postgres"];
const SECRET: &str = "fleet-test-signing-secret";

const MANIFEST: &str = r#"
connector: webhook
id: desk
name: The desk
base_url: "https://desk.example.com/api"
webhook:
  verify: { kind: hmac_sha256, header: X-Signature, message: "{timestamp}.{body}", encoding: hex, timestamp: X-Timestamp }
  event_id: .id
  event_type: .type
models:
  Created: { fields: { id: string, type: string, subject: string } }
events:
  ticket.created: { match: { .type: ticket.created }, payload: Created }
tools:
  - { name: desk_get_ticket, doc: One ticket., method: GET, path: "/tickets/{id}", params: [{ name: id, type: int, required: true }] }
"#;

const CONFIG: &str = r#"
state: "postgres://${PGUSER}@${PGPLACE}?sslmode=disable&schema=${PGSCHEMA}&connections=6"
manifests: [desk.yaml]
connections:
  desk: { connector: desk, webhook: { secrets: ["${DESK_SECRET}"] } }
rules:
  - name: tell
    on: desk.ticket.created
    do: [{ push: ticket.created, data: { subject: "{payload.subject}" } }]
"#;

/// A schema of its own on a running server, dropped at the end.
struct Database {
    url: &'static str,
    schema: String,
}

async fn raw(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.connect_timeout(Duration::from_secs(2));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

impl Database {
    async fn find() -> Option<Self> {
        let named: Option<&'static str> = std::env::var("CONNECTORS_TEST_POSTGRES").ok().map(|url| &*url.leak());
        for url in named.map_or_else(|| USUAL.to_vec(), |one| vec![one]) {
            if raw(url).await.is_ok() {
                return Some(Self { url, schema: format!("connectors_hub_{}", std::process::id()) });
            }
        }
        let why = "no PostgreSQL server answers; name one with CONNECTORS_TEST_POSTGRES";
        assert!(std::env::var_os("CI").is_none(), "{why}, and CI is set");
        eprintln!("skipped: {why}");
        None
    }

    async fn state(&self) -> PostgresState {
        PostgresState::connect_with(&SecretString::from(self.url), PostgresOptions::default().schema(&self.schema)).await.unwrap()
    }

    /// User, and host with database.
    fn parts(&self) -> (&str, &str) {
        self.url.strip_prefix("postgres://").unwrap().split_once('@').unwrap()
    }

    async fn drop(self) {
        let client = raw(self.url).await.unwrap();
        client.batch_execute(&format!("SET client_min_messages TO error; DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await.unwrap();
    }
}

/// A serving process, stopped when dropped.
struct Serving {
    child: Child,
    address: String,
    key: Option<String>,
    said: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(hub: &Hub, database: &Database, args: &[&str]) -> std::process::Command {
    let (user, place) = database.parts();
    let mut command = hub.command(args);
    // The hubs of a fleet share the master key.
    command.env(
        "CONNECTORS_MASTER_KEY",
        base64::engine::general_purpose::STANDARD.encode(std::array::from_fn::<u8, 32, _>(|at| u8::try_from(at).unwrap() * 7)),
    );
    command.envs([("PGUSER", user), ("PGPLACE", place), ("PGSCHEMA", &database.schema), ("DESK_SECRET", SECRET)]);
    command
}

/// Starts a hub; its data directory holds only what is its own.
fn spawn(hub: &Hub, database: &Database, data: &str) -> Child {
    let mut command = command(hub, database, &["serve", "--listen", "127.0.0.1:0", "--data-dir", data]);
    command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// Reads until it listens.
fn started(mut child: Child) -> Serving {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut key, mut said) = (None, String::new());
    let address = loop {
        let line = lines.next().unwrap_or_else(|| panic!("the hub ended: {said}")).unwrap();
        said.push_str(&line);
        said.push('\n');
        if let Some(found) = line.trim().strip_prefix("ck_") {
            key = Some(format!("ck_{found}"));
        }
        if let Some(address) = line.strip_prefix("the hub listens on http://") {
            break address.to_owned();
        }
    };
    // Whatever it says later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Serving { child, address, key, said }
}

/// One request; status and body.
async fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(20), socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn deliver(address: &str, id: &str) -> u16 {
    let body = json!({ "id": id, "type": "ticket.created", "subject": format!("about {id}") }).to_string();
    let now = unix_seconds(SystemClock.wall()).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{now}.{body}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let headers = [("content-type", "application/json"), ("x-timestamp", now.as_str()), ("x-signature", signature.as_str())];
    ask(address, "POST", "/api/v1/webhooks/desk/default", &headers, &body).await.0
}

/// A stream at a hub.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    async fn open(address: &str, key: &str, last: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let last = last.map(|last| format!("last-event-id: {last}\r\n")).unwrap_or_default();
        let request = format!("GET /api/v1/stream?topic=ticket.* HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n{last}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self { socket, text: String::new() };
        stream.until(": connected").await;
        stream
    }

    async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(20), self.socket.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("no `{wanted}` in {}", self.text)).unwrap();
            assert!(read > 0, "the stream ended: {}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// The number and the id of the effect of the next `count` messages.
    async fn messages(&mut self, count: usize) -> Vec<(String, Value)> {
        loop {
            let blocks = self.text.split("\n\n").filter(|block| block.contains("event: ticket.created") && block.contains("data: "));
            let found: Vec<(String, Value)> = blocks
                .filter_map(|block| {
                    let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                    Some((line("id: ")?, serde_json::from_str(&line("data: ")?).ok()?))
                })
                .collect();
            if found.len() >= count {
                return found;
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(20), self.socket.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("only {found:?} in {}", self.text)).unwrap();
            assert!(read > 0, "the stream ended: {}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_on_one_database_are_one_hub() {
    let Some(database) = Database::find().await else { return };
    let hub = Hub::new();
    hub.write("hub.yaml", CONFIG);
    hub.write("desk.yaml", MANIFEST);
    // Both start at the same moment on an empty database: one makes the schema, one makes the key.
    let (a, b) = (spawn(&hub, &database, "a"), spawn(&hub, &database, "b"));
    let (a, b) = (started(a), started(b));
    let keys: Vec<&String> = [&a.key, &b.key].into_iter().flatten().collect();
    assert_eq!(keys.len(), 1, "the first key is made once\n{}\n{}", a.said, b.said);
    let key = keys[0].clone();
    let bearer = format!("Bearer {key}");
    let auth = [("authorization", bearer.as_str())];
    let (_, place) = database.parts();
    let shown = format!("state: PostgreSQL at {place}, schema {}", database.schema);
    assert!(a.said.contains(&shown), "{} lacks `{shown}`", a.said);

    // What A takes in, B's stream tells, whoever handled it; each once.
    let mut stream = Stream::open(&b.address, &key, None).await;
    for n in 0..20 {
        let (first, second) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        assert_eq!(deliver(&first.address, &format!("e{n}")).await / 100, 2);
        assert_eq!(deliver(&second.address, &format!("e{n}")).await / 100, 2, "the same again at the other hub");
    }
    let told = stream.messages(20).await;
    let mut seqs: Vec<u64> = told.iter().map(|(seq, _)| seq.parse().unwrap()).collect();
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>(), "in order, without gaps");
    let mut subjects: Vec<String> = told.iter().map(|(_, data)| data["data"]["subject"].as_str().unwrap().to_owned()).collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 20, "each event once");
    let events = database.state().await.events(&TenantId::default(), EventFilter::default()).await.unwrap();
    assert_eq!((events.len(), events.iter().map(|event| event.duplicates).sum::<u64>()), (20, 20));

    // B dies; A goes on; B comes back and its client misses nothing.
    drop(stream);
    drop(b);
    assert_eq!(deliver(&a.address, "while-b-was-away").await / 100, 2);
    let b = started(spawn(&hub, &database, "b"));
    assert_eq!(b.key, None);
    let mut stream = Stream::open(&b.address, &key, Some("20")).await;
    assert_eq!(deliver(&b.address, "after").await / 100, 2);
    let told = stream.messages(2).await;
    seqs = told.iter().map(|(seq, _)| seq.parse().unwrap()).collect();
    assert_eq!(seqs, [21, 22]);
    assert!(!stream.text.contains("event: gap"), "{}", stream.text);

    // Dead letters are the same everywhere, on every door.
    let job = NewJob {
        tenant: TenantId::default(),
        workspace: WorkspaceId::default(),
        queue: "outbox".into(),
        subject: "desk_get_ticket".into(),
        key: None,
        order_key: None,
        payload: "{}".into(),
        not_before: 0,
        max_attempts: 1,
    };
    let id = database.state().await.bury_new(job, JobError { kind: ErrorKind::Invalid, message: "refused".into() }).await.unwrap();
    for hub in [&a, &b] {
        let (status, body) = ask(&hub.address, "GET", "/api/v1/dlq?queue=outbox", &auth, "").await;
        assert!(status == 200 && body.contains(&format!("\"id\":{id}")), "{status} {body}");
    }
    let listed = command(&hub, &database, &["dlq", "list", "--queue", "outbox", "--json"]).output().unwrap();
    assert!(stdout(&listed).contains("desk_get_ticket"), "{} {}", stdout(&listed), stderr(&listed));
    assert_eq!(ask(&b.address, "POST", &format!("/api/v1/dlq/{id}/discard"), &auth, "").await.0, 200);
    let (_, body) = ask(&a.address, "GET", "/api/v1/dlq?queue=outbox", &auth, "").await;
    assert!(body.ends_with("[]") || body.contains("[]"), "{body}");
    drop((stream, a, b));

    // A database that a newer program changed is left alone, in words.
    let client = raw(database.url).await.unwrap();
    client.batch_execute(&format!("UPDATE {}.connectors_schema SET version = 99", database.schema)).await.unwrap();
    let refused = command(&hub, &database, &["dlq", "list"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("newer"), "{}", stderr(&refused));
    drop(client);
    database.drop().await;
}

#[test]
fn a_state_url_that_will_not_do_is_told_without_its_password() {
    let hub = Hub::new();
    for url in ["postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable", "postgres://u:hunter2@/x?sslmode=no", "mysql://u:hunter2@h/x"] {
        let output = hub.command(&["dlq", "list"]).env("CONNECTORS_STATE_URL", url).output().unwrap();
        assert!(!output.status.success());
        let said = common::hub::said(&output);
        assert!(!said.contains("hunter2") && said.contains("next:"), "{said}");
    }
    hub.write("hub.yaml", "state: \"postgres://u:hunter2@h/x\"\n");
    let output = hub.run(&["dlq", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("plain text") && !common::hub::said(&output).contains("hunter2"), "{}", stderr(&output));
}
