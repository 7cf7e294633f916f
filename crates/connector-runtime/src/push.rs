//! Messages to subscribers: a log per tenant, numbered without gaps in the order in which they can be seen.
//!
//! Owns the numbering, over nothing but the four verbs of the state store, so it is the same on every backend and for any number of processes:
//! message n is written only where nothing is, and only once n - 1 is there. A reader that has seen n can therefore never be overtaken by
//! a smaller number. Refuses to deliver: the streams of the hub read from here, woken by a notice and, if that is lost, by the clock.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, TenantId, WorkspaceId,
    clock::{Clock, unix_millis},
    fleet::PubSub,
    state::{Condition, Entry, Namespace, PutOutcome, Store},
};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How long a message is kept if nobody says otherwise: a day.
pub const PUSH_TTL: Duration = Duration::from_secs(86_400);
/// The longest topic, in bytes.
pub const MOST_TOPIC: usize = 200;
/// The longest message, in bytes of JSON.
pub const MOST_PUSH: usize = 64 * 1024;
/// The topic of the notices, on [`PubSub`], that something was appended.
pub const PUSH_NOTICE: &str = "push";

/// The part of the store that holds the messages, by their zero-padded number.
const MESSAGES: &str = "push";
/// The part of the store that holds the number of each id, so that an effect that is repeated is not a second message.
const IDS: &str = "push.ids";
/// The part of the store that holds the mark below which numbers may be used up, and its one key.
const MARK: &str = "push.mark";
const MARK_KEY: &str = "reserved";
/// So many numbers are taken at a time: no number of a message that was forgotten is ever given again, at the price of one more write for each block.
const BLOCK: u64 = 1_024;
/// Entries fetched at a time while looking for the end of the log.
const PAGE: usize = 256;
/// Ids that this process remembers itself.
const RECENT: usize = 256;

/// A message to be told to subscribers.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPush {
    /// What makes it this message: the key of the effect that tells it. The same id again is the same message.
    pub id: String,
    /// What it is about: dotted words (`ticket.created`), at most [`MOST_TOPIC`] bytes.
    pub topic: String,
    /// The workspace whose subscribers hear it.
    pub workspace: WorkspaceId,
    /// The kind of the event it comes from (`contact.creation`).
    pub event_type: String,
    /// The message itself, at most [`MOST_PUSH`] bytes. Never a secret.
    pub data: Value,
}

/// A message in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pushed {
    /// Its number, from 1, growing by one. After a time longer than messages are kept, numbers may be left out.
    #[serde(skip)]
    pub seq: u64,
    /// Unix milliseconds at which it was appended.
    pub at: u64,
    /// What makes it this message.
    pub id: String,
    /// What it is about.
    pub topic: String,
    /// The workspace whose subscribers hear it.
    pub workspace: WorkspaceId,
    /// The kind of the event it comes from.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The message itself.
    pub data: Value,
}

/// The log of messages to subscribers. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct PushLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    pubsub: Arc<dyn PubSub>,
    ttl: Duration,
    tenants: DashMap<TenantId, Arc<Lane>>,
}

/// What this process knows of a tenant's log.
#[derive(Debug, Default)]
struct Lane {
    /// Appends of one process go one after the other; those of several are sorted out by the store.
    append: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last number seen in the store, and when: Unix milliseconds, because a machine that slept has an old picture too.
    head: Option<(u64, u64)>,
    /// No number above it was ever used.
    reserved: u64,
    recent: VecDeque<(String, u64)>,
}

impl Lane {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, seq: u64, now: u64) {
        let mut known = self.known();
        if known.head.is_none_or(|(head, _)| head <= seq) {
            known.head = Some((seq, now));
        }
    }

    fn remember(&self, id: &str, seq: u64) {
        let mut known = self.known();
        if known.recent.len() == RECENT {
            known.recent.pop_front();
        }
        known.recent.push_back((id.to_owned(), seq));
    }
}

/// Where a reader stands that wants to go on after a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing after that number was forgotten.
    Whole,
    /// Messages after that number may be gone, or were never here.
    Gap {
        /// The number of the first message that can still be had, or that the next one will have.
        first: u64,
    },
}

impl PushLog {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, pubsub: Arc<dyn PubSub>, ttl: Duration) -> Self {
        Self(Arc::new(Inner { store, clock, pubsub, ttl, tenants: DashMap::new() }))
    }

    /// Appends a message and tells the fleet that there is one. Returns its number; for an id that is in the log already, the number it has there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a topic that is none or a message that is too long; whatever the state store reports.
    pub async fn append(&self, tenant: &TenantId, push: NewPush) -> Result<u64> {
        check_topic(&push.topic)?;
        let lane = self.lane(tenant);
        let _turn = lane.append.lock().await;
        if let Some((_, seq)) = lane.known().recent.iter().find(|(id, _)| *id == push.id) {
            return Ok(*seq);
        }
        let NewPush { id, topic, workspace, event_type, data } = push;
        let pushed = Pushed { seq: 0, at: self.now(), id, topic, workspace, event_type, data };
        let body: Bytes = serde_json::to_vec(&pushed).map_err(|error| Error::internal("a message cannot be written").with_source(error))?.into();
        if body.len() > MOST_PUSH {
            return Err(Error::invalid(format!("the message is {} bytes long; subscribers are told at most {MOST_PUSH}", body.len())));
        }
        let seq = self.write(tenant, &lane, &pushed.id, body).await?;
        lane.remember(&pushed.id, seq);
        // A notice that is lost costs the streams of other processes up to a second.
        if let Err(error) = self.0.pubsub.publish(PUSH_NOTICE, format!("{} {seq}", tenant.as_str()).into()).await {
            tracing::debug!(%error, "the fleet could not be told of a new message; streams find it by themselves");
        }
        Ok(seq)
    }

    /// The messages after a number, oldest first, at most `limit` (at least 1).
    ///
    /// # Errors
    /// Whatever the state store reports; [`ErrorKind::Internal`] if what is there is no message.
    pub async fn after(&self, tenant: &TenantId, seq: u64, limit: usize) -> Result<Vec<Pushed>> {
        let (limit, mut found, mut from) = (limit.max(1), Vec::new(), key(seq));
        loop {
            let wanted = limit - found.len();
            let rows = self.0.store.scan(Namespace::new(tenant, MESSAGES), "", Some(&from), wanted).await?;
            let ended = rows.len() < wanted;
            for (key, entry) in rows {
                // One whose data key is lost is empty, and is left out: the others must come through.
                if !entry.value.is_empty() {
                    found.push(read(&key, &entry)?);
                }
                from = key;
            }
            if ended || found.len() == limit {
                break;
            }
        }
        if let Some(last) = found.last() {
            self.lane(tenant).saw(last.seq, self.now());
        }
        Ok(found)
    }

    /// The number of the newest message; 0 if there never was one. After a silence longer than messages are kept, it may be a number that
    /// was never used, which the next message comes after.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn head(&self, tenant: &TenantId) -> Result<u64> {
        let lane = self.lane(tenant);
        self.catch_up(tenant, &lane).await
    }

    /// Whether a reader that has everything up to `seq` can go on without having missed something.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn standing(&self, tenant: &TenantId, seq: u64) -> Result<Standing> {
        let head = self.head(tenant).await?;
        if seq == head {
            return Ok(Standing::Whole);
        }
        let oldest = self.0.store.scan(Namespace::new(tenant, MESSAGES), "", None, 1).await?;
        let first = oldest.first().map_or(Ok(head + 1), |(key, _)| number(key))?;
        // A number that was never given comes from another log.
        Ok(if seq.saturating_add(1) >= first && seq < head { Standing::Whole } else { Standing::Gap { first } })
    }

    /// How long messages are kept.
    pub fn ttl(&self) -> Duration {
        self.0.ttl
    }

    fn now(&self) -> u64 {
        unix_millis(self.0.clock.wall())
    }

    /// Whether what was seen then is young enough that nothing written since can be forgotten already.
    fn is_fresh(&self, seen: u64) -> bool {
        self.now().checked_sub(seen).is_some_and(|age| Duration::from_millis(age) < self.0.ttl / 2)
    }

    fn lane(&self, tenant: &TenantId) -> Arc<Lane> {
        if let Some(lane) = self.0.tenants.get(tenant) {
            return lane.clone();
        }
        self.0.tenants.entry(tenant.clone()).or_default().clone()
    }

    /// Writes the message under the first free number, or finds the number its id has already.
    async fn write(&self, tenant: &TenantId, lane: &Lane, id: &str, body: Bytes) -> Result<u64> {
        let (store, ids, messages) = (&self.0.store, Namespace::new(tenant, IDS), Namespace::new(tenant, MESSAGES));
        let (id_key, mut holds) = (id_key(id), Condition::Absent);
        let mut next = self.near_head(tenant, lane).await? + 1;
        loop {
            self.reserve(tenant, lane, next).await?;
            // The id first: whoever comes after a crash looks whether the message is there under that number.
            match store.put(ids, &id_key, next.to_string().into(), holds, Some(self.0.ttl)).await? {
                PutOutcome::Stored(version) => holds = Condition::Is(version),
                PutOutcome::Refused(None) => {
                    holds = Condition::Absent;
                    continue;
                }
                PutOutcome::Refused(Some(claim)) => {
                    let claimed = digits(&claim.value)?;
                    match store.get(messages, &key(claimed)).await? {
                        Some(entry) if read(&key(claimed), &entry).is_ok_and(|there| there.id == id) => {
                            lane.saw(claimed, self.now());
                            return Ok(claimed);
                        }
                        // Claimed and never written: the one who claimed it is gone, or lost the number to another message.
                        _ => {
                            holds = Condition::Is(claim.version);
                            continue;
                        }
                    }
                }
            }
            match store.put(messages, &key(next), body.clone(), Condition::Absent, Some(self.0.ttl)).await? {
                PutOutcome::Stored(_) => {
                    lane.saw(next, self.now());
                    return Ok(next);
                }
                PutOutcome::Refused(there) => {
                    lane.saw(next, self.now());
                    // Another process was asked to tell the same, and was faster.
                    if let Some(entry) = there
                        && read(&key(next), &entry).is_ok_and(|there| there.id == id)
                    {
                        return Ok(next);
                    }
                    next = self.catch_up(tenant, lane).await? + 1;
                }
            }
        }
    }

    /// A number that is in the log and has, as far as this process knows, no successor.
    ///
    /// What is known may be old: then the successor is found to be taken. It must not be so old that the successor was written and forgotten
    /// since, or its number would be given twice; hence half of the time a message is kept.
    async fn near_head(&self, tenant: &TenantId, lane: &Lane) -> Result<u64> {
        let head = lane.known().head;
        match head {
            Some((head, seen)) if self.is_fresh(seen) => Ok(head),
            _ => self.catch_up(tenant, lane).await,
        }
    }

    /// The end of the log, from what is known on.
    async fn catch_up(&self, tenant: &TenantId, lane: &Lane) -> Result<u64> {
        let now = self.now();
        let head = lane.known().head;
        let (mut last, trusted) = match head {
            Some((head, seen)) if self.is_fresh(seen) => (head, true),
            // The last number is at most one block and one below the mark; the scan begins after the one before it.
            _ => (self.reserved(tenant, lane).await?.saturating_sub(BLOCK + 2), false),
        };
        let start = last;
        loop {
            let page = self.0.store.scan(Namespace::new(tenant, MESSAGES), "", Some(&key(last)), PAGE).await?;
            if let Some((key, _)) = page.last() {
                last = number(key)?;
            }
            if page.len() < PAGE {
                break;
            }
        }
        if last == start && !trusted {
            // Everything was forgotten. Somewhere below the mark was the last number; above it there was none.
            last = self.reserved(tenant, lane).await?;
        }
        lane.saw(last, now);
        Ok(lane.known().head.map_or(last, |(head, _)| head))
    }

    /// Makes sure that the mark is at `seq` or above before a message gets that number.
    async fn reserve(&self, tenant: &TenantId, lane: &Lane, seq: u64) -> Result<()> {
        if lane.known().reserved >= seq {
            return Ok(());
        }
        let namespace = Namespace::new(tenant, MARK);
        let mut current = self.0.store.get(namespace, MARK_KEY).await?;
        loop {
            let mark = current.as_ref().map_or(Ok(0), |entry| digits(&entry.value))?;
            if mark >= seq {
                lane.known().reserved = mark;
                return Ok(());
            }
            let condition = current.as_ref().map_or(Condition::Absent, |entry| Condition::Is(entry.version));
            let wanted = seq.saturating_add(BLOCK);
            match self.0.store.put(namespace, MARK_KEY, wanted.to_string().into(), condition, None).await? {
                PutOutcome::Stored(_) => {
                    lane.known().reserved = wanted;
                    return Ok(());
                }
                PutOutcome::Refused(there) => current = there,
            }
        }
    }

    /// The mark as the store has it.
    async fn reserved(&self, tenant: &TenantId, lane: &Lane) -> Result<u64> {
        let entry = self.0.store.get(Namespace::new(tenant, MARK), MARK_KEY).await?;
        let mark = entry.map_or(Ok(0), |entry| digits(&entry.value))?;
        let mut known = lane.known();
        known.reserved = known.reserved.max(mark);
        Ok(known.reserved)
    }
}

/// Which topics somebody wants to hear of: dotted words, where `*` stands for one word and, at the end, for one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern(Vec<String>);

impl TopicPattern {
    /// Reads a pattern (`ticket.*`, `*.created`, `*`).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<String> = text.split('.').map(str::to_owned).collect();
        if text.len() > MOST_TOPIC || !words.iter().all(|one| one == "*" || word(one)) {
            let shown = connector_core::redact::printable(text, 63);
            return Err(Error::invalid(format!(
                "`{shown}` is no topic: dotted words of letters, digits, `_` and `-`, `*` for any word, at most {MOST_TOPIC} bytes"
            )));
        }
        Ok(Self(words))
    }

    /// Whether a topic is meant.
    pub fn matches(&self, topic: &str) -> bool {
        let mut words = topic.split('.');
        let last = self.0.len() - 1;
        for (at, wanted) in self.0.iter().enumerate() {
            match words.next() {
                None => return false,
                Some(_) if wanted == "*" && at == last => return true,
                Some(found) if wanted == "*" || wanted == found => {}
                Some(_) => return false,
            }
        }
        words.next().is_none()
    }
}

/// What a notice about a new message says: whose log, and up to which number.
pub fn read_notice(body: &[u8]) -> Option<(TenantId, u64)> {
    let (tenant, seq) = std::str::from_utf8(body).ok()?.rsplit_once(' ')?;
    Some((TenantId::from(tenant), seq.parse().ok()?))
}

/// Refuses what is no topic.
///
/// # Errors
/// [`ErrorKind::Invalid`].
pub fn check_topic(topic: &str) -> Result<()> {
    if topic.len() <= MOST_TOPIC && topic.split('.').all(word) {
        return Ok(());
    }
    let shown = connector_core::redact::printable(topic, 63);
    Err(Error::new(
        ErrorKind::Invalid,
        format!("`{shown}` is no topic: dotted words of letters, digits, `_` and `-`, at most {MOST_TOPIC} bytes, such as `ticket.created`"),
    ))
}

fn word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The key of a number: as long as the longest, so that the order of keys is the order of numbers.
fn key(seq: u64) -> String {
    format!("{seq:020}")
}

fn id_key(id: &str) -> String {
    hex::encode(Sha256::digest(id))
}

fn number(key: &str) -> Result<u64> {
    key.parse().map_err(|_| Error::internal("the log of messages to subscribers holds a key that is no number"))
}

fn digits(value: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    text.ok_or_else(|| Error::internal("a number of the log of messages to subscribers cannot be read"))
}

fn read(key: &str, entry: &Entry) -> Result<Pushed> {
    let mut pushed: Pushed = serde_json::from_slice(&entry.value)
        .map_err(|error| Error::internal("a message to subscribers cannot be read from the store").with_source(error))?;
    pushed.seq = number(key)?;
    Ok(pushed)
}

#[cfg(test)]
#[path = "push/tests.rs"]
mod tests;
