//! `webhooks`: a vendor that drops, doubles and reorders its notifications, ends subscriptions and forgets cursors, in front of hubs that share one
//! SQLite file. Days pass by a clock moved by hand. At the end the hubs' picture of the mailbox is the vendor's, and nothing was done twice.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use axum::{
    Router,
    body::Bytes,
    extract::{OriginalUri, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use clap::Args;
use connector_core::{
    TenantId,
    clock::{Clock, ManualClock},
    state::{EventFilter, JobFilter, JobState, Store, StoredEvent},
    webhook::RawWebhook,
};
use connector_runtime::{EventHandler, HubConfig, Runtime, RuntimeTasks};
use connector_sandbox::{FaultKind, FaultProfile, LifecycleEvent, NotedChange, RetrySchedule, Sandbox, known};
use connector_state::SqliteState;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use super::verdict::Verdict;

/// Simulated time starts here.
const START: u64 = 1_795_219_200;
const STEP: Duration = Duration::from_secs(600);
const STEPS_A_DAY: u64 = 144;
const MAILBOX: &str = known::GRAPH_MAILBOX;
/// How long events may take to be handled, in milliseconds.
const SETTLE: u32 = 30_000;

const HUB: &str = r#"
connections:
  msgraph:
    connector: msgraph
    base_url: "${SANDBOX_URL}/msgraph/v1.0"
    settings:
      tenant_id: "${AZURE_TENANT_ID}"
      token_url: "${SANDBOX_URL}/msgraph/${AZURE_TENANT_ID}/oauth2/v2.0/token"
      mailbox: "${MAILBOX}"
    credential: { client_id: "${AZURE_CLIENT_ID}", client_secret: "${AZURE_CLIENT_SECRET}" }
    egress_allow: [loopback]
egress: { allow_loopback: true }
resilience:
  retry: { max_attempts: 6, base_delay_ms: 1, max_delay_ms: 5, throttle_base_ms: 1, throttle_max_ms: 5 }
  breaker: { threshold: 1000, min_calls: 10000 }
subscriptions:
  - { connection: msgraph, kind: messages }
"#;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Of a hundred notifications so many are never sent
    #[arg(long, default_value_t = 20)]
    drop: u8,
    /// Of a hundred notifications so many are sent twice
    #[arg(long, default_value_t = 20)]
    dup: u8,
    /// Let one in five notifications be overtaken by the next one
    #[arg(long)]
    reorder: bool,
    /// End subscriptions, refuse renewals and forget cursors, told and untold
    #[arg(long)]
    expire: bool,
    /// Simulated days
    #[arg(long, default_value_t = 5)]
    days: u64,
    /// Hubs over the one store
    #[arg(long, default_value_t = 2)]
    hubs: usize,
    /// Decides everything
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the hubs did with what they were told: the picture they have of the inbox, and each effect by what caused it.
#[derive(Debug, Default)]
struct Desk {
    /// The vendor, to read a record again before acting on it.
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    picture: Mutex<BTreeMap<String, String>>,
    effects: Mutex<BTreeMap<(String, String, String), u64>>,
    tickets: Mutex<BTreeMap<String, u64>>,
    found: Mutex<u64>,
    /// Messages of which the end was told last, and those whose end was told twice with nothing in between.
    gone: Mutex<BTreeSet<String>>,
    gone_twice: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl EventHandler for Desk {
    async fn handle(&self, event: &StoredEvent, _: u32) -> connector_core::Result<()> {
        let Some(change) = event.event_type.strip_prefix("message.") else { return Ok(()) };
        let payload: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let id = text(&payload["resourceData"]["id"]);
        // A removal has no version that both ways of hearing of it know.
        let version = if change == "deleted" { String::new() } else { text(&payload["resourceData"]["@odata.etag"]) };
        if event.flags.iter().any(|flag| flag == "catch_up") {
            *lock(&self.found) += 1;
        }
        *lock(&self.effects).entry((id.clone(), change.to_owned(), version)).or_default() += 1;
        if change != "deleted" {
            lock(&self.gone).remove(&id);
        } else if !lock(&self.gone).insert(id.clone()) {
            lock(&self.gone_twice).push(id.clone());
        }
        if change == "created" {
            *lock(&self.tickets).entry(id.clone()).or_default() += 1;
        }
        // Order is not promised, so the record is read again: what is there now counts.
        let there =
            lock(&self.sandbox).as_ref().and_then(|vendor| vendor.msgraph().versions_in(MAILBOX, "inbox").into_iter().find(|(one, _)| *one == id));
        let mut picture = lock(&self.picture);
        match there {
            Some((id, version)) => picture.insert(id, version),
            None => picture.remove(&id),
        };
        Ok(())
    }
}

/// The hubs and the address that leads to them in turn.
struct World {
    clock: Arc<ManualClock>,
    sandbox: Arc<Sandbox>,
    store: Arc<dyn Store>,
    hubs: Vec<(Runtime, RuntimeTasks)>,
    door: JoinHandle<std::io::Result<()>>,
    desk: Arc<Desk>,
    // Last, so that it is removed when nothing writes to it any more.
    _dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.door.abort();
    }
}

type Behind = Arc<Mutex<(usize, Vec<Runtime>)>>;

async fn receive(State(behind): State<Behind>, method: Method, OriginalUri(uri): OriginalUri, headers: HeaderMap, body: Bytes) -> Response {
    let hub = {
        let mut behind = lock(&behind);
        behind.0 += 1;
        let turn = behind.0;
        let hubs = behind.1.len().max(1);
        behind.1.get(turn % hubs).cloned()
    };
    let Some(hub) = hub else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let mut parts = uri.path().rsplit('/');
    let (workspace, connector) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let raw = RawWebhook { method: &method, url: uri.path(), query: uri.query().unwrap_or_default(), headers: &headers, body: &body };
    let answer = hub.receive(&TenantId::default(), connector, workspace, raw).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response()
}

impl World {
    async fn new(options: &Options) -> Result<Self> {
        let clock = Arc::new(ManualClock::at_unix(START));
        let shared: Arc<dyn Clock> = clock.clone();
        // What could not be delivered is not sent again: every lost notification must be found another way.
        let schedule = RetrySchedule { attempts: 1, base: Duration::from_millis(1) };
        let builder = Sandbox::builder().vendor("msgraph").seed(options.seed).clock(shared.clone()).notification_retries(schedule);
        let sandbox = Arc::new(builder.start("127.0.0.1:0").await.context("starting the sandbox")?);
        let dir = tempfile::tempdir().context("making a folder for the state file")?;
        let store: Arc<dyn Store> = Arc::new(SqliteState::open_with(dir.path().join("hub.db"), shared.clone())?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut config = HubConfig::parse("hub.yaml", HUB).map_err(|found| anyhow::anyhow!("{found}"))?;
        config.public_url = Some(format!("http://{}", listener.local_addr()?));
        let behind: Behind = Arc::default();
        let app = Router::new().fallback(receive).with_state(behind.clone());
        let door = tokio::spawn(async move { axum::serve(listener, app).await });
        let desk = Arc::new(Desk::default());
        *lock(&desk.sandbox) = Some(sandbox.clone());
        let values: HashMap<&str, String> = [
            ("SANDBOX_URL", format!("http://{}", sandbox.addr())),
            ("AZURE_TENANT_ID", known::GRAPH_TENANT.to_owned()),
            ("AZURE_CLIENT_ID", known::GRAPH_CLIENT_ID.to_owned()),
            ("AZURE_CLIENT_SECRET", known::GRAPH_CLIENT_SECRET.to_owned()),
            ("MAILBOX", MAILBOX.to_owned()),
        ]
        .into();
        let mut hubs = Vec::new();
        for _ in 0..options.hubs.max(1) {
            let values = values.clone();
            let runtime = Runtime::builder()
                .builtin("msgraph", connectors::msgraph::manifest(), connectors::msgraph::hooks())
                .config(config.clone())
                .env(move |name| values.get(name).cloned())
                .store(store.clone())
                .clock(shared.clone())
                .on_event(desk.clone())
                .build()
                .await?;
            lock(&behind).1.push(runtime.clone());
            let tasks = runtime.start();
            hubs.push((runtime, tasks));
        }
        Ok(Self { clock, sandbox, store, hubs, door, desk, _dir: dir })
    }

    async fn tend(&self) -> Result<()> {
        for (hub, _) in &self.hubs {
            hub.tend_subscriptions().await?;
        }
        Ok(())
    }

    /// Waits until every notification is delivered and every event handled.
    async fn settle(&self) -> Result<()> {
        self.sandbox.settled().await;
        let of = |state| JobFilter { queue: Some("events".into()), state: Some(state), after: None, limit: 1 };
        for _ in 0..SETTLE {
            let mut open = 0;
            for state in [JobState::Pending, JobState::Leased] {
                open += self.store.jobs(&TenantId::default(), of(state)).await?.len();
            }
            if open == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("events are still not handled after {SETTLE} ms");
    }
}

/// People at their mail.
fn act(rng: &mut fastrand::Rng, sandbox: &Sandbox, arrived: &mut u64) {
    let graph = sandbox.msgraph();
    if rng.f64() < 0.4 {
        *arrived += 1;
        let text = format!(
            "From: a@client.example\r\nTo: s@contoso.example\r\nSubject: No {arrived}\r\nMessage-ID: <m{arrived}@client.example>\r\n\r\nIt burns.\r\n"
        );
        graph.inject_mime(MAILBOX, "inbox", text.as_bytes());
    }
    for _ in 0..2 {
        let (inbox, archive) = (graph.ids_in(MAILBOX, "inbox"), graph.ids_in(MAILBOX, "archive"));
        match rng.u8(0..10) {
            0..4 if !inbox.is_empty() => drop(graph.touch(MAILBOX, &inbox[rng.usize(0..inbox.len())], rng.bool())),
            4 if !inbox.is_empty() => drop(graph.shift(MAILBOX, &inbox[rng.usize(0..inbox.len())], "archive")),
            5 if !inbox.is_empty() => drop(graph.discard(MAILBOX, &inbox[rng.usize(0..inbox.len())])),
            6 if !archive.is_empty() => drop(graph.shift(MAILBOX, &archive[rng.usize(0..archive.len())], "inbox")),
            _ => {}
        }
    }
}

/// What the vendor does to subscriptions and cursors.
fn spoil(rng: &mut fastrand::Rng, sandbox: &Sandbox) {
    let graph = sandbox.msgraph();
    match rng.u8(0..60) {
        0 => graph.drop_subscriptions(),
        1 => drop(graph.fire_lifecycle(LifecycleEvent::SubscriptionRemoved)),
        2 => drop(graph.fire_lifecycle(LifecycleEvent::Missed)),
        3 => drop(graph.fire_lifecycle(LifecycleEvent::ReauthorizationRequired)),
        4 => graph.refuse_renewals(1),
        5 | 6 => graph.expire_delta(MAILBOX),
        _ => {}
    }
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let world = World::new(&options).await?;
    world.sandbox.msgraph().grant_at_most(720);
    world.tend().await?;
    let share = |percent: u8| f64::from(percent.min(100)) / 100.0;
    let bad = FaultProfile {
        dropped_webhook: share(options.drop),
        duplicate_webhook: share(options.dup),
        reordered_webhook: if options.reorder { 0.2 } else { 0.0 },
        expired_cursor: if options.expire { 0.02 } else { 0.0 },
        ..FaultProfile::none()
    };
    world.sandbox.faults().set(bad);
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut arrived = 0;
    for _ in 0..options.days * STEPS_A_DAY {
        world.clock.advance(STEP);
        act(&mut rng, &world.sandbox, &mut arrived);
        if options.expire {
            spoil(&mut rng, &world.sandbox);
        }
        // The hubs look while notifications are on their way.
        world.tend().await?;
        // Time stands still while an event is handled: a lease of a minute must not end because ten pass at once.
        world.settle().await?;
    }
    // The vendor is well again: half a life more, after which also a subscription is missed that vanished without a word and without a change.
    world.sandbox.faults().set(FaultProfile::none());
    world.settle().await?;
    for _ in 0..45 {
        world.clock.advance(STEP);
        world.tend().await?;
        world.settle().await?;
    }
    judge(&options, &world).await
}

/// Prints what really happened to a message and which events the log has of it, for whoever looks for the cause of a breach.
async fn explain(world: &World, id: &str, truth: &[NotedChange]) -> Result<()> {
    for change in truth.iter().filter(|change| change.id == id) {
        eprintln!("{id}: really {} {}", change.change, change.etag);
    }
    let mut after = None;
    loop {
        let page = world.store.events(&TenantId::default(), EventFilter { after, limit: 500, ..EventFilter::default() }).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.seq);
        for event in page.iter().filter(|event| event.order_key.as_deref() == Some(id)) {
            eprintln!("{id}: event {} at {} {} {} {:?}", event.seq, event.received_at, event.event_type, event.event_id, event.flags);
        }
    }
}

async fn judge(options: &Options, world: &World) -> Result<ExitCode> {
    let inbox = world.sandbox.msgraph().folder_id(MAILBOX, "inbox").context("the mailbox has no inbox")?;
    let truth: Vec<_> = world.sandbox.msgraph().changes().into_iter().filter(|change| change.folder == inbox).collect();
    let mut arrivals: BTreeMap<String, u64> = BTreeMap::new();
    for change in &truth {
        if change.change == "created" {
            *arrivals.entry(change.id.clone()).or_default() += 1;
        }
    }
    let effects = lock(&world.desk.effects).clone();
    let tickets = lock(&world.desk.tickets).clone();
    let picture = lock(&world.desk.picture).clone();
    let now: BTreeMap<String, String> = world.sandbox.msgraph().versions_in(MAILBOX, "inbox").into_iter().collect();
    // An end has no version, so it is judged by what was told before it: never two of them with nothing in between.
    let gone_twice = lock(&world.desk.gone_twice).clone();
    let twice: Vec<_> = effects.iter().filter(|((_, change, _), count)| change != "deleted" && **count > 1).collect();
    let twice_tickets: Vec<_> = tickets.iter().filter(|(id, count)| **count > arrivals.get(*id).copied().unwrap_or(0)).collect();
    let no_ticket: Vec<_> = now.keys().filter(|id| !tickets.contains_key(*id)).collect();
    let wrong: Vec<_> = now.iter().filter(|(id, version)| picture.get(*id) != Some(*version)).map(|(id, _)| id).collect();
    let ghosts: Vec<_> = picture.keys().filter(|id| !now.contains_key(*id)).collect();
    let dead = world.store.jobs(&TenantId::default(), JobFilter { state: Some(JobState::Dead), limit: 1, ..JobFilter::default() }).await?.len();
    let view = world.hubs[0].0.subscriptions(&TenantId::default()).await?;
    let there = world.sandbox.msgraph().subscription_ids();
    let faults = world.sandbox.faults();

    for id in twice.iter().map(|((id, _, _), _)| id).chain(&gone_twice) {
        explain(world, id, &truth).await?;
    }
    let mut verdict = Verdict::new("webhooks", options.seed);
    verdict.figure("days", options.days);
    verdict.figure("hubs", world.hubs.len());
    verdict.figure("changes", truth.len());
    verdict.figure("handled", effects.values().sum::<u64>());
    verdict.figure("found_by_reading", *lock(&world.desk.found));
    verdict.figure("dropped", faults.count(FaultKind::DroppedWebhook));
    verdict.figure("duplicated", faults.count(FaultKind::DuplicateWebhook));
    verdict.figure("reordered", faults.count(FaultKind::ReorderedWebhook));
    verdict.figure("expired_cursors", faults.count(FaultKind::ExpiredCursor));
    if let Some(view) = view.first() {
        verdict.figure("subscription", serde_json::to_value(view.counts)?);
        verdict.require(view.gap.is_none(), || format!("a gap is still open: {:?}", view.gap));
        verdict.require(there == view.vendor_id.iter().cloned().collect::<Vec<_>>(), || {
            format!("the vendor has {there:?}, the hub {:?}", view.vendor_id)
        });
    }
    verdict.figure("wrong_records", wrong.len() + ghosts.len());
    verdict.figure("duplicate_effects", twice.len() + gone_twice.len() + twice_tickets.len());
    verdict.require(truth.len() > 100 || options.days == 0, || format!("only {} changes were made", truth.len()));
    verdict.require(wrong.is_empty() && ghosts.is_empty(), || format!("the picture differs: {wrong:?} are wrong, {ghosts:?} are not there any more"));
    verdict.require(no_ticket.is_empty(), || format!("nobody was told that these came: {no_ticket:?}"));
    verdict.require(twice.is_empty(), || format!("handled twice: {twice:?}"));
    verdict.require(gone_twice.is_empty(), || format!("the end was told twice: {gone_twice:?}"));
    verdict.require(twice_tickets.is_empty(), || format!("told more often that they came than they came: {twice_tickets:?}"));
    verdict.require(dead == 0, || format!("{dead} dead letters"));
    verdict.conclude()
}
