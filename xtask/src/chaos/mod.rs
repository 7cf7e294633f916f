//! `cargo xtask chaos CASE`: breaks things on purpose and checks a promise. Each case ends with one JSON line and exit code 1 on a breach.
//!
//! The cases drive real processes: workers are this program again (`chaos worker`), over one SQLite file, killed with SIGKILL.

pub(crate) mod client;
mod disk_full;
mod dlq_replay;
mod drain;
mod dup_storm;
mod failpoint;
mod fleet;
mod ingest;
mod kill;
mod limiter;
mod limiter_servers;
mod limiter_worker;
mod lot;
mod overload;
mod pg_restart;
pub(crate) mod provider;
mod proxy;
mod race;
mod rotate;
mod verdict;
mod webhooks;
mod worker;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", about = "Break things on purpose and check a promise")]
struct Cli {
    #[command(subcommand)]
    case: Case,
}

#[derive(Debug, Subcommand)]
enum Case {
    /// Many callers in many processes meet an expired token: one token request for each expiry, everybody gets its token
    RefreshRace(race::Options),
    /// A process is killed in the middle of a token renewal: what is lost, and how often is it told
    RefreshKill(kill::Options),
    /// The master key is changed under load while the process that does it is killed again and again: no read fails
    RotateKey(rotate::Options),
    /// Hubs are killed again and again while events come in: what was acknowledged has its effect, once
    IngestKill(ingest::kill::Options),
    /// The same delivery many times at once, also while a hub is killed: handled once each, and every sender hears yes
    DupStorm(dup_storm::Options),
    /// Everything becomes a dead letter, once; after the repair everything is done again, twice over: every effect is there once
    DlqReplay(dlq_replay::Options),
    /// A hub is asked to stop under load, many times: nothing in flight fails, no connection breaks
    Drain(drain::Options),
    /// Connections that dawdle, the largest deliveries, readers that do not read: the hub stays small, says "later", keeps health quick
    Overload(overload::Options),
    /// The disk under the state file is full for a while: "later" instead of a false yes, and it recovers by itself
    DiskFull(disk_full::Full),
    /// Another program holds the state file for a while: "later", nothing lost, and it recovers by itself
    DbLocked(disk_full::Locked),
    /// The PostgreSQL server under a fleet is stopped and started again: "later" meanwhile, nothing lost or done twice
    PgRestart(pg_restart::Options),
    /// A vendor loses, doubles and reorders notifications, ends subscriptions and forgets cursors: nothing is missed, nothing is done twice
    Webhooks(webhooks::Options),
    /// Many processes share a vendor's limit over Redis, which is killed and started again: no rolling window is exceeded, the quota is used
    Limiter(limiter::Options),
    /// One process of `limiter`; started by it
    #[command(hide = true)]
    LimiterWorker,
    /// One process of a case; started by the cases themselves
    #[command(hide = true)]
    Worker {
        /// What it does
        role: worker::Role,
    },
}

/// Runs a case with the arguments after `chaos`.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let cli = match Cli::try_parse_from(std::iter::once("chaos".to_owned()).chain(args.iter().cloned())) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    block_on(async {
        match cli.case {
            Case::RefreshRace(options) => race::run(options).await,
            Case::RefreshKill(options) => kill::run(options).await,
            Case::RotateKey(options) => rotate::run(options).await,
            Case::IngestKill(options) => ingest::kill::run(options).await,
            Case::DupStorm(options) => dup_storm::run(options).await,
            Case::DlqReplay(options) => dlq_replay::run(options).await,
            Case::Drain(options) => drain::run(options).await,
            Case::Overload(options) => overload::run(options).await,
            Case::DiskFull(options) => disk_full::full(options).await,
            Case::DbLocked(options) => disk_full::locked(options).await,
            Case::PgRestart(options) => pg_restart::run(options).await,
            Case::Webhooks(options) => webhooks::run(options).await,
            Case::Limiter(options) => limiter::run(options).await,
            Case::LimiterWorker => limiter_worker::run().await,
            Case::Worker { role } => worker::run(role).await,
        }
    })
}

/// Runs to the end, or until somebody asks to stop; then what was started is ended, because dropping it ends it.
pub(crate) fn block_on(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime")?;
    let result = runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = work => result,
            _ = term.recv() => bail!("stopped by SIGTERM"),
            _ = tokio::signal::ctrl_c() => bail!("stopped by Ctrl-C"),
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}
