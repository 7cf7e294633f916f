//! The order of the layers is fixed in one function, and each layer sees what its place promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::time::Duration;

use common::{Script, call, cx, every_kind, fail, ok, parts, spec};
use connector_core::{Error, ErrorKind, Retry, clock::Instant, layer::stack, resilience::BreakerState};

#[test]
fn the_order_is_fixed() {
    let names: Vec<String> =
        stack::layers(&parts()).iter().map(|layer| format!("{layer:?}").split([' ', '{', '(']).next().unwrap().to_owned()).collect();
    assert_eq!(names, ["TraceLayer", "MetricsLayer", "BatchLayer", "RetryLayer", "BreakerLayer", "LimitLayer", "TimeoutLayer"]);
}

/// The wrapped connector shows its layers from the outside in, through its `Debug`.
#[test]
fn the_stack_is_built_in_that_order() {
    let shown = format!("{:?}", stack::inner(Script::quick(spec(every_kind()), |_, _| ok()), &parts()));
    let places = ["Traced", "Measured", "Retrying", "Broken", "Limited", "Timed", "Script"].map(|name| shown.find(name).unwrap_or(usize::MAX));
    assert!(places.is_sorted() && places[6] != usize::MAX, "{places:?} in {shown}");
}

#[tokio::test(start_paused = true)]
async fn the_breaker_counts_attempts_not_calls() {
    let parts = parts();
    let stack = stack::inner(Script::quick(spec(every_kind()), |_, _| fail(ErrorKind::Transient)), &parts);
    stack.call(&cx(), call("x_read")).await.unwrap_err();
    let breaker = parts.breakers().get(cx().connection.scope()).unwrap().snapshot();
    assert_eq!((breaker.state, breaker.consecutive_failures, breaker.failures), (BreakerState::Closed, 3, 3));
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_per_attempt_and_count_in_the_breaker() {
    let parts = parts();
    let stack = stack::inner(Script::new(spec(every_kind()), |_, _, _| Box::pin(std::future::pending())), &parts);
    let start = Instant::now();
    stack.call(&cx(), call("x_read")).await.unwrap_err();
    assert!(start.elapsed() >= Duration::from_secs(20));
    assert_eq!(parts.breakers().get(cx().connection.scope()).unwrap().snapshot().failures, 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_takes_nothing_from_the_limits() {
    let parts = parts();
    let script = Script::quick(spec(every_kind()), |_, _| fail(ErrorKind::NotSent));
    let stack = stack::inner(script.clone(), &parts);
    for _ in 0..10 {
        stack.call(&cx(), call("x_read")).await.unwrap_err();
    }
    assert_eq!(script.sends(), 5);
    assert_eq!(parts.breakers().snapshot().into_values().map(|breaker| breaker.trips).collect::<Vec<_>>(), [1]);
}

/// Waiting for a turn is not waiting for an answer: the timeout starts after the limiter.
#[tokio::test(start_paused = true)]
async fn the_timeout_does_not_run_while_the_limiter_waits() {
    let script = Script::quick(spec(every_kind()), |n, _| match n {
        1 => Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::from_secs(30)))),
        _ => ok(),
    });
    let reply = stack::inner(script, &parts()).call(&cx(), call("x_read")).await.unwrap();
    assert!(reply.meta.waited >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_sees_the_same_deadline() {
    let script = Script::quick(spec(every_kind()), |n, _| if n < 3 { fail(ErrorKind::NotSent) } else { ok() });
    let start = Instant::now();
    stack::inner(script.clone(), &parts()).call(&cx(), call("x_read")).await.unwrap();
    let deadlines: Vec<_> = script.sent().into_iter().map(|sent| sent.deadline.unwrap() - start).collect();
    assert_eq!(deadlines, [Duration::from_secs(60); 3]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_operation_reaches_the_connector_that_refuses_it() {
    let script = Script::quick(spec(every_kind()), |_, _| Err(Error::unsupported("no such operation")));
    let error = stack::inner(script.clone(), &parts()).call(&cx(), call("x_nothing")).await.unwrap_err();
    assert_eq!((error.kind(), script.sends()), (ErrorKind::Unsupported, 1));
}
