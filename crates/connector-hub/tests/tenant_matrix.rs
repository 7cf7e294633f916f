//! Nothing crosses a tenant: every route that takes an id, and every tool, is called by one tenant with the other's ids and with ids nobody
//! has, and both must be answered the same, letter by letter. Generated from the route table and the tool list: what is not covered fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use common::{
    vendor::{CANARY, Vendor},
    world::{Answer, Ask, World},
};
use connector_core::{
    ErrorKind, TenantId, WorkspaceId,
    state::{Condition, JobError, Namespace, NewEvent, NewJob},
};
use connector_hub::http::{IdKind, Needs, Place, ROUTES, Route};
use connector_runtime::Role;
use connector_vault::NewCredential;
use secrecy::SecretString;
use serde_json::{Value, json};

/// What tenant `a` has, by kind of id.
struct Owned(BTreeMap<IdKind, String>);

/// An id of this kind that nobody has, as long as a real one.
fn made_up(kind: IdKind) -> String {
    match kind {
        IdKind::Connector | IdKind::Tool => "nobody".into(),
        IdKind::Connection => "nobody-x".into(),
        IdKind::Credential => "cred-x".into(),
        IdKind::Approval => "0".repeat(32),
        IdKind::DeadLetter | IdKind::Event => "987654".into(),
        IdKind::Key => "k000000000000".into(),
        IdKind::Subscription => "acme-x.things.00000000".into(),
        IdKind::Ticket | IdKind::SignIn => "0".repeat(64),
    }
}

/// Connectors and tools are the same for everybody.
fn is_owned(kind: IdKind) -> bool {
    !matches!(kind, IdKind::Connector | IdKind::Tool)
}

async fn furnish(world: &World, a: &str) -> Owned {
    let tenant = TenantId::from("a");
    let credential = NewCredential {
        fields: [("key".to_owned(), SecretString::from(format!("{CANARY}-key")))].into(),
        workspaces: vec!["*".into()],
        ..NewCredential::default()
    };
    world.vault.set(&tenant, "cred-a", credential).await.unwrap();
    let asked = world.post(a, "/api/v1/tools/acme_make_thing/execute", json!({ "connection": "acme-a", "params": { "name": "x" } })).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
    let job = NewJob {
        tenant: tenant.clone(),
        workspace: WorkspaceId::default(),
        queue: "outbox".into(),
        subject: "acme_make_thing".into(),
        key: None,
        order_key: None,
        payload: "{}".into(),
        not_before: 0,
        max_attempts: 1,
    };
    let error = JobError { kind: ErrorKind::Timeout, message: "no answer".into() };
    let letter = world.store.bury_new(job, error).await.unwrap();
    let event = NewEvent {
        tenant: tenant.clone(),
        workspace: WorkspaceId::default(),
        connector: "acme".into(),
        connection: "acme".into(),
        event_id: "e1".into(),
        event_type: "thing.made".into(),
        order_key: None,
        flags: Vec::new(),
        payload: "{}".into(),
        digest: None,
        received_at: 1,
    };
    world.store.append(vec![event]).await.unwrap();
    let event = world.store.events(&tenant, connector_core::state::EventFilter::default()).await.unwrap()[0].seq;
    // As the hub keeps one; the connector that the matrix knows has no kind of its own.
    let subscription = "acme-a.things.0123abcd".to_owned();
    let row = json!({ "id": subscription, "connection": "acme-a", "connector": "acme", "kind": "things", "workspace": "default", "origin": "api" });
    let rows = Namespace::new(&tenant, "subscriptions");
    assert!(world.store.put(rows, &subscription, row.to_string().into(), Condition::Any, None).await.unwrap().is_stored());
    world.key("a", Role::Viewer, &["*"]).await;
    let key = world.keys.list(&tenant).await.unwrap().pop().unwrap().id;
    let link = world.post(a, "/api/v1/connect/acme", json!({ "connection": "acme-a" })).await;
    assert_eq!(link.status, StatusCode::CREATED, "{}", link.body);
    let ticket = link.json()["url"].as_str().unwrap().split_once("ticket=").unwrap().1.to_owned();
    let begun = world.get(a, "/oauth/start/acme?connection=acme-a").await;
    assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
    let location = url::Url::parse(begun.header(header::LOCATION)).unwrap();
    let state = location.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    Owned(
        [
            (IdKind::Connection, "acme-a".to_owned()),
            (IdKind::Credential, "cred-a".to_owned()),
            (IdKind::Approval, asked.json()["approval_id"].as_str().unwrap().to_owned()),
            (IdKind::DeadLetter, letter.to_string()),
            (IdKind::Event, event.to_string()),
            (IdKind::Key, key),
            (IdKind::Subscription, subscription),
            (IdKind::Ticket, ticket),
            (IdKind::SignIn, state),
        ]
        .into(),
    )
}

/// A good body for a route that wants one, so that it is the id that is refused and not the body.
fn body(route: &Route) -> Option<Value> {
    match (route.method, route.path) {
        ("POST", path) if path.ends_with("/grant") => Some(json!({ "workspaces": ["*"] })),
        ("POST", path) if path.ends_with("/rotate") => Some(json!({ "fields": { "key": "x" } })),
        ("POST", "/api/v1/subscriptions") => Some(json!({ "kind": "things" })),
        ("POST", _) => Some(json!({})),
        _ => None,
    }
}

/// Sends a route's request with this id in this place, as tenant `b`.
async fn send(world: &World, key: &str, route: &Route, kind: IdKind, place: Place, id: &str) -> Answer {
    let mut path = route.path.to_owned();
    for (shared, place) in route.ids.iter().filter(|(shared, _)| !is_owned(*shared)) {
        let Place::Path(name) = place else { continue };
        let value = if *shared == IdKind::Tool { "acme_me" } else { "acme" };
        path = path.replace(&format!("{{{name}}}"), value);
    }
    let mut body = body(route);
    match place {
        Place::Path(name) => path = path.replace(&format!("{{{name}}}"), id),
        Place::Query(name) => path += &format!("?{name}={id}"),
        Place::Body(name) => body.as_mut().unwrap()[name] = id.into(),
    }
    assert!(!path.contains('{'), "{route:?}: the matrix does not fill {path}; teach it");
    // An answer to a sign-in comes in the browser that set out: here another one, with a cookie of its own.
    let cookie = (kind == IdKind::SignIn).then_some("connectors_signin_0=x");
    world.send(Ask { method: route.method, path: &path, key: Some(key), cookie, body }).await
}

/// What is compared: everything but the id itself.
fn seen(answer: &Answer, id: &str) -> (StatusCode, String, Vec<(String, String)>) {
    let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().replace(id, "ID")));
    let mut headers: Vec<_> = headers.filter(|(name, _)| name != "content-length").collect();
    headers.sort();
    (answer.status, answer.body.replace(id, "ID"), headers)
}

#[tokio::test]
async fn no_route_tells_anothers_id_from_one_that_nobody_has() {
    let (_vendor, address) = Vendor::start("me.read").await;
    let world = World::new(&address).await;
    let (a, b, c) = (world.admin("a").await, world.admin("b").await, world.admin("c").await);
    let owned = furnish(&world, &a).await;
    let (mut cases, mut covered) = (0, 0);
    for route in ROUTES {
        for (kind, place) in route.ids.iter().filter(|(kind, _)| is_owned(*kind)) {
            let id = owned.0.get(kind).unwrap_or_else(|| panic!("{route:?}: tenant `a` has no {kind:?} to try it with"));
            let fake = made_up(*kind);
            // What `b` asked for above is on its own trail, so the trail is asked for by a third tenant.
            let key = if route.path == "/api/v1/audit" { &c } else { &b };
            let foreign = send(&world, key, route, *kind, *place, id).await;
            let missing = send(&world, key, route, *kind, *place, &fake).await;
            assert_eq!(seen(&foreign, id), seen(&missing, &fake), "{route:?} {kind:?}");
            match place {
                // A filter that finds nothing is an empty list.
                Place::Query(_) if foreign.status == StatusCode::OK => assert_eq!(foreign.body, "[]", "{route:?}"),
                // What is done to everything that fits a filter is done to nothing.
                Place::Body(_) if foreign.status == StatusCode::OK => assert_eq!(foreign.json()["count"], 0, "{route:?}"),
                Place::Path(_) | Place::Body(_) => assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{route:?}: {}", foreign.body),
                Place::Query(_) => assert!(foreign.status.is_client_error(), "{route:?}: {}", foreign.body),
            }
            assert!(!foreign.body.contains("cred-a") || *kind == IdKind::Credential, "{}", foreign.body);
            cases += 1;
        }
        let params = route.path.matches('{').count();
        let named = route.ids.iter().filter(|(_, place)| matches!(place, Place::Path(_))).count();
        assert!(params == named || route.needs == Needs::Signature, "{route:?} has a parameter that the table does not say the meaning of");
        covered += 1;
    }
    assert_eq!(covered, ROUTES.len());

    // Nothing of `a` was touched, and its ids are good: for `a`.
    for path in [
        "/api/v1/credentials/cred-a".to_owned(),
        format!("/api/v1/approvals/{}", owned.0[&IdKind::Approval]),
        format!("/api/v1/dlq/{}", owned.0[&IdKind::DeadLetter]),
        format!("/api/v1/events/{}", owned.0[&IdKind::Event]),
        format!("/api/v1/subscriptions/{}", owned.0[&IdKind::Subscription]),
    ] {
        let answer = world.get(&a, &path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    }
    assert_eq!(world.get(&a, "/api/v1/credentials/cred-a").await.json()["state"], "active");
    let redeemed = world.get(&a, &format!("/oauth/start/acme?ticket={}", owned.0[&IdKind::Ticket])).await;
    assert_eq!(redeemed.status, StatusCode::SEE_OTHER, "`b` did not use up the ticket of `a`: {}", redeemed.body);
    println!("tenant matrix: {covered} routes, {cases} ids, each as another tenant's and as nobody's");
}

#[tokio::test]
async fn no_tool_tells_anothers_connection_from_one_that_nobody_has() {
    let (vendor, address) = Vendor::start("me.read").await;
    let world = World::new(&address).await;
    let (a, b) = (world.admin("a").await, world.admin("b").await);
    let tools = world.get(&b, "/api/v1/tools").await.json();
    let tools = tools.as_array().unwrap();
    let of_a = world.get(&a, "/api/v1/connections").await.json();
    let mut cases = 0;
    for tool in tools {
        // A view's tool is no connector's own: any connection that can do it is tried.
        let connector = tool["connector"].as_str().or(tool["over"][0]["connector"].as_str()).unwrap();
        let name = tool["name"].as_str().unwrap();
        let connection = of_a.as_array().unwrap().iter().find(|one| one["connector"] == connector);
        let id = match connection {
            Some(connection) => connection["id"].as_str().unwrap().to_owned(),
            // A connector that nobody has a connection of: give the matrix one, or say why it cannot have any.
            None => panic!("`{name}` is of `{connector}`, of which the world has no connection; add one in common/world.rs"),
        };
        let path = format!("/api/v1/tools/{name}/execute");
        for dry_run in [false, true] {
            let foreign = world.post(&b, &path, json!({ "connection": id, "params": {}, "dry_run": dry_run })).await;
            let missing = world.post(&b, &path, json!({ "connection": "nobody-x", "params": {}, "dry_run": dry_run })).await;
            assert_eq!(seen(&foreign, &id), seen(&missing, "nobody-x"), "{name}");
            assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{name}: {}", foreign.body);
            cases += 1;
        }
    }
    assert_eq!(cases, tools.len() * 2);
    let views = tools.iter().filter(|tool| tool["view"].is_string());
    let mut over = views.clone().flat_map(|tool| tool["over"].as_array().unwrap());
    assert!(views.clone().count() > 30 && over.all(|over| over["connection"].as_str().unwrap().ends_with("-b")), "what `b` sees is its own");
    assert_eq!(vendor.0.lock().unwrap().calls, 0, "nothing left the hub");
    // What was refused is on the caller's trail, not on the other's.
    let trail = world.get(&a, "/api/v1/audit?connection=acme-a").await;
    assert_eq!(trail.body, "[]");
    println!("tenant matrix: {} tools, {cases} calls, each as another tenant's and as nobody's", tools.len());
}

#[tokio::test]
async fn every_route_refuses_who_shows_no_key_a_bad_one_or_one_of_a_lower_role() {
    let (_vendor, address) = Vendor::start("me.read").await;
    let world = World::new(&address).await;
    let roles = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin];
    let mut keys = Vec::new();
    for role in roles {
        keys.push((role, world.key("a", role, &["*"]).await));
    }
    let mut cases = 0;
    for route in ROUTES {
        let path =
            route.path.replace("{id}", "1").replace("{name}", "x").replace("{seq}", "1").replace("{tool}", "acme_me").replace("{connector}", "acme");
        let send = |key| world.send(Ask { method: route.method, path: &path, key, cookie: None, body: body(route) });
        match route.needs {
            Needs::Key(least) => {
                for key in [None, Some("ck_nobody"), Some("")] {
                    let answer = send(key).await;
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{route:?}: {}", answer.body);
                    cases += 1;
                }
                for (role, key) in &keys {
                    let answer = send(Some(key.as_str())).await;
                    let refused = answer.status == StatusCode::FORBIDDEN && answer.body.contains("this needs the role");
                    assert_eq!(refused, *role < least, "{route:?} as {role}: {}", answer.body);
                    cases += 1;
                }
            }
            Needs::Session => {
                let answer = send(None).await;
                assert!(answer.status.is_client_error(), "{route:?}: {}", answer.body);
                cases += 1;
            }
            Needs::Public => {
                let answer = send(None).await;
                for own in ["acme-a", "acme-b", "hubspot-a", CANARY] {
                    assert!(!answer.body.contains(own), "{route:?} shows `{own}` to everybody");
                }
                cases += 1;
            }
            Needs::Signature => {}
        }
    }
    println!("roles: {} routes, {cases} requests", ROUTES.len());
}
