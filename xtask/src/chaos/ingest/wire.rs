//! HTTP/1.1 by hand, as far as the cases need it: a client that knows exactly how a connection ended, and a server that can hang up after it
//! did the work. A library would hide both.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The longest head that is read.
const MAX_HEAD: usize = 64 << 10;
/// The longest body that is read.
const MAX_BODY: usize = 8 << 20;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    /// The server says that this connection takes no more.
    pub(crate) close: bool,
    pub(crate) body: Vec<u8>,
    /// From the first byte sent to the last byte read.
    pub(crate) took: Duration,
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// How a request ended without an answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody listens there: nothing was sent.
    Refused(io::Error),
    /// The connection broke. `idle`: one that was kept open had been closed before anything of the answer came, which HTTP allows a server to do.
    Broken { error: io::Error, idle: bool },
    /// No answer in time.
    Silent,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {}", error.kind()),
            Self::Broken { error, idle: false } => write!(f, "broken: {}", error.kind()),
            Self::Broken { error, idle: true } => write!(f, "closed while idle: {}", error.kind()),
            Self::Silent => f.write_str("no answer in time"),
        }
    }
}

/// A client's connection, made when it is needed and kept as long as the server keeps it.
#[derive(Debug)]
pub(crate) struct Wire {
    addr: SocketAddr,
    open: Option<TcpStream>,
}

impl Wire {
    /// A connection to there, not made yet.
    pub(crate) fn to(addr: SocketAddr) -> Self {
        Self { addr, open: None }
    }

    /// Goes elsewhere from now on.
    pub(crate) fn turn_to(&mut self, addr: SocketAddr) {
        if addr != self.addr {
            self.addr = addr;
            self.open = None;
        }
    }

    /// Sends one request, as bytes, and reads the answer.
    pub(crate) async fn send(&mut self, request: &[u8], patience: Duration) -> Result<Reply, Fault> {
        let reused = self.open.is_some();
        let result = match tokio::time::timeout(patience, self.exchange(request, reused)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Silent),
        };
        if !matches!(&result, Ok(reply) if !reply.close) {
            self.open = None;
        }
        result
    }

    async fn exchange(&mut self, request: &[u8], reused: bool) -> Result<Reply, Fault> {
        let stream = match &mut self.open {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.addr).await.map_err(Fault::Refused)?;
                // Without it the kernel may hold back the end of a request for 40 ms.
                stream.set_nodelay(true).map_err(Fault::Refused)?;
                none.insert(stream)
            }
        };
        let began = Instant::now();
        let broken = |error: io::Error, heard: usize| Fault::Broken { error, idle: reused && heard == 0 };
        // A server may answer, and hang up, before it has read everything: its answer counts, so a failed write is not the end yet.
        let written = stream.write_all(request).await;
        let mut buffer = Vec::with_capacity(512);
        let head = match read_head(stream, &mut buffer).await {
            Ok(head) => head,
            Err(error) => return Err(broken(written.err().unwrap_or(error), buffer.len())),
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken(io::Error::from(io::ErrorKind::InvalidData), buffer.len()))?;
        let length = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = read_body(stream, &mut buffer, head, length).await.map_err(|error| broken(error, head))?;
        let close = written.is_err() || header(&text, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let retry_after = header(&text, "retry-after").and_then(|seconds| seconds.parse().ok());
        Ok(Reply { status, retry_after, close, body, took: began.elapsed() })
    }
}

/// One request over a connection of its own.
pub(crate) async fn once(addr: SocketAddr, request: &[u8], patience: Duration) -> Result<Reply, Fault> {
    Wire::to(addr).send(request, patience).await
}

/// A GET, as bytes.
pub(crate) fn get(addr: SocketAddr, path: &str, key: Option<&str>) -> Vec<u8> {
    let key = key.map_or_else(String::new, |key| format!("Authorization: Bearer {key}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n{key}\r\n").into_bytes()
}

/// The value of a header, by its lower-case name.
pub(crate) fn header<'t>(head: &'t str, name: &str) -> Option<&'t str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Reads until the end of a head; gives where it ends.
pub(crate) async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut seen = 0_usize;
    loop {
        let from = seen.saturating_sub(3).min(buffer.len());
        if let Some(at) = buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(from + at + 4);
        }
        seen = buffer.len();
        if seen > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads a body of this length that begins at `head`; what follows stays in the buffer.
pub(crate) async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, head: usize, length: usize) -> io::Result<Vec<u8>> {
    if length > MAX_BODY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let rest = buffer.split_off(head + length);
    let body = buffer.split_off(head);
    *buffer = rest;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static [u8], keep: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = Vec::new();
            while read_head(&mut stream, &mut buffer).await.is_ok() {
                buffer.clear();
                stream.write_all(answer).await.unwrap();
                if !keep {
                    return;
                }
            }
        });
        addr
    }

    #[tokio::test]
    async fn an_answer_is_read_with_what_it_says_about_later() {
        let addr = answering(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", true).await;
        let reply = once(addr, &get(addr, "/", None), Duration::from_secs(5)).await.unwrap();
        assert_eq!((reply.status, reply.retry_after, reply.close, &reply.body[..], reply.is_success()), (503, Some(5), true, &b"no"[..], false));
    }

    #[tokio::test]
    async fn how_a_connection_ended_is_told() {
        let addr = answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", false).await;
        let mut wire = Wire::to(addr);
        assert_eq!(wire.send(&get(addr, "/", None), Duration::from_secs(5)).await.unwrap().status, 202);
        let fault = wire.send(&get(addr, "/", None), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(fault, Fault::Broken { idle: true, .. }), "{fault}");
        let addr = answering(b"", false).await;
        let fault = once(addr, &get(addr, "/", None), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(fault, Fault::Broken { idle: false, .. }), "{fault}");
        let fault = once(addr, &get(addr, "/", None), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(fault, Fault::Refused(_)), "{fault}");
    }
}
