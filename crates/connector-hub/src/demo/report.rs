//! The closing report: one JSON document for scripts, one table and a verdict for people.

use std::collections::BTreeMap;

use connector_runtime::Stats;
use serde::Serialize;

use super::{
    check::{Offender, Verdict},
    tally::{Tally, of},
};
use crate::output;

/// What a run came to. The first fields are a contract with scripts; the ones after `wall_s` may grow.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Messages delivered into the mailbox.
    messages_in: usize,
    /// Messages that had each of their effects exactly once.
    handled_once: usize,
    /// Messages with neither all their effects nor a dead letter.
    lost: usize,
    /// Messages with a ticket, comment or reply too many.
    doubled: usize,
    /// Messages kept for a person, with the reason.
    dead_letters: usize,
    /// Notifications that had come before.
    duplicates_dropped: u64,
    /// Sends that followed a failed one, by the class of that failure.
    retries: BTreeMap<String, u64>,
    /// Calls that waited for a vendor's limits.
    throttled_waits: u64,
    breaker_trips: u64,
    /// Requests to vendors.
    calls_made: u64,
    calls_saved: Saved,
    /// From the notification to the last effect.
    p50_ms: u64,
    p95_ms: u64,
    wall_s: f64,
    /// Messages answered in the wrong conversation, and machines that were answered.
    misdirected: usize,
    outcomes: BTreeMap<&'static str, u64>,
    tickets: u64,
    comments: u64,
    replies: u64,
    links: u64,
    /// Facts that could not be had in time.
    facts_missed: u64,
    /// Messages that no notification told of and the closing delta round found.
    caught_up: usize,
    faults: BTreeMap<String, u64>,
    fault_profile: &'static str,
    seed: u64,
    /// What the dead letters say, and how often.
    dead_letter_reasons: BTreeMap<String, usize>,
    offenders: Vec<Offender>,
}

#[derive(Debug, Serialize)]
struct Saved {
    cache: u64,
    batching: u64,
}

/// Facts about the run that nobody else knows.
pub(super) struct Run {
    pub(super) messages: usize,
    pub(super) wall_s: f64,
    pub(super) caught_up: usize,
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) fault_profile: &'static str,
    pub(super) seed: u64,
    pub(super) dead_letter_reasons: BTreeMap<String, usize>,
}

impl Report {
    pub(super) fn new(run: Run, verdict: Verdict, stats: Stats, tally: &Tally) -> Self {
        let counts = (verdict.lost.len(), verdict.doubled.len(), verdict.misdirected.len());
        Self {
            messages_in: run.messages,
            handled_once: verdict.handled_once,
            lost: counts.0,
            doubled: counts.1,
            dead_letters: verdict.dead_letters,
            duplicates_dropped: stats.duplicates_dropped,
            retries: stats.retries,
            throttled_waits: stats.throttled_waits,
            breaker_trips: stats.breaker_trips,
            calls_made: stats.calls_made,
            calls_saved: Saved { cache: stats.calls_saved.cache, batching: stats.calls_saved.batching },
            p50_ms: tally.percentile(50),
            p95_ms: tally.percentile(95),
            wall_s: (run.wall_s * 100.0).round() / 100.0,
            misdirected: counts.2,
            outcomes: tally.outcomes(),
            tickets: of(&tally.tickets),
            comments: of(&tally.comments),
            replies: of(&tally.replies),
            links: of(&tally.links),
            facts_missed: of(&tally.missed),
            caught_up: run.caught_up,
            faults: run.faults,
            fault_profile: run.fault_profile,
            seed: run.seed,
            dead_letter_reasons: run.dead_letter_reasons,
            offenders: [verdict.lost, verdict.doubled, verdict.misdirected].concat(),
        }
    }

    /// Whether every message was handled exactly once or kept for a person.
    pub(super) fn is_good(&self) -> bool {
        self.lost + self.doubled + self.misdirected == 0
    }

    /// Prints it.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            return output::json(self);
        }
        output::table(&["what", "how many"], self.rows())?;
        for (reason, count) in &self.dead_letter_reasons {
            println!("  dead letter ({count}): {reason}");
        }
        for offender in &self.offenders {
            println!("  wrong: {}: {}", offender.file, offender.what);
        }
        println!("{}", self.verdict());
        Ok(())
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let listed = |counts: &BTreeMap<String, u64>| {
            let shown: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
        };
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        vec![
            row("messages in", self.messages_in.to_string()),
            row("handled once", self.handled_once.to_string()),
            row("lost / doubled / misdirected", format!("{} / {} / {}", self.lost, self.doubled, self.misdirected)),
            row("dead letters", self.dead_letters.to_string()),
            row("tickets, comments, replies", format!("{}, {}, {}", self.tickets, self.comments, self.replies)),
            row("tickets linked to the CMDB", self.links.to_string()),
            row("faults injected", listed(&self.faults)),
            row("retries", listed(&self.retries)),
            row("throttled waits", self.throttled_waits.to_string()),
            row("breaker trips", self.breaker_trips.to_string()),
            row("duplicates dropped", self.duplicates_dropped.to_string()),
            row("found by the closing delta round", self.caught_up.to_string()),
            row("requests to vendors", self.calls_made.to_string()),
            row("calls saved by cache / batching", format!("{} / {}", self.calls_saved.cache, self.calls_saved.batching)),
            row("notification to last effect, p50 / p95", format!("{} ms / {} ms", self.p50_ms, self.p95_ms)),
            row("time", format!("{:.1} s", self.wall_s)),
        ]
    }

    fn verdict(&self) -> String {
        if self.is_good() {
            format!("Good: all {} messages were handled exactly once or kept for a person, by the sandbox's own ledger.", self.messages_in)
        } else {
            format!(
                "NOT good: {} lost, {} doubled, {} misdirected. Run it again with --seed {} to look into it.",
                self.lost, self.doubled, self.misdirected, self.seed
            )
        }
    }
}
