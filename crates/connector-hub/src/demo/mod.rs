//! `demo`: the support-desk story, end to end, on this machine alone.
//!
//! Mail arrives in a fake shared mailbox, Graph notifies, the hub verifies, keeps, deduplicates, fetches, threads, enriches from the CRM
//! and the CMDB, makes a ticket through a YAML connector, answers in the thread and tags the mail, while the vendors throttle, fail and
//! repeat themselves. At the end the sandbox's own ledger says whether anything was lost or done twice.
//!
//! Owns the order of the show. The work itself is in `story`, the judgement in `check`.

mod book;
mod caller;
mod catchup;
mod check;
mod corpus;
mod enrich;
mod mail;
mod report;
mod stage;
mod story;
mod tally;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use connector_core::Error;
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    check::{DeadLetters, Delivered},
    corpus::{DemoMessage, SUPPORT_MAILBOX},
    report::{Report, Run},
    stage::Stage,
    tally::{Tally, of, one},
};
use crate::{cli::Faults, output::FAILED};

/// Mail comes in bursts: so many at once, then a pause.
const BURST: usize = 10;
const PACE: Duration = Duration::from_millis(150);
/// How often the queues are looked at while they empty.
const LOOK: Duration = Duration::from_millis(50);
/// If nothing moves for this long, it will not: the longest wait before an event's third attempt is 36 s.
const STUCK: Duration = Duration::from_secs(45);

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the closing table instead of leaving the dashboard running
    #[arg(long)]
    once: bool,
    /// How much goes wrong
    #[arg(long, default_value = "light")]
    faults: Faults,
    /// The hub's port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// How many messages to make up
    #[arg(long, value_name = "N", default_value_t = 200)]
    messages: usize,
    /// Also deliver the message files of this folder; may be given several times
    #[arg(long, value_name = "DIR")]
    mail: Vec<PathBuf>,
    /// Decides the messages and what goes wrong; the same seed gives the same ones
    #[arg(long, value_name = "N", default_value_t = 2026)]
    seed: u64,
    /// Leave the demo's folder (SQLite, hub.yaml, ticketing.yaml) and say where it is
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
///
/// # Errors
/// If it cannot start. A run that loses or doubles something is not an error but exit code 1, with the list.
pub(crate) async fn run(args: DemoArgs, json: bool) -> Result<ExitCode> {
    let mail = letters(&args)?;
    let start = Instant::now();
    let stage = Stage::start(args.faults, args.seed, args.port, args.keep).await?;
    if args.keep {
        eprintln!("the demo's folder is {}", stage.dir.path().display());
    }
    let progress = Progress::new(mail.len(), json);
    stage.subscribe().await?;
    let delivered = deliver(&stage, &mail, &progress).await?;
    stage.sandbox.settled().await;
    drain(&stage, &progress).await?;
    // Whatever no notification told of is found by comparing the mailbox with what was handled.
    let inbox = catchup::inbox(&stage.desk).await?;
    let caught_up = catchup::missed(&stage.store, &stage.book, &inbox).await?;
    if caught_up > 0 {
        drain(&stage, &progress).await?;
    }
    progress.end();

    let (dead, dead_letter_reasons) = dead_letters(&stage, &inbox).await?;
    let verdict = check::judge(&delivered, &stage.sandbox.ledger().effects(), &dead);
    let run = Run {
        messages: mail.len(),
        wall_s: start.elapsed().as_secs_f64(),
        caught_up,
        faults: faults(&stage),
        fault_profile: profile_name(args.faults),
        seed: args.seed,
        dead_letter_reasons,
    };
    let report = Report::new(run, verdict, stage.runtime.stats(), &stage.tally);
    report.print(json)?;
    if !args.once {
        eprintln!("the hub's dashboard is at http://{}/ until Ctrl-C", stage.address);
        if let Some(key) = &stage.key {
            eprintln!("API calls want this key: Authorization: Bearer {key}");
        }
        tokio::signal::ctrl_c().await?;
    }
    stage.end().await;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// The mail of this run: made up, then the user's.
fn letters(args: &DemoArgs) -> Result<Vec<DemoMessage>> {
    let mut mail = corpus::generate(args.seed, args.messages);
    for folder in &args.mail {
        mail.extend(corpus::load_dir(folder).map_err(|error| Error::config(error.to_string()))?);
    }
    Ok(mail)
}

async fn deliver(stage: &Stage, mail: &[DemoMessage], progress: &Progress) -> Result<Vec<Delivered>> {
    let mut delivered = Vec::with_capacity(mail.len());
    for (at, message) in mail.iter().enumerate() {
        let id = stage.sandbox.msgraph().inject_mime(SUPPORT_MAILBOX, "inbox", &message.bytes);
        if id.is_none() {
            return Err(Error::internal("the sandbox's mailbox is not there").into());
        }
        delivered.push(Delivered { file: message.file.clone(), expectation: message.expectation });
        one(&stage.tally.delivered);
        progress.show(&stage.tally);
        if (at + 1) % BURST == 0 {
            tokio::time::sleep(PACE).await;
        }
    }
    Ok(delivered)
}

/// Waits until events and outbox are empty, or nothing has moved for long.
async fn drain(stage: &Stage, progress: &Progress) -> Result<()> {
    let mut before = None;
    let mut moved = Instant::now();
    loop {
        let (events, outbox) = (stage.store.depth("events").await?, stage.store.depth("outbox").await?);
        progress.show(&stage.tally);
        if events.pending + events.leased + outbox.pending + outbox.leased == 0 {
            return Ok(());
        }
        let now = (events, outbox, stage.tally.handled());
        if before != Some(now) {
            (before, moved) = (Some(now), Instant::now());
        } else if moved.elapsed() > STUCK {
            // The check will call what is left lost, with its file.
            tracing::error!(?events, ?outbox, "the queues do not empty");
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was given up: by Message-ID for the check, and counted by reason for people.
async fn dead_letters(stage: &Stage, inbox: &BTreeMap<String, String>) -> Result<(DeadLetters, BTreeMap<String, usize>)> {
    let mut reasons = BTreeMap::new();
    let mut dead = DeadLetters::new();
    for (id, reason) in catchup::dead(&stage.store).await? {
        *reasons.entry(reason.clone()).or_default() += 1;
        dead.insert(inbox.get(&id).cloned().unwrap_or(id), reason);
    }
    Ok((dead, reasons))
}

/// Faults the sandbox injected, over all vendors.
fn faults(stage: &Stage) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for ((_, kind), count) in stage.sandbox.faults().counts() {
        let name = serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_else(|| format!("{kind:?}"));
        *counts.entry(name).or_default() += count;
    }
    counts
}

fn profile_name(faults: Faults) -> &'static str {
    match faults {
        Faults::None => "none",
        Faults::Light => "light",
        Faults::Heavy => "heavy",
    }
}

/// The live line: on a terminal only.
struct Progress(ProgressBar);

impl Progress {
    fn new(messages: usize, is_quiet: bool) -> Self {
        // indicatif draws on stderr and only if that is a terminal.
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new(messages as u64) };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} handled  {msg}  {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, tally: &Tally) {
        self.0.set_position(tally.handled());
        self.0.set_message(format!(
            "in {}, tickets {}, comments {}, replies {}",
            of(&tally.delivered),
            of(&tally.tickets),
            of(&tally.comments),
            of(&tally.replies)
        ));
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
