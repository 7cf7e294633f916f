//! Alerts: every dead letter is told of once, to those who want to hear of it, and telling never becomes a reason to tell.

use std::time::Duration;

use connector_core::{
    ErrorKind,
    state::{EventLog as _, Job, JobError, JobFilter, JobQueue as _, JobState, NewEvent, NewJob},
};
use connector_runtime::{ALERTS_QUEUE, OUTBOX_QUEUE, REAUTH_REQUIRED, Runtime};
use serde_json::{Value, json};

use crate::{
    fixture::{Step, call},
    rules_world::{World, acme, event, leap, pass},
};

const OPS: &str = r#"
rules:
  - { name: wrong, on: crm.contact.changed, tenant: acme, do: [{ push: "a b" }] }
  - { name: far, on: crm.forwarded, tenant: acme, do: [{ forward: erp }] }
endpoints:
  erp: { url: "https://erp.example/in", secrets: ["${HOOK_SECRET}"], tenant: acme }
  ops: { url: "https://ops.example/in", secrets: ["${HOOK_SECRET}"], tenant: acme }
alerts:
  - { name: ops, on: [dead_letter], tenant: acme, to: { endpoint: ops } }
"#;

/// What was told to the people in charge, as (id, data).
fn told(world: &World) -> Vec<(String, Value)> {
    let seen = world.receiver.seen().into_iter().filter(|(head, _)| head.url.host_str() == Some("ops.example"));
    seen.map(|(head, body)| {
        let body: Value = serde_json::from_slice(&body).unwrap();
        (head.headers["webhook-id"].to_str().unwrap().to_owned(), body["data"].clone())
    })
    .collect()
}

async fn dead(runtime: &Runtime) -> Vec<Job> {
    runtime.dead_letters(&acme(), JobFilter::default()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_way_to_die_is_told_once_whichever_hub_saw_it() {
    let world = World::new(OPS);
    let (one, two) = (world.runtime().await, world.runtime().await);
    // Its workers vanished: taken as often as it may be, and never finished.
    let new = NewJob {
        tenant: acme(),
        workspace: "sales".into(),
        queue: OUTBOX_QUEUE.into(),
        subject: "crm_update".into(),
        key: None,
        order_key: None,
        payload: "{}".into(),
        not_before: 0,
        max_attempts: 1,
    };
    world.store.enqueue(new).await.unwrap();
    assert_eq!(world.store.claim(OUTBOX_QUEUE, 1, Duration::from_secs(1)).await.unwrap().len(), 1);
    pass(2).await;
    let tasks = (one.start(), two.start());
    // An event that fails for good.
    world.event("e1", json!({})).await;
    // A write that nobody can tell about, and one that is refused from the queue.
    world.crm.script("crm_create", [Step::Fail(ErrorKind::Transient)]);
    assert_eq!(one.call(call("crm_create", json!({ "email": "a" }))).await.unwrap_err().kind(), ErrorKind::Unknown);
    world.crm.script("crm_update", [Step::Fail(ErrorKind::NotSent), Step::Fail(ErrorKind::NotSent), Step::Fail(ErrorKind::NotSent)]);
    world.crm.script("crm_update", [Step::Fail(ErrorKind::Forbidden)]);
    two.call(call("crm_update", json!({ "id": "1" }))).await.unwrap();
    pass(5).await;
    // A delivery that is not wanted.
    world.receiver.gone("erp.example");
    world.add(NewEvent { event_type: "forwarded".into(), ..event("e2") }).await;
    pass(900).await;
    let dead = dead(&one).await;
    let queues: Vec<&str> = dead.iter().map(|job| &*job.queue).collect();
    assert_eq!(queues, ["outbox", "events", "outbox", "outbox", "forward"]);
    let told = told(&world);
    let mut ids: Vec<&str> = told.iter().map(|(id, _)| id.as_str()).collect();
    ids.sort_unstable();
    let mut expected: Vec<String> = dead.iter().map(|job| format!("dead_{}_{}_ops", job.id, job.fence)).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected, "each once");
    for (_, data) in &told {
        assert_eq!((data["kind"].as_str(), data["level"].as_str(), data["tenant"].as_str()), (Some("dead_letter"), Some("critical"), Some("acme")));
    }
    let texts: Vec<&str> = told.iter().filter_map(|(_, data)| data["text"].as_str()).collect();
    assert!(texts.iter().any(|text| text.starts_with("`crm_create` was given up after 1 attempt(s) in queue `outbox`")), "{texts:#?}");
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_dies_again_is_told_again_and_one_of_a_dead_process_too() {
    let world = World::new(OPS);
    let runtime = world.runtime().await;
    world.store.die_at(Some("bury"));
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(3).await;
    assert!(world.store.died() && told(&world).is_empty());
    drop((tasks, runtime));
    world.store.die_at(None);
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    pass(30).await;
    assert_eq!(told(&world).len(), 1, "found when the next process starts");
    let id = dead(&runtime).await[0].id;
    assert!(runtime.retry_dead_letter(&acme(), id).await.unwrap());
    pass(2_000).await;
    let told = told(&world);
    assert_eq!(told.len(), 2);
    assert_ne!(told[0].0, told[1].0);
    assert!(runtime.discard_dead_letter(&acme(), id).await.unwrap());
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_cannot_be_delivered_is_a_dead_letter_of_which_no_alert_tells() {
    let world = World::new(OPS);
    world.receiver.answer(std::iter::repeat_n(500, 8));
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(900).await;
    leap(36).await;
    assert_eq!(world.states(ALERTS_QUEUE).await, [JobState::Dead]);
    assert_eq!((told(&world).len(), world.receiver.asked()), (8, 8), "one alert, eight attempts");
    // It can be sent again like any other.
    let alert = world.jobs(ALERTS_QUEUE).await.remove(0);
    assert!(runtime.retry_dead_letter(&acme(), alert.id).await.unwrap());
    pass(10).await;
    assert_eq!(world.states(ALERTS_QUEUE).await, [JobState::Done]);
    drop(tasks);
}

const CHAT: &str = r#"
rules:
  - { name: wrong, on: crm.contact.changed, tenant: acme, do: [{ push: "a b" }] }
  - { name: says, on: crm.said, tenant: acme, do: [{ alert: "{payload.text}", level: "info" }] }
alerts:
  - { name: chat, tenant: acme, workspace: sales, min_level: warning, to: { call: crm_create, params: { email: "[{alert.level}] {alert.text}" } } }
  - { name: all, tenant: "*", on: [rule, reauth_required, credential_due], to: { call: crm_charge, connection: ours, params: { amount: 1 } } }
  - { name: theirs, tenant: globex, to: { call: crm_update, params: { id: "{alert.kind}" } } }
"#;

#[tokio::test(start_paused = true)]
async fn everybody_hears_of_what_they_want_to_hear_of() {
    let world = World::new(CHAT);
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    world.add(NewEvent { event_type: "said".into(), payload: json!({ "text": "hello" }).to_string().into(), ..event("e2") }).await;
    // What the hub itself tells of another tenant.
    let payload = json!({ "credential": "crm_prod", "reason": "invalid_grant", "connections": ["rival"] });
    let hub = NewEvent {
        tenant: "globex".into(),
        connection: "$hub".into(),
        event_type: REAUTH_REQUIRED.into(),
        payload: payload.to_string().into(),
        ..event("reauth:crm_prod:1")
    };
    world.add(hub).await;
    pass(20).await;
    let seen = world.crm.seen();
    let of = |tool: &str| -> Vec<&str> {
        seen.iter().filter(|seen| seen.operation == tool).filter_map(|seen| seen.args.values().find_map(Value::as_str)).collect()
    };
    let chat = of("crm_create");
    assert!(chat.len() == 1 && chat[0].starts_with("[critical] `crm contact.changed` was given up"), "{chat:?}");
    assert_eq!(of("crm_update"), ["reauth_required"]);
    assert_eq!(world.crm.sent("crm_charge"), 2, "the rule's of one tenant, the hub's of another, and no dead letter");
    assert!(seen.iter().all(|seen| seen.key.is_some()));
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn telling_by_a_tool_is_tried_again_by_the_alerts_own_queue_and_never_tells_of_itself() {
    let world = World::new(CHAT);
    // Refused for now; then nobody knows; a `crm_create` is never sent again on its own.
    world.crm.script("crm_create", std::iter::repeat_n(Step::Fail(ErrorKind::Throttled), 3));
    world.crm.script("crm_create", [Step::Fail(ErrorKind::Transient)]);
    let runtime = world.runtime().await;
    let tasks = runtime.start();
    world.event("e1", json!({})).await;
    pass(900).await;
    let queues: Vec<String> = dead(&runtime).await.iter().map(|job| job.queue.to_string()).collect();
    assert_eq!(queues, ["events", "alerts", "outbox"], "the event, its alert, and the message that may or may not be there");
    assert_eq!(world.crm.sent("crm_create"), 4);
    assert_eq!(runtime.stats().queued, 0);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_starts_tells_of_old_dead_letters_once() {
    let world = World::new(OPS);
    let job = NewJob {
        tenant: acme(),
        workspace: "sales".into(),
        queue: OUTBOX_QUEUE.into(),
        subject: "crm_update".into(),
        key: None,
        order_key: None,
        payload: "{}".into(),
        not_before: 0,
        max_attempts: 1,
    };
    for _ in 0..450 {
        world.store.bury_new(job.clone(), JobError { kind: ErrorKind::Unknown, message: "who knows".into() }).await.unwrap();
    }
    for _ in 0..2 {
        let runtime = world.runtime().await;
        let tasks = runtime.start();
        pass(1_000).await;
        assert_eq!(told(&world).len(), 450);
        drop(tasks);
    }
    assert_eq!(world.store.events(&acme(), connector_core::state::EventFilter::default()).await.unwrap().len(), 0);
}
