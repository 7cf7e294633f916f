//! From the log of messages to the subscribers of this process: one reader per tenant, a place in the log per subscriber.
//!
//! Owns the caps on subscribers and what they cost. Refuses to lose: whoever cannot follow the reader goes on from the log, and is told of
//! a gap where the log no longer has what comes next.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use connector_core::{Error, ErrorKind, Result, Retry, TenantId, fleet::Notice};
use connector_runtime::{PUSH_NOTICE, Pushed, Runtime, Standing, TopicPattern, read_notice};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

/// Subscribers of one process.
pub const MOST_SUBSCRIBERS: usize = 1_000;
/// Subscribers with one API key, on one process.
pub const MOST_PER_KEY: usize = 20;
/// When somebody who found no place should ask again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Messages that the reader of a tenant is ahead of its slowest subscriber at most; whoever is further behind reads the log itself.
const AHEAD: usize = 256;
/// Messages fetched from the log at a time.
const PAGE: usize = 64;
/// So often the log is looked at when no notice comes: notices may be lost.
const POLL: Duration = Duration::from_secs(1);

/// A message as it is sent, made once for all subscribers.
#[derive(Debug)]
pub(in crate::http) struct Wire {
    pub(in crate::http) seq: u64,
    pub(in crate::http) topic: String,
    workspace: String,
    /// The message as one line of JSON, its number not included.
    pub(in crate::http) json: String,
}

impl Wire {
    fn of(pushed: Pushed) -> Result<Self> {
        let json = serde_json::to_string(&pushed).map_err(|error| Error::internal("a message cannot be written").with_source(error))?;
        Ok(Self { seq: pushed.seq, workspace: pushed.workspace.as_str().to_owned(), topic: pushed.topic, json })
    }
}

/// What a subscriber is told next.
#[derive(Debug, Clone)]
pub(in crate::http) enum Told {
    /// A message.
    Message(Arc<Wire>),
    /// Messages after the number it had are no longer kept; the next one is `first`.
    Gap { after: u64, first: u64 },
}

/// Which messages a subscriber wants and may have.
#[derive(Debug, Clone)]
pub(in crate::http) struct Wanted {
    /// Any of these topics; all of them if there is none.
    pub(in crate::http) topics: Vec<TopicPattern>,
    /// Any of these workspaces, or `*`.
    pub(in crate::http) workspaces: Vec<String>,
}

impl Wanted {
    fn wants(&self, wire: &Wire) -> bool {
        self.workspaces.iter().any(|workspace| workspace == "*" || *workspace == wire.workspace)
            && (self.topics.is_empty() || self.topics.iter().any(|topic| topic.matches(&wire.topic)))
    }
}

/// All streams of this process.
#[derive(Clone)]
pub(in crate::http) struct Streams(Arc<Inner>);

struct Inner {
    runtime: Runtime,
    feeds: Mutex<HashMap<TenantId, broadcast::Sender<Arc<Wire>>>>,
    places: Arc<Places>,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Places {
    all: AtomicUsize,
    by_key: Mutex<HashMap<String, usize>>,
}

impl Places {
    fn by_key(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        #[allow(clippy::cast_precision_loss, reason = "there are at most a thousand")]
        metrics::gauge!("integration_stream_subscribers").set(self.all.load(Ordering::Relaxed) as f64);
    }
}

/// A subscriber's place; given back when dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    key: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.all.fetch_sub(1, Ordering::Relaxed);
        let mut by_key = self.places.by_key();
        if let Some(count) = by_key.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                by_key.remove(&self.key);
            }
        }
        drop(by_key);
        self.places.tell();
    }
}

impl Streams {
    pub(in crate::http) fn new(runtime: Runtime) -> Self {
        let inner = Inner { runtime, feeds: Mutex::default(), places: Arc::default(), stop: watch::Sender::new(false) };
        Self(Arc::new(inner))
    }

    /// Ends all streams, and lets none begin.
    pub(in crate::http) fn end(&self) {
        self.0.stop.send_replace(true);
    }

    /// Becomes `true` when all streams must end.
    pub(in crate::http) fn ended(&self) -> watch::Receiver<bool> {
        self.0.stop.subscribe()
    }

    /// A subscriber of `tenant` that goes on after number `after`, or with the next message.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] if there is no place; whatever the state store reports.
    pub(in crate::http) async fn subscribe(&self, tenant: &TenantId, key: &str, wanted: Wanted, after: Option<u64>) -> Result<Subscription> {
        if *self.0.stop.borrow() {
            return Err(full("this hub is stopping; ask again, another one answers"));
        }
        let place = self.place(key)?;
        // Before the log is looked at, so that nothing can fall between.
        let live = self.listen(tenant);
        let mut subscription = Subscription {
            runtime: self.0.runtime.clone(),
            tenant: tenant.clone(),
            wanted,
            live,
            position: 0,
            waiting: VecDeque::new(),
            gap: None,
            behind: true,
            _place: place,
        };
        match after {
            Some(after) => subscription.resume(after).await?,
            None => subscription.position = self.0.runtime.push_log().head(tenant).await?,
        }
        Ok(subscription)
    }

    fn place(&self, key: &str) -> Result<Place> {
        let places = &self.0.places;
        let mut by_key = places.by_key();
        let own = by_key.get(key).copied().unwrap_or_default();
        if own >= MOST_PER_KEY {
            return Err(full(&format!("this key has {own} streams open here, as many as one key may have; close some")));
        }
        if places.all.load(Ordering::Relaxed) >= MOST_SUBSCRIBERS {
            return Err(full(&format!("{MOST_SUBSCRIBERS} streams are open here, as many as this hub keeps; ask another one, or later")));
        }
        places.all.fetch_add(1, Ordering::Relaxed);
        by_key.insert(key.to_owned(), own + 1);
        drop(by_key);
        places.tell();
        Ok(Place { places: places.clone(), key: key.to_owned() })
    }

    /// The live end of a tenant's log. Its reader runs as long as somebody listens.
    fn listen(&self, tenant: &TenantId) -> broadcast::Receiver<Arc<Wire>> {
        let mut feeds = self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(tenant) {
            return feed.subscribe();
        }
        let (feed, live) = broadcast::channel(AHEAD);
        feeds.insert(tenant.clone(), feed.clone());
        tokio::spawn(read(self.clone(), tenant.clone(), feed));
        live
    }

    /// Takes a reader off the list if nobody listens to it.
    fn leave(&self, tenant: &TenantId, feed: &broadcast::Sender<Arc<Wire>>) -> bool {
        let mut feeds = self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if feed.receiver_count() > 0 {
            return false;
        }
        feeds.remove(tenant);
        true
    }
}

fn full(message: &str) -> Error {
    Error::new(ErrorKind::Overloaded, message).with_retry(Retry::After(ASK_AGAIN))
}

/// Reads a tenant's log and hands everything new to the subscribers.
async fn read(streams: Streams, tenant: TenantId, feed: broadcast::Sender<Arc<Wire>>) {
    let log = streams.0.runtime.push_log().clone();
    let mut news = streams.0.runtime.pubsub().subscribe();
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut position = None;
    loop {
        if let Err(error) = hand_on(&log, &tenant, &feed, &mut position).await {
            tracing::warn!(%error, tenant = tenant.as_str(), "the messages to subscribers cannot be read; trying again");
        }
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    if streams.leave(&tenant, &feed) {
                        return;
                    }
                    break;
                }
                told = news.recv() => match told {
                    Ok(Notice::Message { topic, body }) if &*topic == PUSH_NOTICE => {
                        let new = |(whose, seq): (TenantId, u64)| whose == tenant && position.is_none_or(|position| seq > position);
                        if read_notice(&body).is_some_and(new) {
                            break;
                        }
                    }
                    Ok(Notice::Message { .. }) => {}
                    Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => break,
                    // Nobody will ever say anything again: the clock remains.
                    Err(RecvError::Closed) => {
                        poll.tick().await;
                        if streams.leave(&tenant, &feed) {
                            return;
                        }
                        break;
                    }
                }
            }
        }
    }
}

async fn hand_on(log: &connector_runtime::PushLog, tenant: &TenantId, feed: &broadcast::Sender<Arc<Wire>>, position: &mut Option<u64>) -> Result<()> {
    // The newest message comes once more: whoever looked at the log just before it was there and listens by now would wait for the next.
    let mut from = match *position {
        Some(position) => position,
        None => log.head(tenant).await?.saturating_sub(1),
    };
    *position = Some(from);
    loop {
        let page = log.after(tenant, from, PAGE).await?;
        let ended = page.len() < PAGE;
        for pushed in page {
            from = pushed.seq;
            let wire = Arc::new(Wire::of(pushed)?);
            *position = Some(from);
            // Nobody listens any more: the next look at the clock ends this.
            drop(feed.send(wire));
        }
        if ended {
            return Ok(());
        }
    }
}

/// A subscriber: its place in the log and what it wants.
pub(in crate::http) struct Subscription {
    runtime: Runtime,
    tenant: TenantId,
    pub(in crate::http) wanted: Wanted,
    live: broadcast::Receiver<Arc<Wire>>,
    position: u64,
    waiting: VecDeque<Arc<Wire>>,
    gap: Option<(u64, u64)>,
    /// The log may hold more after the position than the reader will hand on.
    behind: bool,
    _place: Place,
}

impl Subscription {
    /// The number up to which everything was told or is not wanted.
    pub(in crate::http) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on after this number, forward or back.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub(in crate::http) async fn resume(&mut self, after: u64) -> Result<()> {
        let standing = self.runtime.push_log().standing(&self.tenant, after).await?;
        self.waiting.clear();
        self.behind = true;
        match standing {
            Standing::Whole => (self.position, self.gap) = (after, None),
            Standing::Gap { first } => (self.position, self.gap) = (first.saturating_sub(1), Some((after, first))),
        }
        Ok(())
    }

    /// What comes next. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// Whatever the state store reports; [`ErrorKind::Internal`] if the tenant's reader is gone.
    pub(in crate::http) async fn next(&mut self) -> Result<Told> {
        loop {
            if let Some((after, first)) = self.gap.take() {
                return Ok(Told::Gap { after, first });
            }
            if let Some(wire) = self.waiting.pop_front() {
                self.position = wire.seq;
                if self.wanted.wants(&wire) {
                    return Ok(Told::Message(wire));
                }
                continue;
            }
            if self.behind {
                let page = self.runtime.push_log().after(&self.tenant, self.position, PAGE).await?;
                self.behind = page.len() == PAGE;
                for pushed in page {
                    self.waiting.push_back(Arc::new(Wire::of(pushed)?));
                }
                continue;
            }
            match self.live.recv().await {
                Ok(wire) if wire.seq <= self.position => {}
                Ok(wire) if wire.seq == self.position + 1 => self.waiting.push_back(wire),
                // The reader is ahead of this subscriber by something: the log has it.
                Ok(_) | Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Err(Error::internal("the reader of the messages to subscribers is gone; connect again")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use connector_core::{WorkspaceId, fleet::LocalPubSub, state::Store};
    use connector_runtime::NewPush;
    use connector_state::MemoryState;
    use serde_json::json;

    use super::*;

    async fn hub(store: &Arc<dyn Store>) -> (Runtime, Streams) {
        let runtime = Runtime::builder().env(|_| None).store(store.clone()).pubsub(Arc::new(LocalPubSub::default())).build().await.unwrap();
        (runtime.clone(), Streams::new(runtime))
    }

    async fn push(runtime: &Runtime, topic: &str, workspace: &str) -> u64 {
        static N: AtomicUsize = AtomicUsize::new(0);
        let id = N.fetch_add(1, Ordering::Relaxed).to_string();
        let workspace = WorkspaceId::from(workspace);
        let push = NewPush { id, topic: topic.into(), workspace, event_type: "t".into(), data: json!({}) };
        runtime.push_log().append(&TenantId::default(), push).await.unwrap()
    }

    fn everything() -> Wanted {
        Wanted { topics: Vec::new(), workspaces: vec!["*".into()] }
    }

    async fn message(subscription: &mut Subscription) -> u64 {
        match tokio::time::timeout(Duration::from_secs(60), subscription.next()).await.unwrap().unwrap() {
            Told::Message(wire) => wire.seq,
            Told::Gap { .. } => panic!("there is no gap"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_process_pushes_is_seen_without_a_notice() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let ((a, _), (_b, streams)) = (hub(&store).await, hub(&store).await);
        let mut subscription = streams.subscribe(&TenantId::default(), "k", everything(), None).await.unwrap();
        for n in 1..=300 {
            assert_eq!(push(&a, "a.b", "default").await, n);
        }
        for n in 1..=300 {
            assert_eq!(message(&mut subscription).await, n);
        }
        assert_eq!(push(&a, "a.b", "default").await, 301);
        assert_eq!(message(&mut subscription).await, 301);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_goes_on_where_it_was_and_hears_of_a_gap() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let (runtime, streams) = hub(&store).await;
        for _ in 0..3 {
            push(&runtime, "a.b", "default").await;
        }
        let tenant = TenantId::default();
        let mut subscription = streams.subscribe(&tenant, "k", everything(), Some(1)).await.unwrap();
        assert_eq!((message(&mut subscription).await, message(&mut subscription).await), (2, 3));
        subscription.resume(0).await.unwrap();
        assert_eq!(message(&mut subscription).await, 1);
        let mut foreign = streams.subscribe(&tenant, "k", everything(), Some(99)).await.unwrap();
        assert!(matches!(foreign.next().await.unwrap(), Told::Gap { after: 99, first: 1 }));
        assert_eq!(message(&mut foreign).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_wanted_and_allowed_is_told_and_the_position_moves_on() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let (runtime, streams) = hub(&store).await;
        let wanted = Wanted { topics: vec![TopicPattern::parse("ticket.*").unwrap()], workspaces: vec!["sales".into()] };
        let mut subscription = streams.subscribe(&TenantId::default(), "k", wanted, None).await.unwrap();
        push(&runtime, "ticket.made", "hr").await;
        push(&runtime, "mail.came", "sales").await;
        let third = push(&runtime, "ticket.made", "sales").await;
        push(&runtime, "mail.came", "sales").await;
        assert_eq!(message(&mut subscription).await, third);
        assert!(tokio::time::timeout(Duration::from_secs(5), subscription.next()).await.is_err());
        assert_eq!(subscription.position(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_limited_per_key_and_given_back() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let (_runtime, streams) = hub(&store).await;
        let tenant = TenantId::default();
        let mut held = Vec::new();
        for _ in 0..MOST_PER_KEY {
            held.push(streams.subscribe(&tenant, "k", everything(), None).await.unwrap());
        }
        let refused = streams.subscribe(&tenant, "k", everything(), None).await.err().unwrap();
        assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::Overloaded, Some(ASK_AGAIN)));
        held.push(streams.subscribe(&tenant, "other", everything(), None).await.unwrap());
        drop(held);
        assert!(streams.subscribe(&tenant, "k", everything(), None).await.is_ok());
        // The reader of a tenant nobody listens to ends.
        tokio::time::sleep(POLL * 3).await;
        assert!(streams.0.feeds.lock().unwrap().is_empty());
        streams.end();
        assert_eq!(streams.subscribe(&tenant, "k", everything(), None).await.err().unwrap().kind(), ErrorKind::Overloaded);
    }
}
