//! What the manager of subscriptions does, one behaviour at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connector, Error, ErrorKind, OpCall, OpReply, Result, TenantId,
    connector::Lifecycle,
    delta::DeltaSource,
    layer::Layer,
    rotation::Rotator,
    spec::ConnectorSpec,
    state::{AuditFilter, Namespace},
    webhook::WebhookVerifier,
};
use connector_runtime::{CallRequest, SUBSCRIPTION_LOST, SubscriptionConfig, SubscriptionState};
use connector_sandbox::{FaultProfile, LifecycleEvent, known};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::subscriptions_world::{START, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Does something odd to the next call that makes a subscription.
#[derive(Debug, Default)]
struct Odd {
    /// The answer to it is lost.
    lose_answer: AtomicBool,
    /// It is held up until told to go on.
    hold: AtomicBool,
    held: Notify,
    go_on: Notify,
}

#[derive(Debug)]
struct OddLayer(Arc<Odd>);

#[derive(Debug)]
struct OddConnector {
    odd: Arc<Odd>,
    inner: Arc<dyn Connector>,
}

impl Layer for OddLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        Arc::new(OddConnector { odd: self.0.clone(), inner })
    }
}

#[async_trait]
impl Connector for OddConnector {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        self.inner.spec()
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        if &*call.operation != "msgraph_create_subscription" {
            return self.inner.call(cx, call).await;
        }
        if self.odd.hold.swap(false, Ordering::SeqCst) {
            self.odd.held.notify_one();
            self.odd.go_on.notified().await;
        }
        let reply = self.inner.call(cx, call).await?;
        if self.odd.lose_answer.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unknown, "the answer was lost on the way"));
        }
        Ok(reply)
    }

    async fn lifecycle(&self, cx: &CallCx, event: Lifecycle) -> Result<()> {
        self.inner.lifecycle(cx, event).await
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        self.inner.webhook()
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        self.inner.delta()
    }

    fn rotator(&self) -> Option<&dyn Rotator> {
        self.inner.rotator()
    }
}

fn told(world: &World) -> Vec<(String, String, bool)> {
    world.handled().into_iter().map(|one| (one.change, one.id, one.found)).collect()
}

#[tokio::test]
async fn one_is_made_with_a_lifecycle_url_and_what_was_there_before_is_not_told() {
    let world = World::new(1).await;
    world.arrive(1);
    let hub = world.running_hub().await;
    hub.tend().await;
    let view = hub.only().await;
    assert_eq!((view.state, view.counts.created), (SubscriptionState::Active, 1));
    assert_eq!(view.resource, format!("/users/{}/mailFolders('inbox')/messages", known::GRAPH_MAILBOX));
    assert_eq!(world.door.handshakes.load(Ordering::SeqCst), 2, "notification and lifecycle address");
    assert_eq!(world.sandbox.msgraph().subscription_ids(), [view.vendor_id.clone().unwrap()]);

    let id = world.arrive(2);
    world.settle().await;
    assert_eq!(told(&world), [("created".to_owned(), id, false)]);

    // By the actor `system`, on record, and with no secret anywhere.
    let trail = hub.runtime.audit_tail(&TenantId::default(), AuditFilter::default()).await.unwrap();
    let made: Vec<_> = trail.iter().filter(|one| &*one.record.operation == "msgraph_create_subscription").collect();
    assert!(made.iter().all(|one| one.record.actor == "system") && made.len() == 2, "intent and outcome: {made:?}");
    let rows = world.store.scan(Namespace::new(&TenantId::default(), "subscriptions"), "", None, 10).await.unwrap();
    let row: Value = serde_json::from_slice(&rows[0].1.value).unwrap();
    assert!(row["secrets"][0]["sealed"].is_string() && row["secrets"][0].get("plain").is_none(), "{row}");
}

#[tokio::test]
async fn one_whose_answer_was_lost_is_adopted_and_second_ones_are_ended() {
    let world = World::new(2).await;
    let odd = Arc::new(Odd::default());
    odd.lose_answer.store(true, Ordering::SeqCst);
    let hub = world.hub_with(Some(Arc::new(OddLayer(odd)))).await;
    hub.tend().await;
    let before = hub.only().await;
    assert_eq!((before.state, before.failures), (SubscriptionState::Pending, 1));
    let there = world.sandbox.msgraph().subscription_ids();
    assert_eq!(there.len(), 1, "it was made all the same");
    assert!(hub.runtime.dead_letters(&TenantId::default(), Default::default()).await.unwrap().is_empty(), "nobody has to decide about it");

    // Somebody else's for the same address, whose secret nobody here knows.
    let args = json!({ "resource": before.resource, "notification_url": before.notification_url, "client_state": "somebody-elses-secret",
        "expires": "2026-11-23T00:00:00Z" });
    let Value::Object(args) = args else { unreachable!() };
    hub.runtime.call(CallRequest::new("msgraph_create_subscription", args)).await.unwrap();
    world.pass(MINUTE);
    hub.tend().await;
    let view = hub.only().await;
    assert_eq!((view.state, view.counts.adopted, view.counts.created, view.counts.duplicates), (SubscriptionState::Active, 1, 0, 1));
    assert_eq!(world.sandbox.msgraph().subscription_ids(), there);
    let _running = hub.runtime.start();
    world.arrive(1);
    world.settle().await;
    assert_eq!(told(&world).len(), 1, "its secret is the one that was kept before the call left");
}

#[tokio::test]
async fn it_is_renewed_at_half_of_the_granted_life() {
    let world = World::new(3).await;
    world.sandbox.msgraph().grant_at_most(1_000);
    let hub = world.hub().await;
    hub.tend().await;
    let view = hub.only().await;
    assert_eq!((view.expires_at, view.renew_at), (Some((START + 60_000) * 1_000), Some((START + 30_000) * 1_000)));
    world.pass(499 * MINUTE);
    hub.tend().await;
    assert_eq!(hub.only().await.counts.renewed, 0);
    world.pass(2 * MINUTE);
    hub.tend().await;
    let renewed = hub.only().await;
    assert_eq!((renewed.counts.renewed, renewed.vendor_id), (1, view.vendor_id));
    assert_eq!(renewed.expires_at, Some((START + 501 * 60 + 60_000) * 1_000), "counted from what was granted");
}

#[tokio::test]
async fn a_renewal_that_fails_is_tried_until_the_end() {
    let world = World::new(4).await;
    world.sandbox.msgraph().grant_at_most(1_000);
    let hub = world.hub().await;
    hub.tend().await;
    let made = hub.only().await;
    world.sandbox.faults().set(FaultProfile { unavailable: 1.0, ..FaultProfile::none() });
    let (mut tries, mut waits) = (0, Vec::new());
    world.pass(500 * MINUTE);
    for _ in 0..490 {
        world.pass(MINUTE);
        hub.tend().await;
        let view = hub.only().await;
        if view.failures > tries {
            tries = view.failures;
            waits.push(view.retry_at.unwrap());
        }
    }
    assert!(tries >= 10, "{tries} tries in eight hours");
    let health = hub.runtime.health().await.into_iter().find(|health| health.connection == "msgraph").unwrap();
    assert!(health.warnings.iter().any(|warning| warning.contains(&made.id)), "{:?}", health.warnings);
    let last = waits[waits.len() - 1] - waits[waits.len() - 2];
    assert!(last < 15 * 60_000, "the nearer the end, the shorter the wait: {last} ms");
    world.sandbox.faults().set(FaultProfile::none());
    for _ in 0..9 {
        world.pass(MINUTE);
        hub.tend().await;
    }
    let view = hub.only().await;
    assert_eq!((view.vendor_id, view.counts.renewed, view.failures, view.state), (made.vendor_id, 1, 0, SubscriptionState::Active));
}

#[tokio::test]
async fn of_two_hubs_one_works_and_one_that_was_stopped_meanwhile_is_fenced() {
    let world = World::new(5).await;
    let odd = Arc::new(Odd::default());
    odd.hold.store(true, Ordering::SeqCst);
    let (a, b) = (world.hub_with(Some(Arc::new(OddLayer(odd.clone())))).await, world.hub().await);
    let slow = tokio::spawn({
        let runtime = a.runtime.clone();
        async move { runtime.tend_subscriptions().await }
    });
    odd.held.notified().await;
    assert!(b.tend().await.elsewhere);
    // Stopped for 90 seconds in the middle of making one: another hub takes over and makes it.
    world.pass(Duration::from_secs(90));
    let done = b.tend().await;
    assert_eq!((done.elsewhere, done.created), (false, 1));
    odd.go_on.notify_one();
    let done = slow.await.unwrap().unwrap();
    assert_eq!(done.failed, 1, "what it wanted to write was refused");
    let view = b.only().await;
    assert_eq!(world.sandbox.msgraph().subscription_ids(), [view.vendor_id.unwrap()], "the one it made as well is gone again");
    assert!(a.tend().await.elsewhere);
    world.pass(Duration::from_secs(61));
    assert!(!a.tend().await.elsewhere, "who is silent for a minute is followed by another");
    assert_eq!(world.sandbox.msgraph().subscription_ids().len(), 1);
}

#[tokio::test]
async fn what_the_vendor_says_about_a_subscription_is_acted_on() {
    let world = World::new(6).await;
    let hub = world.running_hub().await;
    hub.tend().await;
    let first = hub.only().await;

    world.pass(HOUR);
    world.sandbox.msgraph().fire_lifecycle(LifecycleEvent::ReauthorizationRequired);
    world.settle().await;
    hub.tend().await;
    let view = hub.only().await;
    assert_eq!((view.counts.renewed, &view.vendor_id), (1, &first.vendor_id));

    world.sandbox.msgraph().fire_lifecycle(LifecycleEvent::SubscriptionRemoved);
    let missed = world.arrive(1);
    world.settle().await;
    world.pass(MINUTE);
    hub.tend().await;
    world.settle().await;
    let view = hub.only().await;
    assert_ne!(view.vendor_id, first.vendor_id);
    assert_eq!((view.state, view.counts.created, view.gap), (SubscriptionState::Active, 2, None));
    assert_eq!(told(&world), [("created".to_owned(), missed.clone(), true)]);
    let hub_events = world.book.hub.lock().unwrap().clone();
    let lost: Vec<&Value> = hub_events.iter().filter(|(kind, _)| kind == SUBSCRIPTION_LOST).map(|(_, payload)| payload).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["vendor_id"].as_str(), first.vendor_id.as_deref());

    // A notification that is lost, and the vendor's word that some were.
    world.sandbox.faults().set(FaultProfile { dropped_webhook: 1.0, ..FaultProfile::none() });
    world.sandbox.msgraph().touch(known::GRAPH_MAILBOX, &missed, true);
    world.sandbox.settled().await;
    world.sandbox.faults().set(FaultProfile::none());
    world.sandbox.msgraph().fire_lifecycle(LifecycleEvent::Missed);
    world.settle().await;
    world.pass(MINUTE);
    hub.tend().await;
    world.settle().await;
    assert_eq!(told(&world).last(), Some(&("updated".to_owned(), missed, true)));
}

#[tokio::test]
async fn a_refused_renewal_means_a_new_one_and_both_secrets_count() {
    let world = World::new(7).await;
    world.sandbox.msgraph().grant_at_most(1_000);
    let hub = world.running_hub().await;
    hub.tend().await;
    let first = hub.only().await;
    world.pass(501 * MINUTE);
    world.sandbox.msgraph().refuse_renewals(1);
    hub.tend().await;
    let second = hub.only().await;
    assert_ne!(second.vendor_id, first.vendor_id);
    assert_eq!(world.sandbox.msgraph().subscription_ids(), [second.vendor_id.clone().unwrap()], "the old one is ended after the new one is there");
    let rows = world.store.scan(Namespace::new(&TenantId::default(), "subscriptions"), "", None, 10).await.unwrap();
    let row: Value = serde_json::from_slice(&rows[0].1.value).unwrap();
    let until: Vec<bool> = row["secrets"].as_array().unwrap().iter().map(|secret| secret.get("until").is_some()).collect();
    assert_eq!(until, [true, false]);
    let id = world.arrive(1);
    world.settle().await;
    assert_eq!(told(&world), [("created".to_owned(), id, false)]);
}

#[tokio::test]
async fn one_that_vanished_without_a_word_is_missed_at_the_next_reading() {
    let world = World::new(11).await;
    let hub = world.running_hub().await;
    hub.tend().await;
    let first = hub.only().await;
    world.sandbox.msgraph().drop_subscriptions();
    let id = world.arrive(1);
    world.pass(HOUR);
    hub.tend().await;
    world.settle().await;
    assert_eq!(told(&world), [("created".to_owned(), id, true)]);
    let second = hub.only().await;
    assert_ne!(second.vendor_id, first.vendor_id);
    assert_eq!(world.sandbox.msgraph().subscription_ids(), [second.vendor_id.unwrap()]);
    let lost = world.book.hub.lock().unwrap().iter().filter(|(kind, _)| kind == SUBSCRIPTION_LOST).count();
    assert_eq!(lost, 1);
}

#[tokio::test]
async fn a_cursor_the_vendor_forgot_means_one_reading_of_everything() {
    let world = World::new(8).await;
    let hub = world.running_hub().await;
    let stays: Vec<String> = (0..5).map(|n| world.arrive(n)).collect();
    hub.tend().await;
    // Nothing tells of what follows but the reading.
    world.sandbox.faults().set(FaultProfile { dropped_webhook: 1.0, ..FaultProfile::none() });
    let news = world.arrive(6);
    world.sandbox.msgraph().discard(known::GRAPH_MAILBOX, &stays[0]);
    world.sandbox.msgraph().touch(known::GRAPH_MAILBOX, &stays[1], true);
    world.sandbox.msgraph().expire_delta(known::GRAPH_MAILBOX);
    world.pass(HOUR);
    hub.tend().await;
    world.settle().await;
    let mut found = told(&world);
    found.sort();
    let mut expected =
        vec![("created".to_owned(), news, true), ("deleted".to_owned(), stays[0].clone(), true), ("updated".to_owned(), stays[1].clone(), true)];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(hub.only().await.counts.resyncs, 1);

    // At most one in 15 minutes, however often the cursor is forgotten.
    for _ in 0..10 {
        world.sandbox.msgraph().expire_delta(known::GRAPH_MAILBOX);
        let synced = hub.runtime.sync_subscription(&TenantId::default(), &hub.only().await.id).await;
        assert!(synced.is_ok());
        world.pass(MINUTE);
    }
    assert_eq!(hub.only().await.counts.resyncs, 1);
    assert!(hub.only().await.gap.is_some());
    world.pass(10 * MINUTE);
    hub.tend().await;
    world.settle().await;
    assert_eq!((hub.only().await.counts.resyncs, hub.only().await.gap, world.handled().len()), (2, None, 3));
}

#[tokio::test]
async fn over_http_one_is_added_and_taken_away_and_hub_yaml_keeps_its_own() {
    let world = World::new(9).await;
    let hub = world.hub().await;
    hub.tend().await;
    let tenant = TenantId::default();
    let own = hub.only().await;
    let mut wanted = SubscriptionConfig::new("msgraph", "messages");
    wanted.params = Map::from_iter([("folder".to_owned(), json!("archive"))]);
    let added = hub.runtime.add_subscription(&tenant, &wanted).await.unwrap();
    assert_eq!(hub.runtime.add_subscription(&tenant, &wanted).await.unwrap().id, added.id);
    hub.tend().await;
    assert_eq!(world.sandbox.msgraph().subscription_ids().len(), 2);

    let kind = |error: Error| error.kind();
    assert_eq!(hub.runtime.remove_subscription(&tenant, &own.id).await.map_err(kind).unwrap_err(), ErrorKind::Conflict);
    assert_eq!(hub.runtime.subscription(&"other".into(), &own.id).await.map_err(kind).unwrap_err(), ErrorKind::NotFound);
    let wrong = SubscriptionConfig::new("msgraph", "mesages");
    let error = hub.runtime.add_subscription(&tenant, &wrong).await.unwrap_err();
    assert!(error.message().contains("did you mean `messages`?"), "{error}");
    let mut wrong = SubscriptionConfig::new("msgraph", "chat_messages");
    let error = hub.runtime.add_subscription(&tenant, &wrong).await.unwrap_err();
    assert!(error.message().contains("`chat_id`"), "{error}");
    wrong.workspace = "nobody".into();

    hub.runtime.remove_subscription(&tenant, &added.id).await.unwrap();
    hub.tend().await;
    assert_eq!(world.sandbox.msgraph().subscription_ids(), [own.vendor_id.unwrap()]);
    assert_eq!(hub.runtime.subscriptions(&tenant).await.unwrap().len(), 1);
}

#[tokio::test]
async fn two_hubs_never_tell_a_change_twice() {
    let world = World::with_faults(10, FaultProfile { duplicate_webhook: 0.5, reordered_webhook: 0.3, ..FaultProfile::none() }).await;
    let (a, b) = (world.running_hub().await, world.running_hub().await);
    a.tend().await;
    let ids: Vec<String> = (0..30).map(|n| world.arrive(n)).collect();
    // A reading while the notifications are still on their way.
    let id = a.only().await.id;
    let leader = if a.runtime.sync_subscription(&TenantId::default(), &id).await.is_ok() { &a } else { &b };
    world.settle().await;
    leader.runtime.sync_subscription(&TenantId::default(), &id).await.unwrap();
    world.settle().await;
    let mut told: Vec<String> = world.handled().into_iter().map(|one| one.id).collect();
    told.sort();
    let mut expected = ids;
    expected.sort();
    assert_eq!(told, expected);
}
