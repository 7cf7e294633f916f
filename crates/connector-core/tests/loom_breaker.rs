//! The half-open race under the loom model checker: every interleaving of callers, answers and cancellations.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p connector-core --test loom_breaker --release`.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the state machine is included as source and not all of it is used")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

/// The state machine's atomics, replaced by loom's.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/resilience/breaker/core.rs"]
mod machine;

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use machine::{Core, Entry, Phase};

const LEASE: u64 = 10;

/// A breaker whose reset ends at 100.
fn open() -> Core {
    let core = Core::new();
    let Entry::Pass { generation } = core.enter(0, LEASE) else { panic!("closed at first") };
    assert!(core.trip(generation, 100));
    core
}

#[test]
fn exactly_one_of_the_racing_callers_probes() {
    loom::model(|| {
        let core = Arc::new(open());
        let probes = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (core, probes) = (core.clone(), probes.clone());
                thread::spawn(move || {
                    if let Entry::Probe { .. } = core.enter(100, LEASE) {
                        probes.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        if let Entry::Probe { .. } = core.enter(100, LEASE) {
            probes.fetch_add(1, Ordering::SeqCst);
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(probes.load(Ordering::SeqCst), 1);
        assert_eq!(core.phase(), Phase::HalfOpen { until: 110 });
    });
}

#[test]
fn a_cancelled_probe_lets_exactly_one_other_in() {
    loom::model(|| {
        let core = Arc::new(open());
        let Entry::Probe { generation } = core.enter(100, LEASE) else { panic!("the reset is over") };
        let canceller = thread::spawn({
            let core = core.clone();
            move || assert!(core.release(generation))
        });
        let rival = thread::spawn({
            let core = core.clone();
            move || matches!(core.enter(101, LEASE), Entry::Probe { .. })
        });
        let mine = matches!(core.enter(101, LEASE), Entry::Probe { .. });
        canceller.join().unwrap();
        let theirs = rival.join().unwrap();
        assert!(!(mine && theirs), "two probes at once");
        if !mine && !theirs {
            assert!(matches!(core.enter(102, LEASE), Entry::Probe { .. }), "the place was lost");
        }
    });
}

#[test]
fn a_late_answer_of_an_expired_probe_changes_nothing() {
    loom::model(|| {
        let core = Arc::new(open());
        let Entry::Probe { generation: first } = core.enter(100, LEASE) else { panic!("the reset is over") };
        let late = thread::spawn({
            let core = core.clone();
            move || core.close(first)
        });
        // Its lease is over: another caller takes the probe, unless the answer came just before.
        match core.enter(110, LEASE) {
            Entry::Probe { generation: second } => {
                let closed_late = late.join().unwrap();
                assert!(!closed_late, "an expired permit closed the breaker");
                assert!(core.reopen(second, 200));
                assert_eq!(core.phase(), Phase::Open { until: 200 });
            }
            Entry::Pass { .. } => assert!(late.join().unwrap()),
            Entry::Refuse { .. } => panic!("nobody holds the probe"),
        }
    });
}

#[test]
fn racing_failures_open_it_once() {
    loom::model(|| {
        let core = Arc::new(Core::new());
        let Entry::Pass { generation } = core.enter(0, LEASE) else { panic!("closed at first") };
        let rival = thread::spawn({
            let core = core.clone();
            move || core.trip(generation, 100)
        });
        let mine = core.trip(generation, 100);
        assert!(mine ^ rival.join().unwrap());
        assert_eq!(core.phase(), Phase::Open { until: 100 });
    });
}
