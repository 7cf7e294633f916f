//! Credentials on a schedule: replaced through the vendor where it can, reminded of where it cannot, told of before they end.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connector, Error, ErrorKind, OpCall, OpReply, Result, TenantId,
    connector::Lifecycle,
    credential::{Credential, CredentialQuery, CredentialStore as _},
    delta::DeltaSource,
    rotation::{Issued, Rotator},
    spec::ConnectorSpec,
    state::{AuditFilter, AuditOutcome, EventFilter, StoredEvent},
    webhook::WebhookVerifier,
};
use connector_runtime::{CREDENTIAL_EXPIRING, HubConfig, OVERLAP, ROTATION_DUE, Runtime, Tended, config::ConnectionConfig};
use connector_vault::NewCredential;
use secrecy::ExposeSecret as _;

use crate::signin::{World, secrets};

/// A vendor that issues keys.
#[derive(Debug, Default)]
struct Keys {
    issued: Mutex<Vec<String>>,
    retired: Mutex<Vec<String>>,
    fails: Mutex<Option<ErrorKind>>,
    /// Set when a key was issued: the master key goes away at that moment.
    takes_key: Mutex<Option<Arc<AtomicBool>>>,
    ends: Mutex<Option<SystemTime>>,
}

#[async_trait]
impl Rotator for Keys {
    async fn issue(&self, cx: &CallCx, _: &dyn Connector, current: &Credential) -> Result<Issued> {
        assert_eq!(cx.operation.as_deref(), Some("credential.rotate"));
        assert!(current.field("key").is_some());
        tokio::task::yield_now().await;
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Err(Error::new(kind, "no key today"));
        }
        let mut issued = self.issued.lock().unwrap();
        let key = format!("key-canary-{}", issued.len() + 2);
        issued.push(key.clone());
        if let Some(away) = &*self.takes_key.lock().unwrap() {
            away.store(true, Ordering::SeqCst);
        }
        Ok(Issued { fields: vec![("key".into(), key.into())], expires_at: *self.ends.lock().unwrap() })
    }

    async fn retire(&self, _: &CallCx, _: &dyn Connector, old: &Credential) -> Result<()> {
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Err(Error::new(kind, "not today"));
        }
        self.retired.lock().unwrap().push(old.field("key").unwrap().expose_secret().to_owned());
        Ok(())
    }
}

#[derive(Debug)]
struct Native {
    spec: Arc<ConnectorSpec>,
    keys: Option<Arc<Keys>>,
}

impl Native {
    fn new(keys: Option<Arc<Keys>>) -> Arc<Self> {
        let mut spec = ConnectorSpec::new("keyed", "Keyed", "1.0.0", Vec::new());
        spec.auth = serde_json::from_value(serde_json::json!([{ "type": "api_key", "header": "X-Key" }])).unwrap();
        Arc::new(Self { spec: Arc::new(spec), keys })
    }
}

#[async_trait]
impl Connector for Native {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, _: &CallCx, call: OpCall) -> Result<OpReply> {
        Err(Error::unsupported(call.operation.to_string()))
    }

    async fn lifecycle(&self, _: &CallCx, _: Lifecycle) -> Result<()> {
        Ok(())
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        None
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        None
    }

    fn rotator(&self) -> Option<&dyn Rotator> {
        self.keys.as_deref().map(|keys| keys as &dyn Rotator)
    }
}

fn config() -> HubConfig {
    let connection =
        ConnectionConfig { base_url: Some("https://keyed.example".into()), tenant: Some("acme".into()), ..ConnectionConfig::new("keyed") };
    HubConfig { connections: [("keyed".to_owned(), connection)].into(), ..HubConfig::default() }
}

async fn runtime(world: &World, keys: Option<&Arc<Keys>>) -> Runtime {
    world.builder(config()).await.connector(Native::new(keys.cloned())).build().await.unwrap()
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

async fn store(runtime: &Runtime, rotate_every: Option<Duration>, expires_at: Option<u64>) {
    let new = NewCredential {
        fields: secrets([("key", "key-canary-1"), ("webhook_secret", "hook-canary")]),
        workspaces: vec!["*".into()],
        connector: Some("keyed".into()),
        owner: Some("ada".into()),
        rotate_every,
        expires_at,
        ..NewCredential::default()
    };
    runtime.vault().unwrap().set(&acme(), "keyed", new).await.unwrap();
}

fn acme() -> TenantId {
    "acme".into()
}

async fn key(runtime: &Runtime) -> (String, Option<String>) {
    let connection = runtime.connection(&acme(), "keyed").unwrap();
    let cx = CallCx::new(connection);
    let credential = runtime.vault().unwrap().get(&CredentialQuery::of(&cx, "keyed").for_errand("test")).await.unwrap();
    let text = |credential: &Credential| credential.field("key").unwrap().expose_secret().to_owned();
    assert_eq!(credential.field("webhook_secret").unwrap().expose_secret(), "hook-canary");
    (text(&credential), credential.previous.as_deref().map(text))
}

async fn events(world: &World, event_type: &str) -> Vec<StoredEvent> {
    let store = world.opened().await;
    let all = store.events(&acme(), EventFilter { event_type: Some(event_type.into()), ..EventFilter::default() }).await.unwrap();
    assert!(all.iter().all(|event| !String::from_utf8_lossy(&event.payload).contains("canary")));
    all
}

async fn trail(runtime: &Runtime) -> Vec<AuditOutcome> {
    let filter = AuditFilter { operation: Some("credential.rotate".into()), ..AuditFilter::default() };
    let all = runtime.audit_tail(&acme(), filter).await.unwrap();
    // The vault puts its openings on record under the same errand, as reads.
    all.into_iter().filter(|entry| entry.record.effect != connector_core::spec::Effect::Read).map(|entry| entry.record.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_replaced_used_and_the_old_one_retired_after_the_overlap() {
    let world = World::new();
    let keys = Arc::new(Keys::default());
    let runtime = runtime(&world, Some(&keys)).await;
    store(&runtime, Some(WEEK), None).await;
    assert_eq!(runtime.tend_credentials().await.unwrap(), Tended::default());
    tokio::time::advance(WEEK).await;
    *keys.ends.lock().unwrap() = Some(world.clock.wall() + Duration::from_secs(30 * 86_400));
    assert_eq!(runtime.tend_credentials().await.unwrap(), Tended { rotated: 1, ..Tended::default() });
    assert_eq!(key(&runtime).await, ("key-canary-2".into(), Some("key-canary-1".into())));
    assert_eq!(trail(&runtime).await, [AuditOutcome::Intent, AuditOutcome::Ok]);
    let info = runtime.vault().unwrap().show(&acme(), "keyed").await.unwrap();
    assert!(info.expires_at.is_some() && info.rotated_at.is_some());
    assert_eq!(runtime.tend_credentials().await.unwrap(), Tended::default());
    assert!(keys.retired.lock().unwrap().is_empty());

    tokio::time::advance(OVERLAP).await;
    *keys.fails.lock().unwrap() = Some(ErrorKind::Transient);
    runtime.tend_credentials().await.unwrap();
    *keys.fails.lock().unwrap() = None;
    tokio::time::advance(Duration::from_secs(61)).await;
    let done = runtime.tend_credentials().await.unwrap();
    assert_eq!(done.retired, 1);
    assert_eq!(*keys.retired.lock().unwrap(), ["key-canary-1"]);
    assert_eq!(key(&runtime).await, ("key-canary-2".into(), None));
    assert_eq!(runtime.tend_credentials().await.unwrap(), Tended::default());
    assert_eq!(keys.issued.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_issue_waits_and_an_unclear_one_is_on_record() {
    let world = World::new();
    let keys = Arc::new(Keys::default());
    let runtime = runtime(&world, Some(&keys)).await;
    store(&runtime, Some(WEEK), None).await;
    tokio::time::advance(WEEK).await;
    *keys.fails.lock().unwrap() = Some(ErrorKind::Unknown);
    assert_eq!(runtime.tend_credentials().await.unwrap().failed, 1);
    assert_eq!(trail(&runtime).await, [AuditOutcome::Intent, AuditOutcome::Unknown]);
    *keys.fails.lock().unwrap() = None;
    // Not before its time.
    assert_eq!(runtime.tend_credentials().await.unwrap(), Tended::default());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(runtime.tend_credentials().await.unwrap().rotated, 1);
    assert_eq!(key(&runtime).await.0, "key-canary-2");
}

#[tokio::test(start_paused = true)]
async fn an_issued_secret_is_not_lost_when_the_vault_cannot_keep_it() {
    let world = World::new();
    let keys = Arc::new(Keys::default());
    *keys.takes_key.lock().unwrap() = Some(world.key_away.clone());
    let runtime = runtime(&world, Some(&keys)).await;
    store(&runtime, Some(WEEK), None).await;
    tokio::time::advance(WEEK).await;
    assert_eq!(runtime.tend_credentials().await.unwrap().failed, 1);
    assert_eq!(keys.issued.lock().unwrap().len(), 1);
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(runtime.tend_credentials().await.unwrap().failed, 1, "still away");
    world.key_away.store(false, Ordering::SeqCst);
    assert_eq!(runtime.tend_credentials().await.unwrap().rotated, 1);
    assert_eq!(key(&runtime).await.0, "key-canary-2");
    assert_eq!(keys.issued.lock().unwrap().len(), 1, "the vendor was asked once");
    // And the one before is retired all the same.
    tokio::time::advance(OVERLAP).await;
    assert_eq!(runtime.tend_credentials().await.unwrap().retired, 1);
    assert_eq!(*keys.retired.lock().unwrap(), ["key-canary-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_cannot_keep_anything_asks_no_vendor() {
    let world = World::new();
    let keys = Arc::new(Keys::default());
    let runtime = runtime(&world, Some(&keys)).await;
    store(&runtime, Some(WEEK), None).await;
    tokio::time::advance(WEEK).await;
    world.key_away.store(true, Ordering::SeqCst);
    runtime.rotate_credential(&acme(), "keyed", None, None).await.unwrap_err();
    assert!(keys.issued.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_several_hubs_one_does_it() {
    let world = World::new();
    let keys = Arc::new(Keys::default());
    let (one, two) = (runtime(&world, Some(&keys)).await, runtime(&world, Some(&keys)).await);
    store(&one, Some(WEEK), None).await;
    tokio::time::advance(WEEK).await;
    let (by_one, by_two) = tokio::join!(one.tend_credentials(), two.tend_credentials());
    let (by_one, by_two) = (by_one.unwrap(), by_two.unwrap());
    assert_eq!(by_one.rotated + by_two.rotated, 1);
    assert!(by_one.elsewhere ^ by_two.elsewhere);
    // By hand, at the same moment: one wins, the other is told.
    let tenant = acme();
    let all = tokio::join!(
        one.rotate_credential(&tenant, "keyed", None, None),
        two.rotate_credential(&tenant, "keyed", None, None),
        one.rotate_credential(&tenant, "keyed", None, None),
    );
    let results = [all.0, all.1, all.2];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|error| error.kind() == ErrorKind::Conflict));
    assert_eq!(keys.issued.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_person_is_reminded_once_for_each_period() {
    let world = World::new();
    let runtime = runtime(&world, None).await;
    store(&runtime, Some(WEEK), None).await;
    tokio::time::advance(WEEK).await;
    assert_eq!(runtime.tend_credentials().await.unwrap().reminded, 1);
    assert_eq!(runtime.tend_credentials().await.unwrap().reminded, 0);
    // A restart does not forget.
    let again = self::runtime(&world, None).await;
    assert_eq!(again.tend_credentials().await.unwrap().reminded, 0);
    tokio::time::advance(WEEK).await;
    assert_eq!(again.tend_credentials().await.unwrap().reminded, 1);
    let told = events(&world, ROTATION_DUE).await;
    assert_eq!(told.len(), 2);
    let payload: serde_json::Value = serde_json::from_slice(&told[0].payload).unwrap();
    assert_eq!(
        (payload["credential"].as_str(), payload["owner"].as_str(), payload["connections"][0].as_str()),
        (Some("keyed"), Some("ada"), Some("keyed"))
    );

    let error = runtime.rotate_credential(&acme(), "keyed", None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("`keyed` cannot issue"), "{error}");
    let info = runtime.rotate_credential(&acme(), "keyed", Some(secrets([("key", "by-hand-canary")])), None).await.unwrap();
    assert!(info.previous_until.is_some());
    assert_eq!(key(&runtime).await, ("by-hand-canary".into(), Some("key-canary-1".into())));
    assert_eq!(again.tend_credentials().await.unwrap().reminded, 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_14_3_and_1_days_before() {
    let world = World::new();
    let runtime = runtime(&world, None).await;
    let end = connector_core::clock::unix_millis(world.clock.wall()) + 20 * 86_400_000;
    store(&runtime, None, Some(end)).await;
    let mut told = Vec::new();
    for day in 0..21 {
        for _ in 0..2 {
            if runtime.tend_credentials().await.unwrap().expiring > 0 {
                told.push(20 - day);
            }
        }
        tokio::time::advance(Duration::from_secs(86_400)).await;
    }
    assert_eq!(told, [14, 3, 1]);
    assert_eq!(events(&world, CREDENTIAL_EXPIRING).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_schedule_runs_with_the_runtime_and_stops_with_it() {
    let world = World::new();
    let keys = Arc::new(Keys::default());
    let runtime = runtime(&world, Some(&keys)).await;
    store(&runtime, Some(Duration::from_secs(600)), None).await;
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(keys.issued.lock().unwrap().len(), 1);
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(keys.issued.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_used_a_credential_is_on_record() {
    let world = World::new();
    let keys = Arc::new(Keys::default());
    let runtime = runtime(&world, Some(&keys)).await;
    store(&runtime, None, None).await;
    runtime.rotate_credential(&acme(), "keyed", None, Some(Duration::ZERO)).await.unwrap();
    assert_eq!(key(&runtime).await, ("key-canary-2".into(), None));
    let used = runtime.who_used(&acme(), "keyed", 50).await.unwrap();
    assert!(used.iter().any(|entry| &*entry.record.operation == "credential.rotate"));
    assert!(used.iter().all(|entry| entry.record.credential.as_deref() == Some("keyed")));
    assert!(runtime.who_used(&"globex".into(), "keyed", 50).await.unwrap().is_empty());
}
