//! Job queue behaviour: leases, fences, attempts, keys, dead letters, tenants.

use std::{sync::Arc, time::Duration};

use connector_core::{
    ErrorKind, TenantId,
    clock::Clock,
    state::{Enqueued, Job, JobError, JobFilter, JobState, QueueDepth, Store},
};

use super::{fresh, new_job, ordering};

const LEASE: Duration = Duration::from_secs(60);

/// Runs the job queue behaviour against fresh stores.
pub async fn jobs(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    due_jobs_come_oldest_first(&make).await;
    a_lost_lease_is_taken_again_and_fenced(&make).await;
    spent_attempts_are_dead_letters(&make).await;
    a_key_is_held_until_the_work_is_over(&make).await;
    dead_letters_are_revived_or_discarded(&make).await;
    tenants_do_not_see_each_other(&make).await;
    listings_filter_and_page(&make).await;
    concurrent_workers_share_without_overlap(&make).await;
    ordering::run(&make).await;
}

pub(super) fn failed(kind: ErrorKind) -> JobError {
    JobError { kind, message: "it did not work".to_owned() }
}

pub(super) fn subjects(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.subject.as_str()).collect()
}

fn acme() -> TenantId {
    TenantId::from("acme")
}

async fn due_jobs_come_oldest_first(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let mut later = new_job("later");
    later.not_before = clock.now_ms() + 5_000;
    store.enqueue(later).await.unwrap();
    let mut elsewhere = new_job("elsewhere");
    elsewhere.queue = "events".into();
    store.enqueue(elsewhere).await.unwrap();
    for subject in ["one", "two", "three"] {
        assert!(matches!(store.enqueue(new_job(subject)).await.unwrap(), Enqueued::New(_)));
    }
    assert!(store.claim("outbox", 0, LEASE).await.unwrap().is_empty());
    let first = store.claim("outbox", 2, LEASE).await.unwrap();
    assert_eq!(subjects(&first), ["one", "two"]);
    assert!(first.iter().all(|job| job.state == JobState::Leased && job.attempts == 1 && job.payload == "{}"));
    assert_eq!(subjects(&store.claim("outbox", 2, LEASE).await.unwrap()), ["three"]);
    assert_eq!(store.depth("outbox").await.unwrap(), QueueDepth { pending: 1, leased: 3, dead: 0 });
    clock.advance(Duration::from_millis(4_999));
    assert!(store.claim("outbox", 2, LEASE).await.unwrap().is_empty());
    clock.advance(Duration::from_millis(1));
    assert_eq!(subjects(&store.claim("outbox", 2, LEASE).await.unwrap()), ["later"]);
}

async fn a_lost_lease_is_taken_again_and_fenced(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    store.enqueue(new_job("one")).await.unwrap();
    let slow = store.claim("outbox", 1, LEASE).await.unwrap().remove(0);
    clock.advance(LEASE - Duration::from_millis(1));
    assert!(store.claim("outbox", 1, LEASE).await.unwrap().is_empty());
    clock.advance(Duration::from_millis(1));
    let quick = store.claim("outbox", 1, LEASE).await.unwrap().remove(0);
    assert_eq!((quick.id, quick.attempts), (slow.id, 2));
    assert!(quick.fence > slow.fence);
    assert!(!store.complete(&slow).await.unwrap(), "the lease was lost");
    assert!(!store.retry(&slow, 0, failed(ErrorKind::Timeout)).await.unwrap());
    assert!(!store.bury(&slow, failed(ErrorKind::Timeout)).await.unwrap());
    assert_eq!(store.job(&acme(), slow.id).await.unwrap().unwrap().state, JobState::Leased);
    assert!(store.complete(&quick).await.unwrap());
    assert!(!store.complete(&quick).await.unwrap(), "it is finished already");
    assert_eq!(store.job(&acme(), quick.id).await.unwrap().unwrap().state, JobState::Done);

    // A lease that ran out but that nobody else took may still be used.
    store.enqueue(new_job("two")).await.unwrap();
    let late = store.claim("outbox", 1, LEASE).await.unwrap().remove(0);
    clock.advance(LEASE * 2);
    assert!(store.complete(&late).await.unwrap());
}

async fn spent_attempts_are_dead_letters(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let id = store.enqueue(new_job("fails")).await.unwrap().id();
    for attempt in 1..=3 {
        let job = store.claim("outbox", 1, LEASE).await.unwrap().remove(0);
        assert_eq!(job.attempts, attempt);
        assert!(store.retry(&job, clock.now_ms() + 1_000, failed(ErrorKind::Transient)).await.unwrap());
        let kept = store.job(&acme(), id).await.unwrap().unwrap();
        assert_eq!(kept.last_error, Some(failed(ErrorKind::Transient)));
        assert_eq!(kept.state, if attempt == 3 { JobState::Dead } else { JobState::Pending });
        assert!(store.claim("outbox", 1, LEASE).await.unwrap().is_empty(), "it waits");
        clock.advance(Duration::from_secs(1));
    }
    assert!(store.claim("outbox", 1, LEASE).await.unwrap().is_empty());

    // A worker that vanishes on its last attempt leaves a dead letter, not an endless loop.
    let mut once = new_job("once");
    once.max_attempts = 1;
    let id = store.enqueue(once).await.unwrap().id();
    assert_eq!(store.claim("outbox", 1, LEASE).await.unwrap().len(), 1);
    clock.advance(LEASE);
    let buried = store.claim("outbox", 1, LEASE).await.unwrap();
    assert_eq!(buried.iter().map(|job| (job.id, job.state)).collect::<Vec<_>>(), [(id, JobState::Dead)], "somebody hears of it, once");
    assert!(store.claim("outbox", 1, LEASE).await.unwrap().is_empty());
    let dead = store.job(&acme(), id).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.last_error.unwrap().kind), (JobState::Dead, ErrorKind::Timeout));
    assert_eq!(store.depth("outbox").await.unwrap(), QueueDepth { pending: 0, leased: 0, dead: 2 });
}

async fn a_key_is_held_until_the_work_is_over(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let keyed = |tenant: &str, queue: &str| {
        let mut job = new_job("keyed");
        (job.tenant, job.queue, job.key) = (tenant.into(), queue.into(), Some("k".to_owned()));
        job
    };
    let id = store.enqueue(keyed("acme", "outbox")).await.unwrap().id();
    assert_eq!(store.enqueue(keyed("acme", "outbox")).await.unwrap(), Enqueued::Existing(id));
    assert!(matches!(store.enqueue(keyed("other", "outbox")).await.unwrap(), Enqueued::New(_)), "keys are per tenant");
    assert!(matches!(store.enqueue(keyed("acme", "events")).await.unwrap(), Enqueued::New(_)), "and per queue");
    let jobs = store.claim("outbox", 5, LEASE).await.unwrap();
    let job = jobs.iter().find(|job| job.id == id).unwrap();
    assert_eq!(store.enqueue(keyed("acme", "outbox")).await.unwrap(), Enqueued::Existing(id), "leased");
    assert!(store.bury(job, failed(ErrorKind::Invalid)).await.unwrap());
    assert_eq!(store.enqueue(keyed("acme", "outbox")).await.unwrap(), Enqueued::Existing(id), "dead: a person decides");
    assert_eq!(store.bury_new(keyed("acme", "outbox"), failed(ErrorKind::Invalid)).await.unwrap(), id);
    assert!(store.discard(&acme(), id).await.unwrap());
    assert!(matches!(store.enqueue(keyed("acme", "outbox")).await.unwrap(), Enqueued::New(_)), "the key is free again");
}

async fn dead_letters_are_revived_or_discarded(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let mut job = new_job("never ran");
    job.key = Some("k".to_owned());
    let id = store.bury_new(job, failed(ErrorKind::Denied)).await.unwrap();
    let dead = store.job(&acme(), id).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.attempts, dead.last_error), (JobState::Dead, 0, Some(failed(ErrorKind::Denied))));
    assert!(store.claim("outbox", 1, LEASE).await.unwrap().is_empty());
    assert!(store.revive(&acme(), id).await.unwrap());
    assert!(!store.revive(&acme(), id).await.unwrap(), "it is not dead any more");
    for attempt in 1..=3 {
        let job = store.claim("outbox", 1, LEASE).await.unwrap().remove(0);
        assert_eq!((job.attempts, job.key.as_deref()), (attempt, Some("k")));
        assert!(store.retry(&job, clock.now_ms(), failed(ErrorKind::Transient)).await.unwrap());
    }
    assert!(store.revive(&acme(), id).await.unwrap(), "with fresh attempts");
    let job = store.claim("outbox", 1, LEASE).await.unwrap().remove(0);
    assert_eq!(job.attempts, 1);
    assert!(!store.discard(&acme(), id).await.unwrap(), "only dead letters are discarded");
    assert!(store.bury(&job, failed(ErrorKind::Invalid)).await.unwrap());
    assert!(store.discard(&acme(), id).await.unwrap());
    assert!(!store.revive(&acme(), id).await.unwrap());
    assert_eq!(store.job(&acme(), id).await.unwrap().unwrap().state, JobState::Discarded);
}

async fn tenants_do_not_see_each_other(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let other = TenantId::from("other");
    let id = store.bury_new(new_job("mine"), failed(ErrorKind::Invalid)).await.unwrap();
    assert!(store.job(&other, id).await.unwrap().is_none());
    assert!(store.jobs(&other, JobFilter::default()).await.unwrap().is_empty());
    assert!(!store.revive(&other, id).await.unwrap());
    assert!(!store.discard(&other, id).await.unwrap());
    assert_eq!(store.job(&acme(), id).await.unwrap().unwrap().state, JobState::Dead);

    store.enqueue(new_job("two")).await.unwrap();
    let mut forged = store.claim("outbox", 1, LEASE).await.unwrap().remove(0);
    forged.tenant = other;
    assert!(!store.complete(&forged).await.unwrap());
}

async fn listings_filter_and_page(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    for n in 0..110 {
        let mut job = new_job(&format!("j{n}"));
        job.queue = if n < 105 { "outbox".into() } else { "events".into() };
        store.enqueue(job).await.unwrap();
    }
    store.bury_new(new_job("dead"), failed(ErrorKind::Invalid)).await.unwrap();
    let page = store.jobs(&acme(), JobFilter::default()).await.unwrap();
    assert_eq!((page.len(), page[0].subject.as_str()), (100, "j0"));
    let rest = store.jobs(&acme(), JobFilter { after: Some(page[99].id), ..JobFilter::default() }).await.unwrap();
    assert_eq!(rest.len(), 11);
    let dead = JobFilter { queue: Some("outbox".to_owned()), state: Some(JobState::Dead), ..JobFilter::default() };
    assert_eq!(subjects(&store.jobs(&acme(), dead).await.unwrap()), ["dead"]);
    let two = JobFilter { queue: Some("events".to_owned()), limit: 2, ..JobFilter::default() };
    assert_eq!(subjects(&store.jobs(&acme(), two).await.unwrap()), ["j105", "j106"]);
}

async fn concurrent_workers_share_without_overlap(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    for n in 0..100 {
        store.enqueue(new_job(&n.to_string())).await.unwrap();
    }
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let jobs = store.claim("outbox", 7, LEASE).await.unwrap();
                    if jobs.is_empty() {
                        return mine;
                    }
                    for job in jobs {
                        assert!(store.complete(&job).await.unwrap());
                        mine.push(job.id);
                    }
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
}
