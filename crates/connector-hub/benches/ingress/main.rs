//! What an accepted webhook costs, against an axum handler that checks the signature and nothing else, in the same run:
//! `cargo xtask bench ingress`, or with a pace `cargo xtask bench ingress --rps 1000 --secs 60 --assert p99=100ms,max=1s`.
//!
//! Prints one line `BENCH {json}` for each figure and everything else to stderr. Each server is a process of its own that keeps to one core; the
//! sender has another one. 64 connections send signed events of 930 bytes, each with a new id, the next one when the last is answered. The
//! servers take turns and the best round of each counts, because whatever else the machine does can only add to a figure. A server's CPU is that
//! of its whole process, so with `Handled` and `Postgres` the dispatcher's work on the same events is in it; `Memory` and `Sqlite` accept and
//! queue only, which is what the target is about.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends where it cannot measure"
)]

mod load;
mod pace;
mod server;

use std::{process::ExitCode, time::Duration};

use load::Load;
use server::{Kind, Server};

/// How long a round sends.
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench" && arg != "ingress").collect();
    match args.first().map(String::as_str) {
        Some(server::CHILD) => server::child(&args[1..]),
        Some(_) => pace::run(&args),
        None => {
            compare();
            ExitCode::SUCCESS
        }
    }
}

/// The best of a server's rounds.
struct Best {
    /// Events answered in a second.
    rate: f64,
    /// Microseconds of the process' CPU for each.
    cpu: f64,
    p50: Duration,
    /// Bytes resident at the end of the first round: later ones hold more events.
    rss: u64,
}

fn compare() {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_there()).collect();
    let mut best: Vec<Option<Best>> = kinds.iter().map(|_| None).collect();
    for round in 0..ROUNDS {
        for (kind, best) in kinds.iter().zip(&mut best) {
            let server = Server::start(*kind);
            let warm = Load::new(64).run(&server, Duration::from_millis(500));
            assert_eq!(warm.refused, 0, "{kind:?} refused while it warmed up: {warm:?}");
            let before = server.cpu();
            let done = Load::new(64).run(&server, ROUND);
            server.settle();
            let cpu = (server.cpu() - before).as_secs_f64() * 1e6 / done.accepted as f64;
            assert_eq!(done.refused, 0, "{kind:?} refused events below its capacity: {done:?}");
            let rate = done.accepted as f64 / done.took.as_secs_f64();
            eprintln!(
                "round {round}: {kind:?} {rate:.0}/s, {cpu:.1} µs CPU each, p50 {:?}, p99 {:?}, max {:?}",
                done.p(50.0),
                done.p(99.0),
                done.p(100.0)
            );
            let now = Best { rate, cpu, p50: done.p(50.0), rss: server.rss() };
            *best = Some(match best.take() {
                None => now,
                Some(old) => Best { rate: old.rate.max(now.rate), cpu: old.cpu.min(now.cpu), p50: old.p50.min(now.p50), rss: old.rss },
            });
        }
    }
    let best: Vec<(Kind, Best)> = kinds.into_iter().zip(best.into_iter().flatten()).collect();
    let raw = best.iter().find(|(kind, _)| *kind == Kind::Raw).map(|(_, best)| (best.rate, best.cpu));
    for (kind, best) in &best {
        let (least, most) = kind.targets();
        figure(
            &format!("ingress {kind:?}: events"),
            best.rate,
            "/s",
            raw.map(|(rate, _)| rate),
            least.map(|least| (format!("≥ {least}×"), raw.is_some_and(|(rate, _)| best.rate / rate >= least))),
        );
        figure(
            &format!("ingress {kind:?}: CPU"),
            best.cpu,
            "µs/event",
            raw.map(|(_, cpu)| cpu),
            most.map(|most| (format!("≤ {most} µs"), best.cpu <= most)),
        );
        figure(&format!("ingress {kind:?}: p50"), best.p50.as_secs_f64() * 1e3, "ms", None, None);
        figure(&format!("ingress {kind:?}: RSS after a round"), best.rss as f64 / 1e6, "MB", None, None);
    }
}

fn figure(bench: &str, figure: f64, unit: &str, baseline: Option<f64>, target: Option<(String, bool)>) {
    let line = serde_json::json!({
        "bench": bench, "figure": figure, "unit": unit, "baseline": baseline, "ratio": baseline.map(|baseline| figure / baseline),
        "target": target.as_ref().map(|(words, _)| words), "met": target.as_ref().map(|(_, met)| met),
    });
    println!("BENCH {line}");
}
