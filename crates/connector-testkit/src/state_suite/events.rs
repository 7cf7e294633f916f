//! Event log behaviour: dedupe, mismatch, one job per event, replay, pruning, tenants.

use std::{sync::Arc, time::Duration};

use connector_core::{
    TenantId,
    clock::Clock,
    state::{Appended, EventFilter, JobError, JobState, Store},
};

use super::{START_MS, fresh, new_event};

/// Runs the event log behaviour against fresh stores.
pub async fn events(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    an_event_is_kept_once(&make).await;
    whoever_seals_payloads_says_what_is_the_same(&make).await;
    a_batch_may_repeat_itself(&make).await;
    concurrent_duplicates_give_one_event(&make).await;
    every_event_gets_one_job(&make).await;
    replay_queues_again_and_only_once(&make).await;
    listings_filter_and_page(&make).await;
    pruning_keeps_unfinished_work(&make).await;
    any_text_and_length_is_kept(&make).await;
    the_job_says_what_the_event_is(&make).await;
    a_follower_misses_nothing(&make).await;
}

fn acme() -> TenantId {
    TenantId::from("acme")
}

async fn an_event_is_kept_once(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let mut event = new_event("e1", r#"{"n":1}"#);
    event.flags = vec!["unknown_type".to_owned()];
    event.order_key = Some("7".to_owned());
    let [Appended::New { seq, .. }] = store.append(vec![event]).await.unwrap()[..] else { panic!("the first one is new") };
    assert_eq!(store.append(vec![new_event("e1", r#"{"n":1}"#)]).await.unwrap(), [Appended::Duplicate { seq }]);
    assert_eq!(store.append(vec![new_event("e1", r#"{"n":2}"#)]).await.unwrap(), [Appended::Mismatch { seq }]);
    let kept = store.event(&acme(), seq).await.unwrap().unwrap();
    assert_eq!(kept.payload, r#"{"n":1}"#, "the first one wins");
    assert_eq!((kept.duplicates, kept.received_at), (1, START_MS));
    assert_eq!((&*kept.event_type, &*kept.connector, &*kept.connection, kept.event_id.as_str()), ("contact.created", "crm", "crm_main", "e1"));
    assert_eq!((kept.flags, kept.order_key.as_deref(), kept.workspace.as_str()), (vec!["unknown_type".to_owned()], Some("7"), "support"));

    // The same id elsewhere is another event.
    let mut elsewhere = new_event("e1", r#"{"n":2}"#);
    elsewhere.connection = "crm_second".into();
    let mut foreign = new_event("e1", r#"{"n":3}"#);
    foreign.tenant = "other".into();
    let appended = store.append(vec![elsewhere, foreign]).await.unwrap();
    assert!(appended.iter().all(|one| matches!(one, Appended::New { .. })), "{appended:?}");
    assert_eq!(store.event(&TenantId::from("other"), seq).await.unwrap().map(|event| event.seq), None, "another tenant sees nothing");
    assert!(store.append(Vec::new()).await.unwrap().is_empty());
}

async fn whoever_seals_payloads_says_what_is_the_same(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let sealed = |bytes: &str, digest: u8| {
        let mut event = new_event("e1", bytes);
        event.digest = Some([digest; 32]);
        vec![event]
    };
    let [Appended::New { seq, .. }] = store.append(sealed("aaa", 1)).await.unwrap()[..] else { panic!("the first one is new") };
    assert_eq!(store.append(sealed("bbb", 1)).await.unwrap(), [Appended::Duplicate { seq }]);
    assert_eq!(store.append(sealed("aaa", 2)).await.unwrap(), [Appended::Mismatch { seq }]);
}

async fn a_batch_may_repeat_itself(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let appended = store.append(vec![new_event("e1", "1"), new_event("e2", "2"), new_event("e1", "1"), new_event("e2", "x")]).await.unwrap();
    let [Appended::New { seq: one, .. }, Appended::New { seq: two, .. }, third, fourth] = appended[..] else { panic!("{appended:?}") };
    assert!(two > one);
    assert_eq!((third, fourth), (Appended::Duplicate { seq: one }, Appended::Mismatch { seq: two }));
}

async fn concurrent_duplicates_give_one_event(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.append(vec![new_event("e1", "1")]).await.unwrap()[0] })
        })
        .collect();
    let (mut new, mut duplicate) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Appended::New { .. } => new += 1,
            Appended::Duplicate { .. } => duplicate += 1,
            Appended::Mismatch { .. } => panic!("the payload is the same"),
        }
    }
    assert_eq!((new, duplicate), (1, 63));
    assert_eq!(store.depth("events").await.unwrap().pending, 1);
    assert_eq!(store.events(&acme(), EventFilter::default()).await.unwrap()[0].duplicates, 63);
}

async fn every_event_gets_one_job(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let [Appended::New { seq, job }] = store.append(vec![new_event("e1", "1")]).await.unwrap()[..] else { panic!("it is new") };
    let claimed = store.claim("events", 10, Duration::from_secs(60)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].id, job);
    assert_eq!(claimed[0].payload, seq.to_string(), "the payload is the sequence number");
    assert_eq!((&claimed[0].tenant, claimed[0].workspace.as_str()), (&acme(), "support"));
    assert_eq!((claimed[0].attempts, claimed[0].created_at), (1, clock.now_ms()));
    assert!(claimed[0].max_attempts > 1);
}

async fn replay_queues_again_and_only_once(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let [Appended::New { seq, job: first }] = store.append(vec![new_event("e1", "1")]).await.unwrap()[..] else { panic!("it is new") };
    assert_eq!(store.replay(&acme(), seq).await.unwrap(), Some(first), "it is queued already");
    let [job] = &store.claim("events", 10, Duration::from_secs(60)).await.unwrap()[..] else { panic!("one job") };
    assert!(store.complete(job).await.unwrap());
    let second = store.replay(&acme(), seq).await.unwrap().unwrap();
    assert_ne!(second, first);
    let [job] = &store.claim("events", 10, Duration::from_secs(60)).await.unwrap()[..] else { panic!("one job") };
    assert_eq!((job.id, &job.payload[..]), (second, seq.to_string().as_bytes()));
    assert!(store.bury(job, JobError { kind: connector_core::ErrorKind::Invalid, message: "no".to_owned() }).await.unwrap());
    assert_eq!(store.replay(&acme(), seq).await.unwrap(), Some(second), "a dead one is revived");
    assert_eq!(store.job(&acme(), second).await.unwrap().unwrap().state, JobState::Pending);
    assert_eq!(store.replay(&TenantId::from("other"), seq).await.unwrap(), None);
    assert_eq!(store.replay(&acme(), seq + 1000).await.unwrap(), None);
}

async fn listings_filter_and_page(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let mut foreign = new_event("f", "1");
    foreign.tenant = "other".into();
    store.append(vec![foreign]).await.unwrap();
    for n in 0..120 {
        let mut event = new_event(&format!("e{n}"), "1");
        event.connector = if n % 2 == 0 { "crm".into() } else { "desk".into() };
        event.event_type = if n % 3 == 0 { "a".into() } else { "b".into() };
        store.append(vec![event]).await.unwrap();
    }
    let all = store.events(&acme(), EventFilter::default()).await.unwrap();
    assert_eq!(all.len(), 100);
    let heads = store.events(&acme(), EventFilter { heads: true, ..EventFilter::default() }).await.unwrap();
    assert!(heads.iter().all(|event| event.payload.is_empty()) && all.iter().all(|event| !event.payload.is_empty()));
    assert!(heads.iter().zip(&all).all(|(head, event)| head.event_id == event.event_id && head.received_at == event.received_at));
    assert!(all.is_sorted_by_key(|event| event.seq));
    let rest = store.events(&acme(), EventFilter { after: Some(all[99].seq), ..EventFilter::default() }).await.unwrap();
    assert_eq!(rest.len(), 20);
    let filter = EventFilter { connector: Some("desk".to_owned()), event_type: Some("a".to_owned()), limit: 5, ..EventFilter::default() };
    let some = store.events(&acme(), filter).await.unwrap();
    assert_eq!(some.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), ["e3", "e9", "e15", "e21", "e27"]);
}

async fn pruning_keeps_unfinished_work(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let error = JobError { kind: connector_core::ErrorKind::Invalid, message: "no".to_owned() };
    store.append(vec![new_event("done", "1"), new_event("dead", "1"), new_event("open", "1")]).await.unwrap();
    let jobs = store.claim("events", 2, Duration::from_secs(60)).await.unwrap();
    assert!(store.complete(&jobs[0]).await.unwrap());
    assert!(store.bury(&jobs[1], error).await.unwrap());
    clock.advance(Duration::from_secs(8 * 86_400));
    let mut young = new_event("young", "1");
    young.received_at = clock.now_ms();
    store.append(vec![young]).await.unwrap();
    assert_eq!(store.prune_events(START_MS).await.unwrap(), 0, "nothing arrived before the start");
    assert_eq!(store.prune_events(START_MS + 1).await.unwrap(), 1);
    let left = store.events(&acme(), EventFilter::default()).await.unwrap();
    assert_eq!(left.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), ["dead", "open", "young"]);
    let again = store.append(vec![new_event("done", "1")]).await.unwrap();
    assert!(matches!(again[..], [Appended::New { .. }]), "its dedupe key is forgotten, too");
    assert!(store.discard(&acme(), jobs[1].id).await.unwrap());
    assert_eq!(store.prune_events(START_MS + 1).await.unwrap(), 1, "a discarded one is done with");
}

async fn any_text_and_length_is_kept(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    for id in ["nul \0 inside".to_owned(), "nul \u{10}0 inside".to_owned(), "x".repeat(20_000), format!("{}y", "x".repeat(20_000)), String::new()] {
        let mut event = new_event(&id, "{}");
        event.event_type = format!("type\0{}", id.len()).into();
        event.order_key = Some(id.clone());
        event.flags = vec!["flag\0\"".to_owned()];
        let [Appended::New { seq, job }] = store.append(vec![event.clone()]).await.unwrap()[..] else { panic!("it is new") };
        assert_eq!(store.append(vec![event.clone()]).await.unwrap(), [Appended::Duplicate { seq }]);
        let kept = store.event(&acme(), seq).await.unwrap().unwrap();
        assert_eq!((kept.event_id, kept.event_type, kept.flags), (id.clone(), event.event_type, event.flags));
        assert_eq!(kept.order_key.as_deref(), Some(id.as_str()));
        let job = store.job(&acme(), job).await.unwrap().unwrap();
        assert_eq!(job.order_key, Some(format!("crm_main:{id}")));
    }
    let claimed = store.claim("events", 10, Duration::from_secs(60)).await.unwrap();
    assert_eq!(claimed.len(), 5, "each has a lane of its own");
    let error = JobError { kind: connector_core::ErrorKind::Invalid, message: "the vendor said \0 \u{10}".to_owned() };
    assert!(store.bury(&claimed[0], error.clone()).await.unwrap());
    assert_eq!(store.job(&acme(), claimed[0].id).await.unwrap().unwrap().last_error, Some(error));
}

async fn the_job_says_what_the_event_is(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let mut event = new_event("e1", "1");
    event.order_key = Some("7".to_owned());
    let [Appended::New { seq, job: id }] = store.append(vec![event]).await.unwrap()[..] else { panic!("it is new") };
    let job = store.job(&acme(), id).await.unwrap().unwrap();
    assert_eq!((job.key, job.order_key.as_deref(), job.subject.as_str()), (Some(format!("event:{seq}")), Some("crm_main:7"), "crm contact.created"));
    assert_eq!((job.attempts, job.max_attempts, job.not_before, job.created_at), (0, 8, 0, clock.now_ms()));
    assert_eq!((job.state, job.last_error, &*job.queue), (JobState::Pending, None, "events"));
}

/// Numbers are drawn before they are committed; a reader that goes on after the last one it saw must still see all.
async fn a_follower_misses_nothing(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    // One in five was there already: its number is drawn and never used.
                    let id = if n % 5 == 0 { format!("shared{n}") } else { format!("{writer}-{n}") };
                    store.append(vec![new_event(&id, "1")]).await.unwrap();
                }
            })
        })
        .collect();
    let total = 8 * 20 + 5;
    let (mut seen, mut after) = (Vec::new(), None);
    while seen.len() < total {
        let page = store.events(&acme(), EventFilter { after, limit: 7, ..EventFilter::default() }).await.unwrap();
        after = page.last().map(|event| event.seq).or(after);
        let done = page.is_empty() && writers.iter().all(tokio::task::JoinHandle::is_finished);
        seen.extend(page.into_iter().map(|event| event.event_id));
        if done {
            let rest = store.events(&acme(), EventFilter { after, ..EventFilter::default() }).await.unwrap();
            seen.extend(rest.into_iter().map(|event| event.event_id));
            break;
        }
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), total);
}
