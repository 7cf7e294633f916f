//! Jobs with one order key are handled one after the other, whatever happens to the first of them.

use std::{sync::Arc, time::Duration};

use connector_core::{
    ErrorKind, TenantId,
    clock::Clock,
    state::{JobState, NewJob, Store},
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
    a_revived_dead_letter_waits_for_the_one_in_work(make).await;
    concurrent_workers_never_have_two_of_a_lane(make).await;
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
    let claimed = store.claim("outbox", 10, LEASE).await.unwrap();
    assert_eq!(subjects(&claimed), ["a1", "a2"], "out of attempts, it makes way");
    assert_eq!((claimed[0].state, claimed[1].state), (JobState::Dead, JobState::Leased), "the claim tells of the one that it buried");
}

async fn a_revived_dead_letter_waits_for_the_one_in_work(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    for subject in ["a1", "a2", "a3"] {
        store.enqueue(in_lane(subject, "a")).await.unwrap();
    }
    let first = store.claim("outbox", 10, LEASE).await.unwrap().remove(0);
    assert!(store.bury(&first, failed(ErrorKind::Invalid)).await.unwrap());
    let second = store.claim("outbox", 10, LEASE).await.unwrap();
    assert_eq!(subjects(&second), ["a2"]);
    assert!(store.revive(&TenantId::from("acme"), first.id).await.unwrap());
    assert!(store.claim("outbox", 10, LEASE).await.unwrap().is_empty(), "never two of a lane at once");
    assert!(store.complete(&second[0]).await.unwrap());
    let revived = store.claim("outbox", 10, LEASE).await.unwrap();
    assert_eq!(subjects(&revived), ["a1"], "then the oldest");

    // A worker that vanished does not keep the lane closed for ever.
    assert!(store.bury(&revived[0], failed(ErrorKind::Invalid)).await.unwrap());
    assert_eq!(subjects(&store.claim("outbox", 10, LEASE).await.unwrap()), ["a3"]);
    assert!(store.revive(&TenantId::from("acme"), first.id).await.unwrap());
    clock.advance(LEASE);
    assert_eq!(subjects(&store.claim("outbox", 10, LEASE).await.unwrap()), ["a1"]);
}

async fn concurrent_workers_never_have_two_of_a_lane(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    for n in 0..40 {
        store.enqueue(in_lane(&n.to_string(), if n % 2 == 0 { "even" } else { "odd" })).await.unwrap();
    }
    let held: Arc<std::sync::Mutex<std::collections::BTreeSet<String>>> = Arc::default();
    let order: Arc<std::sync::Mutex<Vec<u32>>> = Arc::default();
    let workers: Vec<_> = (0..6)
        .map(|_| {
            let (store, held, order) = (store.clone(), held.clone(), order.clone());
            tokio::spawn(async move {
                while order.lock().unwrap().len() < 40 {
                    for job in store.claim("outbox", 4, LEASE).await.unwrap() {
                        let lane = job.order_key.clone().unwrap();
                        assert!(held.lock().unwrap().insert(lane.clone()), "two of lane {lane} at once");
                        order.lock().unwrap().push(job.subject.parse().unwrap());
                        tokio::task::yield_now().await;
                        assert!(held.lock().unwrap().remove(&lane));
                        assert!(store.complete(&job).await.unwrap());
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let order = order.lock().unwrap();
    for parity in 0..2 {
        let lane: Vec<u32> = order.iter().copied().filter(|n| n % 2 == parity).collect();
        assert!(lane.is_sorted() && lane.len() == 20, "out of order: {lane:?}");
    }
}
