//! The senders: many connections that deliver signed events as a vendor does. Each event is sent again, under its id, until it is
//! acknowledged; what was acknowledged is on disk before the sender goes on.
//!
//! Owns what the senders saw: answers, faults, how long an acknowledgement took. Refuses to judge it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{task::JoinSet, time::Instant};

use super::{
    journal::Journal,
    wire::{Fault, Wire},
    world::{Vendor, World},
};
use crate::chaos::verdict::{Verdict, percentile};

/// How long a sender waits for an answer before it takes the delivery for lost. A vendor waits less; a late answer must be seen here.
const PATIENCE: Duration = Duration::from_secs(15);
/// An acknowledgement after this is too late for the strictest vendors.
pub(crate) const LATE: Duration = Duration::from_secs(3);
/// How long senders go on with the event they are at when they are to stop.
const LAST: Duration = Duration::from_secs(90);

/// How much is sent.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Events per second, all senders together. What falls behind is caught up with.
    pub(crate) rps: u64,
    pub(crate) connections: usize,
    /// Bytes added to each payload.
    pub(crate) pad: usize,
    /// What the ids begin with.
    pub(crate) prefix: &'static str,
}

/// What the senders saw.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The ids of acknowledged events.
    pub(crate) acked: Vec<String>,
    /// How long each acknowledgement took, microseconds.
    pub(crate) waits: Vec<u64>,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Deliveries without an answer, by what happened.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Connections that broke under a delivery; closed idle ones and refused ones are not counted.
    pub(crate) broken: u64,
    /// Acknowledgements after [`LATE`].
    pub(crate) late: u64,
    /// Refusals with 503 that did not say when to come again.
    pub(crate) no_retry_after: u64,
    /// Events given up because of an answer that is neither yes nor "later".
    pub(crate) given_up: u64,
    /// When the last event was acknowledged, and when the first delivery after a gap was.
    pub(crate) last_ack: Option<Instant>,
}

impl Report {
    /// The figures every case shows, and the promises every case makes.
    pub(crate) fn into_verdict(mut self, verdict: &mut Verdict) -> Vec<String> {
        verdict.figure("acked", self.acked.len());
        verdict.figure("ack_p50_ms", millis(percentile(&mut self.waits, 0.5)));
        verdict.figure("ack_p99_ms", millis(percentile(&mut self.waits, 0.99)));
        verdict.figure("ack_max_ms", millis(percentile(&mut self.waits, 1.0)));
        verdict.figure("late_acks", self.late);
        let named: BTreeMap<String, u64> = self.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect();
        verdict.figure("answers", serde_json::json!(named));
        verdict.figure("unanswered", serde_json::json!(self.faults));
        verdict.require(self.given_up == 0, || format!("{} deliveries were refused with something else than 503: {named:?}", self.given_up));
        verdict.require(self.no_retry_after == 0, || format!("{} refusals with 503 did not say when to come again", self.no_retry_after));
        self.acked
    }
}

/// Microseconds as milliseconds with one digit.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn millis(micros: u64) -> f64 {
    (micros as f64 / 100.0).round() / 10.0
}

#[derive(Debug)]
struct Shared {
    vendor: Arc<Vendor>,
    addrs: Vec<SocketAddr>,
    pace: Pace,
    began: Instant,
    next: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
    journal: Journal,
    report: Mutex<Report>,
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Senders at work; they end when dropped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    senders: JoinSet<Result<()>>,
}

impl Load {
    /// Starts to send to the world's hubs. Acknowledged ids go to the file `acked` in the world's folder.
    pub(crate) fn start(world: &World, pace: Pace) -> Result<Self> {
        let journal = Journal::create(&world.file(&format!("acked-{}", pace.prefix)))?;
        let connections = pace.connections;
        let shared = Arc::new(Shared {
            vendor: world.vendor.clone(),
            addrs: world.addrs(),
            pace,
            began: Instant::now(),
            next: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            journal,
            report: Mutex::default(),
        });
        let mut senders = JoinSet::new();
        for at in 0..connections {
            senders.spawn(sender(shared.clone(), at));
        }
        Ok(Self { shared, senders })
    }

    /// How many events were acknowledged so far.
    pub(crate) fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::SeqCst)
    }

    /// How many deliveries were told to come again later so far.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Waits until something is acknowledged that was not before now; gives how long that took.
    pub(crate) async fn next_ack(&self, patience: Duration) -> Option<Duration> {
        let (began, before) = (Instant::now(), self.acked());
        while self.acked() == before {
            if began.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(began.elapsed())
    }

    /// Lets each sender finish the event it is at, and gives what they saw.
    pub(crate) async fn stop(mut self) -> Result<Report> {
        self.shared.stop.store(true, Ordering::SeqCst);
        let finish = async {
            while let Some(done) = self.senders.join_next().await {
                done.context("a sender panicked")??;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(LAST, finish).await {
            Ok(done) => done?,
            // What was not acknowledged is not in the list: nothing is promised for it.
            Err(_) => eprintln!("some senders never heard a yes for their last event"),
        }
        self.senders.shutdown().await;
        Ok(std::mem::take(&mut *self.shared.report()))
    }
}

async fn sender(shared: Arc<Shared>, at: usize) -> Result<()> {
    let mut turn = at % shared.addrs.len();
    let mut wire = Wire::to(shared.addrs[turn]);
    while !shared.stop.load(Ordering::SeqCst) {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let due = shared.began + Duration::from_micros(number.saturating_mul(1_000_000) / shared.pace.rps.max(1));
        tokio::time::sleep_until(due).await;
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("{}-{number}", shared.pace.prefix);
        let body = shared.vendor.body(&id, number, shared.pace.pad);
        loop {
            let request = shared.vendor.delivery(shared.addrs[turn], &body);
            match wire.send(&request, PATIENCE).await {
                Ok(reply) => {
                    let mut report = shared.report();
                    *report.statuses.entry(reply.status).or_default() += 1;
                    if reply.is_success() {
                        report.waits.push(u64::try_from(reply.took.as_micros()).unwrap_or(u64::MAX));
                        report.late += u64::from(reply.took > LATE);
                        break;
                    }
                    shared.refused.fetch_add(1, Ordering::SeqCst);
                    if reply.status != 503 {
                        report.given_up += 1;
                        return Ok(());
                    }
                    report.no_retry_after += u64::from(reply.retry_after.is_none());
                }
                Err(fault) => {
                    let mut report = shared.report();
                    report.broken += u64::from(matches!(fault, Fault::Broken { idle: false, .. } | Fault::Silent));
                    *report.faults.entry(fault.to_string()).or_default() += 1;
                }
            }
            // The next one of the fleet, a little later: what a load balancer makes of a vendor's retry.
            turn = (turn + 1) % shared.addrs.len();
            wire.turn_to(shared.addrs[turn]);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..400))).await;
        }
        shared.journal.append(&id).await?;
        shared.acked.fetch_add(1, Ordering::SeqCst);
        let mut report = shared.report();
        report.last_ack = Some(Instant::now());
        report.acked.push(id);
    }
    Ok(())
}
