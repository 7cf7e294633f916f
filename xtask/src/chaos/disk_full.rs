//! `disk-full` and `db-locked`: the state file cannot be written for a while, because the disk is full or because another program holds the file.
//! Senders hear 503 and when to come again, health and reads answer, and it is over soon after the cause is, without anybody's help.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    ingest::{
        load::{Load, Pace},
        settle::{judge, settle},
        world::{Base, Plan, World},
    },
    verdict::{Verdict, percentile},
};

#[derive(Debug, Args)]
pub(crate) struct Full {
    #[command(flatten)]
    base: Base,
    /// How often the disk fills up
    #[arg(long, default_value_t = 2)]
    rounds: u64,
    /// How large the disk is, MiB
    #[arg(long, default_value_t = 96)]
    disk_mib: u64,
    /// How long it stays full, seconds
    #[arg(long, default_value_t = 5)]
    full_secs: u64,
    /// How soon deliveries must be accepted again, seconds
    #[arg(long, default_value_t = 10)]
    recover_secs: u64,
    /// How long the work that is left may take, seconds
    #[arg(long, default_value_t = 300)]
    settle_secs: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Locked {
    #[command(flatten)]
    base: Base,
    /// How long another program holds the file, seconds
    #[arg(long, default_value_t = 10)]
    held_secs: u64,
    /// How soon deliveries must be accepted again, seconds
    #[arg(long, default_value_t = 10)]
    recover_secs: u64,
    /// How long the work that is left may take, seconds
    #[arg(long, default_value_t = 300)]
    settle_secs: u64,
}

/// Events of this size fill what is left of a disk quickly.
const FAT: Pace = Pace { rps: 150, connections: 16, pad: 8 << 10, prefix: "f" };
/// How long it may take until the full disk is felt: until then the state file's own spare pages are used.
const FELT: Duration = Duration::from_secs(60);
/// How long health and reads may take, milliseconds.
const HEALTHY: u64 = 1000;

pub(crate) async fn full(options: Full) -> Result<ExitCode> {
    let mut verdict = Verdict::new("disk-full", options.base.seed);
    let folder = tempfile::tempdir()?;
    let disk = match Disk::mount(folder.path(), options.disk_mib)? {
        Ok(disk) => disk,
        Err(why) => {
            if std::env::var_os("CI").is_some() {
                bail!("a small disk could not be mounted: {why}");
            }
            eprintln!("skipped: a small disk could not be mounted: {why}");
            verdict.figure("skipped", format!("no small disk: {why}"));
            return verdict.conclude();
        }
    };
    let plan = Plan { program: options.base.hub.clone(), data: Some(disk.path.join("data")), ..Plan::default() };
    let world = World::start(plan).await?;
    let key = viewer(&world).await?;
    let load = Load::start(&world, FAT)?;
    let (mut recoveries, mut waits, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        sleep(Duration::from_secs(1)).await;
        load.next_ack(Duration::from_secs(10)).await.with_context(|| format!("nothing is accepted before round {round}"))?;
        let before = load.refused();
        let filler = disk.fill()?;
        let felt = Instant::now();
        while load.refused() == before {
            if felt.elapsed() > FELT {
                bail!("round {round}: the full disk is not felt");
            }
            sleep(Duration::from_millis(20)).await;
        }
        let until = Instant::now() + Duration::from_secs(options.full_secs);
        while Instant::now() < until {
            look(&world, &key, &mut verdict, &mut waits).await;
            sleep(Duration::from_millis(200)).await;
        }
        refused.push(load.refused() - before);
        std::fs::remove_file(&filler)?;
        recover(&load, options.recover_secs, &mut verdict, &mut recoveries).await;
    }
    verdict.figure("rounds", options.rounds);
    end(verdict, world, load, options.settle_secs, recoveries, waits, refused).await
}

pub(crate) async fn locked(options: Locked) -> Result<ExitCode> {
    let mut verdict = Verdict::new("db-locked", options.base.seed);
    let world = World::start(Plan { program: options.base.hub.clone(), ..Plan::default() }).await?;
    let key = viewer(&world).await?;
    let load = Load::start(&world, Pace { pad: 0, prefix: "l", ..FAT })?;
    sleep(Duration::from_secs(1)).await;
    load.next_ack(Duration::from_secs(10)).await.context("nothing is accepted before the lock")?;
    let other = rusqlite::Connection::open(world.database())?;
    other.busy_timeout(Duration::from_secs(10))?;
    let (before, mut waits, mut recoveries) = (load.refused(), Vec::new(), Vec::new());
    // The writer of the hub is another process, so this is somebody else's lock to it.
    other.execute_batch("BEGIN EXCLUSIVE").context("locking the state file")?;
    let until = Instant::now() + Duration::from_secs(options.held_secs);
    while Instant::now() < until {
        look(&world, &key, &mut verdict, &mut waits).await;
        sleep(Duration::from_millis(200)).await;
    }
    let refused = vec![load.refused() - before];
    other.execute_batch("ROLLBACK")?;
    drop(other);
    recover(&load, options.recover_secs, &mut verdict, &mut recoveries).await;
    sleep(Duration::from_secs(1)).await;
    verdict.figure("held_secs", options.held_secs);
    end(verdict, world, load, options.settle_secs, recoveries, waits, refused).await
}

/// What both cases end with.
async fn end(
    mut verdict: Verdict,
    world: World,
    load: Load,
    settle_secs: u64,
    recoveries: Vec<u64>,
    mut waits: Vec<u64>,
    refused: Vec<u64>,
) -> Result<ExitCode> {
    let report = load.stop().await?;
    let (late, broken) = (report.late, report.broken);
    let acked = report.into_verdict(&mut verdict);
    verdict.require(late == 0, || format!("{late} deliveries were accepted after more than 3 s; a vendor does not wait that long"));
    verdict.require(broken == 0, || format!("{broken} deliveries broke or were never answered"));
    verdict.require(refused.iter().all(|count| *count > 0), || "nobody was told to come again later".to_owned());
    let settled = settle(&world, &acked, Duration::from_secs(settle_secs)).await?;
    judge(&mut verdict, &world, &acked, &settled);
    let slowest = percentile(&mut waits, 1.0);
    verdict.require(slowest <= HEALTHY, || format!("health or a read took {slowest} ms"));
    verdict.figure("refused_meanwhile", json!(refused));
    verdict.figure("recovered_after_ms", json!(recoveries));
    verdict.figure("health_and_reads", waits.len());
    verdict.figure("health_and_reads_max_ms", slowest);
    verdict.conclude()
}

/// A key that may only look.
pub(crate) async fn viewer(world: &World) -> Result<String> {
    key(world, "viewer").await
}

/// A new API key of this role, made with the command line.
pub(crate) async fn key(world: &World, role: &str) -> Result<String> {
    let made: Value = serde_json::from_str(&world.cli(&["keys", "create", "--role", role, "--json"], &[]).await?)?;
    Ok(made.get("key").and_then(Value::as_str).context("`keys create` printed no key")?.to_owned())
}

/// Health and a read must answer while writes cannot be made.
async fn look(world: &World, key: &str, verdict: &mut Verdict, waits: &mut Vec<u64>) {
    for (path, key) in [("/healthz", None), ("/api/v1/dlq", Some(key))] {
        let began = Instant::now();
        let answer = world.hubs[0].ask(path, key).await;
        waits.push(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        match answer {
            Ok(reply) => verdict.require(reply.status == 200, || format!("{path} answered {} meanwhile", reply.status)),
            Err(error) => verdict.require(false, || format!("{error:#}, meanwhile")),
        }
    }
}

async fn recover(load: &Load, within: u64, verdict: &mut Verdict, recoveries: &mut Vec<u64>) {
    let took = load.next_ack(Duration::from_secs(within * 3)).await;
    verdict.require(took.is_some_and(|took| took <= Duration::from_secs(within)), || format!("deliveries were accepted again only after {took:?}"));
    recoveries.push(took.and_then(|took| u64::try_from(took.as_millis()).ok()).unwrap_or(u64::MAX));
}

/// A small disk in memory; unmounted when dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one; `Err` inside: why that is not possible here.
    fn mount(path: &Path, mib: u64) -> Result<Result<Self, String>> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "connectors-chaos"]).arg(path);
        let output = match command.stdin(Stdio::null()).output() {
            Ok(output) => output,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(Ok(Self { path: path.to_owned() }))
    }

    /// Takes all the space that is left; gives the file that has it.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.path.join("filler");
        let mut file = File::create(&path)?;
        let block = vec![0_u8; 64 << 10];
        for size in [block.len(), 4096] {
            loop {
                match file.write_all(&block[..size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a hub that is being killed may still have it open.
        let done = Command::new("umount").arg("-l").arg(&self.path).status();
        if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("{} could not be unmounted: {done:?}", self.path.display());
        }
    }
}
