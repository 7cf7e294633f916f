//! What vendors told us and what they are to be told is sealed where it lies: it cannot be read there, moved there, or lost by changing keys.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    ErrorKind, TenantId,
    clock::Clock,
    state::{Appended, Condition, EventFilter, Job, JobError, JobFilter, JobState, Namespace, NewEvent, NewJob, Store},
};
use connector_runtime::{CallOutcome, HubConfig, NewPush, OUTBOX_QUEUE, Runtime, config::PolicyConfig};
use connector_state::{MemoryState, SqliteState};
use connector_vault::{NewCredential, Vault, key::LocalKey};
use serde_json::{Value, json};

use crate::{
    fixture::{Scripted, Step, TestClock, call, config, value},
    rules_world::{acme, event},
    signin::secrets,
};

const DAY: Duration = Duration::from_secs(86_400);
const UNREADABLE: &str = "payload_unreadable";

/// A store with its clock, over which runtimes come and go.
struct Place {
    raw: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    crm: Arc<Scripted>,
}

impl Place {
    fn memory() -> Self {
        let clock = TestClock::shared();
        Self { raw: Arc::new(MemoryState::new(clock.clone())), clock, crm: Scripted::new() }
    }

    fn files(folder: &Path) -> Self {
        let clock = TestClock::shared();
        Self { raw: Arc::new(SqliteState::open_with(folder.join("state.db"), clock.clone()).unwrap()), clock, crm: Scripted::new() }
    }

    /// The vault under the master keys `k…` of these numbers, the first one current.
    async fn vault(&self, keys: &[u8]) -> Vault {
        let builder = Vault::builder(self.raw.clone()).clock(self.clock.clone());
        let key = |n: &u8| {
            let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap().wrapping_add(*n));
            LocalKey::new(Some(&format!("k{n}")), bytes.into(), "the test").unwrap()
        };
        keys.iter().fold(builder, |builder, n| builder.key(Arc::new(key(n)))).open().await.unwrap()
    }

    async fn runtime_with(&self, keys: &[u8], seals: Option<bool>) -> Runtime {
        let config = HubConfig { seal_payloads: seals, ..config(PolicyConfig::default()) };
        let builder = Runtime::builder().connector(self.crm.clone()).config(config).env(|_| None);
        builder.clock(self.clock.clone()).store(self.raw.clone()).vault(self.vault(keys).await).build().await.unwrap()
    }

    async fn runtime(&self, keys: &[u8]) -> Runtime {
        self.runtime_with(keys, None).await
    }

    /// As it was before there was a vault.
    async fn runtime_without_vault(&self) -> Runtime {
        let builder = Runtime::builder().connector(self.crm.clone()).config(config(PolicyConfig::default())).env(|_| None);
        builder.clock(self.clock.clone()).store(self.raw.clone()).build().await.unwrap()
    }
}

fn with(id: &str, payload: &str) -> NewEvent {
    NewEvent { payload: Bytes::copy_from_slice(payload.as_bytes()), ..event(id) }
}

async fn append(store: &Arc<dyn Store>, event: NewEvent) -> Appended {
    store.append(vec![event]).await.unwrap()[0]
}

async fn added(store: &Arc<dyn Store>, event: NewEvent) -> u64 {
    match append(store, event).await {
        Appended::New { seq, .. } => seq,
        other => panic!("{other:?}"),
    }
}

/// The payload of an event as a runtime reads it; `None`: it is there and cannot be opened.
async fn payload(runtime: &Runtime, tenant: &TenantId, seq: u64) -> Option<String> {
    let event = runtime.store().event(tenant, seq).await.unwrap().unwrap();
    let lost = event.flags.iter().any(|flag| flag == UNREADABLE);
    assert!(!lost || event.payload.is_empty());
    (!lost).then(|| String::from_utf8(event.payload.to_vec()).unwrap())
}

fn job(subject: &str, key: Option<&str>, payload: &Bytes) -> NewJob {
    NewJob {
        tenant: acme(),
        workspace: "sales".into(),
        queue: "parcels".into(),
        subject: subject.to_owned(),
        key: key.map(str::to_owned),
        order_key: None,
        payload: payload.clone(),
        not_before: 0,
        max_attempts: 3,
    }
}

const CANARIES: [&str; 7] = [
    "CANARY-event-81f2",
    "CANARY-queued-7a30",
    "CANARY-dead-55c1",
    "CANARY-result-c9e4",
    "CANARY-push-03bd",
    "CANARY-asked-6ef8",
    "CANARY-reply-d217",
];

/// Puts one canary into each place.
async fn fill(place: &Place, runtime: &Runtime) {
    let [event, queued, dead, result, push, asked, reply] = CANARIES;
    added(runtime.store(), with("e-1", &json!({ "text": event }).to_string())).await;
    // What the outbox would be given by a call that could not be sent, without the waits before that.
    let parcel = json!({ "params": { "email": queued } }).to_string();
    runtime.store().enqueue(NewJob { queue: OUTBOX_QUEUE.into(), ..job("crm_create", Some("q-1"), &parcel.into()) }).await.unwrap();
    place.crm.script("crm_create", [Step::Fail(ErrorKind::Transient)]);
    let error = runtime.call(call("crm_create", json!({ "email": dead }))).await.unwrap_err();
    assert!(error.context_value("dead_letter").is_some(), "{error}");
    place.crm.script("crm_charge", [Step::Ok(json!({ "note": result }))]);
    let charge = || call("crm_charge", json!({ "amount": 1 })).idempotency_key("k");
    assert_eq!(value(runtime, charge()).await["note"], result);
    assert_eq!(value(runtime, charge()).await["note"], result, "answered from its record");
    assert_eq!(place.crm.sent("crm_charge"), 1);
    let message = NewPush {
        id: "m-1".into(),
        topic: "ticket.created".into(),
        workspace: "sales".into(),
        event_type: "contact.changed".into(),
        data: json!({ "text": push }),
    };
    assert_eq!(runtime.push_log().append(&acme(), message).await.unwrap(), 1);
    assert_eq!(runtime.push_log().after(&acme(), 0, 10).await.unwrap()[0].data["text"], push);
    let outcome = runtime.call(call("crm_delete", json!({ "id": asked }))).await.unwrap();
    assert!(matches!(outcome, CallOutcome::PendingApproval { .. }), "{outcome:?}");
    assert_eq!(runtime.approvals(&acme()).await.unwrap()[0].arguments["id"], asked);
    let kept = json!({ "outcome": "done", "reply": reply }).to_string();
    let effects = Namespace::new(runtime_tenant(), "effects");
    assert!(runtime.store().put(effects, "step", kept.into(), Condition::Absent, None).await.unwrap().is_stored());
}

fn runtime_tenant() -> &'static TenantId {
    static TENANT: std::sync::OnceLock<TenantId> = std::sync::OnceLock::new();
    TENANT.get_or_init(acme)
}

/// Which canaries lie in the files of a folder, plain, in hex or in base64.
fn found(folder: &Path) -> Vec<&'static str> {
    let mut bytes = Vec::new();
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        bytes.extend(std::fs::read(path).unwrap());
    }
    assert!(names.iter().any(|name| name.ends_with("-wal")), "{names:?}");
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let encoded = |canary: &str| (0..3).any(|skip| holds(STANDARD.encode(&canary.as_bytes()[skip..skip + 12]).as_bytes()));
    CANARIES.into_iter().filter(|canary| holds(canary.as_bytes()) || holds(hex(canary).as_bytes()) || encoded(canary)).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

// Time is not paused where files are: it would run on while SQLite works.
#[tokio::test]
async fn nothing_of_it_can_be_read_in_the_files_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::files(folder.path());
    let runtime = place.runtime(&[1]).await;
    fill(&place, &runtime).await;
    assert_eq!(found(folder.path()), Vec::<&str>::new());
    // It is all there: another runtime over the same files reads it.
    let again = place.runtime(&[1]).await;
    let events = again.store().events(&acme(), EventFilter::default()).await.unwrap();
    assert_eq!(events[0].payload, json!({ "text": CANARIES[0] }).to_string());
    let jobs: Vec<Job> = again.store().jobs(&acme(), JobFilter::default()).await.unwrap();
    for canary in [CANARIES[1], CANARIES[2]] {
        assert!(jobs.iter().any(|job| String::from_utf8_lossy(&job.payload).contains(canary)), "{canary}");
    }
    let kept = again.store().get(Namespace::new(runtime_tenant(), "effects"), "step").await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept.value).unwrap()["reply"], CANARIES[6]);
}

#[tokio::test]
async fn the_search_finds_all_of_it_where_sealing_is_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::files(folder.path());
    let runtime = place.runtime_with(&[1], Some(false)).await;
    fill(&place, &runtime).await;
    assert_eq!(found(folder.path()), CANARIES);
}

#[tokio::test(start_paused = true)]
async fn repeated_events_are_known_whatever_was_sealed_when() {
    let place = Place::memory();
    let plain = place.runtime_without_vault().await;
    let before = added(plain.store(), with("before", "{\"n\":1}")).await;
    let runtime = place.runtime(&[1]).await;
    assert_eq!(payload(&runtime, &acme(), before).await.as_deref(), Some("{\"n\":1}"), "a store from before is read");
    let sealed = added(runtime.store(), with("sealed", "{\"n\":2}")).await;
    let off = place.runtime_with(&[1], Some(false)).await;
    let open = added(off.store(), with("open", "{\"n\":3}")).await;
    assert_eq!(payload(&off, &acme(), sealed).await.as_deref(), Some("{\"n\":2}"));

    tokio::time::advance(7 * DAY).await;
    let rotated = place.runtime(&[2, 1]).await;
    rotated.vault().unwrap().rotate_key(&|_| ()).await.unwrap();
    let later = place.runtime(&[2]).await;
    for runtime in [&runtime, &off, &later] {
        for (id, text, seq) in [("before", "{\"n\":1}", before), ("sealed", "{\"n\":2}", sealed), ("open", "{\"n\":3}", open)] {
            assert_eq!(append(runtime.store(), with(id, text)).await, Appended::Duplicate { seq }, "{id}");
            assert_eq!(append(runtime.store(), with(id, "{\"n\":9}")).await, Appended::Mismatch { seq }, "{id}");
            assert_eq!(payload(runtime, &acme(), seq).await.as_deref(), Some(text), "the first one stays");
        }
    }
    assert!(later.store().event(&acme(), sealed).await.unwrap().unwrap().duplicates >= 2);
    // One batch has its own outcomes in its own order.
    let batch = vec![with("new", "{}"), with("sealed", "{\"n\":2}"), with("before", "{}"), with("before", "{\"n\":1}")];
    let outcomes = runtime.store().append(batch).await.unwrap();
    assert!(matches!(
        outcomes[..],
        [Appended::New { .. }, Appended::Duplicate { seq: a }, Appended::Mismatch { seq: b }, Appended::Duplicate { seq: c }]
            if (a, b, c) == (sealed, before, before)
    ));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_stood_somewhere_else_is_refused_and_the_others_are_listed() {
    let place = Place::memory();
    let runtime = place.runtime(&[1]).await;
    let seq = added(runtime.store(), with("e-1", "{\"amount\":1}")).await;
    added(runtime.store(), NewEvent { tenant: "globex".into(), ..with("own", "{}") }).await;
    let sealed = place.raw.event(&acme(), seq).await.unwrap().unwrap().payload;
    assert!(sealed.starts_with(b"\0CNP"));
    let moved = |change: &dyn Fn(&mut NewEvent)| {
        let mut event = NewEvent { payload: sealed.clone(), ..event("e-2") };
        change(&mut event);
        event
    };
    let mut tampered = sealed.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    let moves = [
        moved(&|_| ()),
        moved(&|event| (event.event_id, event.connection) = ("e-1".into(), "rival".into())),
        moved(&|event| (event.event_id, event.connection, event.workspace) = ("e-1".into(), "other".into(), "support".into())),
        moved(&|event| (event.event_id, event.tenant) = ("e-1".into(), "globex".into())),
        moved(&|event| (event.event_id, event.payload) = ("e-3".into(), tampered.clone().into())),
    ];
    for event in moves {
        let tenant = event.tenant.clone();
        let seq = added(&place.raw, event).await;
        assert_eq!(payload(&runtime, &tenant, seq).await, None);
    }
    let listed = runtime.store().events(&acme(), EventFilter::default()).await.unwrap();
    let lost = listed.iter().filter(|event| event.flags.iter().any(|flag| flag == UNREADABLE)).count();
    assert_eq!((listed.len(), lost, &listed[0].payload[..]), (5, 4, &b"{\"amount\":1}"[..]));

    // Nobody works on them: they become dead letters that say why, and the first one is handled.
    let tasks = runtime.start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let jobs = runtime.store().jobs(&acme(), JobFilter { queue: Some("events".into()), ..JobFilter::default() }).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.state).collect::<Vec<_>>(), [&[JobState::Done][..], &[JobState::Dead; 4]].concat());
    let error = jobs[1].last_error.as_ref().unwrap();
    assert_eq!((error.kind, jobs[1].attempts), (ErrorKind::Config, 1));
    assert!(error.message.starts_with("the payload of the event cannot be opened: it was changed or moved, or its data key is gone"), "{error:?}");
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_stood_somewhere_else_is_a_dead_letter_that_says_so() {
    let place = Place::memory();
    let runtime = place.runtime(&[1]).await;
    let (store, text) = (runtime.store(), Bytes::from_static(b"{\"to\":\"a@b.c\"}"));
    let good = store.enqueue(job("send", Some("k-1"), &text)).await.unwrap().id();
    assert_eq!(store.job(&acme(), good).await.unwrap().unwrap().payload, text);
    let sealed = place.raw.job(&acme(), good).await.unwrap().unwrap().payload;
    let moves = [
        job("send", Some("k-2"), &sealed),
        job("send", None, &sealed),
        job("send", Some(""), &sealed),
        job("other", Some("k-1b"), &sealed),
        NewJob { workspace: "support".into(), ..job("send", Some("k-1c"), &sealed) },
        NewJob { tenant: "globex".into(), ..job("send", Some("k-1"), &sealed) },
    ];
    for moved in moves {
        place.raw.enqueue(moved).await.unwrap();
    }
    let listed = store.jobs(&acme(), JobFilter::default()).await.unwrap();
    assert_eq!(listed.iter().filter(|job| job.payload.is_empty()).count(), 5);
    assert!(listed[1].last_error.as_ref().unwrap().message.starts_with("its payload cannot be opened: it, or what it is bound to"));
    let claimed = store.claim("parcels", 10, DAY).await.unwrap();
    let states: Vec<JobState> = claimed.iter().map(|job| job.state).collect();
    assert_eq!(states, [&[JobState::Leased][..], &[JobState::Dead; 6]].concat());
    assert_eq!(claimed[0].payload, text);
    let dead = store.job(&acme(), claimed[1].id).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.attempts), (JobState::Dead, 1));
    assert!(store.complete(&claimed[0]).await.unwrap());
    assert!(store.claim("parcels", 10, DAY).await.unwrap().is_empty());

    // What is put straight to the dead letters is sealed as well, and its own reason stays in front.
    let error = JobError { kind: ErrorKind::Unknown, message: "who knows".into() };
    let buried = store.bury_new(job("send", Some("k-9"), &text), error).await.unwrap();
    let raw = place.raw.job(&acme(), buried).await.unwrap().unwrap();
    assert!(raw.payload.starts_with(b"\0CNP"));
    assert_eq!(store.job(&acme(), buried).await.unwrap().unwrap().payload, text);
    let blind = place.runtime_without_vault().await;
    let shown = blind.store().job(&acme(), buried).await.unwrap().unwrap();
    let shown = (shown.payload.is_empty(), shown.last_error.unwrap());
    assert!(shown.0 && shown.1.kind == ErrorKind::Unknown && shown.1.message.starts_with("who knows; its payload cannot be opened now"), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_key_a_job_waits_longer_each_time() {
    let place = Place::memory();
    let text = Bytes::from_static(b"{}");
    let id = place.runtime(&[1]).await.store().enqueue(job("send", None, &text)).await.unwrap().id();
    let blind = place.runtime_without_vault().await;
    assert!(blind.store().claim("parcels", 10, DAY).await.unwrap().is_empty());
    let waiting = place.raw.job(&acme(), id).await.unwrap().unwrap();
    assert_eq!((waiting.state, waiting.last_error.unwrap().kind), (JobState::Pending, ErrorKind::Transient));
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(blind.store().claim("parcels", 10, DAY).await.unwrap().is_empty());
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(place.raw.claim("parcels", 10, DAY).await.unwrap().is_empty(), "two minutes the second time");
    tokio::time::advance(Duration::from_secs(61)).await;
    let claimed = place.runtime(&[1]).await.store().claim("parcels", 10, DAY).await.unwrap();
    assert_eq!((claimed.len(), &claimed[0].payload), (1, &text));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_stood_somewhere_else_is_refused_and_other_parts_are_as_they_were() {
    let place = Place::memory();
    let runtime = place.runtime(&[1]).await;
    let (store, tenant) = (runtime.store(), acme());
    let part = |name: &'static str| Namespace::new(runtime_tenant(), name);
    for name in ["idempotency", "effects", "push", "approvals"] {
        assert!(store.put(part(name), "a", "{\"n\":1}".into(), Condition::Absent, None).await.unwrap().is_stored());
        let raw = place.raw.get(part(name), "a").await.unwrap().unwrap();
        assert!(raw.value.starts_with(b"\0CNP"), "{name}");
        // A write that is refused shows what is there.
        match store.put(part(name), "a", "{}".into(), Condition::Absent, None).await.unwrap() {
            connector_core::state::PutOutcome::Refused(Some(there)) => assert_eq!(there.value, "{\"n\":1}"),
            other => panic!("{other:?}"),
        }
        place.raw.put(part(name), "b", raw.value.clone(), Condition::Any, None).await.unwrap();
        let error = store.get(part(name), "b").await.unwrap_err();
        assert!(error.to_string().contains("a sealed payload is unreadable"), "{error}");
        assert!(store.put(part(name), "b", "{}".into(), Condition::Absent, None).await.is_err());
        let listed = store.scan(part(name), "", None, 10).await.unwrap();
        assert_eq!(listed.iter().map(|(key, entry)| (key.as_str(), &entry.value[..])).collect::<Vec<_>>(), [("a", &b"{\"n\":1}"[..]), ("b", b"")]);
    }
    let from_another_part = place.raw.get(part("effects"), "a").await.unwrap().unwrap().value;
    place.raw.put(part("idempotency"), "a", from_another_part, Condition::Any, None).await.unwrap();
    assert!(store.get(part("idempotency"), "a").await.is_err());
    assert!(store.put(part("scheduler"), "a", "open".into(), Condition::Any, None).await.unwrap().is_stored());
    assert_eq!(place.raw.get(part("scheduler"), "a").await.unwrap().unwrap().value, "open");
    assert!(store.delete(part("effects"), "a", Condition::Any).await.unwrap());
    assert!(runtime.vault().unwrap().tenants().await.unwrap().contains(&tenant), "a rotation of the master key finds its keys");
}

#[tokio::test(start_paused = true)]
async fn everything_stays_readable_while_the_master_key_changes_under_load() {
    let place = Place::memory();
    let mut seqs = Vec::new();
    for round in 1..4_u8 {
        let runtime = place.runtime(&[round + 1, round]).await;
        let (store, vault) = (runtime.store().clone(), runtime.vault().unwrap().clone());
        let load = async {
            let mut new = Vec::new();
            for n in 0..50 {
                let seq = added(&store, with(&format!("e-{round}-{n}"), "{\"n\":1}")).await;
                new.push(seq);
                assert_eq!(store.event(&acme(), seq).await.unwrap().unwrap().payload, "{\"n\":1}");
                tokio::task::yield_now().await;
            }
            new
        };
        let (new, report) = tokio::join!(load, async { vault.rotate_key(&|_| ()).await.unwrap() });
        assert!(report.unreadable.is_empty(), "{report:?}");
        seqs.extend(new);
        let report = vault.rotate_key(&|_| ()).await.unwrap();
        assert!(report.left.values().all(|left| *left == 0), "{report:?}");
        let alone = place.runtime(&[round + 1]).await;
        for seq in &seqs {
            assert_eq!(payload(&alone, &acme(), *seq).await.as_deref(), Some("{\"n\":1}"));
        }
        tokio::time::advance(DAY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_that_are_still_to_be_retired_are_moved_and_counted() {
    let place = Place::memory();
    let (tenant, old) = (acme(), place.vault(&[1]).await);
    let new = NewCredential { fields: secrets([("token", "canary")]), ..NewCredential::default() };
    old.set(&tenant, "keyed", new).await.unwrap();
    let sealed = old.seal(&tenant, "credential.retire", "keyed:1", b"[[\"token\",\"canary\"]]").await.unwrap();
    let row = json!({ "failures": 2, "retiring": [{ "version": 1, "at": 5, "failures": 1, "sealed": STANDARD.encode(&sealed) }] });
    let part = Namespace::new(runtime_tenant(), "rotation");
    place.raw.put(part, "keyed", row.to_string().into(), Condition::Absent, None).await.unwrap();
    place.raw.put(part, "other", "damaged".into(), Condition::Absent, None).await.unwrap();

    let runtime = place.runtime(&[2, 1]).await;
    let report = runtime.vault().unwrap().rotate_key(&|_| ()).await.unwrap();
    assert_eq!((report.rewrapped, report.already, report.left.get("k1")), (2, 0, Some(&0)), "the credential and what is to be retired");
    let lost: Vec<_> = report.unreadable.iter().map(|one| (one.name.as_str(), one.field.as_str())).collect();
    assert_eq!(lost, [("other", "credential.retire")]);
    let moved: Value = serde_json::from_slice(&place.raw.get(part, "keyed").await.unwrap().unwrap().value).unwrap();
    assert_eq!((&moved["failures"], &moved["retiring"][0]["at"], &moved["retiring"][0]["failures"]), (&json!(2), &json!(5), &json!(1)));
    let sealed = STANDARD.decode(moved["retiring"][0]["sealed"].as_str().unwrap()).unwrap();
    let alone = place.vault(&[2]).await;
    assert_eq!(alone.unseal(&tenant, "credential.retire", "keyed:1", &sealed).await.unwrap().as_slice(), b"[[\"token\",\"canary\"]]");
    assert_eq!(runtime.vault().unwrap().rotate_key(&|_| ()).await.unwrap().already, 2);
    // One that does not open keeps its key from being called free.
    let foreign = old.seal(&tenant, "credential.retire", "else:1", b"x").await.unwrap();
    let row = json!({ "retiring": [{ "version": 1, "at": 5, "sealed": STANDARD.encode(&foreign) }] });
    place.raw.put(part, "keyed", row.to_string().into(), Condition::Any, None).await.unwrap();
    let report = runtime.vault().unwrap().rotate_key(&|_| ()).await.unwrap();
    assert_eq!((report.left.get("k1"), report.unreadable.len()), (Some(&1), 2));
}

#[tokio::test(start_paused = true)]
async fn data_keys_go_when_nothing_old_enough_is_left_and_not_before() {
    let place = Place::memory();
    let runtime = place.runtime(&[1]).await;
    let store = runtime.store();
    let now = || u64::try_from(place.clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let keys = || async { place.raw.scan(Namespace::new(runtime_tenant(), "vault.payload_keys"), "k", None, 10).await.unwrap().len() };
    let error = JobError { kind: ErrorKind::Unknown, message: "who knows".into() };
    let dead = store.bury_new(NewJob { queue: OUTBOX_QUEUE.into(), ..job("crm_get", None, &Bytes::from_static(b"{}")) }, error).await.unwrap();
    tokio::time::advance(60 * DAY).await;
    added(store, NewEvent { received_at: now(), ..with("e-1", "{}") }).await;
    assert_eq!(keys().await, 2);
    store.prune_events(now()).await.unwrap();
    assert_eq!(keys().await, 2, "a dead letter waits for a person, however long");
    assert_eq!(store.job(&acme(), dead).await.unwrap().unwrap().payload, "{}");
    assert!(store.discard(&acme(), dead).await.unwrap());
    store.prune_events(now()).await.unwrap();
    assert_eq!(keys().await, 1);
}
