//! What several runtimes share: replies, drops of replies, limits.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result,
    fleet::{LocalPubSub, MemoryFleet, Notice, PubSub},
    state::{NewEvent, Store},
};
use connector_runtime::{Runtime, config::PolicyConfig};
use connector_state::MemoryState;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use crate::fixture::{Scripted, TestClock, call, config, value};

/// News that one process may be unable to tell.
#[derive(Debug, Default)]
struct Voice {
    room: LocalPubSub,
    mute: Mutex<bool>,
}

impl Voice {
    fn in_room(room: &LocalPubSub) -> Arc<Self> {
        Arc::new(Self { room: room.clone(), mute: Mutex::new(false) })
    }

    fn mute(&self, mute: bool) {
        *self.mute.lock().unwrap() = mute;
    }
}

#[async_trait]
impl PubSub for Voice {
    async fn publish(&self, topic: &str, body: Bytes) -> Result<()> {
        if *self.mute.lock().unwrap() {
            return Err(Error::new(ErrorKind::Transient, "nobody hears"));
        }
        self.room.publish(topic, body).await
    }

    fn subscribe(&self) -> Receiver<Notice> {
        self.room.subscribe()
    }
}

struct Hub {
    runtime: Runtime,
    connector: Arc<Scripted>,
    voice: Arc<Voice>,
}

impl Hub {
    async fn new(room: &LocalPubSub, cache: Option<&Arc<MemoryFleet>>, store: &Arc<dyn Store>) -> Self {
        let (connector, voice) = (Scripted::new(), Voice::in_room(room));
        let builder = Runtime::builder().connector(connector.clone()).config(config(PolicyConfig::default())).env(|_| None);
        let builder = builder.clock(TestClock::shared()).pubsub(voice.clone()).store(store.clone());
        let builder = match cache {
            Some(cache) => builder.shared_cache(cache.clone()).shared_limits(cache.clone(), 8),
            None => builder,
        };
        Self { runtime: builder.build().await.unwrap(), connector, voice }
    }

    async fn get(&self, id: &str) -> Value {
        let got = value(&self.runtime, call("crm_get", json!({ "id": id }))).await;
        settle().await;
        got["n"].clone()
    }

    fn sent(&self) -> usize {
        self.connector.sent("crm_get")
    }

    fn drop_contact(&self, id: &str) {
        self.runtime.cache().invalidate(&"acme".into(), "crm", &format!("contact:{id}"));
    }
}

/// Lets what was told be heard. The clock moves a little, as it does.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_millis(1)).await;
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryState::new(TestClock::shared()))
}

fn contact_changed(id: u64) -> NewEvent {
    NewEvent {
        tenant: "acme".into(),
        workspace: "default".into(),
        connector: "crm".into(),
        connection: "crm".into(),
        event_id: "e1".into(),
        event_type: "contact.changed".into(),
        order_key: None,
        flags: Vec::new(),
        payload: json!({ "objectId": id }).to_string().into(),
        digest: None,
        received_at: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_at_one_hub_makes_the_other_read_anew() {
    let (room, store) = (LocalPubSub::default(), memory());
    let (a, b) = (Hub::new(&room, None, &store).await, Hub::new(&room, None, &store).await);
    let tasks = a.runtime.start();
    for hub in [&a, &b] {
        for id in ["1", "2"] {
            hub.get(id).await;
            hub.get(id).await;
        }
        assert_eq!(hub.sent(), 2);
    }
    store.append(vec![contact_changed(1)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for hub in [&a, &b] {
        assert_eq!((hub.get("1").await, hub.get("2").await), (json!(3), json!(2)));
    }
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn what_one_hub_fetched_the_other_need_not_until_it_is_dropped() {
    let (room, store, cache) = (LocalPubSub::default(), memory(), Arc::new(MemoryFleet::default()));
    let (a, b) = (Hub::new(&room, Some(&cache), &store).await, Hub::new(&room, Some(&cache), &store).await);
    assert_eq!((a.get("1").await, b.get("1").await, b.get("1").await), (json!(1), json!(1), json!(1)));
    assert_eq!((b.sent(), b.runtime.cache().stats().shared_hits, b.runtime.cache().stats().hits), (0, 1, 2));
    let hit = b.runtime.call(call("crm_get", json!({ "id": "1" }))).await.unwrap().into_reply().unwrap();
    assert!(hit.meta.cached);
    // Another tenant's reply is another reply.
    value(&b.runtime, call("crm_get", json!({ "id": "1" })).tenant("globex")).await;
    assert_eq!(b.sent(), 1);
    // B's write makes A's stale, here and in the fleet.
    value(&b.runtime, call("crm_update", json!({ "id": "1", "name": "n" }))).await;
    settle().await;
    assert_eq!(a.get("1").await, 2);
    assert_eq!((b.get("1").await, b.sent()), (json!(2), 1));
    // It lives no longer than where it was fetched.
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(b.get("1").await, 2);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_ne!(b.get("1").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_cache_that_is_away_costs_hits_and_brings_nothing_stale_back() {
    let (room, store, cache) = (LocalPubSub::default(), memory(), Arc::new(MemoryFleet::default()));
    let (a, b) = (Hub::new(&room, Some(&cache), &store).await, Hub::new(&room, Some(&cache), &store).await);
    assert_eq!(a.get("1").await, 1);
    cache.reachable(false);
    // A miss, no failure.
    assert_eq!((b.get("1").await, b.sent()), (json!(1), 1));
    assert!(b.runtime.cache().stats().shared_errors > 0);
    // The drop reaches B by the news and the store not at all.
    a.drop_contact("1");
    settle().await;
    cache.reachable(true);
    assert_eq!((b.get("1").await, b.sent()), (json!(2), 2), "B knows that what the store keeps is older than the drop");
    // Soon the store knows as well, and who knows nothing is told the truth.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let late = Hub::new(&room, Some(&cache), &store).await;
    assert_ne!((late.get("1").await, late.sent()), (json!(1), 0));
}

#[tokio::test(start_paused = true)]
async fn who_may_have_missed_a_drop_drops_everything() {
    let (room, store, cache) = (LocalPubSub::default(), memory(), Arc::new(MemoryFleet::default()));
    let (a, b) = (Hub::new(&room, Some(&cache), &store).await, Hub::new(&room, Some(&cache), &store).await);
    a.get("1").await;
    assert_eq!((b.get("1").await, b.sent()), (json!(1), 0));
    // Neither the news nor the store hears of the drop before B hears that it missed something.
    a.voice.mute(true);
    cache.reachable(false);
    a.drop_contact("1");
    settle().await;
    assert_eq!((b.get("1").await, b.sent()), (json!(1), 0), "nobody could tell it");
    room.hand(Notice::Missed);
    settle().await;
    cache.reachable(true);
    b.get("1").await;
    assert_eq!(b.sent(), 1, "neither its own copy nor the fleet's");
    // What could not be told is told later.
    a.voice.mute(false);
    let before = b.runtime.cache().stats().invalidations;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(b.runtime.cache().stats().invalidations, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_drop_while_a_reply_is_fetched_keeps_it_out_of_the_fleet() {
    let (room, store, cache) = (LocalPubSub::default(), memory(), Arc::new(MemoryFleet::default()));
    let (a, b) = (Hub::new(&room, Some(&cache), &store).await, Hub::new(&room, Some(&cache), &store).await);
    a.connector.script("crm_get", [crate::fixture::Step::Slow(Duration::from_secs(1), json!({ "n": "old" }))]);
    let dropped = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        b.drop_contact("1");
    };
    let (old, ()) = tokio::join!(a.get("1"), dropped);
    assert_eq!(old, "old");
    assert_ne!((b.get("1").await, a.get("1").await), (json!("old"), json!("old")));
}
