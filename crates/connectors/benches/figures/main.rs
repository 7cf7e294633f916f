//! The speed this workspace promises, as figures against a baseline of the same run: `cargo xtask bench [FILTER]`.
//!
//! Prints one line `BENCH {json}` for each figure and everything else to stderr. The vendor is a TCP server in a thread of its own that
//! writes prepared bytes; the client is one current-thread runtime, and its thread's CPU time is the figure to compare, because wall time
//! on a shared machine is not. Baseline and ours take turns, and the best of all rounds counts: whatever else runs can only add to it.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a benchmark prints, and ends where it cannot measure")]

mod bulk;
mod clients;
mod faults;
mod layers;
mod measure;
mod programs;
mod server;
mod single;

use std::process::ExitCode;

use server::Server;

/// A group of figures: its name, which the filter is matched against, and who measures it.
type Group = (&'static str, fn(&Server));

const GROUPS: [Group; 8] = [
    ("layers", layers::added),
    ("breaker", layers::refusal),
    ("single call", single::run),
    ("bulk", bulk::run),
    ("memory", bulk::memory),
    ("token", faults::first_callers),
    ("throttled", faults::throttled),
    ("programs", programs::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [mode, address, pages] = &args[..]
        && mode == bulk::CHILD
    {
        return bulk::child(address, pages);
    }
    let wanted = |name: &str| args.is_empty() || args.iter().any(|filter| name.contains(filter.as_str()));
    let server = Server::start();
    for (name, run) in GROUPS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("measuring: {name}");
        run(&server);
    }
    ExitCode::SUCCESS
}
