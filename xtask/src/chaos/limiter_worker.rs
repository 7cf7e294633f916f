//! One process of the case `limiter`: calls the vendor as fast as the fleet's limits let it, until its stdin ends.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Connection, ErrorKind,
    clock::SystemClock,
    fleet::{SharedAsk, SharedLimits, SharedTurn},
    resilience::{FleetQuotas, LimitPolicy, Limits},
    spec::{LimitSpec, Window},
};
use connector_state::{FleetOptions, RedisFleet, UpstashFleet};
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tokio::io::AsyncReadExt as _;

use super::client::{Client, loopback};

/// What it is started with, in the environment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) vendor: String,
    pub(crate) redis: String,
    /// The front and its token, if it is used instead.
    pub(crate) upstash: Option<(String, String)>,
    pub(crate) processes: u32,
    pub(crate) limit: Window,
    pub(crate) budget_ms: u64,
}

/// Callers in one process: more than one, so that there is always somebody in line.
const CALLERS: usize = 4;

/// Counts how often the store was lost after it had answered.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn SharedLimits>,
    away: AtomicBool,
    lost: Arc<AtomicU64>,
}

#[async_trait]
impl SharedLimits for Watched {
    async fn take(&self, ask: &SharedAsk<'_>) -> connector_core::Result<SharedTurn> {
        let turn = self.inner.take(ask).await;
        if turn.is_err() && !self.away.swap(turn.is_err(), Ordering::SeqCst) {
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
        if turn.is_ok() {
            self.away.store(false, Ordering::SeqCst);
        }
        turn
    }
}

pub(crate) async fn run() -> Result<ExitCode> {
    let job: Job = serde_json::from_str(&std::env::var("CHAOS_LIMITER").context("CHAOS_LIMITER")?)?;
    let options = FleetOptions::default().name("chaos").budget(Duration::from_millis(job.budget_ms));
    let store: Arc<dyn SharedLimits> = match &job.upstash {
        Some((url, token)) => Arc::new(UpstashFleet::with(loopback()?, url, &token.clone().into(), options)?),
        None => Arc::new(RedisFleet::connect_with(&job.redis.clone().into(), options).await?),
    };
    let lost = Arc::new(AtomicU64::new(0));
    let store = Arc::new(Watched { inner: store, away: AtomicBool::new(false), lost: lost.clone() });
    let clock = SystemClock::shared();
    let quotas = Arc::new(FleetQuotas::new(store, job.processes, clock.clone()));
    let limits = [("default".into(), LimitSpec { windows: vec![job.limit], ..LimitSpec::default() })].into();
    // More at once than there are callers: what is tried here is the windows.
    let policy = LimitPolicy { concurrent: 64, ..LimitPolicy::default() };
    let limiter = Limits::in_fleet(quotas).of(&"vendor".into(), &limits, &policy, &clock);

    let connection = Arc::new(Connection::new("vendor", &job.vendor)?);
    let client = Client::new()?;
    // The connections are made before it counts.
    for _ in 0..CALLERS {
        client.fetch(Method::GET, &format!("{}/warm", job.vendor), HeaderMap::new(), Bytes::new()).await?;
    }
    println!("ready");
    let mut stdin = tokio::io::stdin();
    stdin.read_u8().await.context("nobody said go")?;

    let stop = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicU64::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (limiter, client, stop, refused) = (limiter.clone(), client.clone(), stop.clone(), refused.clone());
        let (cx, url) = (CallCx::new(connection.clone()), format!("{}/call", job.vendor));
        callers.spawn(async move {
            let call = super::limiter_servers::operation();
            while !stop.load(Ordering::SeqCst) {
                match limiter.acquire(&cx, &call, &Map::new()).await {
                    Ok(_permit) if stop.load(Ordering::SeqCst) => return Ok(()),
                    Ok(_permit) => drop(client.fetch(Method::GET, &url, HeaderMap::new(), Bytes::new()).await?),
                    Err(error) if error.kind() == ErrorKind::Overloaded => {
                        refused.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            anyhow::Ok(())
        });
    }
    // Until stdin ends.
    let mut rest = Vec::new();
    stdin.read_to_end(&mut rest).await?;
    stop.store(true, Ordering::SeqCst);
    // Who waits for a turn waits no longer; a caller that failed is told.
    while let Ok(Some(done)) = tokio::time::timeout(Duration::from_secs(1), callers.join_next()).await {
        done.context("a caller panicked")??;
    }
    callers.abort_all();
    println!("{}", json!({ "lost": lost.load(Ordering::SeqCst), "refused": refused.load(Ordering::SeqCst) }));
    Ok(ExitCode::SUCCESS)
}
