//! Clocks, rounds and the lines that `cargo xtask bench` reads.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::runtime::Runtime;

/// What some work took, per piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU time of the client's thread in microseconds.
    pub(crate) cpu: f64,
    /// Wall time in microseconds.
    pub(crate) wall: f64,
}

impl Cost {
    const MOST: Self = Self { cpu: f64::INFINITY, wall: f64::INFINITY };

    fn best(self, other: Self) -> Self {
        Self { cpu: self.cpu.min(other.cpu), wall: self.wall.min(other.wall) }
    }
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    baseline: Option<f64>,
    target: Option<(String, bool)>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, baseline: None, target: None }
    }

    pub(crate) fn against(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self
    }

    /// The ratio, or the value where there is no baseline, must not be above this.
    pub(crate) fn at_most(mut self, most: f64) -> Self {
        self.target = Some((format!("≤ {most}{}", self.kind()), self.compared() <= most));
        self
    }

    /// The ratio, or the value where there is no baseline, must not be below this.
    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.target = Some((format!("≥ {least}{}", self.kind()), self.compared() >= least));
        self
    }

    fn kind(&self) -> &'static str {
        if self.baseline.is_some() { "×" } else { "" }
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.map(|baseline| self.value / baseline)
    }

    fn compared(&self) -> f64 {
        self.ratio().unwrap_or(self.value)
    }

    pub(crate) fn print(self) {
        let (target, met) = self.target.clone().unzip();
        let ratio = self.ratio();
        println!(
            "BENCH {}",
            json!({ "bench": self.name, "figure": self.value, "unit": self.unit, "baseline": self.baseline, "ratio": ratio, "target": target, "met": met })
        );
    }
}

/// CPU time of this thread so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// The runtime of a client: everything it does is done on this thread.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What `pieces` pieces of work cost each.
pub(crate) fn cost<T>(pieces: u64, work: impl FnOnce() -> T) -> (Cost, T) {
    let (cpu_before, wall_before) = (cpu(), Instant::now());
    let done = work();
    let (cpu, wall) = (cpu() - cpu_before, wall_before.elapsed());
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let each = |time: Duration| time.as_secs_f64() * 1e6 / pieces as f64;
    (Cost { cpu: each(cpu), wall: each(wall) }, done)
}

/// Runs both in turn, after one round to warm up that does not count, and gives the best each of them did.
pub(crate) fn in_turn(rounds: usize, mut first: impl FnMut() -> Cost, mut second: impl FnMut() -> Cost) -> (Cost, Cost) {
    first();
    second();
    (0..rounds).fold((Cost::MOST, Cost::MOST), |(a, b), _| (a.best(first()), b.best(second())))
}

/// Makes `calls` calls, `concurrency` at a time.
pub(crate) fn drive<F>(runtime: &Runtime, concurrency: u64, calls: u64, call: impl Fn() -> F + Clone + Send + 'static) -> Cost
where
    F: Future<Output = ()> + Send,
{
    let left = Arc::new(AtomicU64::new(calls));
    let work = || {
        runtime.block_on(async {
            let workers: Vec<_> = (0..concurrency)
                .map(|_| {
                    let (left, call) = (left.clone(), call.clone());
                    tokio::spawn(async move {
                        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                            call().await;
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.await.unwrap();
            }
        });
    };
    cost(calls, work).0
}

/// The most memory this process ever had in RAM, or a process named by its id, in MB. `None` where the system does not tell.
pub(crate) fn memory(process: Option<u32>, field: &str) -> Option<f64> {
    let process = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
