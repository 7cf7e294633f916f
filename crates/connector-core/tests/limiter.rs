//! The limiter: what any rolling window admits, what shares a quota, pauses, calls in flight, and who is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{Script, call, call_with, cx, cx_of, ok, op, parts, spec};
use connector_core::{
    CallCx, Connection, Error, ErrorKind, Retry,
    clock::{Instant, SystemClock},
    connector::{OpReply, ReplyBody},
    layer::stack,
    resilience::{LimitGate, LimitPolicy, Limiter},
    spec::{ConnectorSpec, Effect, LimitKey, LimitSpec, OpSpec, Repeat, Window},
};
use futures_util::future::join_all;
use serde_json::{Map, json};

fn limits(windows: &[&str]) -> LimitSpec {
    LimitSpec { windows: windows.iter().map(|window| window.parse().unwrap()).collect(), ..LimitSpec::default() }
}

fn read(class: &str) -> OpSpec {
    let mut read = op("x_read", Effect::Read, Repeat::Natural);
    read.limit_class = class.into();
    read
}

fn limiter(classes: &[(&str, LimitSpec)]) -> Limiter {
    let classes: BTreeMap<Arc<str>, LimitSpec> = classes.iter().map(|(name, spec)| ((*name).into(), spec.clone())).collect();
    Limiter::new(&classes, &LimitPolicy::default(), SystemClock::shared())
}

/// The most calls any rolling window of this length saw.
fn busiest(times: &[Instant], per: Duration) -> usize {
    (0..times.len()).map(|first| times[first..].iter().take_while(|time| **time - times[first] < per).count()).max().unwrap_or(0)
}

fn allowed(window: Window) -> usize {
    (window.limit as usize * 9 / 10).max(1)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    #[test]
    fn no_rolling_window_sees_more_than_its_share(
        short in 1u32..60, long in 1u32..200, per_ms in 50u64..3_000, factor in 2u64..20,
        gaps in proptest::collection::vec(proptest::prop_oneof![proptest::prelude::Just(0u64), 0u64..400], 1..120),
    ) {
        let windows = [
            Window { limit: short, per: Duration::from_millis(per_ms) },
            Window { limit: long, per: Duration::from_millis(per_ms * factor) },
        ];
        let spec = LimitSpec { windows: windows.to_vec(), ..LimitSpec::default() };
        let policy = LimitPolicy { max_wait: Duration::from_secs(1_000_000), ..LimitPolicy::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let times = runtime.block_on(async {
            let gate = Arc::new(LimitGate::new(&spec, &policy, SystemClock::shared()));
            let mut callers = Vec::new();
            for gap in gaps {
                tokio::time::advance(Duration::from_millis(gap)).await;
                let gate = gate.clone();
                callers.push(tokio::spawn(async move {
                    let permit = gate.acquire(None).await.unwrap();
                    let at = Instant::now();
                    drop(permit);
                    at
                }));
            }
            let mut times: Vec<Instant> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
            times.sort();
            times
        });
        for window in windows {
            let seen = busiest(&times, window.per);
            proptest::prop_assert!(seen <= allowed(window), "{} calls within {:?}, allowed {}", seen, window.per, allowed(window));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_steady_queue_uses_what_the_windows_leave() {
    let gate = Arc::new(LimitGate::new(&limits(&["100/10s"]), &LimitPolicy::default(), SystemClock::shared()));
    let start = Instant::now();
    for _ in 0..10 + 8 * 60 {
        drop(gate.acquire(None).await.unwrap());
    }
    // A burst of 10, then 80 in 10 s.
    assert!(start.elapsed() <= Duration::from_secs(61), "{:?}", start.elapsed());
    assert!(start.elapsed() >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn turns_are_taken_in_order_of_coming() {
    let gate = Arc::new(LimitGate::new(&limits(&["10/1s"]), &LimitPolicy::default(), SystemClock::shared()));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let callers = (0..20).map(|n| {
        let (gate, order) = (gate.clone(), order.clone());
        async move {
            let _permit = gate.acquire(None).await.unwrap();
            order.lock().unwrap().push(n);
        }
    });
    join_all(callers).await;
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_wait_too_long_is_refused_at_once_with_the_time() {
    let limiter = limiter(&[("default", limits(&["10/100s"]))]);
    let (op, args) = (read("default"), Map::new());
    drop(limiter.acquire(&cx(), &op, &args).await.unwrap());
    let start = Instant::now();
    let hurried = cx().with_deadline(start + Duration::from_secs(5));
    let error = limiter.acquire(&hurried, &op, &args).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Overloaded, Duration::ZERO));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(12_500)));
    let permit = limiter.acquire(&cx(), &op, &args).await.unwrap();
    assert_eq!(permit.waited().as_millis(), 12_500);
    // The queue before it counts as well: with six waiting, the seventh would wait for over a minute.
    let cx = cx();
    let results = join_all((0..7).map(|_| limiter.acquire(&cx, &op, &args))).await;
    let refused: Vec<_> = results.iter().filter(|result| result.is_err()).collect();
    assert!(!refused.is_empty() && refused.len() < 7);
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_capped_and_a_dropped_caller_frees_its_place() {
    let gate = Arc::new(LimitGate::new(&LimitSpec { concurrent: Some(2), ..LimitSpec::default() }, &LimitPolicy::default(), SystemClock::shared()));
    let (first, second) = (gate.acquire(None).await.unwrap(), gate.acquire(None).await.unwrap());
    assert_eq!(gate.snapshot().in_flight, 2);
    let soon = Some(Instant::now() + Duration::from_secs(1));
    assert_eq!(gate.acquire(soon).await.unwrap_err().kind(), ErrorKind::Overloaded);
    let waiting = tokio::spawn({
        let gate = gate.clone();
        async move { gate.acquire(None).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(gate.snapshot().waiting, 1);
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(gate.snapshot().waiting, 0);
    drop(first);
    drop(gate.acquire(None).await.unwrap());
    drop(second);
    assert_eq!(gate.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn ten_calls_at_once_per_connection_where_nothing_is_said() {
    let script = Script::new(spec(vec![read("default")]), |_, _, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ok()
        })
    });
    let stack = stack::inner(script.clone(), &parts());
    let (a, b) = (cx(), cx_of("globex", "https://x.example"));
    let start = Instant::now();
    let done = tokio::join!(join_all((0..20).map(|_| stack.call(&a, call("x_read")))), join_all((0..10).map(|_| stack.call(&b, call("x_read")))));
    assert!(done.0.iter().chain(&done.1).all(Result::is_ok));
    assert_eq!(
        (start.elapsed().as_secs(), busiest(&script.sent().iter().map(|sent| sent.at).collect::<Vec<_>>(), Duration::from_millis(999))),
        (2, 20)
    );
}

fn connection(tenant: &str, id: &str) -> CallCx {
    CallCx::new(Arc::new(Connection::named(id.into(), tenant.into(), "x", "https://x.example").unwrap()))
}

#[tokio::test(start_paused = true)]
async fn what_shares_a_quota_is_what_the_class_says() {
    let keyed = |key| LimitSpec { key, ..limits(&["1/100s"]) };
    let limiter = limiter(&[
        ("app", keyed(LimitKey::Connector)),
        ("tenant", keyed(LimitKey::Tenant)),
        ("connection", keyed(LimitKey::Connection)),
        ("channel", keyed(LimitKey::Param("channel".into()))),
    ]);
    let (now, none) = (Some(Instant::now()), Map::new());
    let free = async |class: &str, mut cx: CallCx, args: &Map<_, _>| {
        cx.deadline = now;
        limiter.acquire(&cx, &read(class), args).await.is_ok()
    };
    for (class, expected) in [
        // the same connection again, another connection, another tenant
        ("app", [true, false, false, false]),
        ("tenant", [true, false, false, true]),
        ("connection", [true, false, true, true]),
    ] {
        let seen = [
            free(class, connection("acme", "a"), &none).await,
            free(class, connection("acme", "a"), &none).await,
            free(class, connection("acme", "b"), &none).await,
            free(class, connection("globex", "a"), &none).await,
        ];
        assert_eq!(seen, expected, "{class}");
    }
    let channel = |name: &str| Map::from_iter([("channel".to_owned(), json!(name))]);
    for (name, expected) in [("general", true), ("general", false), ("random", true)] {
        assert_eq!(free("channel", connection("acme", "a"), &channel(name)).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn another_class_may_hold_as_well() {
    let limiter = limiter(&[("default", limits(&["10/10s"])), ("search", LimitSpec { with: Some("default".into()), ..limits(&["1000/1s"]) })]);
    let (cx, args) = (cx(), Map::new());
    drop(limiter.acquire(&cx, &read("search"), &args).await.unwrap());
    let permit = limiter.acquire(&cx, &read("default"), &args).await.unwrap();
    assert!(permit.waited() > Duration::from_secs(1), "the search took the only call ready in `default`");
    let refused = limiter.acquire(&cx.clone().with_deadline(Instant::now()), &read("search"), &args).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Overloaded);
}

#[test]
fn classes_that_name_each_other_do_not_hang() {
    let with = |name: &str| LimitSpec { with: Some(name.into()), ..limits(&["1000/1s"]) };
    let limiter = limiter(&[("a", with("b")), ("b", with("a")), ("c", with("c")), ("d", with("nothing"))]);
    assert_eq!(limiter.limits().count(), 5);
}

/// R15 within a process: a wait the vendor asked for holds for every call of the scope, and for no other scope.
#[tokio::test(start_paused = true)]
async fn a_pause_the_vendor_asked_for_holds_for_the_whole_scope() {
    let mut second = op("x_other", Effect::Read, Repeat::Natural);
    second.limit_class = "other".into();
    let mut connector: ConnectorSpec = spec(vec![read("default"), second]);
    connector.limits = [("default".into(), limits(&["1000/1s"])), ("other".into(), limits(&["1000/1s"]))].into();
    let script = Script::quick(connector, |n, _| match n {
        1 => Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::from_secs(20)))),
        _ => ok(),
    });
    let parts = parts();
    let stack = stack::inner(script.clone(), &parts);
    let (start, acme, globex) = (Instant::now(), cx(), cx_of("globex", "https://x.example"));
    let first = stack.call(&acme, call("x_read"));
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let limiter = parts.limits().get("x").unwrap();
        assert_eq!(limiter.paused().into_values().collect::<Vec<_>>(), [Duration::from_secs(19)]);
        let hurried = acme.clone().with_deadline(Instant::now() + Duration::from_secs(5));
        let error = stack.call(&hurried, call("x_other")).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Overloaded, Some(Duration::from_secs(19))));
        let foreign = async {
            stack.call(&globex, call("x_read")).await.unwrap();
            assert_eq!(start.elapsed(), Duration::from_secs(1));
        };
        let (other, ()) = tokio::join!(stack.call(&acme, call("x_other")), foreign);
        assert!(other.unwrap().meta.waited >= Duration::from_secs(19));
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(first.unwrap().meta.attempts, 2);
    let mut times: Vec<_> = script.sent().iter().map(|sent| (sent.at - start).as_secs()).collect();
    times.sort_unstable();
    assert_eq!(times, [0, 1, 20, 21]);
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_says_nothing_is_left_is_believed() {
    let mut connector = spec(vec![read("default")]);
    connector.limits = [("default".into(), limits(&["1000/5s"]))].into();
    let script = Script::quick(connector, |n, _| {
        let mut reply = OpReply::new(ReplyBody::Empty);
        reply.meta.remaining = Some(if n == 1 { 0 } else { 999 });
        Ok(reply)
    });
    let parts = parts();
    let stack = stack::inner(script, &parts);
    let start = Instant::now();
    stack.call(&cx(), call("x_read")).await.unwrap();
    let shown = &parts.limits().snapshot()["x"][0];
    assert_eq!((shown.gate.remaining, shown.gate.paused_for), (Some(0), Some(Duration::from_secs(5))));
    let reply = stack.call(&cx(), call("x_read")).await.unwrap();
    assert_eq!((start.elapsed().as_secs(), reply.meta.waited.as_secs()), (5, 5));
    assert_eq!(parts.limits().snapshot()["x"][0].gate.remaining, Some(999));
}

/// Values somebody makes up must not fill memory: beyond the cap they share one quota, and idle ones are forgotten.
#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_is_bounded() {
    let mut connector = spec(vec![read("channel")]);
    connector.limits = [("channel".into(), LimitSpec { key: LimitKey::Param("channel".into()), ..limits(&["10/1s"]) })].into();
    let mut parts = parts();
    parts.resilience.limits.max_keys = 100;
    let stack = stack::inner(Script::quick(connector, |_, _| ok()), &parts);
    let short = || cx().with_deadline(Instant::now() + Duration::from_millis(1));
    let mut refused = 0;
    for n in 0..1_000 {
        refused += usize::from(stack.call(&short(), call_with("x_read", json!({"channel": n}))).await.is_err());
    }
    assert_eq!(parts.limits().snapshot()["x"].len(), 100);
    assert!(refused > 800, "the rest shares one quota: {refused}");
    tokio::time::advance(Duration::from_secs(60)).await;
    for n in 1_000..1_600 {
        stack.call(&short(), call_with("x_read", json!({"channel": n}))).await.ok();
    }
    let fresh = parts.limits().snapshot()["x"].iter().filter(|limit| limit.param.as_ref().is_some_and(|param| param.len() == 4)).count();
    assert_eq!(fresh, 100, "the idle ones made room");
}
