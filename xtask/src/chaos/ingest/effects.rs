//! The outside world that rules write to: a server that does a thing once per idempotency key, keeps a ledger on disk, and misbehaves when told.
//!
//! Its ledger is the truth about what was done. Refuses writes without a key: nobody could tell whether they were doubled.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    journal::Journal,
    wire::{header, read_body, read_head},
};

/// What it was asked and did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    /// The event of each key.
    keys: HashMap<String, String>,
    /// How many effects each event had: one for each key that it came under.
    events: HashMap<String, u32>,
    /// Requests, also those that were refused.
    pub(crate) requests: u64,
    /// Requests under a key that was done already: answered from memory.
    pub(crate) replays: u64,
    /// Requests that were refused for good.
    pub(crate) refused: u64,
    /// Connections that were cut after the work was done.
    pub(crate) hangups: u64,
    /// Requests that nobody should have sent: without a key, or a known key with another event.
    pub(crate) wrong: Vec<String>,
}

impl Ledger {
    /// How many effects there were in all.
    pub(crate) fn effects(&self) -> usize {
        self.keys.len()
    }

    /// How often an event took effect.
    pub(crate) fn of(&self, event: &str) -> u32 {
        self.events.get(event).copied().unwrap_or(0)
    }

    /// Events that took effect more than once, and how often.
    pub(crate) fn doubled(&self) -> BTreeMap<String, u32> {
        self.events.iter().filter(|(_, count)| **count > 1).map(|(event, count)| (event.clone(), *count)).collect()
    }

    /// The events of this list that did not take effect.
    pub(crate) fn missing<'e>(&self, events: &'e [String]) -> Vec<&'e str> {
        events.iter().filter(|event| self.of(event) == 0).map(String::as_str).collect()
    }
}

#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger>,
    journal: Journal,
    refuse: AtomicBool,
    hang_up: AtomicU32,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running server; ends when dropped.
#[derive(Debug)]
pub(crate) struct Effects {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What becomes of one request.
enum Outcome {
    Answer(u16, Value),
    HangUp,
}

impl Effects {
    /// Starts it on a free port; the ledger goes to `file`.
    pub(crate) async fn start(file: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the effect server")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            ledger: Mutex::default(),
            journal: Journal::create(file)?,
            refuse: AtomicBool::new(false),
            hang_up: AtomicU32::new(0),
        });
        let serving = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                tokio::spawn(async move {
                    // A client that went away ends its connection, nothing else.
                    drop(serve(stream, &shared).await);
                });
            }
        });
        Ok(Self { addr, shared, server })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Refuses everything for good, or does its work again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::SeqCst);
    }

    /// So many of a thousand requests are carried out and not answered.
    pub(crate) fn hang_up(&self, of_a_thousand: u32) {
        self.shared.hang_up.store(of_a_thousand, Ordering::SeqCst);
    }

    /// The ledger as it is now.
    pub(crate) fn ledger(&self) -> Ledger {
        self.shared.ledger().clone()
    }

    /// Looks something up in the ledger without copying it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.shared.ledger())
    }
}

impl Drop for Effects {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let head = read_head(&mut stream, &mut buffer).await?;
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let length = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = read_body(&mut stream, &mut buffer, head, length).await?;
        match act(shared, header(&text, "idempotency-key"), &body).await {
            Outcome::Answer(status, value) => {
                let body = value.to_string();
                let head = format!("HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
            }
            Outcome::HangUp => return Ok(()),
        }
    }
}

async fn act(shared: &Shared, key: Option<&str>, body: &[u8]) -> Outcome {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let event = body.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
    {
        let mut ledger = shared.ledger();
        ledger.requests += 1;
        let (Some(key), false) = (key, event.is_empty()) else {
            ledger.wrong.push(format!("key: {}, event: `{event}`", key.is_some()));
            return Outcome::Answer(400, json!({ "error": "a key and an event are needed" }));
        };
        if shared.refuse.load(Ordering::SeqCst) {
            ledger.refused += 1;
            // It quotes what it was sent, as vendors do: nothing of that may reach a log or a listing as it is.
            let note = body.get("note").and_then(Value::as_str).unwrap_or_default();
            return Outcome::Answer(422, json!({ "error": format!("refused: Bearer {note}") }));
        }
        match ledger.keys.get(key) {
            Some(first) if *first == event => {
                ledger.replays += 1;
                return Outcome::Answer(200, json!({ "event": event }));
            }
            Some(first) => {
                let wrong = format!("the key of `{first}` came again with `{event}`");
                ledger.wrong.push(wrong);
                return Outcome::Answer(409, json!({ "error": "another event under this key" }));
            }
            None => {
                ledger.keys.insert(key.to_owned(), event.clone());
                *ledger.events.entry(event.clone()).or_default() += 1;
            }
        }
    }
    if let Err(error) = shared.journal.append(&event).await {
        shared.ledger().wrong.push(format!("the ledger cannot be written: {error:#}"));
        return Outcome::Answer(500, json!({ "error": "no ledger" }));
    }
    if fastrand::u32(0..1000) < shared.hang_up.load(Ordering::SeqCst) {
        shared.ledger().hangups += 1;
        return Outcome::HangUp;
    }
    Outcome::Answer(201, json!({ "event": event }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::chaos::ingest::wire::{Fault, once};

    fn write(addr: SocketAddr, key: &str, event: &str) -> Vec<u8> {
        let body = json!({ "event": event, "note": "n" }).to_string();
        let head = format!("POST /effects HTTP/1.1\r\nHost: {addr}\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body.as_bytes()].concat()
    }

    #[tokio::test]
    async fn a_key_takes_effect_once_and_a_second_key_shows() {
        let dir = tempfile::tempdir().unwrap();
        let effects = Effects::start(&dir.path().join("ledger")).await.unwrap();
        let ask = async |key: &str, event: &str| once(effects.addr, &write(effects.addr, key, event), Duration::from_secs(5)).await;
        assert_eq!(ask("k1", "e1").await.unwrap().status, 201);
        assert_eq!(ask("k1", "e1").await.unwrap().status, 200);
        assert_eq!(ask("k1", "e2").await.unwrap().status, 409);
        effects.hang_up(1000);
        assert!(matches!(ask("k2", "e2").await, Err(Fault::Broken { .. })));
        assert_eq!(ask("k2", "e2").await.unwrap().status, 200, "it was done");
        effects.hang_up(0);
        assert_eq!(ask("k3", "e1").await.unwrap().status, 201);
        effects.refuse(true);
        assert_eq!(ask("k4", "e4").await.unwrap().status, 422);
        let ledger = effects.ledger();
        assert_eq!((ledger.effects(), ledger.replays, ledger.refused, ledger.hangups, ledger.wrong.len()), (3, 2, 1, 1, 1));
        assert_eq!(ledger.doubled(), [("e1".to_owned(), 2)].into());
        let all = ["e1", "e2", "e4"].map(str::to_owned);
        assert_eq!(ledger.missing(&all), ["e4"]);
        assert_eq!(std::fs::read_to_string(dir.path().join("ledger")).unwrap().lines().count(), 3);
    }
}
