//! The log of messages to subscribers: numbers, repeats, gaps, several writers.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeSet;

use connector_core::{
    clock::ManualClock,
    fleet::{LocalPubSub, Notice},
};
use connector_state::MemoryState;
use serde_json::json;

use super::*;

fn new(id: &str) -> NewPush {
    let workspace = WorkspaceId::default();
    NewPush { id: id.into(), topic: "ticket.created".into(), workspace, event_type: "created".into(), data: json!({ "id": id }) }
}

struct Fleet {
    clock: ManualClock,
    store: Arc<dyn Store>,
    tenant: TenantId,
}

impl Fleet {
    fn new() -> Self {
        let clock = ManualClock::at_unix(1_800_000_000);
        Self { store: Arc::new(MemoryState::new(Arc::new(clock.clone()))), clock, tenant: TenantId::from("acme") }
    }

    fn process(&self) -> PushLog {
        PushLog::new(self.store.clone(), Arc::new(self.clock.clone()), Arc::new(LocalPubSub::default()), PUSH_TTL)
    }

    /// Time passes, for the clock of the processes and for the store's.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }

    async fn seqs(&self, log: &PushLog) -> Vec<u64> {
        log.after(&self.tenant, 0, 10_000).await.unwrap().iter().map(|pushed| pushed.seq).collect()
    }
}

#[tokio::test]
async fn processes_number_without_gaps_and_read_what_the_others_wrote() {
    let fleet = Fleet::new();
    let (a, b) = (fleet.process(), fleet.process());
    assert_eq!(a.head(&fleet.tenant).await.unwrap(), 0);
    for n in 0..6_u64 {
        let log = if n % 3 == 0 { &a } else { &b };
        assert_eq!(log.append(&fleet.tenant, new(&format!("effect-{n}"))).await.unwrap(), n + 1);
    }
    assert_eq!(fleet.seqs(&a).await, [1, 2, 3, 4, 5, 6]);
    let rest = b.after(&fleet.tenant, 4, 1).await.unwrap();
    assert_eq!((rest.len(), rest[0].seq, rest[0].id.as_str()), (1, 5, "effect-4"));
    assert!(b.after(&TenantId::from("other"), 0, 10).await.unwrap().is_empty());
    assert_eq!(a.head(&fleet.tenant).await.unwrap(), 6);
}

#[tokio::test]
async fn many_at_once_get_every_number_once() {
    let fleet = Fleet::new();
    let logs: Vec<PushLog> = (0..4).map(|_| fleet.process()).collect();
    let mut tasks = Vec::new();
    for n in 0..200 {
        let (log, tenant) = (logs[n % 4].clone(), fleet.tenant.clone());
        // Every effect is told by two of the processes.
        tasks.push(tokio::spawn(async move { log.append(&tenant, new(&format!("effect-{}", n / 2))).await.unwrap() }));
    }
    let given: BTreeSet<u64> = futures_util::future::join_all(tasks).await.into_iter().map(|seq| seq.unwrap()).collect();
    assert_eq!(given, (1..=100).collect());
    assert_eq!(fleet.seqs(&logs[0]).await, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_effect_is_one_message_even_for_a_process_that_started_anew() {
    let fleet = Fleet::new();
    let first = fleet.process();
    assert_eq!(first.append(&fleet.tenant, new("one")).await.unwrap(), 1);
    assert_eq!(first.append(&fleet.tenant, new("two")).await.unwrap(), 2);
    assert_eq!(first.append(&fleet.tenant, new("one")).await.unwrap(), 1);
    assert_eq!(fleet.process().append(&fleet.tenant, new("one")).await.unwrap(), 1);
    assert_eq!(fleet.seqs(&first).await, [1, 2]);
}

#[tokio::test]
async fn a_crash_between_the_claim_and_the_message_costs_nothing() {
    let fleet = Fleet::new();
    // What a process leaves behind that died after it claimed number 1 for an id.
    let claim = Namespace::new(&fleet.tenant, IDS);
    fleet.store.put(claim, &id_key("one"), "1".into(), Condition::Absent, Some(PUSH_TTL)).await.unwrap();
    fleet.process().append(&fleet.tenant, new("other")).await.unwrap();
    let after = fleet.process();
    assert_eq!(after.append(&fleet.tenant, new("one")).await.unwrap(), 2);
    assert_eq!(fleet.process().append(&fleet.tenant, new("one")).await.unwrap(), 2);
    assert_eq!(fleet.seqs(&after).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn no_number_is_given_twice_after_everything_was_forgotten() {
    let fleet = Fleet::new();
    let (old, late) = (fleet.process(), fleet.process());
    for n in 0..3 {
        old.append(&fleet.tenant, new(&format!("a{n}"))).await.unwrap();
    }
    // This process knows number 3 only, and sleeps while the log goes on and is forgotten.
    assert_eq!(late.head(&fleet.tenant).await.unwrap(), 3);
    old.append(&fleet.tenant, new("a3")).await.unwrap();
    fleet.pass(PUSH_TTL + Duration::from_secs(1)).await;
    let next = late.append(&fleet.tenant, new("b")).await.unwrap();
    assert!(next > 4, "{next}");
    assert_eq!(old.append(&fleet.tenant, new("c")).await.unwrap(), next + 1);
    assert_eq!(fleet.process().append(&fleet.tenant, new("d")).await.unwrap(), next + 2);
    assert_eq!(late.standing(&fleet.tenant, 3).await.unwrap(), Standing::Gap { first: next });
    assert_eq!(late.standing(&fleet.tenant, next - 1).await.unwrap(), Standing::Whole);
}

#[tokio::test]
async fn a_new_process_finds_the_end_of_a_long_log() {
    let fleet = Fleet::new();
    let log = fleet.process();
    for n in 0..(BLOCK + 3) {
        assert_eq!(log.append(&fleet.tenant, new(&format!("{n}"))).await.unwrap(), n + 1);
    }
    assert_eq!(fleet.process().head(&fleet.tenant).await.unwrap(), BLOCK + 3);
    // Right after a block was taken and before its first message is written.
    let lane = log.lane(&fleet.tenant);
    let mark = lane.known().reserved;
    log.reserve(&fleet.tenant, &lane, mark + 1).await.unwrap();
    for n in (BLOCK + 3)..mark {
        log.append(&fleet.tenant, new(&format!("{n}"))).await.unwrap();
    }
    assert_eq!(fleet.process().head(&fleet.tenant).await.unwrap(), mark);
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_told_what_it_missed() {
    let fleet = Fleet::new();
    let log = fleet.process();
    assert_eq!(log.standing(&fleet.tenant, 0).await.unwrap(), Standing::Whole);
    assert_eq!(log.standing(&fleet.tenant, 7).await.unwrap(), Standing::Gap { first: 1 });
    log.append(&fleet.tenant, new("a")).await.unwrap();
    fleet.pass(PUSH_TTL / 2).await;
    log.append(&fleet.tenant, new("b")).await.unwrap();
    assert_eq!(log.standing(&fleet.tenant, 0).await.unwrap(), Standing::Whole);
    fleet.pass(PUSH_TTL / 2 + Duration::from_secs(1)).await;
    assert_eq!(log.standing(&fleet.tenant, 0).await.unwrap(), Standing::Gap { first: 2 });
    assert_eq!(log.standing(&fleet.tenant, 1).await.unwrap(), Standing::Whole);
}

#[tokio::test]
async fn a_message_is_announced_to_the_fleet() {
    let fleet = Fleet::new();
    let pubsub = LocalPubSub::default();
    let mut news = pubsub.subscribe();
    let log = PushLog::new(fleet.store.clone(), Arc::new(fleet.clock.clone()), Arc::new(pubsub), PUSH_TTL);
    log.append(&fleet.tenant, new("a")).await.unwrap();
    let Notice::Message { topic, body } = news.recv().await.unwrap() else { panic!("nothing was missed") };
    assert_eq!((&*topic, read_notice(&body)), (PUSH_NOTICE, Some((fleet.tenant.clone(), 1))));
    assert_eq!(read_notice(b"nonsense"), None);
}

#[tokio::test]
async fn what_is_too_long_or_no_topic_is_refused() {
    let fleet = Fleet::new();
    let log = fleet.process();
    let long = NewPush { data: "x".repeat(MOST_PUSH).into(), ..new("a") };
    assert_eq!(log.append(&fleet.tenant, long).await.unwrap_err().kind(), ErrorKind::Invalid);
    for topic in ["", ".", "a.", ".a", "a..b", "a b", "a.*", "ä", "a\n", &"a".repeat(201)] {
        let bad = NewPush { topic: topic.into(), ..new("b") };
        assert_eq!(log.append(&fleet.tenant, bad).await.unwrap_err().kind(), ErrorKind::Invalid, "{topic}");
    }
    assert_eq!(log.head(&fleet.tenant).await.unwrap(), 0);
}

#[test]
fn patterns_choose_topics() {
    let fits = |pattern: &str, topic: &str| TopicPattern::parse(pattern).unwrap().matches(topic);
    for (pattern, topic) in [("*", "a"), ("*", "a.b"), ("a.*", "a.b"), ("a.*", "a.b.c"), ("*.b", "a.b"), ("a.*.c", "a.b.c"), ("a.b", "a.b")] {
        assert!(fits(pattern, topic), "{pattern} {topic}");
    }
    for (pattern, topic) in [("a.*", "a"), ("a.*", "ab.c"), ("*.b", "a.b.c"), ("a.*.c", "a.b.b.c"), ("a", "a.b"), ("a.b", "a")] {
        assert!(!fits(pattern, topic), "{pattern} {topic}");
    }
    for bad in ["", "a..b", "a*", "**", "a b", "a\r\nb"] {
        assert!(TopicPattern::parse(bad).is_err(), "{bad}");
    }
}
