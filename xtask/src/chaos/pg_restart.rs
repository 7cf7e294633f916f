//! `pg-restart`: the PostgreSQL server under a fleet is stopped and started again while events come in, as an administrator does and as a crash
//! does. Meanwhile senders hear 503; it is over soon after the server is back; nothing is lost or done twice.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::{
    ingest::{
        load::{Load, Pace},
        postgres::Stop,
        settle::{judge, settle},
        world::{Base, Kept, Plan, World},
    },
    verdict::Verdict,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    base: Base,
    /// How often each way of stopping is tried
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// How many hubs
    #[arg(long, default_value_t = 3)]
    hubs: usize,
    /// Events per second
    #[arg(long, default_value_t = 200)]
    rps: u64,
    /// How long the server stays away, milliseconds
    #[arg(long, default_value_t = 2000)]
    away_ms: u64,
    /// How soon each hub must accept again once the server is back, seconds
    #[arg(long, default_value_t = 10)]
    recover_secs: u64,
    /// How long the work that is left may take, seconds
    #[arg(long, default_value_t = 600)]
    settle_secs: u64,
}

/// How long events come in between two restarts.
const CALM: Duration = Duration::from_secs(2);

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let plan = Plan { program: options.base.hub.clone(), kept: Kept::Postgres, hubs: options.hubs, ..Plan::default() };
    let mut world = World::start(plan).await?;
    let mut verdict = Verdict::new("pg-restart", options.base.seed);
    let load = Load::start(&world, Pace { rps: options.rps, connections: 24, pad: 0, prefix: "p" })?;
    let (mut recoveries, mut refused_while_away, mut healthy) = (Vec::new(), Vec::new(), 0);
    for round in 0..options.rounds {
        for how in [Stop::Fast, Stop::Immediate] {
            tokio::time::sleep(CALM).await;
            load.next_ack(Duration::from_secs(10)).await.with_context(|| format!("nothing is accepted before round {round}"))?;
            let refused = load.refused();
            let postgres = world.postgres.as_mut().context("no server")?;
            postgres.stop(how)?;
            tokio::time::sleep(Duration::from_millis(options.away_ms)).await;
            for hub in &world.hubs {
                let reply = hub.probe("/healthz").await?;
                verdict.require(reply.status == 200, || format!("/healthz answered {} while the server was away", reply.status));
                healthy += 1;
            }
            refused_while_away.push(load.refused() - refused);
            world.postgres.as_mut().context("no server")?.up().await?;
            let back = tokio::time::Instant::now();
            let limit = Duration::from_secs(options.recover_secs);
            for (at, hub) in world.hubs.iter().enumerate() {
                // Each hub by itself: a fleet that only looks well because one of three works would not do.
                let body = world.vendor.body(&format!("back-{round}-{how:?}-{at}"), at as u64, 0);
                loop {
                    let request = world.vendor.delivery(hub.addr, &body);
                    let reply = super::ingest::wire::once(hub.addr, &request, Duration::from_secs(15)).await;
                    if reply.is_ok_and(|reply| reply.is_success()) || back.elapsed() > 2 * limit {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            let took = back.elapsed();
            verdict.require(took <= limit, || format!("round {round}, {how:?}: hubs accepted again only after {took:?}"));
            recoveries.push(u64::try_from(took.as_millis())?);
        }
    }
    tokio::time::sleep(CALM).await;
    let report = load.stop().await?;
    let broken = report.broken;
    let acked = report.into_verdict(&mut verdict);
    verdict.require(broken == 0, || format!("{broken} deliveries broke; a hub whose server is away answers 503"));
    verdict.require(refused_while_away.iter().all(|count| *count > 0), || {
        format!("nobody was told to come again later although the server was away: {refused_while_away:?}")
    });
    let settled = settle(&world, &acked, Duration::from_secs(options.settle_secs)).await?;
    judge(&mut verdict, &world, &acked, &settled);
    verdict.figure("hubs", options.hubs);
    verdict.figure("restarts", recoveries.len());
    verdict.figure("recovered_after_ms", json!(recoveries));
    verdict.figure("refused_while_away", json!(refused_while_away));
    verdict.figure("health_probes_answered_while_away", healthy);
    verdict.conclude()
}
