//! Jobs with one order key are handled one after the other, whatever happens to the first of them.

use std::{sync::Arc, time::Duration};

use connector_core::{
    ErrorKind, TenantId,
    clock::Clock,
    state::{NewJob, Store},
};

use super::{
    fresh,
    jobs::{failed, subjects},
    new_job,
};

const LEASE: Duration = Duration::from_secs(60);

pub(super) async fn run(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    one_lane_moves_one_by_one(make).await;
    lanes_do_not_wait_for_each_other(make).await;
    a_lost_lease_keeps_the_lane_closed(make).await;
}

fn in_lane(subject: &str, lane: &str) -> NewJob {
    let mut job = new_job(subject);
    job.order_key = Some(lane.to_owned());
    job
}

async fn one_lane_moves_one_by_one(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    for subject in ["a1", "a2", "a3"] {
        store.enqueue(in_lane(subject, "a")).await.unwrap();
    }
    let first = store.claim("outbox", 10, LEASE).await.unwrap();
    assert_eq!(subjects(&first), ["a1"]);
    assert!(store.claim("outbox", 10, LEASE).await.unwrap().is_empty());
    assert!(store.retry(&first[0], clock.now_ms() + 5_000, failed(ErrorKind::Transient)).await.unwrap());
    assert!(store.claim("outbox", 10, LEASE).await.unwrap().is_empty(), "the first one waits, so the lane waits");
    clock.advance(Duration::from_secs(5));
    let first = store.claim("outbox", 10, LEASE).await.unwrap();
    assert_eq!(subjects(&first), ["a1"]);
    assert!(store.complete(&first[0]).await.unwrap());
    let second = store.claim("outbox", 10, LEASE).await.unwrap();
    assert_eq!(subjects(&second), ["a2"]);
    assert!(store.bury(&second[0], failed(ErrorKind::Invalid)).await.unwrap());
    let third = store.claim("outbox", 10, LEASE).await.unwrap();
    assert_eq!(subjects(&third), ["a3"], "a dead letter does not block the lane");
    assert!(store.complete(&third[0]).await.unwrap());
    assert!(store.revive(&TenantId::from("acme"), second[0].id).await.unwrap());
    assert_eq!(subjects(&store.claim("outbox", 10, LEASE).await.unwrap()), ["a2"]);
}

async fn lanes_do_not_wait_for_each_other(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    store.enqueue(in_lane("a1", "a")).await.unwrap();
    store.enqueue(in_lane("a2", "a")).await.unwrap();
    store.enqueue(in_lane("b1", "b")).await.unwrap();
    let mut foreign = in_lane("foreign", "a");
    foreign.tenant = "other".into();
    store.enqueue(foreign).await.unwrap();
    store.enqueue(new_job("free")).await.unwrap();
    assert_eq!(subjects(&store.claim("outbox", 10, LEASE).await.unwrap()), ["a1", "b1", "foreign", "free"]);
}

async fn a_lost_lease_keeps_the_lane_closed(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let mut once = in_lane("a1", "a");
    once.max_attempts = 2;
    store.enqueue(once).await.unwrap();
    store.enqueue(in_lane("a2", "a")).await.unwrap();
    assert_eq!(subjects(&store.claim("outbox", 10, LEASE).await.unwrap()), ["a1"]);
    clock.advance(LEASE);
    assert_eq!(subjects(&store.claim("outbox", 10, LEASE).await.unwrap()), ["a1"], "the same one again");
    clock.advance(LEASE);
    assert_eq!(subjects(&store.claim("outbox", 10, LEASE).await.unwrap()), ["a2"], "out of attempts, it makes way");
}
