//! The fleet's cache behind this process's: what another process fetched need not be fetched again.
//!
//! Owns the form of a kept reply and when one may be believed. Refuses to be needed: whatever goes wrong with the fleet's cache is a miss,
//! counted, and logged once a minute. Refuses to believe a reply that was fetched before something this process knows of: a drop that did not
//! reach the store, or a break during which drops may have been missed.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use connector_core::{
    Cursor, Error, ReplyBody, Result,
    clock::Instant,
    connector::ReplyMeta,
    fleet::{MOST_CACHED, SharedCache},
};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Cache, Kept, Key};
use crate::{canonical, catalogue::Loaded, request::Governed, stats::one};

/// Every kept reply has this tag as well; dropping it drops everything.
const ALL: Key = *b"every reply that the fleet keeps";
/// More tags than this are not told one by one.
const MOST_UNSAID: usize = 10_000;
/// The fingerprints of so many loads of connectors are remembered.
const MOST_PRINTS: usize = 1_024;
/// How often a broken cache is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The fleet's cache.
pub(crate) struct Second {
    shared: Arc<dyn SharedCache>,
    /// What tells two versions of a connector apart, in every process alike, by this process's number of the load.
    prints: DashMap<u64, Key>,
    hits: AtomicU64,
    errors: Arc<Errors>,
}

impl fmt::Debug for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Second").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Failures, counted and logged now and then.
#[derive(Debug, Default)]
struct Errors {
    count: AtomicU64,
    logged: Mutex<Option<Instant>>,
}

impl Errors {
    fn note(&self, error: &Error) {
        one(&self.count);
        metrics::counter!("integration_shared_cache_errors_total").increment(1);
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|last| now.saturating_duration_since(last) >= LOG_EVERY) {
            *logged = Some(now);
            tracing::warn!(%error, failures = self.count.load(Relaxed), "the fleet's cache does not help at the moment; replies are fetched instead");
        }
    }
}

/// What is written before a kept body.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    body: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Cursor>,
    ttl_ms: u64,
    tags: Vec<String>,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<Arc<str>>,
    attempts: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Empty,
    Json,
    Value,
    Raw,
}

impl Second {
    pub(crate) fn new(shared: Arc<dyn SharedCache>) -> Self {
        Self { shared, prints: DashMap::new(), hits: AtomicU64::new(0), errors: Arc::default() }
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.count.load(Relaxed)
    }

    /// The key of a call's reply: the same in every process that has the same connector and connection.
    pub(super) fn key(&self, call: &Governed) -> Option<Key> {
        let connection = &call.linked.as_ref()?.connection;
        let settings: Vec<u8> =
            connection.settings.iter().flat_map(|(key, value)| [key.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat()).collect();
        Some(canonical::digest(&[
            env!("CARGO_PKG_VERSION").as_bytes(),
            &self.print(&call.loaded),
            call.tenant.as_str().as_bytes(),
            connection.id.as_str().as_bytes(),
            connection.base().as_bytes(),
            &settings,
            connection.credential.as_deref().unwrap_or("").as_bytes(),
            call.op.name.as_bytes(),
            call.digest.as_bytes(),
        ]))
    }

    fn print(&self, loaded: &Loaded) -> Key {
        if let Some(print) = self.prints.get(&loaded.generation) {
            return *print;
        }
        let spec = format!("{:?}", loaded.connector.spec());
        let manifest = loaded.manifest.as_ref().map_or_else(String::new, |manifest| format!("{manifest:?}"));
        let print = canonical::digest(&[spec.as_bytes(), manifest.as_bytes()]);
        if self.prints.len() >= MOST_PRINTS {
            self.prints.clear();
        }
        self.prints.insert(loaded.generation, print);
        print
    }

    /// What the fleet keeps under `key`, if this process may believe it. If not: the stamp under which a reply fetched now may be kept.
    /// `since`: the count of invalidations before this was asked.
    pub(super) async fn look(&self, cache: &Cache, key: &Key, since: u64) -> std::result::Result<Kept, Option<u64>> {
        let asked = cache.clock.now();
        // The stamp of a miss, taken at the same time: nothing has been fetched yet, so earlier is only stricter.
        let (found, stamp) = tokio::join!(self.shared.get(key), self.shared.stamp());
        let stamp = stamp.map_err(|error| self.errors.note(&error)).ok();
        let found = found.map_err(|error| self.errors.note(&error)).ok().flatten();
        let Some(found) = found else { return Err(stamp) };
        let Some((mut kept, ttl)) = decode(&found.value, since) else { return Err(stamp) };
        // The age was measured after `asked`, so this is never too late.
        let fetched = asked.checked_sub(found.age);
        let left = ttl.saturating_sub(found.age);
        if left.is_zero() || cache.outlived(fetched, &kept.tags) {
            one(&cache.stale);
            return Err(stamp);
        }
        kept.until = asked + left;
        kept.ttl = left;
        one(&self.hits);
        Ok(kept)
    }

    /// Keeps a reply for the fleet, without making its caller wait.
    pub(super) fn keep(&self, key: Key, kept: &Kept, stamp: u64) {
        let value = match encode(kept) {
            Ok(value) if value.len() <= MOST_CACHED => value,
            Ok(_) => return,
            Err(error) => return self.errors.note(&error),
        };
        let mut tags = kept.tags.to_vec();
        tags.push(ALL);
        let (shared, errors, ttl) = (self.shared.clone(), self.errors.clone(), kept.ttl);
        tokio::spawn(async move {
            if let Err(error) = shared.put(&key, value, &tags, stamp, ttl).await {
                errors.note(&error);
            }
        });
    }

    /// Tells the fleet's cache of dropped tags; `None`: all of them.
    pub(crate) async fn drop_tags(&self, tags: Option<&[Key]>) -> Result<()> {
        let said = self.shared.drop_tags(tags.unwrap_or(&[ALL])).await;
        said.inspect_err(|error| self.errors.note(error))
    }
}

fn encode(kept: &Kept) -> Result<Bytes> {
    let value;
    let (body, content_type, bytes): (Kind, Option<Arc<str>>, &[u8]) = match &kept.body {
        ReplyBody::Empty => (Kind::Empty, None, &[]),
        ReplyBody::Json(bytes) => (Kind::Json, None, bytes),
        ReplyBody::Value(tree) => {
            value = tree.to_string();
            (Kind::Value, None, value.as_bytes())
        }
        ReplyBody::Raw { bytes, content_type } => (Kind::Raw, Some(content_type.clone()), bytes),
    };
    let head = Head {
        body,
        content_type,
        next: kept.next.clone(),
        ttl_ms: u64::try_from(kept.ttl.as_millis()).unwrap_or(u64::MAX),
        tags: kept.tags.iter().map(hex::encode).collect(),
        status: kept.meta.status,
        request_id: kept.meta.request_id.clone(),
        attempts: kept.meta.attempts,
    };
    let mut all = serde_json::to_vec(&head).map_err(|error| Error::internal("a kept reply cannot be written").with_source(error))?;
    all.push(b'\n');
    all.extend_from_slice(bytes);
    Ok(all.into())
}

/// The reply, and how long it lives from when it was fetched. `None`: written by another version of the program.
fn decode(value: &Bytes, since: u64) -> Option<(Kept, Duration)> {
    let at = value.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&value[..at]).ok()?;
    let bytes = value.slice(at + 1..);
    let body = match (head.body, head.content_type) {
        (Kind::Empty, _) => ReplyBody::Empty,
        (Kind::Json, _) => ReplyBody::Json(bytes),
        (Kind::Value, _) => ReplyBody::Value(serde_json::from_slice(&bytes).ok()?),
        (Kind::Raw, Some(content_type)) => ReplyBody::Raw { bytes, content_type },
        (Kind::Raw, None) => return None,
    };
    let tag = |text: &String| <Key>::try_from(hex::decode(text).ok()?).ok();
    let tags = head.tags.iter().map(tag).collect::<Option<Arc<[Key]>>>()?;
    let meta = ReplyMeta { status: head.status, request_id: head.request_id, attempts: head.attempts, ..ReplyMeta::default() };
    let ttl = Duration::from_millis(head.ttl_ms);
    let kept = Kept { body, next: head.next, meta, tags, since, until: Instant::now(), ttl };
    Some((kept, ttl))
}

/// Dropped tags that the rest of the fleet has not been told yet.
#[derive(Debug)]
pub(crate) struct Unsaid {
    /// For the fleet's cache, if there is one.
    store: Option<Mutex<Told>>,
    /// For the caches of the other processes, if they listen.
    news: Option<Mutex<Told>>,
    more: Notify,
}

/// Tags to tell; `None`: so many that everything is dropped instead.
pub(crate) type Told = Option<HashSet<Key>>;

impl Unsaid {
    pub(super) fn new(store: bool, news: bool) -> Self {
        let empty = |wanted: bool| wanted.then(|| Mutex::new(Some(HashSet::new())));
        Self { store: empty(store), news: empty(news), more: Notify::new() }
    }

    fn lists(&self) -> impl Iterator<Item = MutexGuard<'_, Told>> {
        self.store.iter().chain(&self.news).map(|list| list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add(&self, tag: Key) {
        for mut list in self.lists() {
            let full = list.as_mut().is_some_and(|tags| {
                tags.insert(tag);
                tags.len() > MOST_UNSAID
            });
            if full {
                *list = None;
            }
        }
        self.more.notify_one();
    }

    /// Waits until there is something to tell.
    pub(crate) async fn more(&self) {
        self.more.notified().await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lists().all(|list| list.as_ref().is_some_and(HashSet::is_empty))
    }

    /// What to tell the fleet's cache, taken out; nothing if there is nothing.
    pub(crate) fn take_for_store(&self) -> Option<Told> {
        take(self.store.as_ref()?)
    }

    /// What to tell the other processes, taken out; nothing if there is nothing.
    pub(crate) fn take_for_news(&self) -> Option<Told> {
        take(self.news.as_ref()?)
    }

    /// It could not be told to the fleet's cache.
    pub(crate) fn give_back_for_store(&self, told: Told) {
        give_back(self.store.as_ref(), told);
    }

    /// It could not be told to the other processes.
    pub(crate) fn give_back_for_news(&self, told: Told) {
        give_back(self.news.as_ref(), told);
    }
}

fn take(list: &Mutex<Told>) -> Option<Told> {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    if list.as_ref().is_some_and(HashSet::is_empty) {
        return None;
    }
    Some(list.replace(HashSet::new()))
}

fn give_back(list: Option<&Mutex<Told>>, told: Told) {
    let Some(list) = list else { return };
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    *list = match (list.take(), told) {
        (Some(mut new), Some(old)) if new.len() + old.len() <= MOST_UNSAID => {
            new.extend(old);
            Some(new)
        }
        _ => None,
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(body: ReplyBody) -> Kept {
        let meta = ReplyMeta { status: 200, request_id: Some("r1".into()), attempts: 2, ..ReplyMeta::default() };
        let ttl = Duration::from_secs(300);
        Kept { body, next: Some(Cursor::new("page 2")), meta, tags: Arc::from([[7; 32], [8; 32]]), since: 3, until: Instant::now(), ttl }
    }

    #[test]
    fn a_kept_reply_comes_back_as_it_was() {
        let raw = ReplyBody::Raw { bytes: Bytes::from_static(b"\n\xff"), content_type: "message/rfc822".into() };
        for body in [ReplyBody::Empty, ReplyBody::Json("{\"a\":\n1}".into()), ReplyBody::Value(json!({"b": [1, null]})), raw] {
            let (back, ttl) = decode(&encode(&kept(body.clone())).unwrap(), 9).unwrap();
            assert_eq!(format!("{:?}", back.body), format!("{body:?}"));
            assert_eq!((back.next, back.meta, back.since), (kept(ReplyBody::Empty).next, kept(ReplyBody::Empty).meta, 9));
            assert_eq!((&*back.tags, ttl), (&[[7; 32], [8; 32]][..], Duration::from_secs(300)));
        }
        assert!(decode(&Bytes::from_static(b"{\"v\": 2}\n"), 0).is_none() && decode(&Bytes::from_static(b"no head"), 0).is_none());
    }

    #[test]
    fn too_many_tags_to_tell_are_told_as_all() {
        let unsaid = Unsaid::new(true, true);
        assert!(unsaid.is_empty() && unsaid.take_for_news().is_none());
        unsaid.add([1; 32]);
        let told = unsaid.take_for_news().unwrap();
        assert_eq!(told.as_ref().unwrap().len(), 1);
        assert!(!unsaid.is_empty(), "the store has not been told");
        unsaid.give_back_for_news(told);
        for n in 0..=MOST_UNSAID {
            unsaid.add(canonical::digest(&[&n.to_le_bytes()]));
        }
        assert_eq!((unsaid.take_for_news(), unsaid.take_for_store()), (Some(None), Some(None)));
        assert!(unsaid.is_empty());
    }
}
