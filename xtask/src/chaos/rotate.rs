//! `rotate-key`: every envelope is sealed under another master key, to and fro, while credentials are read without a cache and the process that
//! does it is killed again and again. No read fails; in the end one pass finishes and the old key can be destroyed.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{
    fleet::{Order, Said, Worker},
    lot::{self, Lot},
    verdict::{Verdict, percentile},
    worker::merge,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Reads per second, in all
    #[arg(long, default_value_t = 200)]
    rps: u64,
    /// How often the rotating process is killed
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// How long it all takes, seconds
    #[arg(long, default_value_t = 30)]
    secs: u64,
    /// How many credentials there are
    #[arg(long, default_value_t = 2000)]
    credentials: usize,
    /// Processes that read
    #[arg(long, default_value_t = 2)]
    readers: u64,
    /// How long a read may take, milliseconds
    #[arg(long, default_value_t = 5000)]
    within_ms: u64,
    /// Decides when the process is killed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("lot.db");
    let mut keys = vec![lot::new_key("old"), lot::new_key("new")];
    Lot::with(&file, &keys, Duration::ZERO).await?.fill(options.credentials).await?;

    let mut readers = Vec::new();
    for _ in 0..options.readers {
        let mut reader = Worker::start("reader", &lot::env(&file, &keys)).await?;
        reader.tell(&Order::Read { rps: options.rps / options.readers, credentials: options.credentials }).await?;
        readers.push(reader);
    }

    let mut verdict = Verdict::new("rotate-key", options.seed);
    let (mut kills, mut passes, mut rewrapped, mut midway) = (0, 0, 0, 0);
    let end = tokio::time::Instant::now() + Duration::from_secs(options.secs);
    let slice = Duration::from_secs(options.secs) / u32::try_from(options.kills.max(1))?;
    for _ in 0..options.kills {
        keys.rotate_left(1);
        let mut rotator = Worker::start("rotator", &lot::env(&file, &keys)).await?;
        let until = tokio::time::Instant::now() + slice.mul_f64(0.1 + 0.9 * random.f64());
        let mut finished = 0;
        while let Ok(said) = tokio::time::timeout_at(until, rotator.hear()).await {
            match said? {
                Some(Said::Pass { rewrapped: more, unreadable, key, .. }) => {
                    verdict.require(unreadable == 0, || format!("{unreadable} envelopes were unreadable on the way to `{key}`"));
                    finished += 1;
                    rewrapped += more;
                }
                other => bail!("the rotating process said {other:?}"),
            }
        }
        kills += u64::from(rotator.kill().await?);
        passes += finished;
        midway += u64::from(mixed(&file, &keys).await?);
    }

    // Nobody is killed any more: one pass must finish, whatever lies there, while reads go on to the end.
    tokio::time::sleep_until(end).await;
    keys.sort_unstable_by_key(|key| key.starts_with("old="));
    let Said::Pass { rewrapped: last, already, unreadable, left, .. } = super::worker::pass_over(&file, &keys).await? else {
        bail!("a pass without a report")
    };
    verdict.require(unreadable == 0 && left == 0, || format!("the last pass left {left} envelopes under the old key and {unreadable} unreadable"));

    let mut failed = BTreeMap::new();
    let (mut ok, mut waits) = (0, Vec::new());
    for reader in &mut readers {
        reader.tell(&Order::Stop).await?;
        let Some(Said::Reads(reads)) = reader.hear().await? else { bail!("a reader ended without a report") };
        ok += reads.ok;
        merge(&mut failed, &reads.failed);
        waits.extend(reads.waits);
    }
    verdict.require(failed.is_empty(), || format!("reads failed: {failed:?}"));
    let slowest = percentile(&mut waits, 1.0) / 1000;
    verdict.require(slowest < options.within_ms, || format!("a read took {slowest} ms"));
    let due = options.rps * options.secs / 2;
    verdict.require(ok >= due, || format!("only {ok} reads were made, {due} at least were due"));
    verdict.require(kills == options.kills, || format!("{kills} of {} kills hit a running process", options.kills));

    // The old key is destroyed: everything must open without it.
    let new: Vec<String> = keys.iter().filter(|key| key.starts_with("new=")).cloned().collect();
    let report = Lot::with(&file, &new, Duration::ZERO).await.context("opening the vault without the old key")?.vault.verify().await?;
    verdict.require(report.unreadable.is_empty(), || format!("{} envelopes do not open without the old key", report.unreadable.len()));
    verdict.require(report.credentials == options.credentials as u64, || {
        format!("{} credentials are left of {}", report.credentials, options.credentials)
    });
    let old = report.by_key.get("old").copied().unwrap_or(0);
    verdict.require(old == 0, || format!("the old key still holds {old} envelopes"));

    verdict.figure("credentials", options.credentials);
    verdict.figure("kills", kills);
    verdict.figure("kills_between_two_keys", midway);
    verdict.figure("passes_finished", passes + 1);
    verdict.figure("rewrapped_by_finished_passes", rewrapped + last);
    verdict.figure("already_done_at_the_last_pass", already);
    verdict.figure("reads", ok);
    verdict.figure("failed_reads", failed.values().sum::<u64>());
    verdict.figure("read_p50_us", percentile(&mut waits, 0.5));
    verdict.figure("read_p99_us", percentile(&mut waits, 0.99));
    verdict.figure("read_max_ms", slowest);
    verdict.figure("unreadable", report.unreadable.len());
    verdict.figure("under_the_old_key", old);
    verdict.conclude()
}

/// Whether both keys hold something: the kill came in the middle of a pass.
async fn mixed(file: &std::path::Path, keys: &[String]) -> Result<bool> {
    let report = Lot::with(file, keys, Duration::ZERO).await?.vault.verify().await?;
    Ok(report.by_key.values().filter(|count| **count > 0).count() > 1)
}
