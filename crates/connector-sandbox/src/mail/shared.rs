//! What the listeners and the handle hold together: the mailboxes, who may log in, what was accepted. It refuses to speak a protocol.

use super::faults::MailFaults;
use super::sasl::Proof;
use super::store::Store;
use crate::clock::WallClock;
use crate::ledger::{EffectKind, Entry, Ledger, lock};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// A message the submission service took responsibility for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its `Message-ID`, with angle brackets; the server gave it one if it had none.
    pub message_id: String,
    /// The envelope's sender.
    pub from: String,
    /// The recipients that were accepted, in order.
    pub recipients: Vec<String>,
    /// The account that submitted it.
    pub account: String,
    /// The message as it came, dots undone.
    pub mime: Vec<u8>,
}

/// How one account is opened.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) password: String,
    pub(crate) tokens: Vec<String>,
}

/// The fixed traits of a server.
#[derive(Clone, Debug)]
pub(crate) struct Traits {
    pub(crate) gmail: bool,
    pub(crate) keeps_sent: bool,
    pub(crate) delimiter: char,
    pub(crate) hidden: Vec<String>,
    pub(crate) message_limit: usize,
    pub(crate) recipient_limit: usize,
    pub(crate) quota_kib: u64,
}

impl Traits {
    /// Whether an extension is offered.
    pub(crate) fn offers(&self, capability: &str) -> bool {
        !self.hidden.iter().any(|hidden| hidden == capability)
    }
}

/// Everything the sessions share.
pub(crate) struct Shared {
    pub(crate) traits: Traits,
    pub(crate) faults: MailFaults,
    pub(crate) ledger: Ledger,
    pub(crate) clock: WallClock,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) store: Mutex<Store>,
    pub(crate) keys: Mutex<HashMap<String, Keys>>,
    pub(crate) accepted: Mutex<Vec<Accepted>>,
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) live: Mutex<HashMap<String, usize>>,
}

impl Shared {
    /// Reads the mailboxes.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&lock(&self.store))
    }

    /// Changes the mailboxes and wakes every session that waits for news.
    pub(crate) fn change<T>(&self, write: impl FnOnce(&mut Store) -> T) -> T {
        let done = write(&mut lock(&self.store));
        self.changed.send_modify(|count| *count += 1);
        done
    }

    /// Writes one effect into the ledger.
    pub(crate) fn record(&self, kind: EffectKind, message_id: &str, parent: Option<String>, detail: Value) {
        self.ledger.record(self.clock.now(), Entry::new("email", kind, message_id).parent(parent).detail(detail));
    }

    /// The account a proof opens.
    pub(crate) fn login(&self, proof: &Proof) -> Option<String> {
        if self.faults.logins_refused() {
            return None;
        }
        let keys = lock(&self.keys);
        match proof {
            Proof::Password(user, password) => {
                let user = user.to_ascii_lowercase();
                (keys.get(&user)?.password == *password).then_some(user)
            }
            Proof::Token(user, token) => {
                let owner = keys.iter().find(|(_, keys)| keys.tokens.iter().any(|known| known == token))?.0;
                (user.is_empty() || owner.eq_ignore_ascii_case(user)).then(|| owner.clone())
            }
        }
    }

    /// Counts a connection under a name, unless there are too many.
    pub(crate) fn enter(self: &Arc<Self>, name: String) -> Option<Place> {
        let mut live = lock(&self.live);
        let count = live.entry(name.clone()).or_default();
        if *count >= self.faults.connections() {
            return None;
        }
        *count += 1;
        Some(Place { shared: self.clone(), name })
    }
}

/// A counted connection; leaves when dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.shared.live).get_mut(&self.name) {
            *count = count.saturating_sub(1);
        }
    }
}
