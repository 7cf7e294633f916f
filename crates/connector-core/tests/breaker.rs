//! The breaker against a reference state machine, under racing callers, and between tenants.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Fixed, HandClock, Script, call, cx, cx_of, every_kind, fail, ok, parts, spec};
use connector_core::{
    Error, ErrorKind,
    layer::stack,
    resilience::{Breaker, BreakerPolicy, BreakerState, Outcome, Permit},
};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

const LEASE: Duration = Duration::from_secs(10);

/// The breaker as one would write it down, with plain data and no races.
#[derive(Debug)]
struct Model {
    now: Duration,
    state: State,
    generation: u64,
    consecutive: u32,
    /// Time slices of a tenth of the window, with failure or success.
    results: VecDeque<(u64, bool)>,
    failed_probes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed,
    Open(Duration),
    HalfOpen(Duration),
}

#[derive(Debug, PartialEq)]
enum Answer {
    Pass(u64),
    Probe(u64),
    Refuse(Duration),
}

impl Model {
    fn new() -> Self {
        Self { now: Duration::ZERO, state: State::Closed, generation: 0, consecutive: 0, results: VecDeque::new(), failed_probes: 0 }
    }

    fn enter(&mut self) -> Answer {
        match self.state {
            State::Closed => Answer::Pass(self.generation),
            State::Open(until) | State::HalfOpen(until) if self.now < until => Answer::Refuse(until - self.now),
            _ => {
                self.generation += 1;
                self.state = State::HalfOpen(self.now + LEASE);
                Answer::Probe(self.generation)
            }
        }
    }

    fn finish(&mut self, generation: u64, probe: bool, outcome: Option<Outcome>) {
        if generation != self.generation {
            return;
        }
        match (probe, self.state, outcome) {
            (true, State::HalfOpen(_), Some(Outcome::Success | Outcome::Answered)) => {
                self.state = State::Closed;
                self.failed_probes = 0;
            }
            (true, State::HalfOpen(_), Some(Outcome::Failure)) => {
                self.failed_probes += 1;
                self.open();
            }
            (true, State::HalfOpen(_), Some(Outcome::Ignored) | None) => self.state = State::Open(Duration::ZERO),
            (false, State::Closed, Some(Outcome::Success)) => {
                self.consecutive = 0;
                self.result(false);
            }
            (false, State::Closed, Some(Outcome::Failure)) => {
                self.consecutive += 1;
                self.result(true);
                let failed = self.results.iter().filter(|(_, failed)| *failed).count();
                if self.consecutive >= 5 || (self.results.len() >= 20 && failed * 2 >= self.results.len()) {
                    self.open();
                }
            }
            _ => {}
        }
    }

    fn result(&mut self, failed: bool) {
        let slice = self.now.as_millis() as u64 / 3_000;
        self.results.push_back((slice, failed));
        self.results.retain(|(then, _)| slice - then < 10);
    }

    fn open(&mut self) {
        let reset = 60 * 2u64.pow(self.failed_probes.min(10));
        self.state = State::Open(self.now + Duration::from_secs(reset.min(600)));
        self.consecutive = 0;
        self.results.clear();
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Advance(u64),
    Start,
    Finish(usize, Option<Outcome>),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        3 => Just(Some(Outcome::Success)),
        4 => Just(Some(Outcome::Failure)),
        1 => Just(Some(Outcome::Answered)),
        1 => Just(Some(Outcome::Ignored)),
        1 => Just(None),
    ];
    prop_oneof![
        2 => (0u64..5_000).prop_map(Step::Advance),
        1 => (0u64..700_000).prop_map(Step::Advance),
        8 => Just(Step::Start),
        8 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Finish(which, outcome)),
    ]
}

proptest::proptest! {
    #[test]
    fn the_breaker_does_what_the_reference_state_machine_does(steps in proptest::collection::vec(step(), 1..400)) {
        let clock = HandClock::new();
        let policy = BreakerPolicy { jitter_percent: 0, ..BreakerPolicy::default() };
        let breaker = Breaker::with_clock(policy, Arc::new(clock.clone()), Arc::new(Fixed(0.5)));
        let mut model = Model::new();
        let mut permits: Vec<(Permit<'_>, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Advance(millis) => {
                    clock.advance(Duration::from_millis(millis));
                    model.now += Duration::from_millis(millis);
                }
                Step::Start => match (model.enter(), breaker.try_acquire(LEASE)) {
                    (Answer::Pass(generation), Ok(permit)) => {
                        proptest::prop_assert!(!permit.is_probe());
                        permits.push((permit, generation));
                    }
                    (Answer::Probe(generation), Ok(permit)) => {
                        proptest::prop_assert!(permit.is_probe());
                        permits.push((permit, generation));
                    }
                    (Answer::Refuse(left), Err(error)) => {
                        proptest::prop_assert_eq!(error.kind(), ErrorKind::CircuitOpen);
                        proptest::prop_assert_eq!(error.retry_after(), Some(left));
                    }
                    (expected, got) => proptest::prop_assert!(false, "expected {:?}, got {:?}", expected, got),
                },
                Step::Finish(which, outcome) if !permits.is_empty() => {
                    let (permit, generation) = permits.swap_remove(which % permits.len());
                    model.finish(generation, permit.is_probe(), outcome);
                    match outcome {
                        Some(outcome) => {
                            permit.finish(outcome);
                        }
                        None => drop(permit),
                    }
                }
                Step::Finish(..) => {}
            }
            let expected = match model.state {
                State::Closed => BreakerState::Closed,
                State::Open(_) => BreakerState::Open,
                State::HalfOpen(_) => BreakerState::HalfOpen,
            };
            proptest::prop_assert_eq!(breaker.state(), expected);
            proptest::prop_assert_eq!(breaker.snapshot().consecutive_failures, model.consecutive);
        }
    }
}

fn opened() -> (Breaker, HandClock) {
    let clock = HandClock::new();
    let breaker = Breaker::with_clock(BreakerPolicy::default(), Arc::new(clock.clone()), Arc::new(Fixed(0.5)));
    for _ in 0..5 {
        breaker.try_acquire(LEASE).unwrap().finish(Outcome::Failure);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    (breaker, clock)
}

#[test]
fn of_sixty_four_racing_callers_exactly_one_probes() {
    for _ in 0..20 {
        let (breaker, clock) = opened();
        clock.advance(Duration::from_secs(61));
        let (start, probes, refused) = (Barrier::new(64), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    start.wait();
                    match breaker.try_acquire(LEASE) {
                        Ok(permit) => {
                            assert!(permit.is_probe());
                            probes.fetch_add(1, Ordering::SeqCst);
                            // The probe stays under way while the others ask.
                            std::mem::forget(permit);
                        }
                        Err(_) => drop(refused.fetch_add(1, Ordering::SeqCst)),
                    }
                });
            }
        });
        assert_eq!((probes.into_inner(), refused.into_inner()), (1, 63));
    }
}

#[tokio::test]
async fn a_cancelled_probe_gives_its_place_back_and_a_hanging_one_loses_it() {
    let (breaker, clock) = opened();
    clock.advance(Duration::from_secs(61));
    let hanging = breaker.call(std::future::pending::<connector_core::Result<()>>());
    assert!(futures_util::FutureExt::now_or_never(hanging).is_none(), "the probe hangs, and is dropped here");
    let permit = breaker.try_acquire(LEASE).unwrap();
    assert!(permit.is_probe() && breaker.try_acquire(LEASE).is_err());
    clock.advance(LEASE);
    let second = breaker.try_acquire(LEASE).unwrap();
    assert!(second.is_probe());
    assert_eq!(permit.finish(Outcome::Success), None, "its time is over: a late answer closes nothing");
    assert_eq!(second.finish(Outcome::Success), Some(BreakerState::Closed));
}

#[test]
fn the_reset_doubles_up_to_ten_minutes_and_varies_by_a_tenth() {
    let (breaker, clock) = opened();
    let mut resets = Vec::new();
    for _ in 0..6 {
        let left = breaker.snapshot().retry_after.unwrap();
        resets.push(left.as_secs());
        clock.advance(left);
        breaker.try_acquire(LEASE).unwrap().finish(Outcome::Failure);
    }
    assert_eq!(resets, [60, 120, 240, 480, 600, 600]);
    for (unit, seconds) in [(0.0, 54.0), (0.999_999, 66.0)] {
        let clock = HandClock::new();
        let breaker = Breaker::with_clock(BreakerPolicy::default(), Arc::new(clock), Arc::new(Fixed(unit)));
        for _ in 0..5 {
            breaker.try_acquire(LEASE).unwrap().finish(Outcome::Failure);
        }
        assert!((breaker.snapshot().retry_after.unwrap().as_secs_f64() - seconds).abs() < 0.01);
    }
}

#[test]
fn half_of_twenty_calls_in_the_window_open_it_too() {
    let clock = HandClock::new();
    let breaker = Breaker::with_clock(BreakerPolicy::default(), Arc::new(clock.clone()), Arc::new(Fixed(0.5)));
    let outcomes = [Outcome::Failure, Outcome::Success].into_iter().cycle();
    for (n, outcome) in (1..=19).zip(outcomes) {
        breaker.try_acquire(LEASE).unwrap().finish(outcome);
        assert_eq!(breaker.state(), BreakerState::Closed, "after {n}");
    }
    breaker.try_acquire(LEASE).unwrap().finish(Outcome::Failure);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn answers_never_count() {
    let clock = HandClock::new();
    let breaker = Breaker::with_clock(BreakerPolicy::default(), Arc::new(clock), Arc::new(Fixed(0.5)));
    for kind in [ErrorKind::NotFound, ErrorKind::Invalid, ErrorKind::AuthExpired, ErrorKind::Forbidden, ErrorKind::Throttled, ErrorKind::Quota] {
        for _ in 0..100 {
            let result: connector_core::Result<()> = Err(Error::new(kind, "x"));
            breaker.try_acquire(LEASE).unwrap().finish(Outcome::of(&result));
        }
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls, snapshot.failures), (BreakerState::Closed, 0, 0));
}

/// R17: one tenant's dead host never opens another tenant's breaker, nor that of another host.
#[tokio::test(start_paused = true)]
async fn breakers_are_kept_per_tenant_connector_and_host() {
    let dead = cx_of("acme", "https://x.example");
    let script = Script::new(spec(every_kind()), |_, cx, _| {
        let healthy = cx.tenant().as_str() == "globex" || cx.connection.host() == "y.example";
        Box::pin(std::future::ready(if healthy { ok() } else { fail(ErrorKind::Transient) }))
    });
    let parts = parts();
    let stack = stack::inner(script, &parts);
    for _ in 0..5 {
        stack.call(&dead, call("x_read")).await.unwrap_err();
    }
    assert_eq!(stack.call(&dead, call("x_read")).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    stack.call(&cx_of("globex", "https://x.example"), call("x_read")).await.unwrap();
    stack.call(&cx_of("acme", "https://y.example"), call("x_read")).await.unwrap();
    let states: Vec<_> = parts.breakers().snapshot().into_values().map(|breaker| breaker.state).collect();
    assert_eq!(states, [BreakerState::Open, BreakerState::Closed, BreakerState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn after_the_reset_one_success_closes_it() {
    let script = Script::quick(spec(every_kind()), |n, _| if n <= 5 { fail(ErrorKind::Transient) } else { ok() });
    let stack = stack::inner(script.clone(), &parts());
    for _ in 0..3 {
        stack.call(&cx(), call("x_read")).await.unwrap_err();
    }
    assert_eq!(script.sends(), 5);
    tokio::time::advance(Duration::from_secs(61)).await;
    stack.call(&cx(), call("x_read")).await.unwrap();
    stack.call(&cx(), call("x_read")).await.unwrap();
}

/// An operation made of others passes breaker and limits: its parts take their own turns. Holding the only probe, it would shut them out.
#[tokio::test(start_paused = true)]
async fn an_operation_made_of_others_takes_no_turn_of_its_own() {
    let mut whole = common::op("x_whole", connector_core::spec::Effect::Read, connector_core::spec::Repeat::Natural);
    whole.endpoint = "native".into();
    whole.limit_class = "composed".into();
    let spec = spec(every_kind().into_iter().chain([whole]).collect());
    let script = Script::quick(spec, |_, call| if &*call.operation == "x_whole" { ok() } else { fail(ErrorKind::Transient) });
    let stacked = stack::inner(script.clone(), &parts());
    for _ in 0..5 {
        stacked.call(&cx(), call("x_read")).await.unwrap_err();
    }
    assert_eq!(stacked.call(&cx(), call("x_read")).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    assert!(stacked.call(&cx(), call("x_whole")).await.is_ok());
    assert_eq!(stacked.call(&cx(), call("x_read")).await.unwrap_err().kind(), ErrorKind::CircuitOpen, "its success closes nothing");
}
