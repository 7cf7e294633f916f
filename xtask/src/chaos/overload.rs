//! `overload`: thousands of connections that dawdle, the largest deliveries as fast as they go, and readers that do not read. The hub stays small,
//! says "later" instead of answering late, keeps health and approvals quick, and is itself again when it is over.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    disk_full::key,
    ingest::{
        load::{LATE, Load, Pace, millis},
        settle::{judge, settle},
        wire::{Wire, get},
        world::{Base, Plan, World, raise_files},
    },
    verdict::{Verdict, percentile},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    base: Base,
    /// How much memory the hub may hold, MiB
    #[arg(long, default_value_t = 512)]
    rss_cap: u64,
    /// How much more than before the storm it may hold, MiB
    #[arg(long, default_value_t = 256)]
    rss_growth: u64,
    /// Connections that dawdle; less if this process may not open so many
    #[arg(long, default_value_t = 10_000)]
    dawdlers: usize,
    /// Connections that send large deliveries without a pause
    #[arg(long, default_value_t = 64)]
    senders: usize,
    /// How large they are, KiB. 1,024 is the most that is taken; proving one costs a hub that was built without optimisation a second of work
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(4..=1024))]
    large_kib: u64,
    /// Connections that ask and do not read
    #[arg(long, default_value_t = 50)]
    stalled: usize,
    /// How long it lasts, seconds
    #[arg(long, default_value_t = 20)]
    secs: u64,
    /// How long the work that is left may take, seconds
    #[arg(long, default_value_t = 300)]
    settle_secs: u64,
}

/// Different large deliveries; after the first round they come again, as they do when a vendor does not hear an answer.
const BODIES: u64 = 48;
/// What a delivery holds besides what makes it large, at most, in bytes.
const REST: u64 = 1024;
/// The pause between two bytes of a dawdler, shorter than any time a server gives it.
const DRIP: Duration = Duration::from_secs(3);
/// When a dawdler that was turned away comes again.
const COME_AGAIN: Duration = Duration::from_secs(10);
/// How long health and approvals may take.
const HEALTHY: Duration = Duration::from_secs(1);
/// Open files that this process needs for other things.
const SPARE: u64 = 1_500;
const MIB: u64 = 1 << 20;

/// What the storm looked like from outside.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    dawdling: AtomicU64,
    turned_away: AtomicU64,
    flood: Mutex<Flood>,
}

#[derive(Debug, Default)]
struct Flood {
    answers: BTreeMap<String, u64>,
    waits: Vec<u64>,
    late: u64,
    no_retry_after: u64,
    acked: BTreeMap<String, u64>,
}

impl Seen {
    fn over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn flood(&self) -> std::sync::MutexGuard<'_, Flood> {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let files = raise_files();
    let room = usize::try_from(files.saturating_sub(SPARE)).unwrap_or(usize::MAX);
    let dawdlers = options.dawdlers.min(room);
    let world = World::start(Plan { program: options.base.hub.clone(), push: true, ..Plan::default() }).await?;
    let mut verdict = Verdict::new("overload", options.base.seed);
    let operator: Arc<str> = key(&world, "operator").await?.into();
    let hub = &world.hubs[0];
    let addr = hub.addr;

    // A little ordinary work first: what the hub holds after that is what it needs.
    let warm = Load::start(&world, Pace { rps: 100, connections: 8, pad: 0, prefix: "w" })?;
    sleep(Duration::from_secs(2)).await;
    let mut acked = warm.stop().await?.acked;
    let baseline = hub.rss()?;

    let pad = usize::try_from(options.large_kib * 1024 - REST)?;
    let large: Arc<Vec<(String, Vec<u8>)>> = Arc::new(
        (0..BODIES)
            .map(|number| {
                let id = format!("large-{number}");
                let request = world.vendor.delivery(addr, &world.vendor.body(&id, number, pad));
                (id, request)
            })
            .collect(),
    );
    let seen = Arc::new(Seen::default());
    let mut storm = JoinSet::new();
    for at in 0..dawdlers {
        storm.spawn(dawdle(addr, at, seen.clone()));
    }
    for at in 0..options.stalled {
        storm.spawn(stall(addr, at, operator.clone(), seen.clone()));
    }
    for at in 0..options.senders {
        storm.spawn(flood(addr, at, large.clone(), seen.clone()));
    }

    // Probes have a thread of their own: what is measured is the hub, not how busy this process is with its thousands of connections.
    let prober = std::thread::Builder::new().name("prober".into()).spawn({
        let (seen, key) = (seen.clone(), operator.clone());
        move || probes(addr, &key, &seen)
    })?;
    let (mut peak, mut most) = (baseline, 0);
    let until = Instant::now() + Duration::from_secs(options.secs);
    while Instant::now() < until {
        peak = peak.max(hub.rss()?);
        most = most.max(seen.dawdling.load(Ordering::SeqCst));
        sleep(Duration::from_millis(50)).await;
    }
    seen.stop.store(true, Ordering::SeqCst);
    storm.shutdown().await;
    peak = peak.max(hub.rss()?);
    let (mut waits, unwell) = tokio::task::spawn_blocking(move || prober.join()).await?.map_err(|_| anyhow::anyhow!("the prober panicked"))?;

    // And now as if nothing had been.
    let calm = Load::start(&world, Pace { rps: 50, connections: 8, pad: 0, prefix: "c" })?;
    let recovered = calm.next_ack(Duration::from_secs(30)).await;
    sleep(Duration::from_secs(2)).await;
    acked.extend(calm.stop().await?.into_verdict(&mut verdict));
    let mut flood = std::mem::take(&mut *seen.flood());
    acked.extend(flood.acked.keys().cloned());
    let settled = settle(&world, &acked, Duration::from_secs(options.settle_secs)).await?;
    judge(&mut verdict, &world, &acked, &settled);

    verdict.require(peak <= options.rss_cap * MIB, || format!("the hub held {} MiB", peak / MIB));
    let growth = peak.saturating_sub(baseline);
    verdict.require(growth <= options.rss_growth * MIB, || format!("the hub grew by {} MiB", growth / MIB));
    verdict.require(unwell.is_empty(), || {
        format!("{} of {} probes were too slow or failed, for example {:?}", unwell.len(), waits.len(), &unwell[..unwell.len().min(4)])
    });
    verdict.require(flood.late == 0, || format!("{} large deliveries were accepted after more than 3 s", flood.late));
    verdict.require(flood.no_retry_after == 0, || format!("{} refusals with 503 did not say when to come again", flood.no_retry_after));
    // 408: a body that the hub did not read to its end in ten seconds. Its sender comes again, too.
    let strange: Vec<&String> =
        flood.answers.keys().filter(|answer| answer.parse::<u16>().is_ok_and(|status| !matches!(status, 202 | 408 | 503))).collect();
    verdict.require(strange.is_empty(), || format!("large deliveries were answered with {strange:?}"));
    verdict.require(recovered.is_some_and(|took| took <= Duration::from_secs(10)), || {
        format!("after the storm a delivery was accepted after {recovered:?}")
    });
    verdict.figure("open_files_allowed", files);
    verdict.figure("dawdlers", dawdlers);
    verdict.figure("dawdling_at_once_most", most);
    verdict.figure("dawdlers_turned_away", seen.turned_away.load(Ordering::SeqCst));
    verdict.figure("readers_that_do_not_read", options.stalled);
    verdict.figure("large_kib", options.large_kib);
    verdict.figure("large_deliveries", json!(flood.answers));
    verdict.figure("large_ack_p99_ms", millis(percentile(&mut flood.waits, 0.99)));
    verdict.figure("large_ack_max_ms", millis(percentile(&mut flood.waits, 1.0)));
    verdict.figure("rss_before_mib", baseline / MIB);
    verdict.figure("rss_most_mib", peak / MIB);
    verdict.figure("probes", waits.len());
    verdict.figure("probe_p99_ms", millis(percentile(&mut waits, 0.99)));
    verdict.figure("probe_max_ms", millis(percentile(&mut waits, 1.0)));
    verdict.figure("recovered_after_ms", json!(recovered.map(|took| took.as_millis())));
    verdict.conclude()
}

/// Health and approvals, one after the other, each over a connection of its own: how long each took, microseconds, and what was wrong.
fn probes(addr: SocketAddr, key: &str, seen: &Seen) -> (Vec<u64>, Vec<String>) {
    let (mut waits, mut unwell) = (Vec::new(), Vec::new());
    while !seen.over() {
        for (path, key) in [("/healthz", None), ("/api/v1/approvals", Some(key))] {
            let began = std::time::Instant::now();
            let answer = probe(addr, &get(addr, path, key));
            let took = began.elapsed();
            waits.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            match answer {
                Ok(answer) if answer.starts_with(b"HTTP/1.1 200") && took <= HEALTHY => {}
                Ok(answer) => unwell.push(format!("{path} after {took:?}: {}", String::from_utf8_lossy(&answer[..answer.len().min(12)]))),
                Err(error) => unwell.push(format!("{path} after {took:?}: {error}")),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    (waits, unwell)
}

/// Sends a request and gives the first of what comes back.
fn probe(addr: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&addr, 5 * HEALTHY)?;
    stream.set_read_timeout(Some(5 * HEALTHY))?;
    stream.write_all(request)?;
    let mut answer = vec![0; 512];
    let read = stream.read(&mut answer)?;
    answer.truncate(read);
    Ok(answer)
}

/// A client that never gets done: with its request line, with its headers, with its body. It comes again when it is turned away.
async fn dawdle(addr: SocketAddr, at: usize, seen: Arc<Seen>) {
    // All at once would only test the queue of the kernel.
    sleep(Duration::from_micros(300 * at as u64)).await;
    while !seen.over() {
        if let Ok(stream) = TcpStream::connect(addr).await {
            seen.dawdling.fetch_add(1, Ordering::SeqCst);
            drop(drip(stream, at, &seen).await);
            seen.dawdling.fetch_sub(1, Ordering::SeqCst);
            seen.turned_away.fetch_add(1, Ordering::SeqCst);
        }
        // It dawdles; a flood of new connections is another attack, and the kernel's to bear.
        sleep(COME_AGAIN).await;
    }
}

/// Sends a little of a request every now and then until the other side has enough of it.
async fn drip(mut stream: TcpStream, at: usize, seen: &Seen) -> std::io::Result<()> {
    let begin: &[u8] = match at % 3 {
        0 => b"",
        1 => b"POST /api/v1/webhooks/desk/default HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        _ => {
            b"POST /api/v1/webhooks/desk/default HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Timestamp: 1\r\nX-Signature: 00\r\nContent-Length: 1000000\r\n\r\n"
        }
    };
    let little: &[u8] = match at % 3 {
        0 => b"G",
        1 => b"X-More: y\r\n",
        _ => &[b'x'; 1024],
    };
    stream.write_all(begin).await?;
    let mut answer = [0; 256];
    while !seen.over() {
        stream.write_all(little).await?;
        if let Ok(read) = timeout(DRIP, stream.read(&mut answer)).await
            && read? == 0
        {
            break;
        }
    }
    Ok(())
}

/// A reader that asks for as much as it can and takes nothing of it.
async fn stall(addr: SocketAddr, at: usize, key: Arc<str>, seen: Arc<Seen>) {
    let path = ["/api/v1/events?limit=1000", "/metrics", "/api/v1/tools", "/api/v1/stream?topic=desk.*"][at % 4];
    let request = get(addr, path, Some(&key));
    while !seen.over() {
        if let Ok(mut stream) = TcpStream::connect(addr).await {
            for _ in 0..200 {
                // It blocks, or the hub hangs up: both are the hub's right.
                if !matches!(timeout(Duration::from_millis(200), stream.write_all(&request)).await, Ok(Ok(()))) {
                    break;
                }
            }
            for _ in 0..50 {
                sleep(Duration::from_millis(100)).await;
                if seen.over() {
                    return;
                }
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Sends large deliveries one after the other.
async fn flood(addr: SocketAddr, at: usize, large: Arc<Vec<(String, Vec<u8>)>>, seen: Arc<Seen>) {
    let mut wire = Wire::to(addr);
    let mut next = at;
    while !seen.over() {
        let (id, request) = &large[next % large.len()];
        next += 1;
        let answer = wire.send(request, Duration::from_secs(20)).await;
        let mut wait = Duration::ZERO;
        {
            let mut flood = seen.flood();
            match answer {
                Ok(reply) => {
                    *flood.answers.entry(reply.status.to_string()).or_default() += 1;
                    if reply.is_success() {
                        flood.waits.push(u64::try_from(reply.took.as_micros()).unwrap_or(u64::MAX));
                        flood.late += u64::from(reply.took > LATE);
                        *flood.acked.entry(id.clone()).or_default() += 1;
                    } else {
                        flood.no_retry_after += u64::from(reply.status == 503 && reply.retry_after.is_none());
                        wait = Duration::from_millis(50);
                    }
                }
                Err(fault) => {
                    *flood.answers.entry(fault.to_string()).or_default() += 1;
                    wait = Duration::from_millis(50);
                }
            }
        }
        sleep(wait).await;
    }
}
