//! The cache: hits, tenants apart, tags, one fetch for many.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    ErrorKind, Result,
    state::{NewEvent, StoredEvent},
};
use connector_runtime::{EventHandler, Runtime, config::PolicyConfig};
use serde_json::{Value, json};

use crate::fixture::{Scripted, Step, TestClock, call, config, runtime, value};

async fn get(runtime: &Runtime, id: &str) -> Value {
    value(runtime, call("crm_get", json!({ "id": id }))).await["n"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_kept_for_its_time_and_for_its_tenant_only() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    assert_eq!(get(&runtime, "1").await, 1);
    let hit = runtime.call(call("crm_get", json!({ "id": "1", "fields": null }))).await.unwrap().into_reply().unwrap();
    assert!(hit.meta.cached);
    assert_eq!(get(&runtime, "2").await, 2);
    assert_eq!(value(&runtime, call("crm_get", json!({ "id": "1" })).tenant("globex")).await["n"], 3);
    tokio::time::advance(Duration::from_secs(301)).await;
    assert_eq!(get(&runtime, "1").await, 4);
    assert_eq!(runtime.stats().calls_saved.cache, 1);
    assert_eq!(runtime.cache().stats().hits, 1);
}

#[tokio::test(start_paused = true)]
async fn tags_and_writes_of_our_own_drop_what_they_touch() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    for id in ["1", "2"] {
        get(&runtime, id).await;
    }
    runtime.cache().invalidate(&"globex".into(), "crm", "contact:1");
    runtime.cache().invalidate(&"acme".into(), "other", "contact:1");
    assert_eq!(get(&runtime, "1").await, 1);
    value(&runtime, call("crm_update", json!({ "id": "1", "name": "n" }))).await;
    assert_eq!((get(&runtime, "1").await, get(&runtime, "2").await), (json!(4), json!(2)));
    // By a tag that only the reply fills.
    connector.script("crm_get", [Step::Ok(json!({ "n": 70, "email": "a@b.c" }))]);
    get(&runtime, "7").await;
    value(&runtime, call("crm_create", json!({ "email": "a@b.c" }))).await;
    assert_ne!(get(&runtime, "7").await, 70);
}

#[tokio::test(start_paused = true)]
async fn concurrent_misses_fetch_once_and_an_invalidation_meanwhile_counts() {
    let connector = Scripted::new();
    connector.script("crm_get", [Step::Slow(Duration::from_secs(1), json!({ "n": "old" }))]);
    let runtime = runtime(&connector).await;
    let invalidated = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        runtime.cache().invalidate(&"acme".into(), "crm", "contact:1");
    };
    let (found, ()) = tokio::join!(futures_util::future::join_all((0..64).map(|_| get(&runtime, "1"))), invalidated);
    assert!(found.iter().all(|n| n == "old"));
    assert_eq!(connector.seen().len(), 1);
    assert_eq!(runtime.cache().stats().joined, 63);
    assert_ne!(get(&runtime, "1").await, "old", "what was fetched before the invalidation must not be kept after it");
}

#[tokio::test(start_paused = true)]
async fn failures_and_absences_are_not_kept() {
    let connector = Scripted::new();
    connector.script("crm_get", [Step::Fail(ErrorKind::NotFound), Step::Absent, Step::Ok(json!({ "n": 5 }))]);
    let runtime = runtime(&connector).await;
    assert_eq!(runtime.call(call("crm_get", json!({ "id": "1" }))).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(value(&runtime, call("crm_get", json!({ "id": "1" }))).await, Value::Null);
    assert_eq!(get(&runtime, "1").await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_follower_with_more_time_does_not_fail_with_its_leader() {
    let connector = Scripted::new();
    connector.script("crm_get", [Step::Slow(Duration::from_secs(5), json!({ "n": 1 })), Step::Slow(Duration::from_secs(5), json!({ "n": 2 }))]);
    let runtime = runtime(&connector).await;
    let mut hasty = call("crm_get", json!({ "id": "1" }));
    hasty.deadline = Some(Duration::from_secs(1));
    let (first, second) = tokio::join!(runtime.call(hasty), get(&runtime, "1"));
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(second, 2);
}

/// Tells the test that an event was handled.
#[derive(Debug)]
struct Tell(tokio::sync::mpsc::UnboundedSender<u64>);

#[async_trait]
impl EventHandler for Tell {
    async fn handle(&self, event: &StoredEvent, _: u32) -> Result<()> {
        self.0.send(event.seq).unwrap();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_drops_what_it_names_before_the_program_sees_it() {
    let connector = Scripted::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let clock = TestClock::shared();
    let builder = Runtime::builder().connector(connector.clone()).config(config(PolicyConfig::default())).env(|_| None);
    let runtime = builder.clock(clock).on_event(Arc::new(Tell(tell))).build().await.unwrap();
    let tasks = runtime.start();
    assert_eq!((get(&runtime, "1").await, get(&runtime, "2").await), (json!(1), json!(2)));
    let event = |tenant: &str, event_id: &str| NewEvent {
        tenant: tenant.into(),
        workspace: "default".into(),
        connector: "crm".into(),
        connection: "crm".into(),
        event_id: event_id.into(),
        event_type: "contact.changed".into(),
        order_key: None,
        flags: Vec::new(),
        payload: r#"{"objectId": 1}"#.into(),
        digest: None,
        received_at: 0,
    };
    runtime.store().append(vec![event("globex", "e1")]).await.unwrap();
    told.recv().await.unwrap();
    assert_eq!(get(&runtime, "1").await, 1, "another tenant's event changes nothing here");
    runtime.store().append(vec![event("acme", "e1")]).await.unwrap();
    told.recv().await.unwrap();
    assert_eq!((get(&runtime, "1").await, get(&runtime, "2").await), (json!(3), json!(2)));
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}
