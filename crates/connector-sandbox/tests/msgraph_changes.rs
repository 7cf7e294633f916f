//! How the fake Graph tells of changes: delta rounds, subscriptions with their handshake, notifications, lifecycle, and `$batch`.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use connector_sandbox::{EffectKind, FaultKind, FaultProfile, LifecycleEvent, RetrySchedule, Sandbox, known};
use serde_json::{Value, json};
use std::time::Duration;
use support::{Caller, Receiver, graph, mail, subscription};

const BOX: &str = "/users/support@contoso.example";
const DELTA: &str = "/users/support@contoso.example/mailFolders('inbox')/messages/delta?$select=subject";

async fn start() -> (Sandbox, Caller) {
    let schedule = RetrySchedule { attempts: 4, base: Duration::from_millis(1) };
    let sandbox = Sandbox::builder().notification_retries(schedule).start("127.0.0.1:0").await.unwrap();
    let graph = graph(&sandbox).await;
    (sandbox, graph)
}

fn inject(sandbox: &Sandbox, id: &str) -> String {
    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &mail(id, id, "")).unwrap()
}

/// Follows a round to its end: items and the delta link.
async fn round(graph: &Caller, start: &str) -> (Vec<Value>, String) {
    let (mut items, mut url) = (Vec::new(), start.to_owned());
    loop {
        let page = graph.get(&url).await.expect(200);
        items.extend(page["value"].as_array().unwrap().clone());
        match page["@odata.nextLink"].as_str() {
            Some(next) => url = next.to_owned(),
            None => return (items, page["@odata.deltaLink"].as_str().unwrap().to_owned()),
        }
    }
}

#[tokio::test]
async fn delta_rounds_show_each_change_once() {
    let (sandbox, graph) = start().await;
    let ids: Vec<String> = (0..12).map(|n| inject(&sandbox, &format!("m{n}@x"))).collect();
    let (items, link) = round(&graph.with("prefer", "odata.maxpagesize=5"), DELTA).await;
    assert_eq!(items.len(), 12);
    assert!(items.iter().all(|i| i["subject"].is_string() && i.get("body").is_none()));
    let (none, link) = round(&graph, &link).await;
    assert_eq!(none, Vec::<Value>::new());

    graph.patch(&format!("{BOX}/messages/{}", ids[0]), json!({"isRead": true})).await.expect(200);
    graph.patch(&format!("{BOX}/messages/{}", ids[0]), json!({"isRead": false})).await.expect(200);
    graph.post(&format!("{BOX}/messages/{}/move", ids[1]), json!({"destinationId": "archive"})).await.expect(201);
    let fresh = inject(&sandbox, "new@x");
    let (items, link) = round(&graph, &link).await;
    assert_eq!(items.len(), 3, "{items:?}");
    assert_eq!(items[0]["id"], json!(ids[0]));
    assert_eq!((&items[1]["id"], &items[1]["@removed"]["reason"]), (&json!(ids[1]), &json!("changed")));
    assert_eq!(items[2]["id"], json!(fresh));

    // Deleting twice: first to Deleted Items, then for good.
    assert_eq!(graph.delete(&format!("{BOX}/messages/{fresh}")).await.status, 204);
    let (items, _) = round(&graph, &link).await;
    assert_eq!(items[0]["@removed"]["reason"], "changed");
}

#[tokio::test]
async fn stale_cursors_are_gone_with_a_fresh_start() {
    let (sandbox, graph) = start().await;
    inject(&sandbox, "a@x");
    let (_, link) = round(&graph, DELTA).await;
    let fault = graph.with("x-sandbox-fault", "410").get(&link).await;
    assert_eq!(fault.expect(410)["error"]["code"], "syncStateNotFound");
    assert_eq!(sandbox.faults().count(FaultKind::ExpiredCursor), 1);
    graph.get(&link).await.expect(200);
    sandbox.msgraph().expire_delta(known::GRAPH_MAILBOX);
    let gone = graph.get(&link).await;
    assert_eq!(gone.status, 410);
    let (items, link) = round(&graph, gone.header("location")).await;
    assert_eq!(items.len(), 1);
    graph.get(&link).await.expect(200);
}

#[tokio::test]
async fn delta_filters_only_by_received_time_and_change_type() {
    let (sandbox, graph) = start().await;
    let url = format!("{BOX}/mailFolders/inbox/messages/delta");
    let (_, link) = round(&graph, &format!("{url}?changeType=created")).await;
    let id = inject(&sandbox, "a@x");
    let (items, link) = round(&graph, &link).await;
    assert_eq!(items.len(), 1);
    graph.patch(&format!("{BOX}/messages/{id}"), json!({"isRead": true})).await.expect(200);
    assert_eq!(round(&graph, &link).await.0.len(), 0);
    assert_eq!(graph.get(&format!("{url}?$filter=isRead%20eq%20true")).await.status, 400);
    assert_eq!(round(&graph, &format!("{url}?$filter=receivedDateTime%20ge%202099-01-01T00:00:00Z")).await.0.len(), 0);
}

#[tokio::test]
async fn a_subscription_needs_its_handshake_and_then_calls_back() {
    let (sandbox, graph) = start().await;
    let receiver = Receiver::start().await;
    let mut dead = subscription(&receiver);
    dead["notificationUrl"] = json!("http://127.0.0.1:1/nobody");
    assert_eq!(graph.post("/subscriptions", dead).await.expect(400)["error"]["code"], "ValidationError");
    let mut long = subscription(&receiver);
    long["expirationDateTime"] = json!("2099-01-01T00:00:00Z");
    assert_eq!(graph.post("/subscriptions", long).await.status, 400);
    assert_eq!(graph.get("/subscriptions").await.expect(200)["value"], json!([]));

    let made = graph.with("prefer", "IdType=\"ImmutableId\"").post("/subscriptions", subscription(&receiver)).await.expect(201);
    let id = made["id"].as_str().unwrap();
    inject(&sandbox, "a@x");
    sandbox.settled().await;
    let items = receiver.items();
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!((&items[0]["clientState"], &items[0]["changeType"]), (&json!("s3cret"), &json!("created")));
    let message = items[0]["resourceData"]["id"].as_str().unwrap();
    assert!(message.starts_with("AAkALg"), "immutable ids were asked for");
    graph.patch(&format!("{BOX}/messages/{message}"), json!({"isRead": true})).await.expect(200);
    graph.post(&format!("{BOX}/messages/{message}/move"), json!({"destinationId": "archive"})).await.expect(201);
    sandbox.settled().await;
    let mut changes: Vec<String> = receiver.items().iter().map(|i| i["changeType"].as_str().unwrap().to_owned()).collect();
    changes.sort();
    assert_eq!(changes, ["created", "deleted", "updated"], "the archive folder is not covered");

    let renewed = graph.patch(&format!("/subscriptions/{id}"), json!({"expirationDateTime": subscription(&receiver)["expirationDateTime"]})).await;
    renewed.expect(200);
    assert_eq!(graph.post(&format!("/subscriptions/{id}/reauthorize"), Value::Null).await.status, 204);
    assert_eq!(sandbox.msgraph().fire_lifecycle(LifecycleEvent::ReauthorizationRequired), 1);
    sandbox.settled().await;
    assert_eq!(receiver.items().last().unwrap()["lifecycleEvent"], "reauthorizationRequired");
    assert_eq!(graph.delete(&format!("/subscriptions/{id}")).await.status, 204);
    inject(&sandbox, "b@x");
    sandbox.settled().await;
    assert_eq!(receiver.items().len(), 4);
    assert_eq!(sandbox.ledger().count(EffectKind::SubscriptionChanged), 4);
}

#[tokio::test]
async fn undelivered_notifications_are_retried_and_given_up() {
    let (sandbox, graph) = start().await;
    let receiver = Receiver::start().await;
    graph.post("/subscriptions", subscription(&receiver)).await.expect(201);
    receiver.answer_with(&[503, 500]);
    inject(&sandbox, "a@x");
    sandbox.settled().await;
    let log = sandbox.notifications();
    assert_eq!((log[0].attempts, log[0].delivered), (3, true));
    receiver.answer_with(&[500; 4]);
    inject(&sandbox, "b@x");
    sandbox.settled().await;
    let log = sandbox.notifications();
    assert_eq!((log[1].attempts, log[1].delivered, log[1].status), (4, false, Some(500)));
}

#[tokio::test]
async fn duplicate_and_overtaken_notifications_still_all_arrive() {
    let profile = FaultProfile { duplicate_webhook: 0.5, reordered_webhook: 0.5, ..FaultProfile::none() };
    let sandbox = Sandbox::builder().seed(3).faults(profile).start("127.0.0.1:0").await.unwrap();
    let graph = graph(&sandbox).await;
    let receiver = Receiver::start().await;
    graph.post("/subscriptions", subscription(&receiver)).await.expect(201);
    let ids: Vec<String> = (0..20).map(|n| inject(&sandbox, &format!("m{n}@x"))).collect();
    sandbox.settled().await;
    let items = receiver.items();
    for id in &ids {
        assert!(items.iter().any(|i| i["resourceData"]["id"] == json!(id)), "lost {id}");
    }
    assert_eq!(items.len() as u64, 20 + sandbox.faults().count(FaultKind::DuplicateWebhook));
    assert!(sandbox.faults().count(FaultKind::DuplicateWebhook) > 0 && sandbox.faults().count(FaultKind::ReorderedWebhook) > 0);
}

#[tokio::test]
async fn a_batch_gives_each_item_its_own_outcome() {
    let (sandbox, graph) = start().await;
    let id = inject(&sandbox, "a@x");
    let headers = json!({"Content-Type": "application/json"});
    let requests = json!([
        {"id": "1", "method": "GET", "url": format!("{BOX}/messages/{id}?$select=subject")},
        {"id": "2", "dependsOn": ["1"], "method": "PATCH", "url": format!("{BOX}/messages/{id}"), "headers": headers, "body": {"isRead": true}},
        {"id": "3", "method": "GET", "url": format!("{BOX}/messages/none")},
        {"id": "4", "dependsOn": ["3"], "method": "GET", "url": format!("{BOX}/messages/{id}")},
        {"id": "5", "method": "GET", "url": format!("{BOX}/messages"), "headers": {"X-Sandbox-Fault": "429=2"}},
    ]);
    let body = graph.post("/$batch", json!({"requests": requests})).await.expect(200);
    let of = |id: &str| body["responses"].as_array().unwrap().iter().find(|r| r["id"] == id).unwrap().clone();
    assert_eq!(of("1")["body"]["subject"], "a@x");
    assert_eq!(of("2")["body"]["isRead"], true);
    assert_eq!((&of("3")["status"], &of("4")["status"]), (&json!(404), &json!(424)));
    assert_eq!((&of("5")["status"], &of("5")["headers"]["Retry-After"]), (&json!(429), &json!("2")));
    let same = json!([{"id": "a", "method": "GET", "url": "/users"}, {"id": "A", "method": "GET", "url": "/users"}]);
    assert_eq!(graph.post("/$batch", json!({"requests": same})).await.status, 400);
    let many: Vec<Value> = (0..21).map(|n| json!({"id": n.to_string(), "method": "GET", "url": "/users/x"})).collect();
    assert_eq!(graph.post("/$batch", json!({"requests": many})).await.status, 400);
    let bare = json!([{"id": "1", "method": "PATCH", "url": format!("{BOX}/messages/{id}"), "body": {"isRead": true}}]);
    assert_eq!(graph.post("/$batch", json!({"requests": bare})).await.status, 400, "a body needs a content type");
}
