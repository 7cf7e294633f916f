//! `dup-storm`: the same delivery comes in many times at once, over one hub and over a fleet, and once more while a hub is killed. Each event is
//! handled once, and every sender hears yes.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    ingest::{
        settle::{judge, settle},
        wire::Wire,
        world::{Base, Kept, Plan, Vendor, World},
    },
    verdict::Verdict,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    base: Base,
    /// How many events
    #[arg(long, default_value_t = 40)]
    events: u64,
    /// How often each one comes at once
    #[arg(long, default_value_t = 64)]
    copies: usize,
    /// During how many of them a hub is killed
    #[arg(long, default_value_t = 4)]
    kills: u64,
    /// Where the hubs keep their state
    #[arg(long, value_enum, default_value_t)]
    store: Kept,
    /// How many hubs; several need `--store postgres`
    #[arg(long, default_value_t = 1)]
    hubs: usize,
    /// How long the work that is left may take, seconds
    #[arg(long, default_value_t = 600)]
    settle_secs: u64,
}

/// How long one delivery may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a delivery is sent again while its hub is away.
const TRIES: u32 = 200;

/// What the copies of one event were answered.
#[derive(Debug, Default)]
struct Storm {
    first: BTreeMap<u16, u64>,
    unanswered: u64,
    repeated: u64,
    never: u64,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut random = fastrand::Rng::with_seed(options.base.seed);
    let plan = Plan { program: options.base.hub.clone(), kept: options.store, hubs: options.hubs, ..Plan::default() };
    let mut world = World::start(plan).await?;
    let mut verdict = Verdict::new("dup-storm", options.base.seed);
    let (mut first, mut ids) = (BTreeMap::new(), Vec::new());
    let (mut unanswered, mut repeated, mut never, mut kills) = (0, 0, 0, 0);
    // The kills come last: until then every first answer must be a yes.
    let calm = options.events.saturating_sub(options.kills);
    for number in 0..options.events {
        let id = format!("d-{number}");
        let storm = storm(&world, &id, number, options.copies);
        let storm = if number < calm {
            storm.await?
        } else {
            let storm = tokio::spawn(storm);
            tokio::time::sleep(Duration::from_micros(random.u64(0..30_000))).await;
            let victim = random.usize(0..world.hubs.len());
            let hub = &mut world.hubs[victim];
            kills += u64::from(hub.kill().await?);
            hub.start().await?;
            storm.await.context("a storm panicked")??
        };
        if number < calm {
            let refused: Vec<_> = storm.first.keys().filter(|status| !(200..300).contains(*status)).collect();
            verdict.require(refused.is_empty() && storm.unanswered == 0, || {
                format!("{id}: not every copy was accepted at once: {:?}, {} unanswered", storm.first, storm.unanswered)
            });
        }
        for (status, count) in storm.first {
            *first.entry(status.to_string()).or_insert(0_u64) += count;
        }
        unanswered += storm.unanswered;
        repeated += storm.repeated;
        never += storm.never;
        ids.push(id);
    }
    let settled = settle(&world, &ids, Duration::from_secs(options.settle_secs)).await?;
    verdict.require(never == 0, || format!("{never} senders never heard yes"));
    verdict.require(kills == options.kills.min(options.events), || format!("{kills} of {} kills hit a running hub", options.kills));
    judge(&mut verdict, &world, &ids, &settled);
    verdict.figure("hubs", options.hubs);
    verdict.figure("events", options.events);
    verdict.figure("copies_of_each", options.copies);
    verdict.figure("first_answers", json!(first));
    verdict.figure("first_unanswered", unanswered);
    verdict.figure("sent_again", repeated);
    verdict.figure("kills", kills);
    verdict.conclude()
}

/// Sends one event `copies` times at the same time, each over a connection of its own, and each again until it is accepted.
fn storm(world: &World, id: &str, number: u64, copies: usize) -> impl Future<Output = Result<Storm>> + Send + 'static {
    let (vendor, addrs) = (world.vendor.clone(), world.addrs());
    let body: Arc<str> = vendor.body(id, number, 0).into();
    async move {
        let barrier = Arc::new(Barrier::new(copies));
        let mut senders = JoinSet::new();
        for at in 0..copies {
            senders.spawn(copy(vendor.clone(), addrs.clone(), at, body.clone(), barrier.clone()));
        }
        let mut storm = Storm::default();
        while let Some(done) = senders.join_next().await {
            let (first, tries, accepted) = done.context("a sender panicked")?;
            match first {
                Some(status) => *storm.first.entry(status).or_default() += 1,
                None => storm.unanswered += 1,
            }
            storm.repeated += u64::from(tries - 1);
            storm.never += u64::from(!accepted);
        }
        Ok(storm)
    }
}

/// One copy: the first answer, how often it was sent, whether it was accepted in the end.
async fn copy(vendor: Arc<Vendor>, addrs: Vec<SocketAddr>, at: usize, body: Arc<str>, barrier: Arc<Barrier>) -> (Option<u16>, u32, bool) {
    let mut turn = at % addrs.len();
    let mut wire = Wire::to(addrs[turn]);
    barrier.wait().await;
    let mut first = None;
    for tries in 1..=TRIES {
        let request = vendor.delivery(addrs[turn], &body);
        let answer = wire.send(&request, PATIENCE).await;
        if tries == 1 {
            first = answer.as_ref().ok().map(|reply| reply.status);
        }
        match answer {
            Ok(reply) if reply.is_success() => return (first, tries, true),
            // Anything but "later" will not change.
            Ok(reply) if reply.status != 503 => return (first, tries, false),
            Ok(_) | Err(_) => {}
        }
        turn = (turn + 1) % addrs.len();
        wire.turn_to(addrs[turn]);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..200))).await;
    }
    (first, TRIES, false)
}
