//! Socket Mode: events, slash commands and interactions over a WebSocket that we open, for hubs that no vendor can reach.
//!
//! Owns the connection: opening, following Slack's wish for a new one before the old one ends, coming back after a failure. An envelope is
//! acknowledged only after its [`Sink`] has made it durable; what is not acknowledged Slack sends again, and the event's id tells the repeat.
//! Refuses addresses outside Slack, proxies (none is used), and apps whose Socket Mode is switched off.
//!
//! <https://docs.slack.dev/apis/events-api/using-socket-mode>

mod link;
mod tls;

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result,
    clock::{Rng, ThreadRng},
    webhook::IncomingEvent,
};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{Slack, odd::signature};

/// Where the work of the app goes.
#[async_trait]
pub trait Sink: Debug + Send + Sync + 'static {
    /// Makes the envelope's events durable. `Ok` acknowledges it, so it must not come before the write is certain; Slack gives about three
    /// seconds. A repeat of what is kept already is `Ok`, too.
    ///
    /// # Errors
    /// Anything: the envelope is then not acknowledged, and Slack sends it again.
    async fn accept(&self, envelope: Envelope) -> Result<()>;
}

/// One piece of work from Slack.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Its id, new with every try; for the acknowledgement only.
    pub id: String,
    /// `events_api`, `slash_commands` or `interactive`.
    pub kind: String,
    /// What it holds.
    pub payload: Value,
    /// How often Slack had sent it before.
    pub retry_attempt: u32,
}

impl Envelope {
    /// What is in it, as the webhook would have it: same kinds, same ids, same payloads. Empty for a kind that is not known.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the payload has not the shape of its kind.
    pub fn events(&self) -> Result<Vec<IncomingEvent>> {
        let event = match self.kind.as_str() {
            "events_api" => signature::event_callback(self.payload.clone())?,
            "interactive" => signature::interaction(self.payload.clone())?,
            "slash_commands" => {
                let fields: Option<Map<String, Value>> = self.payload.as_object().cloned();
                signature::slash_command(fields.ok_or_else(|| Error::invalid("the slash command is no object"))?)?
            }
            other => {
                tracing::warn!(target: "connectors::slack", kind = other, "an envelope of an unknown kind was acknowledged and not kept");
                return Ok(Vec::new());
            }
        };
        Ok(vec![event])
    }
}

/// How patient the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketPolicy {
    /// How long opening and the first word of Slack may take: 10 s.
    pub open: Duration,
    /// How long nothing at all may be heard before the connection counts as dead: 60 s. Half of it is when we ask.
    pub silence: Duration,
    /// The first wait after a failure: 1 s. It doubles, with up to half of it less by chance.
    pub first_wait: Duration,
    /// The longest wait: 60 s.
    pub longest_wait: Duration,
}

impl Default for SocketPolicy {
    fn default() -> Self {
        Self {
            open: Duration::from_secs(10),
            silence: Duration::from_secs(60),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// The client of one app.
#[derive(Debug)]
pub struct SocketMode {
    slack: Slack,
    sink: Arc<dyn Sink>,
    policy: SocketPolicy,
    rng: Arc<dyn Rng>,
    tls: tls::Connector,
}

/// What a connection tells while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Slack wants a new connection before this one ends.
    Refresh(u64),
    /// Socket Mode was switched off for the app.
    Disabled,
}

impl SocketMode {
    /// A client over a Slack whose token is the app-level one (`xapp-…`, `connections:write`).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if TLS cannot be set up.
    pub fn new(slack: Slack, sink: Arc<dyn Sink>) -> Result<Self> {
        Ok(Self { slack, sink, policy: SocketPolicy::default(), rng: Arc::new(ThreadRng), tls: tls::Connector::new()? })
    }

    /// Another patience.
    #[must_use]
    pub fn with_policy(mut self, policy: SocketPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Another source of chance.
    #[must_use]
    pub fn with_rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = rng;
        self
    }

    /// Keeps a connection open until `stop` turns true (or its sender is gone).
    ///
    /// # Errors
    /// What coming back cannot mend: a token Slack refuses, an address outside Slack, Socket Mode switched off.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut links: JoinSet<u64> = JoinSet::new();
        let mut current: Option<watch::Sender<bool>> = None;
        let (mut number, mut failures) = (0, 0);
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = is_set(&mut stop) => break,
            };
            match opened {
                Ok(stream) => {
                    failures = 0;
                    number += 1;
                    let (retire, retired) = watch::channel(false);
                    links.spawn(link::serve(number, stream, self.sink.clone(), tell.clone(), retired, self.policy.silence));
                    // The new one works: now the old one may end.
                    if let Some(old) = current.replace(retire) {
                        old.send_replace(true);
                    }
                }
                Err(error) if error.kind().is_passing() => {
                    failures += 1;
                    let wait = error.retry_after().unwrap_or_else(|| self.wait(failures));
                    tracing::warn!(target: "connectors::slack", %error, ?wait, "a Socket Mode connection could not be opened; it is tried again");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => continue,
                        () = is_set(&mut stop) => break,
                    }
                }
                Err(error) => return Err(error),
            }
            // Until the newest connection wants a successor, or ended.
            loop {
                tokio::select! {
                    Some(what) = told.recv() => match what {
                        Told::Refresh(which) if which == number => break,
                        Told::Refresh(_) => {}
                        Told::Disabled => {
                            let message = "Socket Mode is switched off for the app; switch it on in the app's settings, or use a webhook";
                            return Err(Error::config(message));
                        }
                    },
                    Some(ended) = links.join_next() => {
                        if ended.is_ok_and(|which| which == number) {
                            failures += 1;
                            // A connection that ends at once, again and again, must not become a storm.
                            tokio::select! {
                                () = tokio::time::sleep(self.wait(failures)) => break,
                                () = is_set(&mut stop) => break,
                            }
                        }
                    }
                    () = is_set(&mut stop) => break,
                }
            }
            if *stop.borrow() || stop.has_changed().is_err() {
                break;
            }
        }
        // What is being made durable now is finished and acknowledged; then the connection is closed.
        if let Some(retire) = current {
            retire.send_replace(true);
        }
        while links.join_next().await.is_some() {}
        Ok(())
    }

    /// Asks for an address, connects, and hears `hello`.
    async fn open(&self) -> Result<link::Stream> {
        let reply = self.slack.client().call_dynamic("slack_open_socket", Map::new()).await?.body.to_value()?;
        let url = reply["url"].as_str().ok_or_else(|| Error::protocol("Slack names no address for the Socket Mode connection"))?;
        let late = |_| Error::new(ErrorKind::Timeout, "opening the Socket Mode connection took too long");
        tokio::time::timeout(self.policy.open, link::connect(&self.tls, &self.slack.client().cx().connection.base_url, url)).await.map_err(late)?
    }

    fn wait(&self, failures: u32) -> Duration {
        let full = self.policy.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.policy.longest_wait);
        full.mul_f64(1.0 - self.rng.unit() / 2.0)
    }
}

/// Waits until the flag is set or nobody can set it any more.
async fn is_set(flag: &mut watch::Receiver<bool>) {
    // Either way it is over; the guard that comes with the answer must not be held.
    drop(flag.wait_for(|flag| *flag).await);
}
