//! Tells the processes of a fleet that there is work: `NOTIFY` on the way out, `LISTEN` on the way in, over one connection that is made
//! again whenever it breaks.
//!
//! Refuses to be relied on: a wake is a hint that saves a poll. Notifications are sent after the commit of the work and by themselves, not
//! in its transaction, because the server lets only one notifying transaction commit at a time.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_postgres::{AsyncMessage, Client};

use super::target::Target;

/// Notifications of one process are at least this far apart; what comes between goes with the next one.
const APART: Duration = Duration::from_millis(5);
/// How long to wait before the first and the last of the attempts to listen again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long making the connection may take.
const CONNECT: Duration = Duration::from_secs(8);
/// So often the connection is tried when nothing else is said over it, so that one that broke in silence is found.
const PROBE: Duration = Duration::from_secs(20);

/// Aborts its task on drop.
#[derive(Debug)]
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Both directions.
#[derive(Debug)]
pub(super) struct Wakes {
    heard: Arc<watch::Sender<u64>>,
    tell: Arc<Notify>,
    _task: Running,
}

impl Wakes {
    /// Starts listening on `channel`.
    pub(super) fn start(target: Target, channel: String) -> Self {
        let heard = Arc::new(watch::Sender::new(0));
        let tell = Arc::new(Notify::new());
        let task = tokio::spawn(listen(target, channel, heard.clone(), tell.clone()));
        Self { heard, tell, _task: Running(task) }
    }

    /// A counter that moves when there may be work.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    /// Work was committed: this process hears it at once, the others soon.
    pub(super) fn tell(&self) {
        bump(&self.heard);
        self.tell.notify_one();
    }
}

fn bump(heard: &watch::Sender<u64>) {
    heard.send_modify(|count| *count = count.wrapping_add(1));
}

async fn listen(target: Target, channel: String, heard: Arc<watch::Sender<u64>>, tell: Arc<Notify>) {
    let mut wait = BACKOFF.0;
    loop {
        match session(&target, &channel, &heard, &tell, &mut wait).await {
            Ok(()) => tracing::debug!(target: "connectors::state", "the wake connection ended"),
            Err(error) => tracing::debug!(target: "connectors::state", %error, "the wake connection failed"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

async fn session(
    target: &Target,
    channel: &str,
    heard: &Arc<watch::Sender<u64>>,
    tell: &Notify,
    wait: &mut Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (client, mut connection) = tokio::time::timeout(CONNECT, target.config.connect(target.tls.clone())).await??;
    let others = heard.clone();
    let (own, mut known) = watch::channel(None);
    let mut driver = Running(tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notification(note)) if Some(note.process_id()) != *known.borrow_and_update() => bump(&others),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(target: "connectors::state", %error, "the wake connection broke");
                    return;
                }
            }
        }
    }));
    // What this process says it has heard already.
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
    own.send_replace(Some(row.try_get::<_, i32>(0)?));
    client.batch_execute(&format!("LISTEN {channel}")).await?;
    *wait = BACKOFF.0;
    // What was said while nobody listened is lost: look once.
    bump(heard);
    loop {
        tokio::select! {
            _ = &mut driver.0 => return Ok(()),
            () = tell.notified() => {
                if let Err(error) = notify(&client, channel).await {
                    // The others shall hear of it over the next connection.
                    tell.notify_one();
                    return Err(error);
                }
                tokio::time::sleep(APART).await;
            }
            () = tokio::time::sleep(PROBE) => { tokio::time::timeout(CONNECT, client.batch_execute("SELECT 1")).await??; }
        }
    }
}

async fn notify(client: &Client, channel: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tokio::time::timeout(CONNECT, client.batch_execute(&format!("NOTIFY {channel}"))).await??;
    Ok(())
}
