//! `drain`: a hub is asked to stop under load, many times. It says at once that it is not ready, takes what still comes while load balancers
//! notice, finishes what is in flight, breaks no connection and ends with 0. A second request to stop ends it at once.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    ingest::{
        hub::Hub,
        settle::{judge, settle},
        wire::{Fault, Wire, header, read_body, read_head},
        world::{Base, Plan, Vendor, World},
    },
    verdict::{Verdict, percentile},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    base: Base,
    /// How often it is asked to stop
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// Connections that send
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How long the hub still accepts after it was asked to stop (`server.drain_delay`), milliseconds
    #[arg(long, default_value_t = 600)]
    delay_ms: u64,
    /// How soon it must say that it is not ready, milliseconds
    #[arg(long, default_value_t = 100)]
    unready_ms: u64,
    /// How long the work that is left may take, seconds
    #[arg(long, default_value_t = 300)]
    settle_secs: u64,
}

/// How long a stop may take in all.
const STOP: Duration = Duration::from_secs(30);
/// How long a second request to stop may take.
const AT_ONCE: Duration = Duration::from_secs(1);
/// One round in so many asks twice.
const TWICE: u64 = 5;
/// The pause of a sender between two deliveries.
const BETWEEN: Duration = Duration::from_millis(15);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one sender saw until the hub was gone.
#[derive(Debug, Default)]
struct Seen {
    acked: Vec<String>,
    /// Deliveries that got something else than a yes.
    other: Vec<u16>,
    /// Deliveries that were under way and broke.
    broken: Vec<String>,
    /// Kept connections that were closed before the hub said so.
    cut: u64,
    /// Connections the hub ended by saying so in an answer.
    told: u64,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut random = fastrand::Rng::with_seed(options.base.seed);
    let server = json!({ "drain_delay": format!("{}ms", options.delay_ms), "drain_timeout": "8s" });
    let mut world = World::new(Plan { program: options.base.hub.clone(), server: Some(server), ..Plan::default() }).await?;
    let mut verdict = Verdict::new("drain", options.base.seed);
    let mut all = Seen::default();
    let (mut unready, mut stops, mut second, mut finished) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..options.rounds {
        let hub = &mut world.hubs[0];
        hub.start().await.with_context(|| format!("starting for round {round}"))?;
        let mut senders = JoinSet::new();
        for at in 0..options.connections {
            senders.spawn(sender(world.vendor.clone(), hub.addr, format!("s-{round}-{at}")));
        }
        sleep(Duration::from_millis(random.u64(50..400))).await;
        let twice = round % TWICE == TWICE - 1;
        // One delivery is only half there when the hub is asked to stop; the rest follows when it does not accept any more.
        let slow = Slow::begin(&world.vendor, hub.addr, &format!("slow-{round}")).await?;
        let began = Instant::now();
        hub.term()?;
        unready.push(micros(not_ready(hub, began).await?));
        let status = if twice {
            sleep(Duration::from_millis(random.u64(0..300))).await;
            let again = Instant::now();
            hub.term()?;
            let status = hub.wait(STOP).await?;
            second.push(micros(again.elapsed()));
            verdict.require(again.elapsed() <= AT_ONCE, || format!("round {round}: a second SIGTERM took {:?}", again.elapsed()));
            drop(slow);
            status
        } else {
            sleep(Duration::from_millis(options.delay_ms + 200)).await;
            match slow.finish().await {
                Ok(202) => {
                    finished += 1;
                    all.acked.push(format!("slow-{round}"));
                }
                other => verdict.require(false, || format!("round {round}: the delivery in flight ended with {other:?}")),
            }
            let status = hub.wait(STOP).await?;
            stops.push(micros(began.elapsed()));
            verdict.require(status.code() == Some(0), || format!("round {round}: the hub ended with {status}"));
            status
        };
        while let Some(seen) = senders.join_next().await {
            let seen = seen.context("a sender panicked")?;
            all.acked.extend(seen.acked);
            // Who asks twice wants it over at once: what is in flight then is cut, and its sender comes again.
            if !twice {
                all.other.extend(seen.other);
                all.broken.extend(seen.broken);
                all.cut += seen.cut;
                all.told += seen.told;
            }
        }
        tracing::debug!(round, %status, "stopped");
    }
    verdict.require(all.other.is_empty(), || format!("deliveries were refused while the hub stopped: {:?}", &all.other[..all.other.len().min(5)]));
    verdict.require(all.broken.is_empty(), || {
        format!("{} deliveries in flight failed, for example {:?}", all.broken.len(), &all.broken[..all.broken.len().min(3)])
    });
    verdict.require(all.cut == 0, || format!("{} kept connections were closed without a word", all.cut));
    let slowest = percentile(&mut unready, 1.0);
    verdict.require(slowest <= options.unready_ms * 1000, || format!("the hub said that it is not ready only after {slowest} µs"));
    let longest = percentile(&mut stops, 1.0);
    verdict.require(longest <= micros(STOP), || format!("a stop took {longest} µs"));

    world.hubs[0].start().await?;
    let settled = settle(&world, &all.acked, Duration::from_secs(options.settle_secs)).await?;
    judge(&mut verdict, &world, &all.acked, &settled);
    verdict.figure("rounds", options.rounds);
    verdict.figure("asked_twice", second.len());
    verdict.figure("acked", all.acked.len());
    verdict.figure("finished_in_flight", finished);
    verdict.figure("connections_told_to_close", all.told);
    verdict.figure("connections_cut", all.cut);
    verdict.figure("failed_in_flight", all.broken.len());
    verdict.figure("not_ready_p50_us", percentile(&mut unready, 0.5));
    verdict.figure("not_ready_max_us", slowest);
    verdict.figure("stop_p50_ms", percentile(&mut stops, 0.5) / 1000);
    verdict.figure("stop_max_ms", longest / 1000);
    verdict.figure("second_stop_max_ms", percentile(&mut second, 1.0) / 1000);
    verdict.conclude()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How long after `began` the hub says that it is not ready. That it does not accept any more says the same.
async fn not_ready(hub: &Hub, began: Instant) -> Result<Duration> {
    loop {
        match hub.probe("/readyz").await {
            Ok(reply) if reply.status == 200 && began.elapsed() < Duration::from_secs(10) => {}
            Ok(reply) if reply.status == 200 => anyhow::bail!("the hub is still ready after {:?}", began.elapsed()),
            Ok(_) | Err(_) => return Ok(began.elapsed()),
        }
    }
}

/// Delivers one event after the other over one connection, and over a new one when the hub says so, until nobody listens any more.
async fn sender(vendor: Arc<Vendor>, addr: SocketAddr, name: String) -> Seen {
    let mut seen = Seen::default();
    let mut wire = Wire::to(addr);
    for number in 0.. {
        let id = format!("{name}-{number}");
        let request = vendor.delivery(addr, &vendor.body(&id, number, 0));
        match wire.send(&request, PATIENCE).await {
            Ok(reply) => {
                seen.told += u64::from(reply.close);
                if reply.is_success() { seen.acked.push(id) } else { seen.other.push(reply.status) }
            }
            Err(Fault::Refused(_)) => break,
            Err(Fault::Broken { idle: true, .. }) => seen.cut += 1,
            Err(fault) => seen.broken.push(format!("{id}: {fault}")),
        }
        sleep(BETWEEN).await;
    }
    seen
}

/// A delivery of which only a part was sent so far.
struct Slow {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Slow {
    async fn begin(vendor: &Vendor, addr: SocketAddr, id: &str) -> Result<Self> {
        let body = vendor.body(id, 0, 4096);
        let mut request = vendor.delivery(addr, &body);
        let rest = request.split_off(request.len() - 2048);
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(&request).await?;
        // Time for the hub to take the request up, so that it is in flight.
        sleep(Duration::from_millis(30)).await;
        Ok(Self { stream, rest })
    }

    /// Sends the rest and gives the answer's status.
    async fn finish(mut self) -> Result<u16> {
        let answer = async {
            self.stream.write_all(&self.rest).await?;
            let mut buffer = Vec::new();
            let head = read_head(&mut self.stream, &mut buffer).await?;
            let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
            let length = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            read_body(&mut self.stream, &mut buffer, head, length).await?;
            text.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")
        };
        tokio::time::timeout(PATIENCE, answer).await.context("no answer in time")?
    }
}
