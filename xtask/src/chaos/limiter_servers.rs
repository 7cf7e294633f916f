//! The servers of the case `limiter`: the vendor that counts, a Redis of its own, and a front as Upstash has one.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use axum::{Router, extract::State, routing::get};
use connector_core::spec::{Approval, Effect, Example, OpSpec, Repeat, TimeoutClass};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::counterparts::shared;

/// The token of the front.
const TOKEN: &str = "chaos-token";

/// A read without anything special, which all callers make.
pub(super) fn operation() -> OpSpec {
    OpSpec {
        name: "vendor_read".into(),
        summary: String::new(),
        effect: Effect::Read,
        approval: Approval::Policy,
        repeat: Repeat::Natural,
        repeat_ttl_seconds: None,
        absent_is_answer: false,
        lookup: None,
        scopes: Vec::new(),
        limit_class: "default".into(),
        timeout_class: TimeoutClass::Read,
        cache: None,
        batch: None,
        page: None,
        inverse: None,
        params: Vec::new(),
        input_schema: json!({}).into(),
        output_schema: json!({}).into(),
        endpoint: "native".into(),
        docs: None,
        example: Example::default().into(),
    }
}

/// When each call came.
type Times = Arc<Mutex<Vec<Instant>>>;

/// The vendor: notes when each call comes.
#[derive(Debug)]
pub(super) struct Counter {
    times: Times,
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn called(State(times): State<Times>) -> &'static str {
    times.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    "{}"
}

impl Counter {
    pub(super) async fn start() -> Result<Self> {
        let times = Times::default();
        let routes = Router::new().route("/call", get(called)).route("/warm", get(|| async { "{}" })).with_state(times.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the counting server ended: {error}");
            }
        });
        Ok(Self { times, url, task })
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// When the calls came, counted from `begun`, in order.
    pub(super) fn times(&self, begun: Instant) -> Vec<Duration> {
        let mut times: Vec<Duration> =
            self.times.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|time| time.saturating_duration_since(begun)).collect();
        times.sort_unstable();
        times
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn listens(port: u16, what: &str) -> Result<()> {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("{what} does not listen");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A Redis server that keeps nothing.
#[derive(Debug)]
pub(super) struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Redis {
    pub(super) async fn start() -> Result<Self> {
        let mut server = Self { folder: tempfile::tempdir()?, port: free_port()?, child: None };
        server.up().await?;
        Ok(server)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(super) async fn up(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(self.folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        self.child = Some(child.context("`redis-server` cannot be started; install the package redis-server")?);
        listens(self.port, "redis-server").await
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        self.child.take().context("the Redis server is not running")?.kill().await.context("killing the Redis server")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.as_ref().and_then(Child::id).context("the Redis server is not running")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process id")?;
        kill_process(pid, signal).context("sending the Redis server a signal")
    }

    pub(super) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }
}

/// The REST front of the counterparts.
#[derive(Debug)]
pub(super) struct Upstash {
    port: u16,
    _child: Child,
}

impl Upstash {
    pub(super) async fn start(redis: u16) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new("python3");
        command.arg(shared()?.join("counterparts/upstash_rest.py")).args([&port.to_string(), &redis.to_string(), TOKEN]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let child = child.context("`python3` cannot be started")?;
        listens(port, "the REST front").await?;
        Ok(Self { port, _child: child })
    }

    pub(super) fn url_and_token(&self) -> (String, String) {
        (format!("http://127.0.0.1:{}", self.port), TOKEN.to_owned())
    }
}
