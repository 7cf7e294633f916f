//! One connection: its socket as the HTTP library sees it, and what the server knows about it.
//!
//! Owns the counting of bytes and of time. A socket outlives the library's use of it, so that the server can let the caller read a last answer
//! before it closes.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use metrics::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

use super::super::guard::Framing;

/// What is known about a connection. Times are milliseconds since the server started, 0 for "not now".
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    /// The address of ours that it came to.
    pub(super) local: SocketAddr,
    /// Whether it was accepted above the cap.
    pub(super) reserve: bool,
    started: Instant,
    /// Since when a head is being sent.
    head_since: AtomicU64,
    /// Since when nothing is asked.
    idle_since: AtomicU64,
    /// Since when the caller takes nothing of an answer.
    blocked_since: AtomicU64,
    /// Requests that are not completely answered.
    busy: AtomicU32,
    /// Bytes of the message that is being read.
    message: AtomicU64,
    /// It speaks something else than HTTP by now.
    pub(super) upgraded: AtomicBool,
    /// Nothing more is read.
    stopped: AtomicBool,
    /// The caller will send nothing more.
    ended: AtomicBool,
    /// It is being cut off.
    going: AtomicBool,
    cut: Notify,
    back: Mutex<Option<TcpStream>>,
    /// Counts the bytes that are read, those that are thrown away included.
    pub(super) received: Counter,
}

impl Conn {
    pub(super) fn new(id: u64, stream: &TcpStream, peer: SocketAddr, reserve: bool, started: Instant, received: Counter) -> Self {
        let conn = Self {
            id,
            peer,
            local: stream.local_addr().unwrap_or(peer),
            reserve,
            started,
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            busy: AtomicU32::new(0),
            message: AtomicU64::new(0),
            upgraded: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            going: AtomicBool::new(false),
            cut: Notify::new(),
            back: Mutex::new(None),
            received,
        };
        // A caller that connects and says nothing is one that sends its head slowly.
        conn.head_since.store(conn.now(), Relaxed);
        conn
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Reads nothing more: what is still sent is not wanted.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Cuts it off.
    pub(super) fn cut(&self) {
        self.going.store(true, Relaxed);
        self.cut.notify_one();
    }

    /// Waits until it is cut off.
    pub(super) async fn is_cut(&self) {
        self.cut.notified().await;
    }

    /// Whether something is being asked or answered.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) > 0 || self.upgraded.load(Relaxed)
    }

    /// Since when it only waits for its caller, in milliseconds since the start; `None` while it is busy, or on its way out already.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let head = self.head_since.load(Relaxed);
        (!self.is_busy() && !self.going.load(Relaxed)).then(|| if head > 0 { head } else { self.idle_since.load(Relaxed) })
    }

    /// Whether one of its times is over: for a head, without a request, for taking an answer.
    pub(super) fn is_overdue(&self, now: Instant, head: u64, idle: u64, write: u64) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let over = |since: u64, most: u64| since > 0 && now.saturating_sub(since) > most;
        if self.upgraded.load(Relaxed) {
            return false;
        }
        let begun = self.head_since.load(Relaxed);
        over(self.blocked_since.load(Relaxed), write)
            || over(begun, head)
            || (begun == 0 && self.busy.load(Relaxed) == 0 && over(self.idle_since.load(Relaxed), idle))
    }

    /// The socket, once the library let go of it; with how much of the present message was read, and whether the caller may send more.
    pub(super) fn take_back(&self) -> Option<(TcpStream, u64, bool)> {
        let stream = self.back.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((stream, self.message.load(Relaxed), !self.ended.load(Relaxed)))
    }
}

/// A request that is not completely answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Conn>);

impl Busy {
    pub(super) fn new(conn: &Arc<Conn>) -> Self {
        conn.busy.fetch_add(1, Relaxed);
        Self(conn.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Relaxed);
            if !self.0.stopped.load(Relaxed) {
                self.0.message.store(0, Relaxed);
            }
        }
    }
}

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Io {
    stream: Option<TcpStream>,
    conn: Arc<Conn>,
    framing: Option<Framing>,
    in_head: bool,
}

impl Io {
    /// `framing` for HTTP/1.
    pub(super) fn new(stream: TcpStream, conn: Arc<Conn>, framing: Option<Framing>) -> Self {
        // The first bytes are there already: either a head was begun, or it is a protocol with frames.
        if framing.is_none() {
            conn.head_since.store(0, Relaxed);
            conn.idle_since.store(conn.now(), Relaxed);
        }
        Self { stream: Some(stream), conn, in_head: framing.is_some(), framing }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    fn followed(&mut self, bytes: &mut [u8]) {
        self.conn.message.fetch_add(bytes.len() as u64, Relaxed);
        self.conn.received.increment(bytes.len() as u64);
        let Some(framing) = self.framing.as_mut().filter(|_| !self.conn.upgraded.load(Relaxed)) else { return };
        framing.follow(bytes);
        if framing.is_refused() {
            metrics::counter!("integration_http_refused_total", "reason" => "framing").increment(1);
            self.conn.stop();
        }
        let in_head = framing.in_head();
        if in_head != self.in_head {
            self.in_head = in_head;
            self.conn.head_since.store(if in_head { self.conn.now() } else { 0 }, Relaxed);
            if !in_head && self.conn.busy.load(Relaxed) == 0 {
                self.conn.idle_since.store(self.conn.now(), Relaxed);
            }
        }
    }

    /// Keeps when writing began to wait.
    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        let blocked = self.conn.blocked_since.load(Relaxed);
        match (&result, blocked) {
            (Poll::Pending, 0) => self.conn.blocked_since.store(self.conn.now(), Relaxed),
            (Poll::Ready(_), 1..) => self.conn.blocked_since.store(0, Relaxed),
            _ => {}
        }
        result
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        *self.conn.back.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.conn.stopped.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.stream()?.poll_read(cx, buf))?;
        let new = &mut buf.filled_mut()[before..];
        if new.is_empty() {
            self.conn.ended.store(true, Relaxed);
        } else {
            self.followed(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.stream()?.poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = self.stream()?.poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
