//! Events and dead letters as people look for them: filters, pages, payloads for those who may, one or many done again; on both doors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use axum::http::{StatusCode, header};
use common::{
    hub::{Hub, stderr, stdout},
    world::World,
};
use connector_core::{
    ErrorKind, TenantId, WorkspaceId,
    clock::{Clock as _, SystemClock, unix_millis},
    state::{JobError, JobFilter, JobState, NewEvent, NewJob, Store},
};
use connector_runtime::Role;
use connector_state::SqliteState;
use serde_json::{Value, json};

const SECRET: &str = "what-the-vendor-said";

fn event(n: u64, connection: &str, flags: &[&str], age_hours: u64) -> NewEvent {
    NewEvent {
        tenant: TenantId::from("a"),
        workspace: WorkspaceId::from(if n.is_multiple_of(2) { "sales" } else { "hr" }),
        connector: "acme".into(),
        connection: connection.into(),
        event_id: format!("e{n}"),
        event_type: if n.is_multiple_of(3) { "thing.gone".into() } else { "thing.made".into() },
        order_key: None,
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        payload: json!({ "said": SECRET, "n": n }).to_string().into(),
        digest: None,
        received_at: unix_millis(SystemClock.wall()) - age_hours * 3_600_000,
    }
}

/// Twelve events of two connections; all of them have given up, and one write in the outbox too.
async fn furnish(store: &dyn Store) {
    let events = (1..=12)
        .map(|n| event(n, if n <= 8 { "acme-a" } else { "acme-z" }, if n == 5 { &["no_event_id"] } else { &[] }, if n <= 4 { 48 } else { 1 }));
    store.append(events.collect()).await.unwrap();
    for job in store.claim("events", 100, std::time::Duration::from_secs(60)).await.unwrap() {
        store.bury(&job, JobError { kind: ErrorKind::Invalid, message: "the vendor refuses".into() }).await.unwrap();
    }
    let job = NewJob {
        tenant: TenantId::from("a"),
        workspace: WorkspaceId::from("sales"),
        queue: "outbox".into(),
        subject: "acme_make_thing".into(),
        key: None,
        order_key: None,
        payload: json!({ "connection": "acme-a", "args": { "name": SECRET } }).to_string().into(),
        not_before: 0,
        max_attempts: 1,
    };
    store.bury_new(job, JobError { kind: ErrorKind::Unknown, message: "no answer".into() }).await.unwrap();
}

fn numbers(value: &Value, name: &str) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|one| one[name].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn listings_are_filtered_and_go_on() {
    let world = World::new("http://127.0.0.1:9").await;
    furnish(&*world.store).await;
    let admin = world.admin("a").await;
    for (query, count) in [
        ("", 12),
        ("?connector=acme", 12),
        ("?connector=other", 0),
        ("?connection=acme-z", 4),
        ("?type=thing.gone", 4),
        ("?flag=no_event_id", 1),
        ("?since=24h", 8),
        ("?since=24h&connection=acme-a&type=thing.made", 3),
        ("?after=10", 2),
    ] {
        let events = world.get(&admin, &format!("/api/v1/events{query}")).await;
        assert_eq!((events.status, events.json().as_array().unwrap().len()), (StatusCode::OK, count), "{query}: {}", events.body);
        assert!(!events.body.contains(SECRET));
        if query.contains("since") {
            // A job came when it was queued, which is now.
            continue;
        }
        let letters = world.get(&admin, &format!("/api/v1/dlq{query}{}queue=events", if query.is_empty() { "?" } else { "&" })).await;
        assert_eq!((letters.status, letters.json().as_array().unwrap().len()), (StatusCode::OK, count), "{query}: {}", letters.body);
        assert!(!letters.body.contains(SECRET));
    }
    assert_eq!(world.get(&admin, "/api/v1/events").await.json()[0]["connection"], "acme-a");
    assert_eq!(world.get(&admin, "/api/v1/dlq").await.json().as_array().unwrap().len(), 13);
    assert_eq!(world.get(&admin, "/api/v1/dlq?connector=acme&type=acme_make_thing").await.json().as_array().unwrap().len(), 1);
    assert_eq!(world.get(&admin, "/api/v1/dlq?state=pending").await.body, "[]");
    for bad in ["/api/v1/dlq?state=lost", "/api/v1/events?since=yesterday", "/api/v1/events?state=dead", "/api/v1/events?nothing=1"] {
        assert_eq!(world.get(&admin, bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    // Somebody of one workspace gets full pages of what is theirs.
    let sales = world.key("a", Role::Viewer, &["sales"]).await;
    let first = world.get(&sales, "/api/v1/events?limit=4").await;
    assert_eq!(numbers(&first.json(), "seq"), [2, 4, 6, 8]);
    assert_eq!(first.header(header::LINK), "</api/v1/events?after=8>; rel=\"next\"");
    let rest = world.get(&sales, "/api/v1/events?limit=4&after=8").await;
    assert_eq!((numbers(&rest.json(), "seq"), rest.header(header::LINK)), (vec![10, 12], ""));
}

#[tokio::test]
async fn payloads_are_for_operators_who_ask() {
    let world = World::new("http://127.0.0.1:9").await;
    furnish(&*world.store).await;
    let (viewer, operator) = (world.key("a", Role::Viewer, &["*"]).await, world.key("a", Role::Operator, &["*"]).await);
    let letters = world.get(&viewer, "/api/v1/dlq?queue=outbox").await.json();
    let outbox = format!("/api/v1/dlq/{}", letters[0]["id"]);
    let letters = world.get(&viewer, "/api/v1/dlq?queue=events").await.json();
    let of_event = format!("/api/v1/dlq/{}", letters[0]["id"]);
    for path in ["/api/v1/events/1", &outbox, &of_event] {
        let plain = world.get(&viewer, path).await;
        assert!(plain.status == StatusCode::OK && !plain.body.contains(SECRET), "{}", plain.body);
        assert_eq!(world.get(&viewer, &format!("{path}?payload=1")).await.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!world.get(&operator, path).await.body.contains(SECRET), "{path}");
        assert!(world.get(&operator, &format!("{path}?payload=1")).await.body.contains(SECRET), "{path}");
    }
    let shown = world.get(&viewer, &of_event).await.json();
    assert_eq!(
        (&shown["connection"], &shown["event"]["event_id"], &shown["last_error"]["message"]),
        (&json!("acme-a"), &json!("e1"), &json!("the vendor refuses"))
    );
    assert_eq!(shown["attempts"], 1);
}

#[tokio::test]
async fn many_are_done_again_only_if_it_is_said_which() {
    let world = World::new("http://127.0.0.1:9").await;
    furnish(&*world.store).await;
    let (admin, sales) = (world.admin("a").await, world.key("a", Role::Operator, &["sales"]).await);
    for path in ["/api/v1/dlq/retry", "/api/v1/dlq/discard", "/api/v1/events/replay"] {
        for body in [json!({}), json!({ "state": "done", "connector": "acme" }), json!({ "conector": "acme" })] {
            assert_eq!(world.post(&admin, path, body).await.status, StatusCode::BAD_REQUEST, "{path}");
        }
    }
    let retried = world.post(&sales, "/api/v1/dlq/retry", json!({ "connection": "acme-z" })).await;
    assert_eq!(retried.json(), json!({ "count": 2, "done": "queued again", "next_after": null }), "{}", retried.body);
    let part = world.post(&admin, "/api/v1/dlq/discard", json!({ "queue": "events", "limit": 3 })).await.json();
    assert_eq!(part["count"], 3);
    let rest = world.post(&admin, "/api/v1/dlq/discard", json!({ "queue": "events", "after": part["next_after"] })).await.json();
    assert_eq!((&rest["count"], &rest["next_after"]), (&json!(7), &Value::Null));
    let dead = world.store.jobs(&TenantId::from("a"), JobFilter { state: Some(JobState::Dead), ..JobFilter::default() }).await.unwrap();
    assert_eq!(dead.len(), 1, "what is in the outbox was not meant");
    let again = world.post(&admin, "/api/v1/events/replay", json!({ "since": "24h", "type": "thing.gone" })).await.json();
    assert_eq!(again["count"], 3, "{again}");
    let one = world.post(&admin, "/api/v1/events/1/replay", json!({})).await;
    assert_eq!((one.status, &one.json()["event"]), (StatusCode::OK, &json!(1)), "{}", one.body);
    let trail = world.get(&admin, "/api/v1/audit?operation=events.replay").await.json();
    let about: Vec<&str> = trail.as_array().unwrap().iter().map(|one| one["record"]["connection"].as_str().unwrap()).collect();
    assert_eq!(about, ["many", "many", "1", "1"], "an intent and an outcome each");
}

fn a<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--tenant", "a"]].concat()
}

#[tokio::test]
async fn the_command_line_knows_the_same_words() {
    let hub = Hub::new();
    let store = SqliteState::open(hub.dir.path().join("state.db")).unwrap();
    furnish(&store).await;
    drop(store);
    hub.write("hub.yaml", "state: sqlite://state.db\n");
    let list = hub.json(&a(&["events", "list", "--connection", "acme-z", "--json"]));
    assert_eq!(numbers(&list, "seq"), [9, 10, 11, 12]);
    let page = hub.run(&a(&["events", "list", "--since", "24h", "--limit", "3"]));
    assert!(stdout(&page).contains("acme-a") && stdout(&page).contains("thing.made"), "{}", stdout(&page));
    assert!(stderr(&page).contains("--after 7"), "{}", stderr(&page));
    let plain = stdout(&hub.run(&a(&["events", "show", "1"])));
    assert!(plain.contains("\"event_id\": \"e1\"") && !plain.contains(SECRET), "{plain}");
    assert!(stdout(&hub.run(&a(&["events", "show", "1", "--payload"]))).contains(SECRET));
    let letters = hub.json(&a(&["dlq", "list", "--type", "thing.gone", "--json"]));
    assert_eq!(letters.as_array().unwrap().len(), 4);
    let id = letters[0]["id"].to_string();
    assert_eq!(hub.json(&a(&["dlq", "show", &id]))["connection"], "acme-a");
    for args in [
        &["dlq", "retry"][..],
        &["dlq", "discard"],
        &["events", "replay"],
        &["events", "replay", "1", "--all"],
        &["dlq", "retry", "1", "--queue", "events"],
    ] {
        assert_eq!(hub.run(&a(args)).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(hub.json(&a(&["dlq", "retry", "--type", "thing.gone", "--json"]))["count"], 4);
    assert_eq!(hub.json(&a(&["dlq", "list", "--queue", "events", "--state", "pending", "--json"])).as_array().unwrap().len(), 4);
    assert_eq!(hub.json(&a(&["events", "replay", "--connector", "acme", "--json"]))["count"], 12);
    assert_eq!(hub.json(&a(&["dlq", "discard", "--all", "--json"]))["count"], 1);
    assert_eq!(hub.run(&a(&["dlq", "discard", "--all"])).status.code(), Some(4));
}
