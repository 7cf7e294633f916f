//! The hub's HTTP server: accepts, caps, times, sheds, and stops in stages.
//!
//! Owns everything between a socket and the routes. One task serves a connection; one sweep a second looks after the times of all of them, so
//! that a request costs no timer. Refuses: heads over 32 KiB or 100 fields (431), framing that two parsers could read differently (400), names
//! the hub does not answer to (403), bodies that do not arrive (408), more than the caps allow (503).
//!
//! Stopping: the moment a stop is asked for `/readyz` says no and answers carry `Connection: close`; `drain_delay` later nothing new is
//! accepted and idle connections are closed; requests in flight get `drain_timeout`.

mod bodies;
mod io;

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, Version, header},
    response::IntoResponse as _,
};
use connector_core::{Error, ErrorKind, Result, error::Retry};
use connector_runtime::HubConfig;
use connector_webhook::ingress::{IngressAnswer, IngressLimits, Outcome};
use hyper::{body::Incoming, service::Service as _};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};
use url::Url;

pub(super) use self::bodies::{Timed, TooSlow};
use self::{
    bodies::Sent,
    io::{Busy, Conn, Io},
};
pub use super::guard_callers::Callers;
use super::{
    App, Phase,
    guard::Framing,
    guard_load::{Class, Load, MOST_INGRESS_BYTES, count_shed},
    ingress,
    problem::Problem,
};

/// Bytes a head may have: 32 KiB.
pub const MOST_HEAD: usize = 32 << 10;
/// Fields a head may have. The library's own limit for HTTP/1 is the same, and it has none for HTTP/2.
pub const MOST_FIELDS: usize = 100;
/// Bytes that are read of a body beyond its cap before the connection is closed: 64 KiB.
pub const MOST_PAST: u64 = 64 << 10;
/// Connections that are accepted above the cap, for probes and for people who decide.
const RESERVE: usize = 64;
/// How long a caller may take to read its last answer and close.
const LINGER: Duration = Duration::from_secs(2);
/// How long the first bytes of a connection that was just accepted may be under way when the hub stops.
const UNDER_WAY: Duration = Duration::from_millis(250);
/// How often the times of connections are looked at, at least.
const SWEEP: Duration = Duration::from_secs(1);
/// File descriptors that are not for callers: the store, vendors, logs.
const OTHER_FILES: u64 = 128;
/// When a caller that was told to come again should.
const COME_AGAIN: u64 = 1;
/// What a caller is told who cannot even be listened to.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How the server treats its callers. The defaults are the contract; tests shorten the times.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Open connections.
    pub connections: usize,
    /// Requests being worked on.
    pub requests: usize,
    /// Webhook deliveries being worked on.
    pub ingress: usize,
    /// Bytes of webhook bodies in memory.
    pub ingress_bytes: usize,
    /// For a head, from its first byte; on a new connection, from accepting it: 10 s.
    pub head: Duration,
    /// Between requests: 75 s, longer than the usual proxy keeps its side open, so that it is the proxy that closes.
    pub idle: Duration,
    /// For a webhook's body, in all: 10 s.
    pub ingress_body: Duration,
    /// For any other body, in all: 30 s.
    pub body: Duration,
    /// For taking some of an answer: 30 s.
    pub write: Duration,
    /// Between being asked to stop and not accepting any more.
    pub drain_delay: Duration,
    /// For requests in flight after that.
    pub drain_timeout: Duration,
    /// Who may call.
    pub callers: Callers,
}

impl Settings {
    /// From the configuration.
    ///
    /// # Errors
    /// As [`Callers::of`].
    pub fn of(config: &HubConfig, public_url: Option<&Url>, env: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static) -> Result<Self> {
        let server = &config.server;
        Ok(Self {
            connections: server.max_connections,
            requests: server.max_requests,
            ingress: server.max_ingress,
            ingress_bytes: MOST_INGRESS_BYTES,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            ingress_body: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            drain_delay: server.drain_delay.0,
            drain_timeout: server.drain_timeout.0,
            callers: Callers::of(config, public_url, env)?,
        })
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because their requests took longer than `drain_timeout`.
    pub cut: usize,
}

/// The server, not yet running.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    app: App,
    routes: TowerToHyperService<Router>,
    settings: Settings,
    load: Load,
    most: usize,
    open: Mutex<HashMap<u64, Arc<Conn>>>,
    count: AtomicUsize,
    next: AtomicU64,
    emptied: Notify,
    gauge: Gauge,
    received: Counter,
    started: Instant,
}

impl Server {
    /// A server for `app` on this socket.
    pub fn new(listener: TcpListener, app: App, settings: Settings) -> Self {
        let most = settings.connections.min(files()).max(1);
        #[allow(clippy::cast_precision_loss, reason = "caps are far below 2^52")]
        gauge!("integration_http_connections_limit").set(most as f64);
        let shared = Shared {
            routes: TowerToHyperService::new(super::router(app.clone())),
            app,
            load: Load::new(settings.requests, settings.ingress, settings.ingress_bytes),
            most,
            settings,
            open: Mutex::new(HashMap::new()),
            count: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            emptied: Notify::new(),
            gauge: gauge!("integration_http_connections"),
            received: counter!("integration_http_received_bytes_total"),
            started: Instant::now(),
        };
        Self { listener, shared: Arc::new(shared) }
    }

    /// Serves until `stop` comes, then drains.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Drained {
        let Self { listener, shared } = self;
        let mut stop = pin!(stop);
        let mut accepting_ends: Option<tokio::time::Instant> = None;
        let sweep = SWEEP.min(shared.settings.head / 4).max(Duration::from_millis(1));
        let mut sweeps = tokio::time::interval(sweep);
        loop {
            let ends = accepting_ends;
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => shared.accept(stream, peer),
                    Err(error) => {
                        // Out of files, mostly; those who wait longest make room.
                        tracing::warn!(%error, "a connection could not be accepted");
                        shared.make_room();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
                () = &mut stop, if ends.is_none() => {
                    shared.app.enter(Phase::Draining);
                    accepting_ends = Some(tokio::time::Instant::now() + shared.settings.drain_delay);
                }
                () = async { tokio::time::sleep_until(ends.unwrap_or_else(tokio::time::Instant::now)).await }, if ends.is_some() => break,
                _ = sweeps.tick() => shared.sweep(),
            }
        }
        shared.accept_the_rest(listener);
        shared.app.enter(Phase::Stopping);
        let finished = async {
            loop {
                let emptied = shared.emptied.notified();
                if shared.count.load(Relaxed) == 0 {
                    return;
                }
                tokio::select! {
                    () = emptied => {}
                    _ = sweeps.tick() => shared.sweep(),
                }
            }
        };
        if tokio::time::timeout(shared.settings.drain_timeout, finished).await.is_ok() {
            return Drained { cut: 0 };
        }
        let left: Vec<Arc<Conn>> = shared.connections().values().cloned().collect();
        tracing::warn!(connections = left.len(), "requests did not finish in time and are cut off");
        left.iter().for_each(|conn| conn.cut());
        Drained { cut: left.len() }
    }
}

/// How many connections the process may have files for. Takes all the files that it is allowed to.
fn files() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // As many as may be; where that is refused, what there is has to do.
        let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok();
        let allowed = if raised { limit.maximum } else { limit.current };
        allowed.map_or(usize::MAX, |allowed| usize::try_from(allowed.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    usize::MAX
}

/// A connection that is served, as long as this is held.
struct Open(Arc<Shared>, Arc<Conn>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections().remove(&self.1.id);
        self.0.gauge.decrement(1.0);
        if self.0.count.fetch_sub(1, Relaxed) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Conn>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let before = self.count.load(Relaxed);
        if before >= self.most {
            self.make_room();
        }
        if before >= self.most + RESERVE {
            count_shed(Class::Read);
            // Nobody waits for it: the few bytes fit the socket's buffer, or the caller is gone.
            if let Err(error) = stream.try_write(TOO_MANY) {
                tracing::debug!(%error, "a caller above the cap was not told so");
            }
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection cannot be made prompt");
        }
        let id = self.next.fetch_add(1, Relaxed);
        let conn = Arc::new(Conn::new(id, &stream, peer, before >= self.most, self.started, self.received.clone()));
        self.count.fetch_add(1, Relaxed);
        self.gauge.increment(1.0);
        self.connections().insert(id, conn.clone());
        let open = Open(self.clone(), conn);
        tokio::spawn(async move { serve(&open.0, &open.1, stream).await });
    }

    /// Accepts whoever is in the socket's queue, and closes it: they are connected already and would be reset. Asks the socket itself, since the
    /// runtime knows of a new connection only after it has looked for events again.
    fn accept_the_rest(self: &Arc<Self>, listener: TcpListener) {
        let listener = match listener.into_std() {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, "callers in the socket's queue may be reset"),
        };
        while let Ok((stream, peer)) = listener.accept() {
            match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                Ok(stream) => self.accept(stream, peer),
                Err(error) => tracing::warn!(%error, "a caller in the socket's queue is reset"),
            }
        }
    }

    /// Cuts off some of those who only wait for their caller, the longest waiting first.
    fn make_room(&self) {
        let mut waiting: Vec<(u64, Arc<Conn>)> =
            self.connections().values().filter_map(|conn| conn.waiting_since().map(|since| (since, conn.clone()))).collect();
        let count = (self.most / 32).clamp(1, 64).min(waiting.len());
        if count == 0 {
            return;
        }
        if count < waiting.len() {
            waiting.select_nth_unstable_by_key(count - 1, |(since, _)| *since);
        }
        counter!("integration_http_evicted_total").increment(count as u64);
        waiting.iter().take(count).for_each(|(_, conn)| conn.cut());
    }

    /// Cuts off those whose time is over.
    fn sweep(&self) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (head, idle, write) = (millis(self.settings.head), millis(self.settings.idle), millis(self.settings.write));
        let now = Instant::now();
        for conn in self.connections().values().filter(|conn| conn.is_overdue(now, head, idle, write)) {
            conn.cut();
        }
    }

    /// Whether a connection above the cap still is one.
    fn is_crowded(&self, conn: &Conn) -> bool {
        conn.reserve && self.count.load(Relaxed) > self.most
    }
}

/// Serves one connection to its end.
async fn serve(shared: &Arc<Shared>, conn: &Arc<Conn>, stream: TcpStream) {
    let mut phase = shared.app.phases();
    let http2 = tokio::select! {
        http2 = speaks_http2(&stream) => http2,
        () = conn.is_cut() => return,
        () = too_late(&mut phase) => return,
    };
    let answered = if http2 { serve_http2(shared, conn, stream, phase).await } else { serve_http1(shared, conn, stream, phase).await };
    // Whoever was cut off is not waited for.
    if answered {
        linger(conn).await;
    }
}

/// Whether the first bytes are those of HTTP/2. Takes none of them.
async fn speaks_http2(stream: &TcpStream) -> bool {
    const BEGIN: &[u8] = b"PRI ";
    let mut first = [0; BEGIN.len()];
    loop {
        match stream.peek(&mut first).await {
            Ok(count) if count > 0 && first[..count] == BEGIN[..count] => {
                if count == BEGIN.len() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // What is wrong with it the reader will find.
            Ok(_) | Err(_) => return false,
        }
    }
}

/// Waits until nothing new is accepted, and for what was under way then.
async fn too_late(phase: &mut watch::Receiver<Phase>) {
    stopping(phase).await;
    tokio::time::sleep(UNDER_WAY).await;
}

/// Waits until nothing new is accepted.
async fn stopping(phase: &mut watch::Receiver<Phase>) {
    // Without a sender there is no server any more.
    if phase.wait_for(|phase| *phase == Phase::Stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}

macro_rules! to_its_end {
    ($conn:expr, $phase:expr, $serving:expr) => {{
        let mut serving = pin!($serving);
        let mut told = false;
        loop {
            tokio::select! {
                // What has arrived is read before the connection is told to end.
                biased;
                done = serving.as_mut() => {
                    if let Err(error) = done {
                        tracing::debug!(%error, peer = %$conn.peer, "a connection ended early");
                    }
                    break true;
                }
                () = stopping(&mut $phase), if !told => {
                    told = true;
                    serving.as_mut().graceful_shutdown();
                }
                () = $conn.is_cut() => break false,
            }
        }
    }};
}

async fn serve_http1(shared: &Arc<Shared>, conn: &Arc<Conn>, stream: TcpStream, mut phase: watch::Receiver<Phase>) -> bool {
    let mut http = hyper::server::conn::http1::Builder::new();
    // Its timer would run for each request; the sweep does the same for all.
    http.header_read_timeout(None).max_buf_size(MOST_HEAD).max_header_size(MOST_HEAD);
    let io = TokioIo::new(Io::new(stream, conn.clone(), Some(Framing::new())));
    let service = hyper::service::service_fn(|request| answer(shared, conn, request));
    to_its_end!(conn, phase, http.serve_connection(io, service).with_upgrades())
}

async fn serve_http2(shared: &Arc<Shared>, conn: &Arc<Conn>, stream: TcpStream, mut phase: watch::Receiver<Phase>) -> bool {
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MOST_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(64)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let io = TokioIo::new(Io::new(stream, conn.clone(), None));
    let (shared, held) = (shared.clone(), conn.clone());
    let service = hyper::service::service_fn(move |request| {
        let (shared, conn) = (shared.clone(), held.clone());
        async move { answer(&shared, &conn, request).await }
    });
    to_its_end!(conn, phase, http.serve_connection(io, service))
}

/// Lets the caller read the last answer. A socket that is closed while something unread is in it resets the connection, and the answer with it.
async fn linger(conn: &Conn) {
    let Some((mut stream, read, may_send)) = conn.take_back() else { return };
    if !may_send || tokio::io::AsyncWriteExt::shutdown(&mut stream).await.is_err() {
        return;
    }
    let past = read.saturating_sub(IngressLimits::default().body as u64).min(MOST_PAST);
    let mut room = usize::try_from(MOST_PAST - past).unwrap_or_default();
    let mut waste = [0; 4096];
    let ended = async {
        while room > 0 {
            let most = room.min(waste.len());
            match stream.read(&mut waste[..most]).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    conn.received.increment(count as u64);
                    room -= count;
                }
            }
        }
        // It sends on and on; what it has not read by the end of this time it never will.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = tokio::time::timeout(LINGER, ended) => {}
        () = conn.is_cut() => {}
    }
}

type Never = std::convert::Infallible;

/// Answers one request.
async fn answer(shared: &Arc<Shared>, conn: &Arc<Conn>, request: Request<Incoming>) -> Result<Response<Sent>, Never> {
    let busy = Busy::new(conn);
    let http1 = request.version() <= Version::HTTP_11;
    let mut response = route(shared, conn, request).await;
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        conn.upgraded.store(true, Relaxed);
    } else if http1 {
        // Both leave something unread of which nobody knows the end.
        let unread = matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
        if unread {
            conn.stop();
        }
        if unread || conn.reserve || shared.app.is_draining() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(response.map(|inner| Sent { inner, _busy: busy }))
}

async fn route(shared: &Arc<Shared>, conn: &Arc<Conn>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if parts.headers.len() > MOST_FIELDS {
        return StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
    }
    let path = parts.uri.path();
    let class = Class::of(&parts.method, path);
    let callers = &shared.settings.callers;
    // Probes are sent to addresses and show nothing.
    if !matches!(path, "/healthz" | "/readyz") {
        let admitted = callers.admit(conn.peer.ip(), conn.local.ip(), &parts.method, &parts.uri, &parts.headers, class == Class::Ingress);
        if let Err(turned) = admitted {
            counter!("integration_http_refused_total", "reason" => turned.name()).increment(1);
            let client = callers.client(conn.peer.ip(), &parts.headers);
            tracing::info!(%client, reason = turned.name(), "a request was turned away");
            return Problem::with_status(Error::new(ErrorKind::Denied, turned.message()), turned.status()).into_response();
        }
    }
    let stopped = class == Class::Stream && shared.app.is_draining();
    let crowded = shared.is_crowded(conn) && !class.always();
    let permit = if stopped || crowded { None } else { shared.load.enter(class, || shared.app.only_reads(path)) };
    let Some(_permit) = permit else {
        count_shed(class);
        return come_again(class);
    };
    if class == Class::Ingress {
        let body = Timed::new(body, shared.settings.ingress_body);
        return ingress::deliver(&shared.app, &parts.method, &parts.uri, &parts.headers, body, Some(&shared.load)).await;
    }
    let body = Body::new(Timed::new(body, shared.settings.body));
    match shared.routes.call(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The answer to a request for which there is no room.
fn come_again(class: Class) -> Response<Body> {
    if class == Class::Ingress {
        return ingress::answer(IngressAnswer { retry_after: Some(COME_AGAIN), ..IngressAnswer::of(Outcome::Overloaded) });
    }
    let error = Error::new(ErrorKind::Overloaded, "the hub is busy").with_retry(Retry::After(Duration::from_secs(COME_AGAIN)));
    Problem::with_status(error, StatusCode::SERVICE_UNAVAILABLE).into_response()
}
