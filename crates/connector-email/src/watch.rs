//! A watch on a mailbox: new messages as events, over IDLE where the server has it and by asking where not.
//!
//! Owns the session it waits on, coming back after a failure, and the place it stands at, which moves only after the [`Sink`] has kept the
//! events. A message that is told twice has the same id twice (folder, UIDVALIDITY, UID). Mail has no webhooks; this is the source of events.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, Result,
    clock::{Rng, ThreadRng},
    webhook::IncomingEvent,
};
use connector_manifest::Engine;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    imap::{command::Command, mailbox::Access, pool::Pool, session::Session},
    mail::{locator::exact, read},
    settings::Settings,
};

/// Messages told at once.
const BATCH: usize = 50;

/// Where the events go.
#[async_trait]
pub trait Sink: Debug + Send + Sync + 'static {
    /// Makes events durable, together with the place after them. `Ok` must not come before the write is certain; a repeat of what is kept
    /// already is `Ok`, too.
    ///
    /// # Errors
    /// Anything: the same events are told again after a while.
    async fn accept(&self, events: Vec<IncomingEvent>, place: WatchPlace) -> Result<()>;

    /// Tells that messages may have been missed, because the folder was rebuilt (another UIDVALIDITY): read it again. The watch goes on with
    /// what comes from now on.
    ///
    /// # Errors
    /// Anything: it is told again after a while.
    async fn rebuilt(&self, place: WatchPlace) -> Result<()>;
}

/// Up to where messages were told. Keep it, and a watch goes on there after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPlace {
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The greatest UID that was told.
    pub last_uid: u32,
}

/// How patient a watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchPolicy {
    /// How long one IDLE lasts before it is renewed: 9 min. Servers end it after 29, routers and some providers sooner.
    pub renew: Duration,
    /// The first wait after a failure: 1 s. It doubles, with up to half of it less by chance.
    pub first_wait: Duration,
    /// The longest wait: 5 min.
    pub longest_wait: Duration,
}

impl Default for WatchPolicy {
    fn default() -> Self {
        Self { renew: Duration::from_secs(9 * 60), first_wait: Duration::from_secs(1), longest_wait: Duration::from_secs(300) }
    }
}

/// A watch on one folder of one connection.
#[derive(Debug)]
pub struct Watch {
    engine: Arc<Engine>,
    pool: Pool,
    cx: CallCx,
    folder: String,
    sink: Arc<dyn Sink>,
    policy: WatchPolicy,
    rng: Arc<dyn Rng>,
}

impl Watch {
    /// A watch on the inbox of the context's connection. `engine` is this connector's ([`crate::engine`]).
    pub fn new(engine: Arc<Engine>, cx: CallCx, sink: Arc<dyn Sink>) -> Self {
        Self { engine, pool: Pool::default(), cx, folder: "INBOX".to_owned(), sink, policy: WatchPolicy::default(), rng: Arc::new(ThreadRng) }
    }

    /// Another folder.
    #[must_use]
    pub fn folder(mut self, name: impl Into<String>) -> Self {
        self.folder = name.into();
        self
    }

    /// Another patience.
    #[must_use]
    pub fn with_policy(mut self, policy: WatchPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Another source of chance.
    #[must_use]
    pub fn with_rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = rng;
        self
    }

    /// Watches until `stop` turns true (or its sender is gone). Without a place, it begins with what comes after now.
    ///
    /// # Errors
    /// What coming back cannot mend: a credential the server refuses, a folder that is not there, a wrong setting.
    pub async fn run(&self, mut place: Option<WatchPlace>, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut failures = 0;
        loop {
            let ended = tokio::select! {
                ended = self.follow(&mut place, &mut failures) => ended,
                () = is_set(&mut stop) => return Ok(()),
            };
            let Err(error) = ended else { continue };
            if !error.kind().is_passing() && error.kind() != ErrorKind::Unknown {
                return Err(error);
            }
            failures += 1;
            let wait = self.wait(failures).max(error.retry_after().unwrap_or_default());
            tracing::warn!(target: "connectors::email", %error, ?wait, "the watch on a mailbox was interrupted; it goes on after a while");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = is_set(&mut stop) => return Ok(()),
            }
        }
    }

    /// One session, until it breaks.
    async fn follow(&self, place: &mut Option<WatchPlace>, failures: &mut u32) -> Result<()> {
        let settings = Settings::of(&self.cx)?;
        let mut session = self.pool.lease(&self.engine, &self.cx, &settings).await?;
        let open = session.open(&self.folder, Access::Read, None).await?;
        let greatest = |session_next: Option<u32>| session_next.map_or(0, |next| next.saturating_sub(1));
        let mut here = match *place {
            Some(known) if known.uid_validity == open.uid_validity => known,
            Some(_) => {
                let fresh = WatchPlace { uid_validity: open.uid_validity, last_uid: greatest(open.uid_next) };
                self.sink.rebuilt(fresh).await.map_err(not_kept)?;
                fresh
            }
            None => WatchPlace { uid_validity: open.uid_validity, last_uid: greatest(open.uid_next) },
        };
        *place = Some(here);
        loop {
            here = self.tell_new(&mut session, here).await?;
            *place = Some(here);
            *failures = 0;
            session.wait_for_news(self.policy.renew).await?;
        }
    }

    /// Tells everything above the place, and moves the place as it is kept.
    async fn tell_new(&self, session: &mut Session, mut here: WatchPlace) -> Result<WatchPlace> {
        loop {
            let Some(from) = here.last_uid.checked_add(1) else { return Ok(here) };
            let mut uids = session.search(Command::new(format!("UID {from}:*"))).await?;
            // `UID n:*` always has the last message, also where its UID is smaller.
            uids.retain(|uid| *uid >= from);
            uids.truncate(BATCH);
            let Some(last) = uids.last().copied() else { return Ok(here) };
            let gmail = if session.is_gmail() { " X-GM-LABELS X-GM-MSGID X-GM-THRID" } else { "" };
            let items = format!("(UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE{gmail} BODY.PEEK[HEADER.FIELDS ({})])", read::FIELDS);
            let mut events: Vec<IncomingEvent> = Vec::with_capacity(uids.len());
            session
                .fetch(&uids, &items, 0, &mut |fetched| {
                    if fetched.header.is_some() {
                        events.push(event(&self.folder, here.uid_validity, &fetched)?);
                    }
                    Ok(())
                })
                .await?;
            let next = WatchPlace { last_uid: last, ..here };
            if !events.is_empty() {
                self.sink.accept(events, next).await.map_err(not_kept)?;
            }
            here = next;
        }
    }

    fn wait(&self, failures: u32) -> Duration {
        let full = self.policy.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.policy.longest_wait);
        full.mul_f64(1.0 - self.rng.unit() / 2.0)
    }
}

/// What could not be kept is told again, whatever the reason was.
fn not_kept(error: Error) -> Error {
    if error.kind().is_passing() { error } else { error.with_kind(ErrorKind::Transient) }
}

fn event(folder: &str, uid_validity: u32, fetched: &crate::imap::fetched::Fetched) -> Result<IncomingEvent> {
    let message = read::summary(folder, uid_validity, fetched);
    let occurred_at = message["received_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(std::time::SystemTime::from);
    let id = exact(folder, uid_validity, fetched.uid);
    let payload = serde_json::to_vec(&serde_json::json!({ "type": "message_received", "message": message }));
    let payload = payload.map_err(|error| Error::internal("an event cannot be written as JSON").with_source(error))?;
    Ok(IncomingEvent {
        id: Some(id),
        event_type: "message_received".into(),
        occurred_at,
        // What comes into one folder is handled in the order in which it came.
        order_key: Some(folder.to_owned()),
        payload: Bytes::from(payload),
    })
}

/// Waits until the flag is set or nobody can set it any more.
async fn is_set(flag: &mut watch::Receiver<bool>) {
    // Either way it is over; the guard that comes with the answer must not be held.
    drop(flag.wait_for(|flag| *flag).await);
}
