//! One worker process of a case: opens the shared file, then does what stdin says until stdin ends.

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use clap::ValueEnum;
use connector_core::{
    CallCx, Connection,
    auth::AuthProvider,
    clock::{Clock, SystemClock},
    credential::{CredentialQuery, CredentialStore as _},
    spec::{AuthSpec, ClientAuth, OAuth2Flow, OAuth2Spec},
    token::{CredentialNotice, CredentialWatch},
    transport::Head,
};
use connector_http::{Auth, AuthDeps};
use http::{HeaderMap, Method, header};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines, Stdin},
    task::JoinSet,
};

use super::{
    client::loopback,
    failpoint::{FailPoint, FailTokens, FailTransport},
    fleet::{Authorized, Order, Reads, Said},
    lot::{self, Lot},
};

/// The environment a worker is started with.
pub(crate) const CREDENTIAL: &str = "CHAOS_CREDENTIAL";
pub(crate) const TOKEN_URL: &str = "CHAOS_TOKEN_URL";
pub(crate) const FAIL_AT: &str = "CHAOS_FAIL_AT";
pub(crate) const LEASE_MS: &str = "CHAOS_LEASE_MS";

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Authorises requests.
    Caller,
    /// Reads credentials.
    Reader,
    /// Wraps everything under the first of its keys, then under the second, and so on.
    Rotator,
}

pub(crate) async fn run(role: Role) -> Result<ExitCode> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    match role {
        Role::Caller => caller(&mut orders).await?,
        Role::Reader => reader(&mut orders).await?,
        Role::Rotator => rotator().await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says something to the coordinator, whole lines only.
fn say(said: &Said) -> Result<()> {
    println!("{}", serde_json::to_string(said)?);
    Ok(())
}

async fn order(orders: &mut Lines<BufReader<Stdin>>) -> Result<Option<Order>> {
    match orders.next_line().await? {
        Some(line) => Ok(Some(serde_json::from_str(&line).with_context(|| format!("an order `{line}`"))?)),
        None => Ok(None),
    }
}

/// The real clock, moved ahead: an expiry comes without waiting for it. Leases are the store's and go by the real one.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> connector_core::clock::Instant {
        connector_core::clock::Instant::now() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> SystemTime {
        SystemClock.wall() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Passes notices on to the coordinator.
#[derive(Debug)]
struct Tell;

#[async_trait]
impl CredentialWatch for Tell {
    async fn notice(&self, _query: &CredentialQuery<'_>, notice: CredentialNotice) {
        if let CredentialNotice::ReauthRequired { reason, serial } = notice
            && let Err(error) = say(&Said::Reauth { serial, reason })
        {
            eprintln!("{error:#}");
        }
    }
}

/// The connection all callers use.
pub(crate) fn connection(credential: &str) -> Result<Arc<Connection>> {
    Ok(Arc::new(Connection::new("race", "http://127.0.0.1")?.with_credential(credential)))
}

async fn caller(orders: &mut Lines<BufReader<Stdin>>) -> Result<()> {
    let lot = Lot::open(lot::KEEP).await?;
    let at = std::env::var(FAIL_AT).ok().map(|name| FailPoint::from_str(&name, true)).transpose().map_err(anyhow::Error::msg)?;
    let longest_lease = std::env::var(LEASE_MS).ok().map(|text| text.parse().map(Duration::from_millis)).transpose()?;
    let clock = Arc::new(Ahead::default());
    let mut deps = AuthDeps::new(Arc::new(FailTransport { inner: loopback()?, at }));
    deps.clock = clock.clone();
    deps.tokens = Arc::new(FailTokens { inner: Arc::new(lot.vault.clone()), at, longest_lease, saves: AtomicU64::new(0) });
    deps.watch = Some(Arc::new(Tell));
    let spec = OAuth2Spec {
        flow: OAuth2Flow::AuthorizationCode,
        token_url: std::env::var(TOKEN_URL).context(TOKEN_URL)?,
        client_auth: ClientAuth::Basic,
        rotates: true,
        ..OAuth2Spec::default()
    };
    let auth = Auth::for_spec(&[AuthSpec::OAuth2(Box::new(spec))], Arc::new(lot.vault.clone()), deps);
    let cx = CallCx::new(connection(&std::env::var(CREDENTIAL).context(CREDENTIAL)?)?);
    say(&Said::Ready)?;
    while let Some(order) = order(orders).await? {
        let Order::Authorize { tasks, ahead_secs } = order else { bail!("a caller cannot {order:?}") };
        clock.0.store(ahead_secs, Ordering::SeqCst);
        say(&Said::Authorized(authorize(&auth, &cx, tasks).await?))?;
    }
    Ok(())
}

/// Authorises `tasks` requests at the same time.
async fn authorize(auth: &Arc<dyn AuthProvider>, cx: &CallCx, tasks: usize) -> Result<Authorized> {
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        let (auth, cx) = (auth.clone(), cx.clone());
        set.spawn(async move {
            let began = Instant::now();
            let mut head = Head { method: Method::GET, url: cx.connection.base_url.clone(), headers: HeaderMap::new() };
            let result = auth.authorize(&cx, &mut head, &Bytes::new()).await;
            (result.map(|_| head.headers.get(header::AUTHORIZATION).map(|value| digest(value.as_bytes()))), began.elapsed())
        });
    }
    let mut sum = Authorized::default();
    while let Some(done) = set.join_next().await {
        let (result, waited) = done.context("a caller panicked")?;
        sum.waits.push(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        match result {
            Ok(Some(token)) => {
                sum.ok += 1;
                *sum.tokens.entry(token).or_default() += 1;
            }
            Ok(None) => *sum.failed.entry("a request without a token".into()).or_default() += 1,
            Err(error) => *sum.failed.entry(format!("{:?}: {error}", error.kind())).or_default() += 1,
        }
    }
    Ok(sum)
}

/// What tells two `Authorization` headers apart without showing them.
pub(crate) fn digest(header: &[u8]) -> String {
    hex::encode(&Sha256::digest(header)[..8])
}

async fn reader(orders: &mut Lines<BufReader<Stdin>>) -> Result<()> {
    let lot = Lot::open(Duration::ZERO).await?;
    say(&Said::Ready)?;
    let Some(Order::Read { rps, credentials }) = order(orders).await? else { bail!("a reader is told to read first") };
    let cx = CallCx::new(connection("reader")?);
    let sum = Arc::new(Mutex::new(Reads::default()));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rps.max(1))?);
    let mut set = JoinSet::new();
    let mut stop = std::pin::pin!(order(orders));
    let mut random = fastrand::Rng::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let number = random.usize(0..credentials);
                set.spawn(read(lot.clone(), cx.clone(), number, sum.clone()));
                while set.try_join_next().is_some() {}
            }
            told = &mut stop => {
                told?;
                break;
            }
        }
    }
    while let Some(done) = set.join_next().await {
        done.context("a read panicked")?;
    }
    let sum = std::mem::take(&mut *sum.lock().unwrap_or_else(PoisonError::into_inner));
    say(&Said::Reads(sum))
}

/// Reads one credential fresh and holds it against what was put in.
async fn read(lot: Lot, cx: CallCx, number: usize, sum: Arc<Mutex<Reads>>) {
    let began = Instant::now();
    let name = lot::name(number);
    let result = lot.vault.get(&CredentialQuery::of(&cx, &name)).await;
    let waited = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    sum.waits.push(waited);
    match result {
        Ok(credential) if credential.field("token").is_some_and(|token| token.expose_secret() == lot::secret(number)) => sum.ok += 1,
        Ok(_) => *sum.failed.entry("another value than was put in".into()).or_default() += 1,
        Err(error) => *sum.failed.entry(format!("{:?}: {error}", error.kind())).or_default() += 1,
    }
}

/// Never stops by itself: it is killed.
async fn rotator() -> Result<()> {
    let (file, mut keys) = (lot::file()?, lot::keys()?);
    say(&Said::Ready)?;
    loop {
        say(&pass_over(&file, &keys).await?)?;
        keys.rotate_left(1);
    }
}

/// Seals everything under the first of the keys.
pub(crate) async fn pass_over(file: &Path, keys: &[String]) -> Result<Said> {
    let lot = Lot::with(file, keys, Duration::ZERO).await?;
    let report = lot.vault.rotate_key(&|_| ()).await?;
    Ok(Said::Pass {
        key: report.key_id,
        rewrapped: report.rewrapped,
        already: report.already,
        unreadable: report.unreadable.len() as u64,
        left: report.left.values().sum(),
    })
}

/// Adds up what several workers found.
pub(crate) fn merge(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, count) in from {
        *into.entry(name.clone()).or_default() += count;
    }
}
