//! Forwarding: signed, at least once under one id, to where the guard allows, until the receiver asks to be left alone.

use std::time::{Duration, UNIX_EPOCH};

use connector_core::{
    ErrorKind,
    state::{JobFilter, JobState},
    webhook::RawWebhook,
};
use connector_manifest::model::Verify;
use connector_runtime::{FORWARD_QUEUE, HubConfig, Runtime};
use connector_webhook::schemes;
use http::Method;
use serde_json::{Value, json};

use crate::rules_world::{Receiver, SECRET, World, acme, event, pass};

const OLD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const YAML: &str = r#"
rules:
  - { name: r, on: crm.contact.changed, tenant: acme, do: [{ forward: erp, data: { id: "{payload.id}" } }] }
endpoints:
  erp: { url: "https://erp.example/in?key=s3cret", secrets: ["${HOOK_SECRET}", "${OLD_SECRET}"], tenant: acme }
  people: { url: "https://people.example/in", secrets: ["${HOOK_SECRET}"], tenant: acme }
alerts:
  - { name: ops, tenant: acme, on: [endpoint_off, dead_letter], to: { endpoint: people } }
"#;

async fn start(world: &World) -> Runtime {
    let env = |name: &str| match name {
        "HOOK_SECRET" => Some(SECRET.to_owned()),
        "OLD_SECRET" => Some(OLD.to_owned()),
        _ => None,
    };
    world.builder().env(env).build().await.unwrap()
}

/// The requests to the host of an endpoint, as (id, body).
fn to(receiver: &Receiver, host: &str) -> Vec<(String, Value)> {
    let seen = receiver.seen().into_iter().filter(|(head, _)| head.url.host_str() == Some(host));
    seen.map(|(head, body)| (head.headers["webhook-id"].to_str().unwrap().to_owned(), serde_json::from_slice(&body).unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_event_is_taken_by_our_own_verifier_under_either_secret() {
    let world = World::new(YAML);
    world.receiver.answer([503, 429, 302]);
    let runtime = start(&world).await;
    let tasks = runtime.start();
    world.event("e1", json!({ "id": 7 })).await;
    pass(300).await;
    assert_eq!((world.states(FORWARD_QUEUE).await, world.receiver.asked()), (vec![JobState::Done], 4));
    let proof = schemes::proof(&Verify { scheme: Some("standard_webhooks".into()), ..Verify::default() }).unwrap();
    for (head, body) in world.receiver.seen() {
        let sent: u64 = head.headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
        let request = RawWebhook { method: &Method::POST, url: "", query: "", headers: &head.headers, body: &body };
        for secret in [SECRET, OLD] {
            proof.prove(&request, &[secret.into()], UNIX_EPOCH + Duration::from_secs(sent)).unwrap();
        }
        let other = "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
        assert!(proof.prove(&request, &[other.into()], UNIX_EPOCH + Duration::from_secs(sent)).is_err());
    }
    let sent = to(&world.receiver, "erp.example");
    assert!(sent.iter().all(|one| *one == sent[0]), "the same id and body at every attempt: {sent:?}");
    assert_eq!(sent[0].1, json!({ "type": "crm.contact.changed", "timestamp": "2027-01-15T08:00:00Z", "data": { "id": 7 } }));
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_is_switched_off_told_of_once_and_switched_on_by_whoever_tries_again() {
    let world = World::new(YAML);
    world.receiver.answer([410]);
    let runtime = start(&world).await;
    let tasks = runtime.start();
    world.event("e1", json!({ "id": 1 })).await;
    pass(3).await;
    world.event("e2", json!({ "id": 2 })).await;
    pass(60).await;
    assert_eq!(to(&world.receiver, "erp.example").len(), 1, "nothing more is sent there");
    let told: Vec<Value> = to(&world.receiver, "people.example").into_iter().map(|(_, body)| body["type"].clone()).collect();
    assert_eq!(told.iter().filter(|kind| **kind == "alert.endpoint_off").count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|kind| **kind == "alert.dead_letter").count(), 2, "{told:?}");
    let dead = runtime.dead_letters(&acme(), JobFilter::default()).await.unwrap();
    assert_eq!(dead.len(), 2);
    let message = &dead[0].last_error.as_ref().unwrap().message;
    assert!(message.contains("answered 410") && !message.contains("s3cret") && !message.contains("erp.example"), "{message}");

    // Another process knows it, too; whoever tries again switches it on.
    assert!(runtime.retry_dead_letter(&acme(), dead[1].id).await.unwrap());
    pass(10).await;
    assert_eq!(world.states(FORWARD_QUEUE).await, [JobState::Dead, JobState::Done]);
    assert!(!runtime.switch_on_endpoint(&acme(), "erp").await.unwrap());
    assert_eq!(runtime.switch_on_endpoint(&"globex".into(), "erp").await.unwrap_err().kind(), ErrorKind::Config);
    drop(tasks);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_is_refused_before_it_is_queued() {
    let world = World::new(&YAML.replace(", data: { id: \"{payload.id}\" }", ""));
    let runtime = start(&world).await;
    let tasks = runtime.start();
    world.event("e1", json!({ "id": "x".repeat(300 * 1024) })).await;
    pass(5).await;
    assert_eq!((world.states("events").await, world.states(FORWARD_QUEUE).await), (vec![JobState::Dead], vec![]));
    drop(tasks);
}

#[tokio::test]
async fn the_egress_guard_decides_where_events_may_go() {
    let mut server = mockito::Server::new_async().await;
    let hook = server.mock("POST", "/in").with_status(200).expect(1).create_async().await;
    for allow in [false, true] {
        let extra = if allow { ", egress_allow: [loopback]" } else { "" };
        let text = format!(
            "rules:\n  - {{ name: r, on: crm.contact.changed, tenant: acme, do: [{{ forward: erp }}] }}
endpoints:\n  erp: {{ url: \"{}/in\", secrets: [\"${{HOOK_SECRET}}\"], tenant: acme{extra} }}\n",
            server.url()
        );
        let world = World::new(&text);
        let config = HubConfig::parse(
            "hub.yaml",
            &format!("connections: {{ main: {{ connector: crm, base_url: \"https://crm.example\", tenant: acme }} }}\n{text}"),
        );
        let builder = Runtime::builder().connector(world.crm.clone()).config(config.unwrap()).store(world.store.clone()).clock(world.clock.clone());
        let runtime = builder.env(|name| (name == "HOOK_SECRET").then(|| SECRET.to_owned())).build().await.unwrap();
        world.add(event("e1")).await;
        let tasks = runtime.start();
        let wanted = if allow { JobState::Done } else { JobState::Dead };
        let settled = async {
            while world.states(FORWARD_QUEUE).await != [wanted] {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap();
        if !allow {
            assert_eq!(world.jobs(FORWARD_QUEUE).await[0].last_error.as_ref().unwrap().kind, ErrorKind::Denied);
        }
        drop(tasks);
    }
    hook.assert_async().await;
}
