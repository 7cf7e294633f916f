//! `dlq-replay`: the outside world refuses everything for good, so every event becomes a dead letter, once, while the hub is killed in between. Who
//! may only look sees no payload. After the repair everything is done again, twice over, and every effect is there once.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use connector_core::{
    TenantId,
    state::{Job, JobFilter, JobState},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    disk_full::viewer,
    ingest::{
        load::{Load, Pace},
        settle::{judge, settle},
        world::{Base, Look, Plan, World, contains},
    },
    verdict::Verdict,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    base: Base,
    /// How many events
    #[arg(long, default_value_t = 400)]
    events: u64,
    /// How often the hub is killed in each of the four stages
    #[arg(long, default_value_t = 1)]
    kills: u64,
    /// How long each stage may take, seconds
    #[arg(long, default_value_t = 400)]
    stage_secs: u64,
}

/// How many events and dead letters are looked at one by one as a viewer.
const SAMPLE: usize = 20;

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut random = fastrand::Rng::with_seed(options.base.seed);
    let mut world = World::start(Plan { program: options.base.hub.clone(), ..Plan::default() }).await?;
    let mut verdict = Verdict::new("dlq-replay", options.base.seed);
    let viewer = viewer(&world).await?;
    let patience = Duration::from_secs(options.stage_secs);
    let mut kills = 0;

    // 1. Nothing can be done: every event gives up, once.
    world.effects.refuse(true);
    let load = Load::start(&world, Pace { rps: 200, connections: 16, pad: 0, prefix: "q" })?;
    while load.acked() < options.events {
        load.next_ack(Duration::from_secs(60)).await.context("nothing is acknowledged any more")?;
        if kills < options.kills && load.acked() > options.events / 2 {
            kills += kill(&mut world, &mut random).await?;
        }
    }
    let acked = load.stop().await?.into_verdict(&mut verdict);
    let look = world.look().await?;
    let letters = all_dead(&look, acked.len(), patience).await?;
    once_each(&mut verdict, "at first", &letters, acked.len());
    told(&mut verdict, &world, &letters);
    shown(&mut verdict, &world, &viewer, &letters).await?;

    // 2. Queued again while it is still refused: it gives up again, and is still there once.
    let mut retried = retry_all(&mut world, &mut random, options.kills, &mut kills).await?;
    let letters = all_dead(&look, acked.len(), patience).await?;
    once_each(&mut verdict, "after a retry in vain", &letters, acked.len());
    verdict.require(world.effects.with(|ledger| ledger.effects()) == 0, || "something took effect although everything was refused".into());

    // 3. Repaired, and queued again: everything is done, once.
    world.effects.refuse(false);
    retried += retry_all(&mut world, &mut random, options.kills, &mut kills).await?;
    let settled = settle(&world, &acked, patience).await?;
    judge(&mut verdict, &world, &acked, &settled);

    // 4. And all of it twice more, although it is done.
    let mut replayed = 0;
    for round in 0..2 {
        let count = replay_all(&world).await?;
        verdict.require(count == acked.len() as u64, || format!("`events replay --all` queued {count} of {} events", acked.len()));
        replayed += count;
        if round == 0 {
            for _ in 0..options.kills {
                kills += kill(&mut world, &mut random).await?;
            }
        }
        let settled = settle(&world, &acked, patience).await?;
        judge(&mut verdict, &world, &acked, &settled);
    }
    verdict.figure("kills", kills);
    verdict.figure("queued_again_by_command", retried);
    verdict.figure("replayed_by_event", replayed);
    verdict.figure("refusals", world.effects.with(|ledger| ledger.refused));
    verdict.conclude()
}

/// SIGKILL and a new start. 1: it was running.
async fn kill(world: &mut World, random: &mut fastrand::Rng) -> Result<u64> {
    sleep(Duration::from_millis(random.u64(20..400))).await;
    let hub = &mut world.hubs[0];
    let killed = u64::from(hub.kill().await?);
    hub.start().await?;
    Ok(killed)
}

/// The dead letters, all of them.
async fn dead(look: &Look) -> Result<Vec<Job>> {
    let filter = JobFilter { state: Some(JobState::Dead), limit: usize::MAX, ..JobFilter::default() };
    Ok(look.store.jobs(&TenantId::default(), filter).await?)
}

/// Waits until nothing is left to do, and gives the dead letters.
async fn all_dead(look: &Look, expected: usize, patience: Duration) -> Result<Vec<Job>> {
    let began = Instant::now();
    loop {
        let depth = look.depth().await?;
        if depth.pending + depth.leased == 0 {
            return dead(look).await;
        }
        if began.elapsed() > patience {
            bail!("{expected} events should have given up by now; {} wait, {} are in work, {} are dead", depth.pending, depth.leased, depth.dead);
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Each event is among the dead letters, and none twice.
fn once_each(verdict: &mut Verdict, when: &str, letters: &[Job], expected: usize) {
    let distinct: BTreeSet<&[u8]> = letters.iter().map(|job| &job.payload[..]).collect();
    verdict.require(letters.len() == expected && distinct.len() == expected, || {
        format!("{when}: {} dead letters about {} events, {expected} events were acknowledged", letters.len(), distinct.len())
    });
}

/// Each says why it gave up, after how many attempts, and nothing that is nobody's business.
fn told(verdict: &mut Verdict, world: &World, letters: &[Job]) {
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    for job in letters {
        let Some(error) = &job.last_error else {
            verdict.require(false, || format!("dead letter {} does not say why", job.id));
            continue;
        };
        *classes.entry(error.kind.to_string()).or_default() += 1;
        verdict.require(job.attempts >= 1, || format!("dead letter {} had no attempt", job.id));
        verdict.require(!error.message.contains(&world.vendor.note), || format!("dead letter {} quotes what the vendor refused", job.id));
    }
    verdict.figure("dead_by_class", json!(classes));
}

/// What a viewer, the command line's lists and the log show: never a payload.
async fn shown(verdict: &mut Verdict, world: &World, viewer: &str, letters: &[Job]) -> Result<()> {
    let note = &world.vendor.note;
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for args in [&["dlq", "list"][..], &["dlq", "list", "--json"], &["events", "list"], &["events", "list", "--json"]] {
        places.push((args.join(" "), world.cli(args, &[]).await?.into_bytes()));
    }
    for job in letters.iter().take(2) {
        let id = job.id.to_string();
        places.push((format!("dlq show {id}"), world.cli(&["dlq", "show", &id], &[]).await?.into_bytes()));
    }
    let mut paths = vec!["/api/v1/dlq?limit=1000".to_owned(), "/api/v1/events?limit=1000".to_owned()];
    paths.extend(letters.iter().take(SAMPLE).map(|job| format!("/api/v1/dlq/{}", job.id)));
    paths.extend(letters.iter().take(SAMPLE).map(|job| format!("/api/v1/events/{}", String::from_utf8_lossy(&job.payload))));
    for path in paths {
        let reply = world.hubs[0].ask(&path, Some(viewer)).await?;
        verdict.require(reply.is_success(), || format!("a viewer gets {} from {path}", reply.status));
        places.push((path, reply.body));
    }
    places.push(("the hub's log".into(), world.hubs[0].log()?));
    for (place, bytes) in &places {
        verdict.require(!contains(bytes, note), || format!("{place} shows a payload"));
    }
    verdict.figure("places_looked_at", places.len());
    Ok(())
}

/// `dlq retry --all`, cut short by kills of the command and of the hub; then once more to its end. Gives how many were queued again by the last.
async fn retry_all(world: &mut World, random: &mut fastrand::Rng, times: u64, kills: &mut u64) -> Result<u64> {
    for _ in 0..times {
        let mut command = world.hubs[0].command(&["dlq", "retry", "--all"]);
        let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
        sleep(Duration::from_millis(random.u64(100..900))).await;
        *kills += u64::from(world.hubs[0].kill().await?);
        child.kill().await?;
        world.hubs[0].start().await?;
    }
    // 4 is "nothing found": the first command may have got through.
    let said = world.cli(&["dlq", "retry", "--all", "--json"], &[4]).await?;
    Ok(serde_json::from_str::<Value>(&said).ok().and_then(|said| said.get("count")?.as_u64()).unwrap_or(0))
}

/// Replays every event with the command line. Gives how many.
async fn replay_all(world: &World) -> Result<u64> {
    let said = world.cli(&["events", "replay", "--all", "--json"], &[]).await?;
    let said: Value = serde_json::from_str(&said)?;
    said.get("count").and_then(Value::as_u64).context("`events replay` does not say how many")
}
