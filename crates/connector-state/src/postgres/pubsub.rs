//! News between the processes of a fleet over `NOTIFY` and `LISTEN`, over one connection that is made again whenever it breaks.
//!
//! Refuses to keep anything: what is said while a process is not connected is lost to it, and it is told so ([`Notice::Missed`]).

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use connector_core::{
    error::{Error, ErrorKind, Result},
    fleet::{LocalPubSub, MOST_NOTICE, Notice, PubSub},
};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_postgres::{AsyncMessage, Client};

use super::target::Target;

/// How long to wait before the first and the last of the attempts to listen again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long making the connection or saying one thing may take.
const CONNECT: Duration = Duration::from_secs(8);
/// How long whoever has something to say waits for it to be said.
const TELL: Duration = Duration::from_secs(2);
/// So often the connection is tried when nothing else is said over it, so that one that broke in silence is found.
const PROBE: Duration = Duration::from_secs(20);
/// The longest topic, in bytes; with a body of 4,000 in base64 it stays below the server's 8,000.
const MOST_TOPIC: usize = 200;
/// What may wait to be said.
const QUEUE: usize = 256;

/// Aborts its task on drop.
#[derive(Debug)]
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Something to say, and where to tell that it is said.
type Saying = (String, oneshot::Sender<Result<()>>);

/// Where news go, and the connection for them once somebody asks for it.
pub(super) struct News {
    target: Target,
    channel: String,
    started: OnceLock<Arc<PostgresPubSub>>,
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl News {
    pub(super) fn on(target: Target, channel: String) -> Self {
        Self { target, channel, started: OnceLock::new() }
    }

    pub(super) fn started(&self) -> Arc<PostgresPubSub> {
        self.started.get_or_init(|| Arc::new(PostgresPubSub::start(self.target.clone(), self.channel.clone()))).clone()
    }
}

/// A [`PubSub`] over PostgreSQL; see [`super::PostgresState::pubsub`].
#[derive(Debug)]
pub struct PostgresPubSub {
    heard: LocalPubSub,
    say: mpsc::Sender<Saying>,
    _task: Running,
}

impl PostgresPubSub {
    /// Starts listening on `channel`.
    pub(super) fn start(target: Target, channel: String) -> Self {
        let heard = LocalPubSub::default();
        let (say, said) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(target, channel, heard.clone(), said));
        Self { heard, say, _task: Running(task) }
    }
}

fn away() -> Error {
    Error::new(ErrorKind::Transient, "the news cannot be told now: there is no connection to the PostgreSQL server; it is made again by itself")
}

#[async_trait]
impl PubSub for PostgresPubSub {
    async fn publish(&self, topic: &str, body: Bytes) -> Result<()> {
        if body.len() > MOST_NOTICE || topic.len() > MOST_TOPIC || topic.contains(['\n', '\0']) {
            let allowed = format!("news must be at most {MOST_NOTICE} bytes, and its topic one line of at most {MOST_TOPIC}");
            return Err(Error::new(ErrorKind::Invalid, allowed));
        }
        // A payload is text without NUL.
        let body = match std::str::from_utf8(&body) {
            Ok(text) if !text.contains('\0') => format!("u{text}"),
            _ => format!("b{}", STANDARD_NO_PAD.encode(&body)),
        };
        let (done, said) = oneshot::channel();
        self.say.try_send((format!("{topic}\n{body}"), done)).map_err(|_| away())?;
        match tokio::time::timeout(TELL, said).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(away()),
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.heard.subscribe()
    }
}

fn notice(payload: &str) -> Option<Notice> {
    let (topic, body) = payload.split_once('\n')?;
    let body = match body.split_at_checked(1)? {
        ("u", text) => Bytes::copy_from_slice(text.as_bytes()),
        ("b", text) => STANDARD_NO_PAD.decode(text).ok()?.into(),
        _ => return None,
    };
    Some(Notice::Message { topic: topic.into(), body })
}

async fn run(target: Target, channel: String, heard: LocalPubSub, mut said: mpsc::Receiver<Saying>) {
    let mut wait = BACKOFF.0;
    loop {
        let mut session = Box::pin(session(&target, &channel, &heard, &mut said, &mut wait));
        match session.as_mut().await {
            Ok(()) => tracing::debug!(target: "connectors::state", "the connection for news ended"),
            Err(error) => tracing::debug!(target: "connectors::state", %error, "the connection for news failed"),
        }
        drop(session);
        // Whoever has something to say now learns at once that it cannot be said.
        let rest = tokio::time::sleep(wait);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => break,
                saying = said.recv() => match saying {
                    Some((_, done)) => { let _nobody_waits = done.send(Err(away())).is_err(); }
                    None => return,
                },
            }
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

async fn session(
    target: &Target,
    channel: &str,
    heard: &LocalPubSub,
    said: &mut mpsc::Receiver<Saying>,
    wait: &mut Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (client, mut connection) = tokio::time::timeout(CONNECT, target.config.connect(target.tls.clone())).await??;
    let ear = heard.clone();
    let mut driver = Running(tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notification(note)) => match notice(note.payload()) {
                    Some(notice) => ear.hand(notice),
                    None => tracing::debug!(target: "connectors::state", "news of another shape than ours; another program uses this channel"),
                },
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(target: "connectors::state", %error, "the connection for news broke");
                    return;
                }
            }
        }
    }));
    tokio::time::timeout(CONNECT, client.batch_execute(&format!("LISTEN {channel}"))).await??;
    *wait = BACKOFF.0;
    // What was said while nobody listened is lost.
    heard.hand(Notice::Missed);
    loop {
        tokio::select! {
            _ = &mut driver.0 => return Ok(()),
            saying = said.recv() => {
                let Some((payload, done)) = saying else { return Ok(()) };
                let result = notify(&client, channel, &payload).await;
                let broken = result.is_err();
                let _nobody_waits = done.send(result.map_err(|error| away().with_source(error))).is_err();
                if broken {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(PROBE) => { tokio::time::timeout(CONNECT, client.batch_execute("SELECT 1")).await??; }
        }
    }
}

async fn notify(client: &Client, channel: &str, payload: &str) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tokio::time::timeout(CONNECT, client.execute("SELECT pg_notify($1, $2)", &[&channel, &payload])).await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_keep_their_shape() {
        let told = |topic: &str, body: &'static [u8]| Some(Notice::Message { topic: topic.into(), body: Bytes::from_static(body) });
        assert_eq!((notice("cache\nu{\"a\": 1}\nb"), notice("push\nb/wA")), (told("cache", b"{\"a\": 1}\nb"), told("push", b"\xff\x00")));
        assert_eq!((notice("no line"), notice("a\n"), notice("a\nx"), notice("a\nb*")), (None, None, None, None));
    }
}
