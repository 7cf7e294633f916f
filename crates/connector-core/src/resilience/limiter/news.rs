//! Pauses that a vendor asked for, told to the other processes of the fleet.
//!
//! A pause travels as the time that is left of it, so that clocks need not agree. News may be lost: whoever may have missed some asks, and who
//! heard a pause from the vendor itself tells it again. Refuses to undo a pause.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Class, Limiter, Limits, gate::LimitGate, key::GateKey};
use crate::{
    clock::Instant,
    context::CallCx,
    fleet::{MOST_NOTICE, Notice, PubSub},
};

/// Pauses that [`share_pauses`] has not fetched yet. More at once are not worth telling: they come again with the vendor's next answer.
pub(super) const BACKLOG: usize = 256;

/// What [`Notice`]s about pauses are about.
const TOPIC: &str = "pause";
/// How long after news could not be told it is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// The most pauses kept to be told again.
const MOST_KEPT: usize = 1_000;

/// What a vendor's pause holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Paused {
    /// All calls over a scope: tenant, connector and host.
    Scope {
        /// As [`crate::Connection::scope`].
        scope: String,
    },
    /// One quota.
    Quota {
        /// The limit class.
        class: String,
        /// The tenant, where the quota is not shared by all.
        tenant: Option<String>,
        /// The connection, where the quota is its own.
        connection: Option<String>,
        /// The parameter's value, where the quota is its own.
        param: Option<String>,
    },
}

/// A pause a vendor asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseNotice {
    /// The connector.
    pub connector: Arc<str>,
    /// What is paused.
    #[serde(flatten)]
    pub paused: Paused,
    /// How much of it is left, in milliseconds, rounded up.
    #[serde(rename = "ms")]
    pub left_ms: u64,
}

impl Limiter {
    /// Tells the process's other parts; nobody listening is fine.
    pub(super) fn tell(&self, delay: Duration, paused: impl FnOnce() -> Paused) {
        if let Some(home) = &self.home
            && home.told.receiver_count() > 0
        {
            drop(home.told.send(PauseNotice { connector: home.connector.clone(), paused: paused(), left_ms: millis(delay) }));
        }
    }

    pub(super) fn paused_quota(&self, class: &Class, cx: &CallCx, args: &Map<String, Value>) -> Paused {
        let key = Self::key_of(class, cx, args);
        Paused::Quota {
            class: class.name.to_string(),
            tenant: key.tenant.map(|tenant| tenant.to_string()),
            connection: key.connection.map(|connection| connection.to_string()),
            param: key.param.map(Into::into),
        }
    }

    /// Pauses what another process was told to pause.
    fn obey(&self, paused: &Paused, left: Duration) {
        match paused {
            Paused::Scope { scope } => self.pause_scope(&scope.as_str().into(), left),
            Paused::Quota { class, tenant, connection, param } => {
                let Some(class) = self.by_name.get(class.as_str()).map(|at| &self.classes[*at]) else { return };
                let key = GateKey {
                    tenant: tenant.as_deref().map(Into::into),
                    connection: connection.as_deref().map(Into::into),
                    param: param.as_deref().map(Into::into),
                };
                LimitGate::pause(&self.gate_for(class, &key), left);
            }
        }
    }
}

impl Limits {
    /// Hears the pauses that vendors ask this process for, from now on.
    pub fn pauses(&self) -> broadcast::Receiver<PauseNotice> {
        self.told.subscribe()
    }

    /// Pauses what another process was told to pause. Unknown connectors and classes are none of this process's.
    pub fn obey(&self, notice: &PauseNotice) {
        if let Some(limiter) = self.get(&notice.connector) {
            limiter.obey(&notice.paused, Duration::from_millis(notice.left_ms));
        }
    }
}

/// What is said over the fleet's [`PubSub`].
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    /// The process that says it.
    from: u64,
    /// The pause; `None`: tell me yours.
    pause: Option<PauseNotice>,
}

/// Tells the fleet the pauses this process hears of, and obeys those it is told. Runs until it is dropped; start it once per process.
pub async fn share_pauses(limits: Arc<Limits>, news: Arc<dyn PubSub>) {
    let mut teller = Teller { from: fastrand::u64(..), news, own: Vec::new(), unsaid: Vec::new() };
    let (mut own, mut others) = (limits.pauses(), teller.news.subscribe());
    teller.say(None).await;
    loop {
        let again = !teller.unsaid.is_empty();
        tokio::select! {
            told = own.recv() => match told {
                Ok(notice) => teller.heard_from_the_vendor(notice).await,
                Err(RecvError::Lagged(missed)) => tracing::debug!(target: "connectors::limits", missed, "more pauses at once than are told"),
                Err(RecvError::Closed) => return,
            },
            said = others.recv() => match said {
                Ok(Notice::Message { topic, body }) if &*topic == TOPIC => teller.hear(&limits, &body).await,
                Ok(Notice::Message { .. }) => {}
                Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => teller.say(None).await,
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep(AGAIN), if again => teller.say_again().await,
        }
    }
}

struct Teller {
    from: u64,
    news: Arc<dyn PubSub>,
    /// What the vendor asked this process for, and when it ends.
    own: Vec<(PauseNotice, Instant)>,
    /// What could not be said.
    unsaid: Vec<Option<(PauseNotice, Instant)>>,
}

impl Teller {
    async fn heard_from_the_vendor(&mut self, notice: PauseNotice) {
        let now = Instant::now();
        let until = now + Duration::from_millis(notice.left_ms);
        self.own.retain(|(old, end)| *end > now && (old.connector != notice.connector || old.paused != notice.paused || *end > until));
        if self.own.len() < MOST_KEPT {
            self.own.push((notice.clone(), until));
        }
        self.say(Some((notice, until))).await;
    }

    async fn hear(&mut self, limits: &Limits, body: &[u8]) {
        match serde_json::from_slice(body) {
            Ok(Message { from, .. }) if from == self.from => {}
            Ok(Message { pause: Some(notice), .. }) => limits.obey(&notice),
            Ok(Message { pause: None, .. }) => {
                for pause in std::mem::take(&mut self.own) {
                    if pause.1 > Instant::now() {
                        self.own.push(pause.clone());
                        self.say(Some(pause)).await;
                    }
                }
            }
            Err(error) => tracing::debug!(target: "connectors::limits", %error, "news about a pause that cannot be read"),
        }
    }

    /// Says a pause with what is left of it, or asks for those of others.
    async fn say(&mut self, pause: Option<(PauseNotice, Instant)>) {
        let told = pause.clone().map(|(notice, until)| PauseNotice { left_ms: millis(until.saturating_duration_since(Instant::now())), ..notice });
        let body = match serde_json::to_vec(&Message { from: self.from, pause: told }) {
            Ok(body) if body.len() <= MOST_NOTICE => Bytes::from(body),
            // The value of a parameter is longer than any name of a mailbox or channel: not worth telling.
            Ok(_) => return,
            Err(error) => return tracing::warn!(target: "connectors::limits", %error, "a pause cannot be written as JSON"),
        };
        if let Err(error) = self.news.publish(TOPIC, body).await {
            tracing::debug!(target: "connectors::limits", %error, "a pause cannot be told to the fleet now");
            if self.unsaid.len() < MOST_KEPT {
                self.unsaid.push(pause);
            }
        }
    }

    async fn say_again(&mut self) {
        let now = Instant::now();
        for unsaid in std::mem::take(&mut self.unsaid) {
            if unsaid.as_ref().is_none_or(|(_, until)| *until > now) {
                self.say(unsaid).await;
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
