//! The retry matrix: how often a call is sent, by failure class and by how the operation may be repeated.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Script, call, call_with, cx, every_kind, fail, ok, op, parts, parts_of, spec};
use connector_core::{
    Error, ErrorKind, Retry,
    clock::Instant,
    connector::{OpReply, ReplyBody},
    layer::{StackParts, stack},
    resilience::Resilience,
    spec::{Effect, LookupSpec, OpSpec, Repeat},
};
use serde_json::json;

/// Breakers would open in the middle of a table; this one never does.
fn patient() -> StackParts {
    let mut resilience = Resilience::standard();
    resilience.breaker.threshold = u32::MAX;
    resilience.breaker.min_calls = u32::MAX;
    resilience.budget.burst = 10_000;
    parts_of(resilience)
}

#[tokio::test(start_paused = true)]
async fn every_class_and_every_kind_of_operation_is_sent_as_often_as_the_matrix_says() {
    use ErrorKind as K;
    // read, natural write, keyed write, look-first write without a lookup, unsafe write
    let table: &[(K, [usize; 5])] = &[
        (K::NotSent, [3, 3, 3, 3, 3]),
        (K::Throttled, [3, 3, 3, 3, 3]),
        (K::Transient, [3, 3, 3, 1, 1]),
        (K::Protocol, [3, 3, 3, 1, 1]),
        (K::Timeout, [2, 2, 2, 1, 1]),
        (K::AuthExpired, [1, 1, 1, 1, 1]),
        (K::CircuitOpen, [1, 1, 1, 1, 1]),
        (K::Overloaded, [1, 1, 1, 1, 1]),
        (K::Forbidden, [1, 1, 1, 1, 1]),
        (K::NotFound, [1, 1, 1, 1, 1]),
        (K::Invalid, [1, 1, 1, 1, 1]),
        (K::Conflict, [1, 1, 1, 1, 1]),
        (K::CursorExpired, [1, 1, 1, 1, 1]),
        (K::Quota, [1, 1, 1, 1, 1]),
        (K::Partial, [1, 1, 1, 1, 1]),
        (K::Unknown, [1, 1, 1, 1, 1]),
        (K::ApprovalRequired, [1, 1, 1, 1, 1]),
        (K::Denied, [1, 1, 1, 1, 1]),
        (K::Config, [1, 1, 1, 1, 1]),
        (K::Unsupported, [1, 1, 1, 1, 1]),
        (K::Cancelled, [1, 1, 1, 1, 1]),
        (K::Internal, [1, 1, 1, 1, 1]),
    ];
    let parts = patient();
    for (kind, sends) in table {
        for (op, expected) in every_kind().into_iter().zip(sends) {
            let ambiguous = matches!(kind, K::Transient | K::Timeout | K::Protocol) && !op.repeats_safely();
            let kind = *kind;
            let script = Script::quick(spec(every_kind()), move |_, _| fail(kind));
            let error = stack::inner(script.clone(), &parts).call(&cx(), call(&op.name)).await.unwrap_err();
            assert_eq!(script.sends(), *expected, "{kind} of {}", op.name);
            assert_eq!(error.kind(), if ambiguous { K::Unknown } else { kind }, "{kind} of {}", op.name);
            let advice = if *expected > 1 {
                Retry::Exhausted
            } else if ambiguous {
                Retry::Never
            } else {
                Error::new(kind, "").retry()
            };
            assert_eq!(error.retry(), advice, "{kind} of {}", op.name);
            assert_eq!(error.operation(), Some(&*op.name));
            if *expected > 1 {
                assert_eq!(error.context_value("attempts"), Some(expected.to_string().as_str()), "{kind} of {}", op.name);
            }
            if ambiguous {
                assert_eq!(error.context_value("was"), Some(kind.as_str()));
            }
        }
    }
}

/// A native operation that looks for its own marker looks each time it runs, so it may be run again.
#[tokio::test(start_paused = true)]
async fn a_native_operation_that_looks_itself_is_safe() {
    let mut own = op("x_send", Effect::Write, Repeat::LookupFirst);
    own.endpoint = "native".into();
    for (kind, sends) in [(ErrorKind::Transient, 3), (ErrorKind::Timeout, 2), (ErrorKind::Invalid, 1)] {
        let script = Script::quick(spec(vec![own.clone()]), move |_, _| fail(kind));
        let error = stack::inner(script.clone(), &patient()).call(&cx(), call("x_send")).await.unwrap_err();
        assert_eq!((script.sends(), error.kind()), (sends, kind));
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_that_may_be_cured_gets_one_more_send_whatever_the_operation() {
    for op in every_kind() {
        let curable = || Err(Error::new(ErrorKind::AuthExpired, "rejected").with_retry(Retry::Soon));
        let script = Script::quick(spec(every_kind()), move |_, _| curable());
        let error = stack::inner(script.clone(), &patient()).call(&cx(), call(&op.name)).await.unwrap_err();
        assert_eq!((script.sends(), error.kind()), (2, ErrorKind::AuthExpired), "{}", op.name);
        let script = Script::quick(spec(every_kind()), move |n, _| if n == 1 { curable() } else { ok() });
        let reply = stack::inner(script.clone(), &patient()).call(&cx(), call(&op.name)).await.unwrap();
        assert_eq!((script.sends(), reply.meta.attempts), (2, 2));
    }
}

/// R5: a timeout is tried once more, then left to a queue; an unsafe write is not tried again at all.
#[tokio::test(start_paused = true)]
async fn timeout_retry_once_then_queue() {
    for (op, sends, kind, seconds) in [
        ("x_read", 2, ErrorKind::Timeout, 20.0..=21.0),
        ("x_put", 2, ErrorKind::Timeout, 60.0..=61.0),
        ("x_keyed", 2, ErrorKind::Timeout, 60.0..=61.0),
        ("x_post", 1, ErrorKind::Unknown, 30.0..=30.1),
    ] {
        let script = Script::new(spec(every_kind()), |_, _, _| Box::pin(std::future::pending()));
        let start = Instant::now();
        let error = stack::inner(script.clone(), &parts()).call(&cx(), call(op)).await.unwrap_err();
        assert_eq!((script.sends(), error.kind()), (sends, kind), "{op}");
        let elapsed = start.elapsed().as_secs_f64();
        assert!(seconds.contains(&elapsed), "{op} took {elapsed} s");
        // A queue may take it; nobody above may start over.
        assert!(kind == ErrorKind::Unknown || error.retry() == Retry::Exhausted);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_caller_bounds_waits_and_retries() {
    let script = Script::new(spec(every_kind()), |_, _, _| Box::pin(std::future::pending()));
    let start = Instant::now();
    let cx = cx().with_deadline(start + Duration::from_secs(12));
    let error = stack::inner(script.clone(), &parts()).call(&cx, call("x_read")).await.unwrap_err();
    assert_eq!((script.sends(), error.kind()), (2, ErrorKind::Timeout));
    assert!(start.elapsed() <= Duration::from_millis(12_010), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_delay_the_vendor_names_is_never_shortened() {
    let throttled = |seconds: f64| Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::from_secs_f64(seconds))));
    for (named, least, most) in [(0.0, 0.0, 0.001), (0.5, 0.5, 0.6), (7.0, 7.0, 7.8), (50.0, 50.0, 55.1)] {
        let script = Script::quick(spec(every_kind()), move |n, _| if n == 1 { throttled(named) } else { ok() });
        let start = Instant::now();
        let reply = stack::inner(script.clone(), &parts()).call(&cx(), call("x_post")).await.unwrap();
        let waited = start.elapsed().as_secs_f64();
        assert!((least..=most).contains(&waited), "{named} s named, {waited} s waited");
        assert!(script.sends() == 2 && reply.meta.attempts == 2);
        assert!(reply.meta.waited.as_secs_f64() >= least);
    }
    // Too long to wait for: at once to the queue, with the time. Once because of the policy, once because of the deadline.
    for (named, left) in [(61.0, 300), (7.0, 5)] {
        let script = Script::quick(spec(every_kind()), move |_, _| throttled(named));
        let start = Instant::now();
        let cx = cx().with_deadline(start + Duration::from_secs(left));
        let error = stack::inner(script.clone(), &parts()).call(&cx, call("x_read")).await.unwrap_err();
        assert_eq!((script.sends(), error.retry_after()), (1, Some(Duration::from_secs_f64(named))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

/// R12 through the whole stack: a total outage of a host costs a tenth more sends than calls.
#[tokio::test(start_paused = true)]
async fn retry_budget_bounds_amplification() {
    for calls in [100usize, 1_000, 10_000] {
        let mut resilience = Resilience::standard();
        resilience.breaker.threshold = u32::MAX;
        resilience.breaker.min_calls = u32::MAX;
        let script = Script::quick(spec(every_kind()), |_, _| fail(ErrorKind::NotSent));
        let stack = stack::inner(script.clone(), &parts_of(resilience));
        let cx = cx();
        let mut stopped_by_budget = 0;
        for _ in 0..calls {
            let error = stack.call(&cx, call("x_read")).await.unwrap_err();
            stopped_by_budget += usize::from(error.context_value("stopped_by") == Some("retry budget"));
        }
        let sends = script.sends();
        assert!(sends <= calls + calls / 10 + 10, "{sends} sends for {calls} calls");
        assert!(sends >= calls + calls / 10 && stopped_by_budget > calls / 2, "{sends} sends for {calls} calls");
    }
}

/// One call in ten is throttled with "come back at once": every call still succeeds, far beyond what the budget would allow.
#[tokio::test(start_paused = true)]
async fn retries_the_vendor_asked_for_are_not_taken_from_the_budget() {
    let now = || Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::ZERO)));
    let script = Script::quick(spec(every_kind()), move |n, _| if n % 10 == 0 { now() } else { ok() });
    let stack = stack::inner(script.clone(), &parts());
    for _ in 0..5_000 {
        stack.call(&cx(), call("x_post")).await.unwrap();
    }
    assert_eq!(script.sends(), 5_555);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_ends_the_loop() {
    let script = Script::quick(spec(every_kind()), |_, _| fail(ErrorKind::Transient));
    let stack = stack::inner(script.clone(), &parts());
    stack.call(&cx(), call("x_read")).await.unwrap_err();
    let error = stack.call(&cx(), call("x_read")).await.unwrap_err();
    assert_eq!((script.sends(), error.kind()), (5, ErrorKind::CircuitOpen));
    let after = error.retry_after().unwrap();
    assert!(after > Duration::from_secs(50) && after <= Duration::from_secs(66), "{after:?}");
    assert_eq!(error.context_value("host"), Some("x.example"));
}

#[tokio::test(start_paused = true)]
async fn a_keyed_write_carries_the_same_key_on_every_send() {
    let script = Script::quick(spec(every_kind()), |n, _| if n < 3 { fail(ErrorKind::Transient) } else { ok() });
    stack::inner(script.clone(), &parts()).call(&cx().with_idempotency_key("mine"), call("x_keyed")).await.unwrap();
    assert!(script.sent().iter().all(|sent| sent.key.as_deref() == Some("mine")));

    let made = |operation: &'static str| async move {
        let script = Script::quick(spec(every_kind()), |n, _| if n < 3 { fail(ErrorKind::NotSent) } else { ok() });
        let parts = StackParts::new(Resilience::interactive().merge(&json!({"retry": {"max_attempts": 3}})).unwrap());
        stack::inner(script.clone(), &parts).call(&cx(), call(operation)).await.unwrap();
        script.sent().into_iter().map(|sent| sent.key).collect::<Vec<_>>()
    };
    let (first, second) = (made("x_keyed").await, made("x_keyed").await);
    assert!(first.iter().all(|key| *key == first[0]) && first[0].as_ref().is_some_and(|key| key.len() == 36), "{first:?}");
    assert_ne!(first[0], second[0]);
    assert_eq!(made("x_post").await, [None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_connector_may_forbid_or_ask_for_another_try() {
    for (error, op, sends) in [
        (Error::new(ErrorKind::Transient, "x").with_retry(Retry::Never), "x_read", 1),
        (Error::new(ErrorKind::Conflict, "x").with_retry(Retry::Soon), "x_keyed", 3),
        (Error::new(ErrorKind::Conflict, "x").with_retry(Retry::Soon), "x_post", 1),
        (Error::new(ErrorKind::Throttled, "x").with_retry(Retry::Exhausted), "x_read", 1),
    ] {
        let script = Script::quick(spec(every_kind()), move |_, _| Err(error.clone()));
        stack::inner(script.clone(), &parts()).call(&cx(), call(op)).await.unwrap_err();
        assert_eq!(script.sends(), sends);
    }
}

fn with_lookup() -> Vec<OpSpec> {
    let mut create = op("x_create", Effect::Write, Repeat::LookupFirst);
    create.lookup =
        Some(LookupSpec { tool: "x_find".into(), by: [("email".into(), ".properties.email".to_owned())].into(), found: Some(".results[0]".into()) });
    vec![create, op("x_find", Effect::Read, Repeat::Natural)]
}

/// A create that fails `failures` times, and a search that finds the record once `appears` sends have been made.
async fn create(kind: ErrorKind, failures: usize, appears: usize) -> (Vec<String>, connector_core::Result<OpReply>) {
    let creates = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let script = Script::quick(spec(with_lookup()), move |_, call| {
        if &*call.operation == "x_find" {
            assert_eq!(call.args["email"], "ada@example.com");
            let found = creates.load(std::sync::atomic::Ordering::SeqCst) >= appears;
            return Ok(OpReply::new(ReplyBody::Value(json!({"results": if found { json!([{"id": 7}]) } else { json!([]) }}))));
        }
        let n = creates.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        if n <= failures { fail(kind) } else { ok() }
    });
    let args = json!({"properties": {"email": "ada@example.com"}});
    let result = stack::inner(script.clone(), &parts()).call(&cx(), call_with("x_create", args)).await;
    (script.sent().into_iter().map(|sent| sent.operation).collect(), result)
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_write_is_looked_for_before_it_is_sent_again() {
    // It happened: the record is the reply.
    let (sent, reply) = create(ErrorKind::Transient, 9, 1).await;
    let reply = reply.unwrap();
    assert_eq!(sent, ["x_create", "x_find"]);
    assert_eq!((reply.meta.reconciled, reply.meta.attempts, reply.body.to_value().unwrap()), (true, 1, json!({"id": 7})));

    // It did not: it is sent again, and then succeeds.
    let (sent, reply) = create(ErrorKind::Transient, 1, 99).await;
    assert_eq!(sent, ["x_create", "x_find", "x_create"]);
    assert!(!reply.unwrap().meta.reconciled);

    // It never does: the sends are spent, and it is certain that nothing happened.
    let (sent, error) = create(ErrorKind::Transient, 9, 99).await;
    assert_eq!(sent, ["x_create", "x_find", "x_create", "x_find", "x_create", "x_find"]);
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Transient, Retry::Exhausted));

    // After timeouts two sends are enough.
    let (sent, error) = create(ErrorKind::Timeout, 9, 99).await;
    assert_eq!(sent, ["x_create", "x_find", "x_create", "x_find"]);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_write_nobody_could_look_for_stays_unknown() {
    let script = Script::quick(spec(with_lookup()), |_, call| match &*call.operation {
        "x_find" => fail(ErrorKind::Forbidden),
        _ => fail(ErrorKind::Transient),
    });
    let stack = stack::inner(script.clone(), &parts());
    let error = stack.call(&cx(), call_with("x_create", json!({"properties": {"email": "a@b.c"}}))).await.unwrap_err();
    assert_eq!((error.kind(), error.context_value("lookup"), script.sends()), (ErrorKind::Unknown, Some("forbidden"), 2));
    let error = stack.call(&cx(), call_with("x_create", json!({"properties": {}}))).await.unwrap_err();
    assert_eq!((error.kind(), script.sends()), (ErrorKind::Unknown, 3));
}
