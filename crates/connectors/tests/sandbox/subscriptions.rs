//! Change notifications end to end: the handshake, one subscription whatever happens, renewal, lifecycle, forged deliveries.

use connector_sandbox::{EffectKind, LifecycleEvent, RetrySchedule, Sandbox, known};
use serde_json::{Value, json};

use crate::{
    receiver::Receiver,
    world::{mail, msgraph, tireless},
};

const SECRET: &str = "2f6b0c61d6f24c0e9f8f";

async fn call(client: &connectors::Client, operation: &str, args: Value) -> connectors::Result<Value> {
    client.call_dynamic(operation, args.as_object().unwrap().clone()).await?.body.to_value()
}

#[tokio::test]
async fn a_subscription_is_made_once_renewed_and_tells_of_new_mail() {
    let schedule = RetrySchedule { attempts: 1, base: std::time::Duration::from_millis(1) };
    let sandbox = Sandbox::builder().vendor("msgraph").notification_retries(schedule).start("127.0.0.1:0").await.unwrap();
    let graph = msgraph(&sandbox, &tireless());
    let receiver = Receiver::start(graph.connector().clone(), SECRET).await;
    let wanted = json!({ "notification_url": receiver.url, "lifecycle_url": receiver.url, "client_state": SECRET });

    let made = call(&graph, "msgraph_ensure_subscription", wanted.clone()).await.unwrap();
    assert_eq!(made["action"], "created");
    assert_eq!(receiver.read(|inbox| inbox.handshakes), 2, "one for each address");
    let again = call(&graph, "msgraph_ensure_subscription", wanted.clone()).await.unwrap();
    assert_eq!(again["subscription"]["id"], made["subscription"]["id"]);
    assert_eq!(sandbox.msgraph().subscription_ids().len(), 1);

    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &mail("a@client.example")).unwrap();
    sandbox.settled().await;
    let kinds: Vec<String> = receiver.read(|inbox| inbox.events.iter().map(|event| event.event_type.to_string()).collect());
    assert_eq!(kinds, ["message.created"]);
    assert_eq!(sandbox.msgraph().fire_lifecycle(LifecycleEvent::ReauthorizationRequired), 1);
    sandbox.settled().await;
    assert_eq!(receiver.read(|inbox| (inbox.events.len(), inbox.refused.len())), (2, 0));
    let id = made["subscription"]["id"].clone();
    call(&graph, "msgraph_reauthorize_subscription", json!({ "subscription_id": id })).await.unwrap();

    // The vendor drops it; ensuring makes a new one.
    sandbox.msgraph().fire_lifecycle(LifecycleEvent::SubscriptionRemoved);
    let remade = call(&graph, "msgraph_ensure_subscription", wanted).await.unwrap();
    assert_eq!(remade["action"], "created");
    assert_ne!(remade["subscription"]["id"], id);
    assert_eq!(sandbox.msgraph().subscription_ids().len(), 1);
    assert!(sandbox.ledger().count(EffectKind::SubscriptionChanged) >= 2);
}

#[tokio::test]
async fn a_delivery_with_another_secret_is_refused() {
    let schedule = RetrySchedule { attempts: 1, base: std::time::Duration::from_millis(1) };
    let sandbox = Sandbox::builder().vendor("msgraph").notification_retries(schedule).start("127.0.0.1:0").await.unwrap();
    let graph = msgraph(&sandbox, &tireless());
    let receiver = Receiver::start(graph.connector().clone(), "the secret we rotated to").await;
    let wanted = json!({ "notification_url": receiver.url, "client_state": SECRET });
    call(&graph, "msgraph_ensure_subscription", wanted).await.unwrap();
    sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &mail("a@client.example")).unwrap();
    sandbox.settled().await;
    assert_eq!(receiver.read(|inbox| (inbox.events.len(), inbox.refused.len())), (0, 1));
    assert!(!receiver.read(|inbox| inbox.refused[0].contains(SECRET)));
}
