//! `ingest-kill`: hubs are killed again and again while events come in. What was acknowledged has its effect, once.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::time::Instant;

use super::{
    load::{Load, Pace},
    settle::{judge, settle},
    world::{Base, Kept, Plan, World},
};
use crate::chaos::verdict::{Verdict, percentile};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    base: Base,
    /// How often a hub is killed
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Events per second
    #[arg(long, default_value_t = 800)]
    rps: u64,
    /// At least so many events are acknowledged
    #[arg(long, default_value_t = 50_000)]
    events: u64,
    /// Where the hubs keep their state
    #[arg(long, value_enum, default_value_t)]
    store: Kept,
    /// How many hubs; several need `--store postgres`
    #[arg(long, default_value_t = 1)]
    hubs: usize,
    /// Connections that send
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How long the work that is left may take, seconds
    #[arg(long, default_value_t = 900)]
    settle_secs: u64,
}

/// Of a thousand effects so many are not answered, so that repeating them is part of the picture.
const CUT: u32 = 5;

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut random = fastrand::Rng::with_seed(options.base.seed);
    let plan = Plan { program: options.base.hub.clone(), kept: options.store, hubs: options.hubs, ..Plan::default() };
    let mut world = World::start(plan).await?;
    world.effects.hang_up(CUT);
    let mut verdict = Verdict::new("ingest-kill", options.base.seed);
    let began = Instant::now();
    let load = Load::start(&world, Pace { rps: options.rps, connections: options.connections, pad: 0, prefix: "e" })?;

    // The kills are spread over the time the events take; each hits within its own slice.
    let whole = Duration::from_millis(options.events * 1000 / options.rps.max(1));
    let slice = whole / u32::try_from(options.kills.max(1))?;
    let (mut kills, mut starts) = (0, Vec::new());
    for _ in 0..options.kills {
        tokio::time::sleep(slice.mul_f64(0.2 + 0.8 * random.f64())).await;
        let hub = random.usize(0..world.hubs.len());
        let hub = &mut world.hubs[hub];
        kills += u64::from(hub.kill().await?);
        tokio::time::sleep(Duration::from_millis(random.u64(20..300))).await;
        starts.push(u64::try_from(hub.start().await.context("restarting a hub")?.as_millis())?);
    }
    while load.acked() < options.events {
        load.next_ack(Duration::from_secs(60)).await.context("nothing is acknowledged any more")?;
    }
    let report = load.stop().await?;
    let sending = began.elapsed();
    let acked = report.into_verdict(&mut verdict);
    let settled = settle(&world, &acked, Duration::from_secs(options.settle_secs)).await?;

    verdict.require(kills == options.kills, || format!("{kills} of {} kills hit a running hub", options.kills));
    verdict.require(acked.len() as u64 >= options.events, || format!("only {} events were acknowledged", acked.len()));
    judge(&mut verdict, &world, &acked, &settled);
    verdict.figure("hubs", options.hubs);
    verdict.figure("store", if options.store == Kept::Postgres { "postgres" } else { "sqlite" });
    verdict.figure("kills", kills);
    verdict.figure("restart_p50_ms", percentile(&mut starts, 0.5));
    verdict.figure("restart_max_ms", percentile(&mut starts, 1.0));
    verdict.figure("acked_per_second", acked.len() as u64 / sending.as_secs().max(1));
    verdict.conclude()
}
