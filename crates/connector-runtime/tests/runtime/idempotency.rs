//! At most once under a caller's key.

use std::time::Duration;

use connector_core::ErrorKind;
use connector_runtime::{CallOutcome, CallRequest};
use serde_json::json;

use crate::fixture::{Scripted, Step, call, runtime, value};

fn create(email: &str) -> CallRequest {
    call("crm_create", json!({ "email": email })).idempotency_key("order-1")
}

#[tokio::test(start_paused = true)]
async fn the_result_is_replayed_and_other_arguments_are_refused() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let first = value(&runtime, create("a@b.c")).await;
    assert_eq!(value(&runtime, create("a@b.c")).await, first);
    assert_eq!(connector.seen().len(), 1);
    assert_eq!(connector.seen()[0].key.as_deref(), Some("order-1"));
    let error = runtime.call(create("other@b.c")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("other arguments"), "{error}");
    // The key belongs to tenant and tool.
    value(&runtime, create("a@b.c").tenant("globex")).await;
    value(&runtime, call("crm_charge", json!({ "amount": 1 })).idempotency_key("order-1")).await;
    assert_eq!(connector.seen().len(), 3);
    assert_eq!(runtime.stats().replays, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_under_way_is_refused_until_it_ends() {
    let connector = Scripted::new();
    connector.script("crm_create", [Step::Slow(Duration::from_secs(5), json!({ "id": "1" }))]);
    let runtime = runtime(&connector).await;
    let first = tokio::spawn({
        let runtime = runtime.clone();
        async move { value(&runtime, create("a@b.c")).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = runtime.call(create("a@b.c")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Conflict, Some(Duration::from_secs(2))));
    assert_eq!(first.await.unwrap(), json!({ "id": "1" }));
    assert_eq!(value(&runtime, create("a@b.c")).await, json!({ "id": "1" }));
    assert_eq!(connector.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_callers_with_one_key_make_one_write() {
    let connector = Scripted::new();
    connector.script("crm_create", [Step::Slow(Duration::from_secs(1), json!({ "id": "1" }))]);
    let runtime = runtime(&connector).await;
    let calls = (0..64).map(|_| runtime.call(create("a@b.c")));
    let results = futures_util::future::join_all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(connector.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_definite_refusal_frees_the_key_and_an_unclear_end_does_not() {
    let connector = Scripted::new();
    connector.script("crm_create", [Step::Fail(ErrorKind::Invalid), Step::Fail(ErrorKind::Timeout)]);
    let runtime = runtime(&connector).await;
    assert_eq!(runtime.call(create("a@b.c")).await.unwrap_err().kind(), ErrorKind::Invalid);
    let unclear = runtime.call(create("a@b.c")).await.unwrap_err();
    assert_eq!(unclear.kind(), ErrorKind::Unknown);
    let again = runtime.call(create("a@b.c")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(again.context_value("job"), unclear.context_value("dead_letter"));
    assert_eq!(connector.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_process_vanished_is_repeated_only_where_that_does_no_harm() {
    let connector = Scripted::new();
    let slow = || [Step::Slow(Duration::from_secs(20), json!({}))];
    connector.script("crm_create", slow());
    connector.script("crm_update", slow());
    let runtime = runtime(&connector).await;
    let update = || call("crm_update", json!({ "id": "1" })).idempotency_key("k");
    for request in [create("a@b.c"), update()] {
        // The caller goes away in the middle: nobody writes the outcome down.
        assert!(tokio::time::timeout(Duration::from_secs(1), runtime.call(request)).await.is_err());
    }
    assert_eq!(runtime.call(create("a@b.c")).await.unwrap_err().kind(), ErrorKind::Conflict);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(runtime.call(create("a@b.c")).await.unwrap_err().kind(), ErrorKind::Unknown);
    assert!(matches!(runtime.call(update()).await.unwrap(), CallOutcome::Done(_)));
    assert_eq!((connector.sent("crm_create"), connector.sent("crm_update")), (1, 2));
}
