//! Limits that several processes share: exact while the store answers, a share each while it does not, no burst in between; pauses told to all.
//!
//! The processes are several sets of limiters in this one, over a store in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use common::{call, call_with, cx, cx_of, ok, op, parts, spec};
use connector_core::{
    CallCx, Error, ErrorKind, Result, Retry,
    clock::{Instant, SystemClock},
    fleet::{LocalPubSub, MemoryFleet, Notice, PubSub, SharedAsk, SharedLimits, SharedTurn},
    layer::stack,
    resilience::{Counting, FleetQuotas, LimitPolicy, Limiter, Limits, share_pauses},
    spec::{Effect, LimitKey, LimitSpec, OpSpec, Repeat, Window},
};
use serde_json::{Map, json};
use tokio::task::JoinSet;

fn limits(windows: &[&str]) -> LimitSpec {
    LimitSpec { windows: windows.iter().map(|window| window.parse().unwrap()).collect(), ..LimitSpec::default() }
}

fn read(class: &str) -> OpSpec {
    let mut read = op("x_read", Effect::Read, Repeat::Natural);
    read.limit_class = class.into();
    read
}

/// One process of a fleet.
struct Process {
    quotas: Arc<FleetQuotas>,
    limiter: Arc<Limiter>,
}

impl Process {
    fn new(store: Arc<dyn SharedLimits>, most: u32, spec: &LimitSpec) -> Self {
        let clock = SystemClock::shared();
        let quotas = Arc::new(FleetQuotas::new(store, most, clock.clone()));
        let classes: BTreeMap<Arc<str>, LimitSpec> = [("default".into(), spec.clone())].into();
        let limiter = Limits::in_fleet(quotas.clone()).of(&"x".into(), &classes, &LimitPolicy::default(), &clock);
        Self { quotas, limiter }
    }

    async fn acquire(&self, cx: &CallCx) -> Result<Duration> {
        self.limiter.acquire(cx, &read("default"), &Map::new()).await.map(|permit| permit.waited())
    }
}

/// The most calls any rolling window of this length saw.
fn busiest(times: &[Instant], per: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, time) in times.iter().enumerate() {
        while *time - times[first] >= per {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// What `processes` processes with three callers each do in `seconds`, while `trouble` happens.
async fn hammer(store: &Arc<MemoryFleet>, processes: u32, spec: &LimitSpec, seconds: u64, trouble: impl Future<Output = ()>) -> Vec<Instant> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut callers = JoinSet::new();
    for _ in 0..processes {
        let process = Arc::new(Process::new(store.clone(), processes, spec));
        for _ in 0..3 {
            let (process, times) = (process.clone(), times.clone());
            callers.spawn(async move {
                let cx = cx();
                while Instant::now() < end {
                    if process.acquire(&cx).await.is_ok() {
                        times.lock().unwrap().push(Instant::now());
                    }
                }
            });
        }
    }
    trouble.await;
    callers.join_all().await;
    let mut times = times.lock().unwrap().clone();
    times.retain(|time| *time <= end);
    times.sort();
    times
}

#[tokio::test(start_paused = true)]
async fn one_to_sixteen_processes_share_one_quota_and_use_all_of_it() {
    for processes in 1..=16 {
        let store = Arc::new(MemoryFleet::default());
        let times = hammer(&store, processes, &limits(&["100/10s"]), 41, async {}).await;
        assert!(busiest(&times, Duration::from_secs(10)) <= 90, "{processes}: {}", busiest(&times, Duration::from_secs(10)));
        // It begins empty; after the second in which it settles, eight calls a second.
        let from = times[0] + Duration::from_secs(1);
        let counted = times.iter().filter(|time| **time > from && **time <= from + Duration::from_secs(30)).count();
        assert!(counted >= 8 * 30 - 3, "{processes}: {counted} of 240");
    }
}

#[tokio::test(start_paused = true)]
async fn no_window_is_exceeded_when_the_store_goes_and_comes() {
    for (processes, windows) in [(1, "100/10s"), (2, "100/1s"), (8, "100/10s"), (8, "100/1s"), (16, "300/10s"), (5, "20/2s")] {
        let spec = limits(&[windows]);
        let window: Window = windows.parse().unwrap();
        let store = Arc::new(MemoryFleet::default());
        let trouble = async {
            let wait = |millis| tokio::time::sleep(Duration::from_millis(millis));
            wait(8_000).await;
            store.reachable(false);
            wait(7_300).await;
            // Back with all it had.
            store.reachable(true);
            wait(6_100).await;
            // Back with nothing.
            store.reachable(false);
            wait(210).await;
            store.forget();
            wait(3_000).await;
            store.reachable(true);
            wait(5_000).await;
            // Loses everything while it answers.
            store.forget();
            wait(4_000).await;
        };
        let times = hammer(&store, processes, &spec, 40, trouble).await;
        let seen = busiest(&times, window.per);
        assert!(seen <= window.limit as usize * 9 / 10, "{processes} processes, {windows}: {seen}");
        assert!(times.len() > 20 * window.limit as usize / usize::try_from(window.per.as_secs()).unwrap() / 2, "{}: it goes on", times.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_leaves_each_process_its_share_and_is_used_again() {
    let store = Arc::new(MemoryFleet::default());
    let process = Process::new(store.clone(), 8, &limits(&["100/10s"]));
    let cx = cx();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The first to come finds a store that begins to count.
    process.acquire(&cx).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((process.acquire(&cx).await.unwrap(), process.quotas.counting()), (Duration::ZERO, Counting::Shared));
    store.reachable(false);
    let start = Instant::now();
    for _ in 0..4 {
        process.acquire(&cx).await.unwrap();
    }
    assert_eq!(process.quotas.counting(), Counting::Share);
    // 11 of 90, one of it at once: one call a second, and the share begins empty.
    assert_eq!(start.elapsed().as_secs(), 4);
    store.reachable(true);
    // Its own calls were not counted, so the store settles before it counts again.
    let waited = process.acquire(&cx).await.unwrap();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_millis(1_200), "{waited:?}");
    assert_eq!(process.quotas.counting(), Counting::Shared);
}

#[tokio::test(start_paused = true)]
async fn several_windows_are_taken_together_or_not_at_all() {
    let store = MemoryFleet::default();
    let cell = |key: &str, burst| connector_core::fleet::SharedCell { key: key.into(), interval: Duration::from_secs(1), burst, shares: 1 };
    let (wide, narrow) = (cell("wide", 10), cell("narrow", 1));
    let take = |cells: Vec<_>, lead: u64| {
        let store = &store;
        async move { store.take(&SharedAsk { cells: &cells, lead: Duration::from_millis(lead), stray: None }).await.unwrap() }
    };
    assert_eq!(take(vec![wide.clone()], 0).await, SharedTurn::Settling(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let both = vec![wide.clone(), narrow.clone()];
    assert_eq!(take(both.clone(), 0).await, SharedTurn::Taken(Duration::ZERO));
    assert_eq!(take(both.clone(), 0).await, SharedTurn::Refused(Duration::from_secs(1)));
    // A turn ahead is taken if it is near enough, and queues.
    assert_eq!(take(both.clone(), 1_000).await, SharedTurn::Taken(Duration::from_secs(1)));
    assert_eq!(take(both, 1_000).await, SharedTurn::Refused(Duration::from_secs(1)));
    // Two were taken from the wide one, not four.
    for _ in 0..8 {
        assert_eq!(take(vec![wide.clone()], 0).await, SharedTurn::Taken(Duration::ZERO));
    }
    assert!(matches!(take(vec![wide], 0).await, SharedTurn::Refused(_)));
}

/// A store that breaks its word and never answers.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl SharedLimits for Silent {
    async fn take(&self, _: &SharedAsk<'_>) -> Result<SharedTurn> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hang_calls() {
    let process = Process::new(Arc::new(Silent), 2, &limits(&["100/1s"]));
    let start = Instant::now();
    process.acquire(&cx()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let hurried = cx().with_deadline(Instant::now() + Duration::from_millis(100));
    assert_eq!(process.acquire(&hurried).await.unwrap_err().kind(), ErrorKind::Overloaded);
}

/// R15 over processes: one is told to wait, all wait.
#[tokio::test(start_paused = true)]
async fn a_pause_told_to_one_process_holds_for_all() {
    let news = Arc::new(LocalPubSub::default());
    let mut connector = spec(vec![read("default")]);
    connector.limits = [("default".into(), limits(&["1000/1s"]))].into();
    let process = |fails: bool| {
        let script = common::Script::quick(connector.clone(), move |n, _| match n {
            1 if fails => Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::from_secs(20)))),
            _ => ok(),
        });
        let parts = parts();
        let told = tokio::spawn(share_pauses(parts.limits().clone(), news.clone()));
        (script.clone(), stack::inner(script, &parts), parts, told)
    };
    let (first, others) = (process(true), [process(false), process(false)]);
    tokio::task::yield_now().await;
    let start = Instant::now();
    let hurried = cx().with_deadline(start + Duration::from_secs(2));
    first.1.call(&hurried, call("x_read")).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for other in &others {
        other.1.call(&cx(), call("x_read")).await.unwrap();
        // Nobody's pause but its own.
        other.1.call(&cx_of("globex", "https://x.example"), call("x_read")).await.unwrap();
        assert!(other.0.sent()[0].at - start >= Duration::from_secs(20));
    }
    assert_eq!(start.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn who_missed_a_pause_asks_for_it() {
    let news = Arc::new(LocalPubSub::default());
    let mut connector = spec(vec![read("channel")]);
    connector.limits = [("channel".into(), LimitSpec { key: LimitKey::Param("channel".into()), ..limits(&["1000/1s"]) })].into();
    let (old, new) = (parts(), parts());
    let script = common::Script::quick(connector.clone(), |_, _| ok());
    let (_old, new_stack) = (stack::inner(script.clone(), &old), stack::inner(script, &new));
    let _told = tokio::spawn(share_pauses(old.limits().clone(), news.clone()));
    tokio::task::yield_now().await;
    let limiter = old.limits().get("x").unwrap();
    let args = Map::from_iter([("channel".to_owned(), json!("general"))]);
    limiter.pause(&cx(), &read("channel"), &args, Duration::from_secs(30));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let start = Instant::now();
    // Starts late, and asks.
    let _late = tokio::spawn(share_pauses(new.limits().clone(), news.clone()));
    tokio::time::sleep(Duration::from_millis(1)).await;
    new_stack.call(&cx(), call_with("x_read", json!({"channel": "random"}))).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 0);
    new_stack.call(&cx(), call_with("x_read", json!({"channel": "general"}))).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 20);
}

/// Cannot say anything at first.
#[derive(Debug, Default)]
struct Hoarse {
    inner: LocalPubSub,
    failures: Mutex<u32>,
}

#[async_trait::async_trait]
impl PubSub for Hoarse {
    async fn publish(&self, topic: &str, body: Bytes) -> Result<()> {
        let mut left = self.failures.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Err(Error::new(ErrorKind::Transient, "not now"));
        }
        drop(left);
        self.inner.hand(Notice::Message { topic: topic.into(), body });
        Ok(())
    }

    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Notice> {
        self.inner.subscribe()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_cannot_be_told_is_told_soon() {
    let news = Arc::new(Hoarse { failures: Mutex::new(3), ..Hoarse::default() });
    let mut heard = news.subscribe();
    let parts = parts();
    let mut connector = spec(vec![read("default")]);
    connector.limits = [("default".into(), limits(&["1000/1s"]))].into();
    let _stack = stack::inner(common::Script::quick(connector, |_, _| ok()), &parts);
    let _told = tokio::spawn(share_pauses(parts.limits().clone(), news.clone()));
    tokio::task::yield_now().await;
    let start = Instant::now();
    parts.limits().get("x").unwrap().pause(&cx(), &read("default"), &Map::new(), Duration::from_secs(30));
    loop {
        let Notice::Message { body, .. } = heard.recv().await.unwrap() else { continue };
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
        if !said["pause"].is_null() {
            // It says what is left, not what was left when it could not be told.
            let left = said["pause"]["ms"].as_u64().unwrap();
            assert!(start.elapsed() < Duration::from_secs(1) && u128::from(left) + start.elapsed().as_millis() == 30_000, "{left}");
            break;
        }
    }
}
