//! Runtimes with rules, events for them, and a store that a process can die in.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Result, TenantId,
    clock::{Clock, Rng},
    state::{
        Appended, AuditFilter, AuditLog, AuditRecord, ChainReport, Condition, Enqueued, Entry, EventFilter, EventLog, Job, JobError, JobFilter,
        JobId, JobQueue, JobState, Namespace, NewEvent, NewJob, PutOutcome, QueueDepth, StateStore, Store, StoredAudit, StoredEvent,
    },
    transport::{Body, Head, Request, Response, Transport},
};
use connector_runtime::{EventHandler, HubConfig, Runtime, RuntimeBuilder};
use connector_state::MemoryState;
use serde_json::Value;

use crate::fixture::{Scripted, TestClock};

/// Two tenants and a workspace that may use nothing; rules, endpoints and alerts are added.
const CONNECTIONS: &str = "
connections:
  main: { connector: crm, base_url: \"https://crm.example\", tenant: acme, workspaces: [default, sales] }
  rival: { connector: crm, base_url: \"https://crm.example\", tenant: globex }
  ours: { connector: crm, base_url: \"https://crm.example\" }
";

/// The middle of every jitter range.
#[derive(Debug)]
struct Middle;

impl Rng for Middle {
    fn unit(&self) -> f64 {
        0.5
    }
}

/// One world: the vendor, the receiver of forwarded events, the time and the store, around which runtimes come and go.
pub(crate) struct World {
    pub(crate) crm: Arc<Scripted>,
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) store: Arc<Mortal>,
    pub(crate) clock: Arc<dyn Clock>,
    yaml: String,
}

impl World {
    pub(crate) fn new(yaml: &str) -> Self {
        let clock = TestClock::shared();
        Self {
            crm: Scripted::new(),
            receiver: Arc::default(),
            store: Arc::new(Mortal { inner: MemoryState::new(clock.clone()), stuck: Mutex::default(), died: AtomicBool::new(false) }),
            clock,
            yaml: format!("{CONNECTIONS}{yaml}"),
        }
    }

    pub(crate) fn builder(&self) -> RuntimeBuilder {
        let config = HubConfig::parse("hub.yaml", &self.yaml).unwrap();
        let (store, transport): (Arc<dyn Store>, Arc<dyn Transport>) = (self.store.clone(), self.receiver.clone());
        let builder = Runtime::builder().connector(self.crm.clone()).config(config).store(store).transport(transport).rng(Arc::new(Middle));
        builder.clock(self.clock.clone()).env(|name| (name == "HOOK_SECRET").then(|| SECRET.to_owned()))
    }

    pub(crate) async fn runtime(&self) -> Runtime {
        self.builder().build().await.unwrap()
    }

    /// Adds an event `contact.changed` of tenant `acme` and wakes nobody: the queue is looked at once a second.
    pub(crate) async fn event(&self, id: &str, payload: Value) -> u64 {
        self.add(NewEvent { payload: payload.to_string().into(), ..event(id) }).await
    }

    pub(crate) async fn add(&self, event: NewEvent) -> u64 {
        match self.store.append(vec![event]).await.unwrap()[..] {
            [Appended::New { seq, .. }] => seq,
            ref other => panic!("{other:?}"),
        }
    }

    /// All jobs of a queue of tenant `acme`.
    pub(crate) async fn jobs(&self, queue: &str) -> Vec<Job> {
        self.store.jobs(&acme(), JobFilter { queue: Some(queue.into()), ..JobFilter::default() }).await.unwrap()
    }

    pub(crate) async fn states(&self, queue: &str) -> Vec<JobState> {
        self.jobs(queue).await.into_iter().map(|job| job.state).collect()
    }
}

/// The secret that signs, from the specification's own example.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn acme() -> TenantId {
    "acme".into()
}

pub(crate) fn event(id: &str) -> NewEvent {
    NewEvent {
        tenant: acme(),
        workspace: "sales".into(),
        connector: "crm".into(),
        connection: "main".into(),
        event_id: id.to_owned(),
        event_type: "contact.changed".into(),
        order_key: None,
        flags: Vec::new(),
        payload: Bytes::from_static(b"{}"),
        digest: None,
        received_at: 1_800_000_000_000,
    }
}

/// Lets the paused clock leap: what polls meanwhile does so once an hour.
pub(crate) async fn leap(hours: u64) {
    for _ in 0..hours {
        tokio::time::advance(Duration::from_secs(3_600)).await;
        pass(10).await;
    }
}

/// Lets the paused clock run.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// The program's own handler: does what `script` says for (event id, call), and counts.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) script: fn(&str, usize) -> Result<()>,
    pub(crate) seen: Mutex<Vec<String>>,
}

impl Program {
    pub(crate) fn new(script: fn(&str, usize) -> Result<()>) -> Arc<Self> {
        Arc::new(Self { script, seen: Mutex::default() })
    }

    pub(crate) fn seen(&self, id: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| *seen == id).count()
    }
}

#[async_trait]
impl EventHandler for Program {
    async fn handle(&self, event: &StoredEvent, _: u32) -> Result<()> {
        self.seen.lock().unwrap().push(event.event_id.clone());
        (self.script)(&event.event_id, self.seen(&event.event_id))
    }
}

/// Somebody else's address: answers with the statuses it is given, then with 204.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    statuses: Mutex<Vec<u16>>,
    /// This host answers 410.
    gone: Mutex<Option<&'static str>>,
    taken: Mutex<Vec<(Head, Bytes)>>,
    asked: AtomicUsize,
}

impl Receiver {
    pub(crate) fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        let mut known = self.statuses.lock().unwrap();
        known.extend(statuses);
    }

    pub(crate) fn seen(&self) -> Vec<(Head, Bytes)> {
        self.taken.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// This host wants no more.
    pub(crate) fn gone(&self, host: &'static str) {
        *self.gone.lock().unwrap() = Some(host);
    }
}

#[async_trait]
impl Transport for Receiver {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let is_gone = *self.gone.lock().unwrap() == request.head.url.host_str();
        let body = request.body.collect(1 << 20).await?;
        self.taken.lock().unwrap().push((request.head, body));
        let mut statuses = self.statuses.lock().unwrap();
        let status = if is_gone {
            410
        } else if statuses.is_empty() {
            204
        } else {
            statuses.remove(0)
        };
        drop(statuses);
        Ok(http::Response::builder().status(status).body(Body::Empty).unwrap())
    }
}

/// A store in which a write never comes back: the process is as good as dead from then on.
#[derive(Debug)]
pub(crate) struct Mortal {
    inner: MemoryState,
    /// The write (namespace, or `bury`) that does not come back.
    stuck: Mutex<Option<&'static str>>,
    died: AtomicBool,
}

impl Mortal {
    /// Writes of this kind do not come back; `None`: the next process lives.
    pub(crate) fn die_at(&self, what: Option<&'static str>) {
        *self.stuck.lock().unwrap() = what;
        self.died.store(false, Ordering::SeqCst);
    }

    pub(crate) fn died(&self) -> bool {
        self.died.load(Ordering::SeqCst)
    }

    async fn maybe(&self, what: &str) {
        let is_stuck = self.stuck.lock().unwrap().is_some_and(|stuck| stuck == what);
        if is_stuck {
            self.died.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl AuditLog for Mortal {
    async fn audit(&self, records: Vec<AuditRecord>) -> Result<()> {
        self.inner.audit(records).await
    }

    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        self.inner.audit_tail(tenant, filter).await
    }

    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport> {
        self.inner.audit_verify(tenant).await
    }
}

#[async_trait]
impl StateStore for Mortal {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        self.inner.get(namespace, key).await
    }

    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome> {
        self.maybe(namespace.name).await;
        self.inner.put(namespace, key, value, condition, ttl).await
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        self.inner.delete(namespace, key, condition).await
    }

    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        self.inner.scan(namespace, prefix, after, limit).await
    }
}

#[async_trait]
impl EventLog for Mortal {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        self.inner.append(events).await
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        self.inner.event(tenant, seq).await
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        self.inner.events(tenant, filter).await
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        self.inner.replay(tenant, seq).await
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        self.inner.prune_events(before).await
    }
}

#[async_trait]
impl JobQueue for Mortal {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        self.inner.enqueue(job).await
    }

    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>> {
        self.inner.claim(queue, limit, lease).await
    }

    async fn complete(&self, job: &Job) -> Result<bool> {
        self.inner.complete(job).await
    }

    async fn retry(&self, job: &Job, not_before: u64, error: JobError) -> Result<bool> {
        self.inner.retry(job, not_before, error).await
    }

    async fn bury(&self, job: &Job, error: JobError) -> Result<bool> {
        let buried = self.inner.bury(job, error).await;
        self.maybe("bury").await;
        buried
    }

    async fn bury_new(&self, job: NewJob, error: JobError) -> Result<JobId> {
        self.inner.bury_new(job, error).await
    }

    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        self.inner.job(tenant, id).await
    }

    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        self.inner.jobs(tenant, filter).await
    }

    async fn revive(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        self.inner.revive(tenant, id).await
    }

    async fn discard(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        self.inner.discard(tenant, id).await
    }

    async fn depth(&self, queue: &str) -> Result<QueueDepth> {
        self.inner.depth(queue).await
    }
}
