//! The sender: signed events over kept connections, each one answered before the next.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::server::{SECRET, Server};

/// Bytes of an event.
const EVENT: usize = 930;

/// Ids never come again, whoever sends.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What was sent and how it went.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) accepted: u64,
    /// Answered 503.
    pub(crate) later: u64,
    /// Anything else.
    pub(crate) refused: u64,
    pub(crate) took: Duration,
    waits: Vec<Duration>,
}

impl Done {
    /// The wait for an accepted answer that this share of them did not exceed.
    pub(crate) fn p(&self, percent: f64) -> Duration {
        let at = (self.waits.len() as f64 * percent / 100.0).ceil() as usize;
        self.waits.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.later += other.later;
        self.refused += other.refused;
        self.waits.extend(other.waits);
    }
}

/// So many connections, and how often each sends.
pub(crate) struct Load {
    connections: usize,
    /// The time between two events of one connection; none: as soon as the last one is answered.
    every: Option<Duration>,
}

impl Load {
    pub(crate) fn new(connections: usize) -> Self {
        Self { connections, every: None }
    }

    /// Sends so many events in a second, whether the last ones are answered or not: a connection that waits is late and does not make up for it
    /// by being left out.
    pub(crate) fn paced(self, rps: u64) -> Self {
        Self { every: Some(Duration::from_secs_f64(self.connections as f64 / rps as f64)), ..self }
    }

    pub(crate) fn run(&self, server: &Server, time: Duration) -> Done {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let start = Instant::now();
        let end = start + time;
        let mut done = runtime.block_on(async {
            let all = (0..self.connections).map(|at| {
                let first = self.every.map_or(start, |every| start + every.mul_f64(at as f64 / self.connections as f64));
                tokio::spawn(send(server.address, server.path(), first, self.every, end))
            });
            let mut done = Done::default();
            for one in all.collect::<Vec<_>>() {
                done.add(one.await.unwrap());
            }
            done
        });
        done.took = start.elapsed();
        done.waits.sort_unstable();
        done
    }
}

async fn send(address: SocketAddr, path: &'static str, first: Instant, every: Option<Duration>, end: Instant) -> Done {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut done = Done::default();
    let (mut body, mut request, mut answer) = (Vec::with_capacity(EVENT), Vec::with_capacity(2 * EVENT), vec![0; 4096]);
    let mut due = first;
    while due < end && Instant::now() < end {
        if every.is_some() {
            tokio::time::sleep_until(due.into()).await;
        }
        event(&mut body);
        sign(address, path, &body, &mut request);
        // Late is late: an event waits from when it was due.
        let from = every.map_or_else(Instant::now, |_| due);
        stream.write_all(&request).await.unwrap();
        match read(&mut stream, &mut answer).await {
            200..=299 => {
                done.accepted += 1;
                done.waits.push(from.elapsed());
            }
            503 => done.later += 1,
            _ => done.refused += 1,
        }
        due = every.map_or_else(Instant::now, |every| due + every);
    }
    done
}

/// A ticket of about [`EVENT`] bytes with an id of its own.
fn event(body: &mut Vec<u8>) {
    use std::io::Write as _;
    let id = NEXT.fetch_add(1, Relaxed);
    body.clear();
    write!(
        body,
        r#"{{"id":"evt_{}_{id}","type":"ticket.created","created":1795230000,"ticket":{{"id":{id},"subject":"The printer on floor {} is on fire","status":"open","priority":"high","requester":{{"id":{},"name":"Ada Lovelace","email":"ada@example.com"}},"tags":["printer","floor-3","urgent"],"custom":{{"cost_centre":"4711","asset":"PRN-0042"}},"description":""#,
        std::process::id(),
        id % 9,
        id % 1_000
    )
    .unwrap();
    while body.len() < EVENT - 3 {
        body.extend_from_slice(b"smoke ");
    }
    body.extend_from_slice(b"\"}}");
}

fn sign(address: SocketAddr, path: &str, body: &[u8], request: &mut Vec<u8>) {
    use std::io::Write as _;
    #[allow(clippy::disallowed_methods, reason = "the server under load reads the real clock")]
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(at.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let signature = hex::encode(mac.finalize().into_bytes());
    request.clear();
    write!(
        request,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nx-timestamp: {at}\r\nx-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    request.extend_from_slice(body);
}

/// The status of the next answer; its body is read and dropped.
async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> u16 {
    let mut held = 0;
    loop {
        let got = stream.read(&mut buffer[held..]).await.unwrap();
        assert!(got > 0, "the server closed the connection");
        held += got;
        let Some(head) = buffer[..held].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        let length = text
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(|length| length.trim().parse::<usize>().unwrap()));
        if held >= head + 4 + length.unwrap_or(0) {
            return text[9..12].parse().unwrap();
        }
    }
}
