//! The dispatcher under a paused clock: retries, floors, dead letters, panics, order, leases, stopping.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use common::FollowingClock;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::{Instant, Rng, SeededRng},
    error::Retry,
    state::{EventLog as _, Job, JobFilter, JobQueue as _, JobState, NewEvent, StoredEvent},
};
use connector_state::MemoryState;
use connector_webhook::dispatch::{DispatchPolicy, Dispatcher, EventHandler};
use tokio::{sync::watch, task::JoinHandle};

/// The middle of every jitter range.
#[derive(Debug)]
struct Middle;

impl Rng for Middle {
    fn unit(&self) -> f64 {
        0.5
    }
}

type Script = fn(&str, u32) -> Result<Duration>;

/// Does what the script says for (event id, attempt) and notes when each attempt began, in seconds since the start.
#[derive(Debug)]
struct Scripted {
    script: Script,
    start: Instant,
    seen: Mutex<HashMap<String, Vec<u64>>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl EventHandler for Scripted {
    async fn handle(&self, event: &StoredEvent, attempt: u32) -> Result<()> {
        self.seen.lock().unwrap().entry(event.event_id.clone()).or_default().push(self.start.elapsed().as_secs());
        self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let result = (self.script)(&event.event_id, attempt);
        if let Ok(takes) = &result {
            tokio::time::sleep(*takes).await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        result.map(|_| ())
    }
}

struct Setup {
    state: Arc<MemoryState>,
    handler: Arc<Scripted>,
    dispatcher: Dispatcher,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn start(policy: DispatchPolicy, script: Script) -> Setup {
    let clock = FollowingClock::shared();
    let state = Arc::new(MemoryState::new(clock.clone()));
    let handler =
        Arc::new(Scripted { script, start: Instant::now(), seen: Mutex::default(), running: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let dispatcher = Dispatcher::new(state.clone(), state.clone(), handler.clone(), clock).with_policy(policy).with_rng(Arc::new(Middle));
    let (stop, stopped) = watch::channel(false);
    let running = dispatcher.clone();
    let task = tokio::spawn(async move { running.run(stopped).await });
    Setup { state, handler, dispatcher, stop, task }
}

impl Setup {
    async fn add(&self, id: &str, order_key: Option<&str>) {
        let event = NewEvent {
            tenant: "acme".into(),
            workspace: "support".into(),
            connector: "crm".into(),
            connection: "crm".into(),
            event_id: id.to_owned(),
            event_type: "x".into(),
            order_key: order_key.map(str::to_owned),
            flags: Vec::new(),
            payload: Bytes::from_static(b"{}"),
            digest: None,
            received_at: 0,
        };
        self.state.append(vec![event]).await.unwrap();
        self.dispatcher.waker().wake();
    }

    async fn jobs(&self) -> Vec<Job> {
        self.state.jobs(&TenantId::from("acme"), JobFilter::default()).await.unwrap()
    }

    fn seen(&self, id: &str) -> Vec<u64> {
        self.handler.seen.lock().unwrap().get(id).cloned().unwrap_or_default()
    }

    async fn finish(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_event_is_handled_at_once() {
    let setup = start(DispatchPolicy::default(), |_, _| Ok(Duration::ZERO));
    tokio::time::sleep(Duration::from_millis(10_100)).await;
    setup.add("e1", None).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(setup.seen("e1"), [10]);
    assert_eq!(setup.jobs().await[0].state, JobState::Done, "without waiting for the next look");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn passing_errors_follow_the_schedule_and_end_as_a_dead_letter() {
    let setup = start(DispatchPolicy::default(), |_, _| Err(Error::new(ErrorKind::Transient, "down")));
    setup.add("e1", None).await;
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    let times = setup.seen("e1");
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The queue is looked at once a second.
    for (wait, planned) in waits.iter().zip([5, 30, 120, 600, 3_600, 21_600, 86_400]) {
        assert!((planned..=planned + 1).contains(wait), "{waits:?}");
    }
    assert_eq!(times.len(), 8);
    let job = &setup.jobs().await[0];
    assert_eq!((job.state, job.attempts), (JobState::Dead, 8));
    assert_eq!(job.last_error.as_ref().unwrap().kind, ErrorKind::Transient);
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_named_delay_is_a_floor() {
    let setup = start(DispatchPolicy::default(), |_, attempt| match attempt {
        1 => Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::from_secs(90)))),
        2 => Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::from_secs(1)))),
        _ => Ok(Duration::ZERO),
    });
    setup.add("e1", None).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let times = setup.seen("e1");
    assert!((90..=91).contains(&times[1]), "{times:?}");
    assert!((30..=31).contains(&(times[2] - times[1])), "the schedule is longer than the vendor's delay: {times:?}");
    assert_eq!(setup.jobs().await[0].state, JobState::Done);
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_a_dead_letter_at_once() {
    let setup = start(DispatchPolicy::default(), |_, _| Err(Error::invalid("no such field")));
    setup.add("e1", None).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(setup.seen("e1").len(), 1);
    let job = &setup.jobs().await[0];
    assert_eq!((job.state, job.last_error.as_ref().unwrap().kind), (JobState::Dead, ErrorKind::Invalid));
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_gets_three_strikes_and_harms_nobody() {
    let setup = start(DispatchPolicy::default(), |id, _| if id == "poison" { panic!("on purpose") } else { Ok(Duration::ZERO) });
    setup.add("poison", None).await;
    for n in 0..5 {
        setup.add(&format!("good{n}"), None).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(setup.seen("poison").len(), 3);
    let jobs = setup.jobs().await;
    assert_eq!(jobs[0].state, JobState::Dead);
    let error = jobs[0].last_error.as_ref().unwrap();
    assert!(error.message.starts_with("the handler panicked, strike 3 of 3"), "{}", error.message);
    assert!(!error.message.contains("on purpose"), "a panic's text may hold data");
    assert!(jobs[1..].iter().all(|job| job.state == JobState::Done && job.attempts == 1));
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn events_in_one_lane_are_handled_in_order() {
    let setup = start(DispatchPolicy::default(), |id, attempt| match (id, attempt) {
        ("a1", 1) => Err(Error::new(ErrorKind::Transient, "down")),
        _ => Ok(Duration::from_secs(2)),
    });
    for id in ["a1", "a2", "a3"] {
        setup.add(id, Some("a")).await;
    }
    setup.add("b1", Some("b")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let first = |id: &str| setup.seen(id)[0];
    assert_eq!(first("b1"), 0, "another lane does not wait");
    let a1 = setup.seen("a1")[1];
    assert!(a1 + 2 <= first("a2") && first("a2") + 2 <= first("a3"), "{:?}", setup.handler.seen);
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_agreed_number_run_together() {
    let setup = start(DispatchPolicy { concurrency: 3, ..DispatchPolicy::default() }, |_, _| Ok(Duration::from_secs(1)));
    for n in 0..10 {
        setup.add(&format!("e{n}"), None).await;
    }
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert_eq!(setup.handler.most.load(Ordering::SeqCst), 3);
    assert!(setup.jobs().await.iter().all(|job| job.state == JobState::Done), "a free place is filled at once");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_loses_its_turn_before_its_lease() {
    let setup = start(DispatchPolicy::default(), |_, attempt| Ok(if attempt == 1 { Duration::from_secs(3_600) } else { Duration::ZERO }));
    setup.add("e1", None).await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    let times = setup.seen("e1");
    assert!((59..=60).contains(&times[1]), "54 s, then 5 s of waiting: {times:?}");
    let job = &setup.jobs().await[0];
    assert_eq!((job.state, job.attempts, job.last_error.as_ref().unwrap().kind), (JobState::Done, 2, ErrorKind::Timeout));
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_work_finish_and_takes_no_more() {
    let setup = start(DispatchPolicy { concurrency: 1, ..DispatchPolicy::default() }, |_, _| Ok(Duration::from_secs(10)));
    setup.add("e1", None).await;
    setup.add("e2", None).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let state = setup.state.clone();
    setup.finish().await;
    let jobs = state.jobs(&TenantId::from("acme"), JobFilter::default()).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.state).collect::<Vec<_>>(), [JobState::Done, JobState::Pending]);
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_ever() {
    let setup = start(DispatchPolicy { lease: Duration::from_secs(3_600), ..DispatchPolicy::default() }, |_, _| Ok(Duration::from_secs(3_000)));
    setup.add("e1", None).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (state, begun) = (setup.state.clone(), Instant::now());
    setup.finish().await;
    assert_eq!(begun.elapsed().as_secs(), 20);
    let jobs = state.jobs(&TenantId::from("acme"), JobFilter::default()).await.unwrap();
    assert_eq!(jobs[0].state, JobState::Leased, "its lease runs out and it is taken again");
}

#[test]
fn waits_differ_by_a_fifth() {
    let policy = DispatchPolicy::default();
    let rng = SeededRng::new(7);
    let mut waits: Vec<_> = (0..1_000).map(|_| policy.wait(3, None, &rng).as_secs_f64()).collect();
    waits.sort_by(f64::total_cmp);
    assert!(waits[0] >= 96.0 && waits[999] <= 144.0);
    assert!(waits[0] < 100.0 && waits[999] > 140.0);
    assert_eq!(policy.wait(99, None, &Middle), Duration::from_secs(86_400), "the last wait repeats");
    assert_eq!(policy.wait(1, Some(Duration::from_secs(10 * 86_400)), &Middle), Duration::from_secs(86_400), "no vendor parks an event for ever");
}

/// Notes the dead letters it hears of: (event, attempts, error).
#[derive(Debug, Default)]
struct Mourner(Mutex<Vec<(u64, u32, String)>>);

#[async_trait]
impl connector_webhook::dispatch::DeadLetters for Mourner {
    async fn died(&self, job: &Job) {
        let error = job.last_error.as_ref().unwrap();
        self.0.lock().unwrap().push((job.id.0, job.attempts, error.kind.as_str().to_owned()));
        assert_eq!(job.state, JobState::Dead);
    }
}

#[tokio::test(start_paused = true)]
async fn every_death_is_told_once_however_it_came() {
    let setup = start(DispatchPolicy::default(), |id, _| match id {
        "wrong" => Err(Error::invalid("no such field")),
        "down" => Err(Error::new(ErrorKind::Transient, "down")),
        "poison" => panic!("on purpose"),
        _ => Ok(Duration::ZERO),
    });
    // Without a task the first one changes nothing here; the second dispatcher is the one that tells.
    setup.stop.send(true).unwrap();
    setup.task.await.unwrap();
    for id in ["wrong", "down", "poison", "fine", "lost"] {
        setup.state.append(vec![event_of(id)]).await.unwrap();
    }
    // Its workers vanish with each attempt.
    let lost = loop {
        let claimed = setup.state.claim("events", 5, Duration::from_secs(1)).await.unwrap();
        let Some(job) = claimed.iter().find(|job| job.id.0 == 5) else { panic!("the fifth event is due") };
        let last = job.attempts == job.max_attempts;
        for other in claimed.iter().filter(|other| other.id.0 != 5) {
            // Put back, as if never taken.
            setup.state.bury(other, connector_core::state::JobError { kind: ErrorKind::Transient, message: String::new() }).await.unwrap();
            assert!(setup.state.revive(&TenantId::from("acme"), other.id).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        if last {
            break job.id.0;
        }
    };
    let mourner = Arc::new(Mourner::default());
    let (stop, stopped) = watch::channel(false);
    let dispatcher = setup.dispatcher.clone().with_dead_letters(mourner.clone());
    let task = tokio::spawn(async move { dispatcher.run(stopped).await });
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    let mut told = mourner.0.lock().unwrap().clone();
    told.sort();
    let kinds: Vec<(u64, &str)> = told.iter().map(|(id, _, kind)| (*id, kind.as_str())).collect();
    let expected = [(1, "invalid"), (2, "transient"), (3, "internal"), (lost, kinds.last().unwrap().1)];
    assert_eq!(kinds, expected, "{told:?}");
    stop.send(true).unwrap();
    task.await.unwrap();
}

fn event_of(id: &str) -> NewEvent {
    NewEvent {
        tenant: "acme".into(),
        workspace: "support".into(),
        connector: "crm".into(),
        connection: "crm".into(),
        event_id: id.to_owned(),
        event_type: "x".into(),
        order_key: None,
        flags: Vec::new(),
        payload: Bytes::from_static(b"{}"),
        digest: None,
        received_at: 0,
    }
}
