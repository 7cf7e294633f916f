//! The HTTP API in this process: credentials that only go in, keys, approvals, and signing in with a browser, good and bad.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use axum::http::{StatusCode, header};
use common::{
    vendor::{CANARY, Vendor},
    world::{Answer, Ask, PUBLIC, World},
};
use connector_runtime::Role;
use serde_json::json;
use url::Url;

async fn world(grants: &str) -> (Vendor, World) {
    let (vendor, address) = Vendor::start(grants).await;
    let world = World::new(&address).await;
    (vendor, world)
}

fn silent(answer: &Answer) {
    let said = format!("{:?} {}", answer.headers, answer.body);
    assert!(!said.contains(CANARY), "{said}");
}

#[tokio::test]
async fn credentials_go_in_and_never_come_out() {
    let (_vendor, world) = world("me.read").await;
    let admin = world.admin("a").await;
    let set = json!({ "name": "cred", "connector": "acme", "fields": { "key": format!("{CANARY}-key") }, "workspaces": ["sales"], "owner": "ada",
        "expires": "2099-01-31", "rotate_every": "90d" });
    let answers = [
        world.post(&admin, "/api/v1/credentials", set).await,
        world.get(&admin, "/api/v1/credentials").await,
        world.get(&admin, "/api/v1/credentials/cred").await,
        world.post(&admin, "/api/v1/credentials/cred/grant", json!({ "workspaces": ["sales", "support"] })).await,
        world.post(&admin, "/api/v1/credentials/cred/rotate", json!({ "fields": { "key": format!("{CANARY}-2") }, "overlap": "1h" })).await,
        world.delete(&admin, "/api/v1/credentials/cred").await,
        world.get(&admin, "/api/v1/audit").await,
    ];
    for answer in &answers {
        assert!(answer.status.is_success(), "{}", answer.body);
        silent(answer);
    }
    assert_eq!(answers[2].json()["workspaces"], json!(["sales"]));
    assert_eq!(answers[4].json()["version"], 2);
    assert_eq!(answers[5].json()["state"], "revoked");
    let used = world.get(&admin, "/api/v1/audit?credential=cred").await.json();
    let operations: Vec<&str> = used.as_array().unwrap().iter().map(|one| one["record"]["operation"].as_str().unwrap()).collect();
    for operation in ["credentials.set", "credentials.grant", "credentials.rotate", "credentials.revoke"] {
        assert!(operations.contains(&operation), "{operations:?}");
    }
}

#[tokio::test]
async fn a_problem_never_repeats_what_was_sent() {
    let (_vendor, world) = world("me.read").await;
    let admin = world.admin("a").await;
    let bodies = [
        json!({ "name": "cred", "fields": { "key": 7, "x": CANARY } }),
        json!({ "name": "cred", "fields": { "key": CANARY }, CANARY: 1 }),
        json!({ "name": format!("{CANARY} /"), "fields": { "key": CANARY } }),
        json!({ "name": "cred", "fields": { "key": CANARY }, "expires": CANARY }),
        json!({ "name": "cred", "fields": CANARY }),
        json!(CANARY),
    ];
    for body in bodies {
        let answer = world.post(&admin, "/api/v1/credentials", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json");
        silent(&answer);
    }
    let lost = world.get(&admin, &format!("/api/v2/{CANARY}")).await;
    assert_eq!(lost.status, StatusCode::NOT_FOUND);
    silent(&lost);
    let wrong = world.send(Ask { method: "PUT", path: "/api/v1/keys", key: Some(&admin), ..Ask::default() }).await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.header(header::CONTENT_TYPE), "application/problem+json");
}

#[tokio::test]
async fn a_key_sees_and_gives_only_what_is_its_workspaces() {
    let (_vendor, world) = world("me.read").await;
    let admin = world.admin("a").await;
    for (name, workspace) in [("cred-sales", "sales"), ("cred-hr", "hr")] {
        let set = json!({ "name": name, "fields": { "key": "x" }, "workspaces": [workspace] });
        assert_eq!(world.post(&admin, "/api/v1/credentials", set).await.status, StatusCode::CREATED);
    }
    let sales = world.key("a", Role::Admin, &["sales"]).await;
    let listed = world.get(&sales, "/api/v1/credentials").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let foreign = world.get(&sales, "/api/v1/credentials/cred-hr").await;
    let missing = world.get(&sales, "/api/v1/credentials/cred-xx").await;
    assert_eq!((foreign.status, foreign.body.replace("cred-hr", "ID")), (missing.status, missing.body.replace("cred-xx", "ID")));
    let beyond = world.post(&sales, "/api/v1/credentials/cred-sales/grant", json!({ "workspaces": ["*"] })).await;
    assert_eq!(beyond.status, StatusCode::FORBIDDEN, "{}", beyond.body);
    let stronger = world.post(&sales, "/api/v1/keys", json!({ "role": "viewer", "workspaces": ["hr"] })).await;
    assert_eq!(stronger.status, StatusCode::FORBIDDEN, "{}", stronger.body);
    let taken = world.post(&sales, "/api/v1/credentials", json!({ "name": "cred-hr", "fields": { "key": "y" }, "workspaces": ["sales"] })).await;
    assert_eq!(taken.status, StatusCode::FORBIDDEN, "{}", taken.body);
}

#[tokio::test]
async fn a_key_is_shown_once_and_revoked_at_once() {
    let (_vendor, world) = world("me.read").await;
    let admin = world.admin("a").await;
    let made = world.post(&admin, "/api/v1/keys", json!({ "role": "operator", "workspaces": ["*"], "name": "bot" })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let (key, id) = (made.json()["key"].as_str().unwrap().to_owned(), made.json()["record"]["id"].as_str().unwrap().to_owned());
    assert_eq!(world.get(&key, "/api/v1/tools").await.status, StatusCode::OK);
    assert!(!world.get(&admin, "/api/v1/keys").await.body.contains(&key));
    assert_eq!(world.delete(&admin, &format!("/api/v1/keys/{id}")).await.status, StatusCode::OK);
    assert_eq!(world.get(&key, "/api/v1/tools").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn somebody_else_decides_and_once() {
    let (_vendor, world) = world("me.read").await;
    let (asker, other) = (world.admin("a").await, world.key("a", Role::Approver, &["*"]).await);
    let asked = world.post(&asker, "/api/v1/tools/acme_make_thing/execute", json!({ "connection": "acme-a", "params": { "name": "x" } })).await;
    let id = asked.json()["approval_id"].as_str().unwrap().to_owned();
    let own = world.post(&asker, &format!("/api/v1/approvals/{id}/approve"), json!({})).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{}", own.body);
    let yes = world.post(&other, &format!("/api/v1/approvals/{id}/approve"), json!({})).await;
    assert_eq!(yes.json()["state"], "approved", "{}", yes.body);
    let late = world.post(&other, &format!("/api/v1/approvals/{id}/deny"), json!({})).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.body);
    let elsewhere = world.key("a", Role::Approver, &["sales"]).await;
    assert_eq!(world.get(&elsewhere, &format!("/api/v1/approvals/{id}")).await.status, StatusCode::NOT_FOUND);
    let trail = world.get(&asker, "/api/v1/audit?operation=approvals.approve").await.json();
    let outcomes: Vec<&str> = trail.as_array().unwrap().iter().map(|one| one["record"]["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["intent", "refused", "intent", "ok"]);
}

/// Sets out for a sign-in: the vendor's address, the state, the cookie.
async fn set_out(world: &World, path: &str, key: Option<&str>) -> (Url, String, String) {
    let begun = world.send(Ask { method: "GET", path, key, ..Ask::default() }).await;
    assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
    let cookie = begun.header(header::SET_COOKIE).to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/oauth/callback"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(begun.header(header::REFERRER_POLICY), "no-referrer");
    assert_eq!(begun.header(header::CACHE_CONTROL), "no-store");
    let location = Url::parse(begun.header(header::LOCATION)).unwrap();
    let state = location.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    (location, state, cookie.split(';').next().unwrap().to_owned())
}

async fn come_back(world: &World, query: &str, cookie: Option<&str>) -> Answer {
    let answer = world.send(Ask { method: "GET", path: &format!("/oauth/callback?{query}"), cookie, ..Ask::default() }).await;
    silent(&answer);
    assert!(!answer.body.contains("<script"), "{}", answer.body);
    assert_eq!(answer.header(header::REFERRER_POLICY), "no-referrer");
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    assert!(answer.header(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'none'"));
    answer
}

#[tokio::test]
async fn a_link_connects_an_account_once_and_partial_consent_is_told() {
    let (vendor, world) = world("me.read").await;
    let operator = world.key("a", Role::Operator, &["*"]).await;
    let link = world
        .post(&operator, "/api/v1/connect/acme", json!({ "connection": "acme-a", "tools": ["acme_me", "acme_make_thing"], "next": "/done" }))
        .await;
    assert_eq!(link.status, StatusCode::CREATED, "{}", link.body);
    let url = link.json()["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(PUBLIC).unwrap();
    // A mail program that looks ahead does not use it up.
    let ahead = world.send(Ask { method: "HEAD", path, ..Ask::default() }).await;
    assert_eq!(ahead.status, StatusCode::NO_CONTENT);
    let (location, state, cookie) = set_out(&world, path, None).await;
    let query: std::collections::HashMap<_, _> = location.query_pairs().into_owned().collect();
    assert_eq!(query["redirect_uri"], format!("{PUBLIC}/oauth/callback"));
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["client_id"], "acme-app");
    let spent = world.send(Ask { method: "GET", path, ..Ask::default() }).await;
    assert_eq!(spent.status, StatusCode::NOT_FOUND, "a link is good once");
    let done = come_back(&world, &format!("code=good-code&state={state}"), Some(&cookie)).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    for part in ["less than was asked for", "things.write", "acme_make_thing", "href=\"/done\""] {
        assert!(done.body.contains(part), "no {part}: {}", done.body);
    }
    let again = come_back(&world, &format!("code=good-code&state={state}"), Some(&cookie)).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "a state is good once: {}", again.body);
    assert_eq!(vendor.0.lock().unwrap().tokens.len(), 1, "a code is exchanged once");
    let called = world.post(&operator, "/api/v1/tools/acme_me/execute", json!({ "connection": "acme-a" })).await;
    assert_eq!(called.json()["result"]["id"], "7", "{}", called.body);
    silent(&called);
    let proven = world.post(&operator, "/api/v1/connections/acme-a/validate", json!({})).await;
    assert_eq!(proven.json()["outcome"], "ok", "{}", proven.body);
    let diff = world.get(&operator, "/api/v1/connections/acme-a/scopes?tools=acme_make_thing").await;
    assert_eq!(diff.json()["missing"], json!(["things.write"]), "{}", diff.body);
    let gone = world.delete(&operator, "/api/v1/connections/acme-a").await;
    assert_eq!(gone.json()["tokens_destroyed"], true, "{}", gone.body);
}

#[tokio::test]
async fn answers_that_do_not_belong_are_refused_with_a_page_in_plain_words() {
    let (vendor, world) = world("me.read").await;
    let operator = world.key("a", Role::Operator, &["*"]).await;
    let begin = || set_out(&world, "/oauth/start/acme?connection=acme-a", Some(&operator));
    let (_, mine, my_cookie) = begin().await;
    let (_, other, other_cookie) = begin().await;
    let refused = |answer: Answer| {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
        assert!(answer.body.contains("Not connected") && answer.body.contains("What to do:"), "{}", answer.body);
    };
    // Another browser; no browser; another sign-in's cookie; no state; a made-up one; two.
    refused(come_back(&world, &format!("code=good-code&state={mine}"), Some("connectors_signin_0=x")).await);
    refused(come_back(&world, &format!("code=good-code&state={mine}"), None).await);
    refused(come_back(&world, &format!("code=good-code&state={mine}"), Some(&other_cookie)).await);
    refused(come_back(&world, "code=good-code", Some(&my_cookie)).await);
    refused(come_back(&world, &format!("code=good-code&state={}", "0".repeat(43)), Some(&my_cookie)).await);
    refused(come_back(&world, &format!("code=good-code&state={mine}&state={other}"), Some(&my_cookie)).await);
    assert!(vendor.0.lock().unwrap().tokens.is_empty(), "no code was exchanged");
    // The value of my cookie under the name of the other sign-in: the session is not the one that set out.
    let swapped = format!("{}={}", other_cookie.split_once('=').unwrap().0, my_cookie.split_once('=').unwrap().1);
    refused(come_back(&world, &format!("code=good-code&state={other}"), Some(&swapped)).await);
    // A refusal by the vendor, with words that would be markup.
    let (_, state, cookie) = begin().await;
    refused(come_back(&world, &format!("error=%3Cscript%3Ealert(1)%3C/script%3E&error_description=%3Cscript%3E&state={state}"), Some(&cookie)).await);
    // Two codes.
    let (_, state, cookie) = begin().await;
    refused(come_back(&world, &format!("code=good-code&code=other&state={state}"), Some(&cookie)).await);
    // A code the vendor does not take.
    let (_, state, cookie) = begin().await;
    let stolen = come_back(&world, &format!("code=bad-code&state={state}"), Some(&cookie)).await;
    assert!(!stolen.status.is_success(), "{}", stolen.body);
    let called = world.post(&operator, "/api/v1/tools/acme_me/execute", json!({ "connection": "acme-a" })).await;
    assert!(!called.status.is_success(), "nothing was stored: {}", called.body);
}

#[tokio::test]
async fn a_sign_in_starts_only_with_a_ticket_or_a_key_and_leads_nowhere_else() {
    let (_vendor, world) = world("me.read").await;
    let viewer = world.key("a", Role::Viewer, &["*"]).await;
    async fn start(world: &World, key: Option<&str>, path: &str) -> Answer {
        world.send(Ask { method: "GET", path, key, ..Ask::default() }).await
    }
    assert_eq!(start(&world, None, "/oauth/start/acme").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(start(&world, Some("ck_nobody"), "/oauth/start/acme").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(start(&world, Some(&viewer), "/oauth/start/acme").await.status, StatusCode::BAD_REQUEST);
    let operator = world.key("a", Role::Operator, &["*"]).await;
    for next in ["https://evil.example", "//evil.example", "/%5Cevil.example", "javascript:alert(1)"] {
        let answer = start(&world, Some(&operator), &format!("/oauth/start/acme?connection=acme-a&next={next}")).await;
        assert!(answer.status.is_client_error(), "{next}: {}", answer.body);
    }
    let unknown = world.post(&operator, "/api/v1/connect/acmee", json!({})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.body);
    let foreign = world.post(&operator, "/api/v1/connect/acme", json!({ "connection": "acme-b" })).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{}", foreign.body);
}
