//! What a fleet shares over Redis: the behaviour every store has, and what a server that goes, hangs, forgets or refuses does to it.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]
#![cfg(all(feature = "redis", unix))]

mod fleet;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use connector_core::{
    ErrorKind,
    fleet::{MemoryFleet, Notice, PubSub as _, SharedAsk, SharedCache as _, SharedCell, SharedLimits as _, SharedTurn},
};
use connector_state::{FleetOptions, RedisFleet};
use secrecy::SecretString;

use self::fleet::{PrivateRedis, message, missed, name, settled};

/// Long enough that only a server in trouble exceeds it, also on a busy machine.
const BUDGET: Duration = Duration::from_secs(2);

async fn connect(server: &PrivateRedis, name: &str, budget: Duration) -> RedisFleet {
    let options = FleetOptions::default().name(name).budget(budget);
    RedisFleet::connect_with(&SecretString::from(server.url()), options).await.unwrap()
}

fn cells() -> [SharedCell; 1] {
    [SharedCell { key: "acme\u{1f}hubspot".into(), interval: Duration::from_millis(1), burst: 1_000, shares: 8 }]
}

async fn take(fleet: &RedisFleet) -> connector_core::Result<SharedTurn> {
    fleet.take(&SharedAsk { cells: &cells(), lead: Duration::ZERO, stray: None }).await
}

#[tokio::test]
async fn the_store_in_memory_behaves() {
    let store = Arc::new(MemoryFleet::default());
    fleet::limits(&*store).await;
    fleet::no_call_is_taken_twice(store.clone()).await;
    fleet::cache(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_behaves() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let one = Arc::new(connect(&server, &name(), BUDGET).await);
    fleet::limits(&*one).await;
    fleet::no_call_is_taken_twice(one.clone()).await;
    fleet::cache(&*one).await;
    let shared = name();
    fleet::news(&connect(&server, &shared, BUDGET).await, &connect(&server, &shared, BUDGET).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleets_of_other_names_are_apart_and_keys_hold_no_names() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let (one, two) = (connect(&server, "one", BUDGET).await, connect(&server, "two", BUDGET).await);
    settled(&one).await;
    settled(&two).await;
    take(&one).await.unwrap();
    let stamp = one.stamp().await.unwrap();
    one.put(&[1; 32], "x".into(), &[[2; 32]], stamp, BUDGET).await.unwrap();
    assert!(one.get(&[1; 32]).await.unwrap().is_some() && two.get(&[1; 32]).await.unwrap().is_none());
    let keys = server.cli(&["KEYS", "*"]);
    assert!(keys.lines().all(|key| key.starts_with("{one}:") || key.starts_with("{two}:")), "{keys}");
    assert!(!keys.contains("acme") && !keys.contains("hubspot"), "{keys}");
    // Nothing is kept for ever but the two clocks of each fleet.
    for key in keys.lines().filter(|key| !key.ends_with(":born") && !key.ends_with(":clock")) {
        assert!(server.cli(&["PTTL", key]).parse::<i64>().unwrap() > 0, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_and_comes_is_used_again_and_news_are_said_to_be_missed() {
    let Some(mut server) = PrivateRedis::start(None) else { return };
    let fleet = connect(&server, &name(), BUDGET).await;
    let mut heard = fleet.subscribe();
    settled(&fleet).await;
    assert_eq!(take(&fleet).await.unwrap(), SharedTurn::Taken(Duration::ZERO));
    let stamp = fleet.stamp().await.unwrap();
    server.kill();
    let begun = Instant::now();
    while take(&fleet).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(1), "it is still asked");
    }
    assert!(fleet.is_lost());
    assert!(fleet.publish("cache", Bytes::new()).await.is_err());
    // Asking a lost server costs nothing.
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(take(&fleet).await.is_err() && fleet.get(&[1; 32]).await.is_err());
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    while heard.try_recv().is_ok() {}
    server.up();
    missed(&mut heard).await;
    settled(&fleet).await;
    fleet.publish("cache", Bytes::from_static(b"again")).await.unwrap();
    assert_eq!(message(&mut heard).await, ("cache".to_owned(), Bytes::from_static(b"again")));
    // It has forgotten which tags were dropped, so what was fetched before is not kept.
    fleet.put(&[1; 32], "x".into(), &[], stamp, BUDGET).await.unwrap();
    assert_eq!(fleet.get(&[1; 32]).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_its_budget_once() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let fleet = connect(&server, &name(), Duration::from_millis(50)).await;
    settled(&fleet).await;
    server.freeze();
    let begun = Instant::now();
    assert_eq!(take(&fleet).await.unwrap_err().kind(), ErrorKind::Timeout);
    let first = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(take(&fleet).await.unwrap_err().kind(), ErrorKind::Transient);
    }
    let rest = begun.elapsed();
    server.thaw();
    assert!(first >= Duration::from_millis(49) && first < Duration::from_millis(500), "{first:?}");
    assert!(rest < Duration::from_millis(200), "{rest:?}");
    settled(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_or_takes_no_writes_is_never_a_full_quota() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let fleet = connect(&server, &name(), BUDGET).await;
    settled(&fleet).await;
    server.cli(&["FLUSHALL"]);
    server.cli(&["SCRIPT", "FLUSH"]);
    // It settles again, and the script is sent again.
    assert!(matches!(take(&fleet).await.unwrap(), SharedTurn::Settling(_)));
    settled(&fleet).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let error = take(&fleet).await.unwrap_err();
    assert!(error.message().contains("OOM") || error.message().contains("refused"), "{error}");
    assert!(fleet.is_lost());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    settled(&fleet).await;
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(take(&fleet).await.is_err(), "a replica takes no writes");
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    settled(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_was_evicted_costs_a_miss_and_brings_nothing_back() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let fleet = connect(&server, "evicts", BUDGET).await;
    let stamp = fleet.stamp().await.unwrap();
    fleet.put(&[1; 32], "old".into(), &[[9; 32]], stamp, BUDGET).await.unwrap();
    fleet.drop_tags(&[[9; 32]]).await.unwrap();
    let tag = format!("{{evicts}}:tag:{}", "09".repeat(32));
    assert_eq!(server.cli(&["DEL", &tag]), "1");
    assert_eq!(fleet.get(&[1; 32]).await.unwrap(), None);
    let stamp = fleet.stamp().await.unwrap();
    fleet.put(&[2; 32], "new".into(), &[[9; 32]], stamp, BUDGET).await.unwrap();
    assert!(fleet.get(&[1; 32]).await.unwrap().is_none() && fleet.get(&[2; 32]).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_at_the_start_and_an_absent_server_is_not() {
    let Some(server) = PrivateRedis::start(Some("right-horse")) else { return };
    let fleet = connect(&server, &name(), BUDGET).await;
    settled(&fleet).await;
    let wrong = SecretString::from(format!("redis://:wrong-horse@127.0.0.1:{}/", server.port()));
    let error = RedisFleet::connect(&wrong).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && !format!("{error:?}").contains("horse"), "{error:?}");
    let nowhere = SecretString::from(format!("redis://127.0.0.1:{}/", fleet::free_port()));
    let fleet = RedisFleet::connect(&nowhere).await.unwrap();
    assert!(take(&fleet).await.is_err());
    for name in ["", "a b", "{x}", "x:y"] {
        let options = FleetOptions::default().name(name);
        assert_eq!(RedisFleet::connect_with(&nowhere, options).await.unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_back_does_not_stop_anything() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let fleet = connect(&server, "jumps", BUDGET).await;
    settled(&fleet).await;
    take(&fleet).await.unwrap();
    // As a server does whose clock was a day ahead: everything it wrote lies in the future.
    let far = server.cli(&["TIME"]).lines().next().unwrap().parse::<u64>().unwrap() + 86_400;
    for key in server.cli(&["KEYS", "{jumps}:limit:*"]).lines() {
        server.cli(&["SET", key, &format!("{far}000000"), "PX", "90000000"]);
    }
    let SharedTurn::Refused(after) = take(&fleet).await.unwrap() else { panic!("it is full") };
    assert!(after <= Duration::from_millis(1_010), "{after:?}");
    server.cli(&["SET", "{jumps}:born", &format!("{far}000000")]);
    assert!(matches!(take(&fleet).await.unwrap(), SharedTurn::Settling(left) if left <= Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_of_another_program_are_not_ours() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let fleet = connect(&server, "odd", BUDGET).await;
    let mut heard = fleet.subscribe();
    missed(&mut heard).await;
    server.cli(&["PUBLISH", "{odd}:news", "no line"]);
    fleet.publish("push", Bytes::from_static(b"7")).await.unwrap();
    let first = heard.recv().await.unwrap();
    assert_eq!(first, Notice::Message { topic: "push".into(), body: Bytes::from_static(b"7") });
}
