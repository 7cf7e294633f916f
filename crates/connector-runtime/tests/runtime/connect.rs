//! Signing in with a browser, as a hub would use it.

use std::time::Duration;

use connector_core::{
    ErrorKind, TenantId,
    state::{AuditFilter, AuditOutcome, Namespace},
};
use connector_runtime::{AuthState, ConnectBack, HubConfig, Role, Runtime, STATE_TTL, config::CredentialConfig};
use serde_json::json;

use crate::{
    fixture::{call, value},
    signin::{CALLBACK, World, ask, back, connected, hub, with_client},
};

async fn finishes(runtime: &Runtime, tenant: &str) -> Vec<AuditOutcome> {
    let filter = AuditFilter { operation: Some("connect.finish".into()), ..AuditFilter::default() };
    runtime.audit_tail(&TenantId::from(tenant), filter).await.unwrap().into_iter().map(|entry| entry.record.outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn a_person_signs_in_and_calls_go_through() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    let query: std::collections::HashMap<_, _> = start.authorize_url.query_pairs().into_owned().collect();
    assert_eq!(start.authorize_url.host_str(), Some("id.example"));
    assert_eq!(
        (query["client_id"].as_str(), query["redirect_uri"].as_str(), query["scope"].as_str()),
        ("app", CALLBACK, "offline_access contacts.read")
    );
    assert_eq!((query["state"].as_str(), query["code_challenge_method"].as_str()), (start.state.as_str(), "S256"));
    assert_eq!(start.scopes, ["offline_access", "contacts.read"]);

    let report = runtime.finish_connect(back(&start)).await.unwrap();
    assert_eq!((report.connection.as_str(), report.credential.as_str(), report.next.as_deref()), ("main", "main", Some("/connections")));
    assert_eq!((report.checked.as_deref(), report.note.as_deref()), (None, None));
    assert!(report.missing.is_empty() && report.unusable_tools.is_empty(), "{report:?}");
    let sent = world.vendor.sent("/token");
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].1["code"].as_str(), sent[0].1["redirect_uri"].as_str()), ("code-canary", CALLBACK));
    assert!(sent[0].1["code_verifier"].len() >= 43);

    assert_eq!(value(&runtime, call("crm_list", json!({}))).await["id"], "1");
    let info = runtime.vault().unwrap().show(&"acme".into(), "main").await.unwrap();
    assert_eq!(info.scheme.as_deref(), Some("authorization_code"));
    assert_eq!(info.scopes, ["offline_access", "contacts.read"]);
    assert_eq!(finishes(&runtime, "acme").await, [AuditOutcome::Intent, AuditOutcome::Ok]);
    let health = runtime.health().await.into_iter().find(|health| health.connection == "main").unwrap();
    assert_eq!(health.auth, AuthState::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_belong_to_its_question_is_told_nothing() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    type Change = Box<dyn Fn(&mut ConnectBack)>;
    let cases: Vec<(&str, Change)> = vec![
        ("another session", Box::new(|back| back.session = "session-2".into())),
        ("no session", Box::new(|back| back.session = String::new())),
        ("another address", Box::new(|back| back.redirect_uri = "http://127.0.0.1:9/callback".into())),
        ("another state", Box::new(|back| back.query[1].1 = "x".repeat(43))),
        ("no state", Box::new(|back| back.query.truncate(1))),
        ("two states", Box::new(move |back| back.query.push(("state".into(), back.query[1].1.clone())))),
        ("two codes", Box::new(move |back| back.query.push(pair("code", "other")))),
        ("code and error", Box::new(move |back| back.query.push(pair("error", "access_denied")))),
        ("neither", Box::new(|back| back.query.remove(0).0.clear())),
    ];
    let mut told = std::collections::BTreeSet::new();
    for (name, change) in &cases {
        let start = runtime.begin_connect(ask("acme")).await.unwrap();
        let mut answer = back(&start);
        change(&mut answer);
        let error = runtime.finish_connect(answer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        told.insert(error.to_string());
    }
    // Too late.
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    tokio::time::advance(STATE_TTL).await;
    told.insert(runtime.finish_connect(back(&start)).await.unwrap_err().to_string());
    // Once more.
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    runtime.finish_connect(back(&start)).await.unwrap();
    told.insert(runtime.finish_connect(back(&start)).await.unwrap_err().to_string());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told.first().unwrap().contains("start again"));
    assert_eq!(world.vendor.sent("/token").len(), 1, "only the believed one was exchanged");
    // On record with the tenant it belongs to, or with the hub's own where nobody knows.
    let refused = |outcomes: Vec<AuditOutcome>| outcomes.into_iter().filter(|outcome| *outcome == AuditOutcome::Refused).count();
    assert_eq!(refused(finishes(&runtime, "acme").await) + refused(finishes(&runtime, "default").await), cases.len() + 2);
    assert!(refused(finishes(&runtime, "globex").await) == 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_answer_uses_the_state_up() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    let stolen = ConnectBack { session: "thief".into(), ..back(&start) };
    runtime.finish_connect(stolen).await.unwrap_err();
    runtime.finish_connect(back(&start)).await.unwrap_err();
    assert!(world.vendor.sent("/token").is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_64_answers_one_is_exchanged() {
    let world = World::new();
    let (one, two) = (world.runtime(hub()).await, world.runtime(hub()).await);
    with_client(&one, "acme", "main").await;
    let start = one.begin_connect(ask("acme")).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let (runtime, answer) = (if n % 2 == 0 { one.clone() } else { two.clone() }, back(&start));
            tokio::spawn(async move { runtime.finish_connect(answer).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!((won, world.vendor.sent("/token").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_granted_is_told_with_the_tools_it_costs() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    *world.vendor.grants.lock().unwrap() = Some("contacts.read extra.read".into());
    let mut question = ask("acme");
    question.tools.push("crm_create".into());
    let start = runtime.begin_connect(question).await.unwrap();
    let report = runtime.finish_connect(back(&start)).await.unwrap();
    assert_eq!(report.granted, ["contacts.read", "extra.read"]);
    assert_eq!(report.missing, ["contacts.write"]);
    assert_eq!(report.unusable_tools, ["crm_create"]);

    let diff = runtime.scope_diff(&"acme".into(), "main", &["crm_list".into()]).await.unwrap();
    assert!(diff.missing.is_empty() && diff.unusable_tools.is_empty() && !diff.unknown, "{diff:?}");
    assert_eq!(diff.too_much, ["extra.read"]);
    let checked = runtime.validate_credentials(&"acme".into(), "main").await.unwrap();
    assert_eq!(checked.outcome, connector_runtime::CredentialCheck::Ok);
    assert_eq!((checked.missing, checked.unusable_tools), (vec!["contacts.write".to_owned()], vec!["crm_create".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_vendor_is_told_without_its_tricks() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    let mut answer = back(&start);
    answer.query[0] = ("error".into(), "access_denied".into());
    answer.query.push(("error_description".into(), "no\r\n\u{1b}[31m token=ya29.abcdefghijklmnopqrstuvwxyz0123456789".into()));
    let error = runtime.finish_connect(answer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("access_denied") && error.message().contains("declined"), "{error}");
    assert!(!error.message().contains(['\r', '\n', '\u{1b}']) && !error.message().contains("ya29.abc"), "{error}");
    assert_eq!(finishes(&runtime, "acme").await, [AuditOutcome::Refused]);
    // A state that was answered with a refusal is used up, too.
    assert!(runtime.finish_connect(back(&start)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_may_connect_where_to_and_with_what_is_checked_first() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    let unknown = runtime.begin_connect(ask("acme")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Config);
    assert!(unknown.message().contains("client id") && unknown.message().contains("`main`"), "{unknown}");
    with_client(&runtime, "acme", "main").await;
    let refused = async |change: &dyn Fn(&mut connector_runtime::ConnectAsk)| {
        let mut ask = ask("acme");
        change(&mut ask);
        runtime.begin_connect(ask).await.unwrap_err().kind()
    };
    assert_eq!(refused(&|ask| ask.role = Role::Viewer).await, ErrorKind::Denied);
    assert_eq!(refused(&|ask| ask.redirect_uri = "https://evil.example/oauth/callback".into()).await, ErrorKind::Invalid);
    assert_eq!(refused(&|ask| ask.next = Some("//evil.example".into())).await, ErrorKind::Invalid);
    assert_eq!(refused(&|ask| ask.session.clear()).await, ErrorKind::Invalid);
    assert_eq!(refused(&|ask| ask.connection = Some("rival".into())).await, ErrorKind::NotFound);
    assert_eq!(refused(&|ask| ask.tools = vec!["crm_nothing".into()]).await, ErrorKind::Unsupported);
    assert!(world.vendor.sent("").is_empty());

    let without = Runtime::builder().config(hub()).env(|_| None).builtin("crm", crate::signin::manifest(), connector_manifest::Hooks::new());
    let error = without.build().await.unwrap().begin_connect(ask("acme")).await.unwrap_err();
    assert!(error.message().contains("needs a vault"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn neither_state_nor_session_nor_verifier_lie_in_the_store() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    let tenant = TenantId::from("$hub");
    let rows = world.store.scan(Namespace::new(&tenant, "connect"), "", None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    let row = format!("{}{}", rows[0].0, String::from_utf8_lossy(&rows[0].1.value));
    assert!(!row.contains(&start.state) && !row.contains("session-1"), "{row}");
    runtime.finish_connect(back(&start)).await.unwrap();
    let verifier = world.vendor.sent("/token")[0].1["code_verifier"].clone();
    assert!(!row.contains(&verifier));
    assert!(world.store.scan(Namespace::new(&tenant, "connect"), "", None, 10).await.unwrap().is_empty());
    let shown = format!("{start:?} {:?} {:?}", back(&start), ask("acme"));
    assert!(!shown.contains(&start.state) && !shown.contains("code-canary") && !shown.contains("session-1"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_exchange_leaves_what_was_there() {
    let world = World::new();
    let runtime = connected(&world).await;
    *world.vendor.refuses.lock().unwrap() = Some((400, "invalid_grant"));
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    let error = runtime.finish_connect(back(&start)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthExpired);
    assert_eq!(finishes(&runtime, "acme").await.last(), Some(&AuditOutcome::Failed));
    assert_eq!(value(&runtime, call("crm_list", json!({}))).await["id"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_client_in_the_configuration_stays_there_and_its_tokens_outlive_the_process() {
    let world = World::new();
    let mut config = hub();
    let fields = [("client_id", "app"), ("client_secret", "${CRM_SECRET}")].map(|(field, value)| (field.to_owned(), value.to_owned()));
    config.connections.get_mut("main").unwrap().credential = CredentialConfig::Fields(fields.into());
    let build = async |config: HubConfig| {
        let builder = world.builder(config).await.env(|name| (name == "CRM_SECRET").then(|| "client-canary".to_owned()));
        builder.builtin("crm", crate::signin::manifest(), connector_manifest::Hooks::new()).build().await.unwrap()
    };
    let runtime = build(config.clone()).await;
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    let report = runtime.finish_connect(back(&start)).await.unwrap();
    assert_eq!(report.checked, None);
    assert_eq!(runtime.vault().unwrap().show(&"acme".into(), "main").await.unwrap().fields, ["client_id"]);
    drop(runtime);

    let runtime = build(config).await;
    assert_eq!(value(&runtime, call("crm_list", json!({}))).await["id"], "1");
    // An hour later it renews with the client of the configuration.
    tokio::time::advance(Duration::from_secs(3_700)).await;
    assert_eq!(value(&runtime, call("crm_list", json!({}))).await["id"], "1");
    let sent = world.vendor.sent("/token");
    assert_eq!((sent.len(), sent[1].1["grant_type"].as_str(), sent[1].1["client_secret"].as_str()), (2, "refresh_token", "client-canary"));
}

#[tokio::test(start_paused = true)]
async fn a_device_is_connected_by_a_code() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    let start = runtime.begin_device(ask("acme")).await.unwrap();
    assert_eq!((start.user_code.as_str(), start.interval, start.verification_uri.as_str()), ("WDJB-MJHT", 5, "https://id.example/go"));
    let shown = format!("{start:?} {}", serde_json::to_string(&start).unwrap());
    assert!(!shown.contains("device-canary"), "{shown}");
    *world.vendor.refuses.lock().unwrap() = Some((400, "authorization_pending"));
    let waiting = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.finish_device(start).await }
    });
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(!waiting.is_finished());
    *world.vendor.refuses.lock().unwrap() = None;
    let report = waiting.await.unwrap().unwrap();
    assert_eq!((report.checked.as_deref(), report.connection.as_str()), (None, "main"));
    assert_eq!(value(&runtime, call("crm_list", json!({}))).await["id"], "1");
    assert_eq!(runtime.vault().unwrap().show(&"acme".into(), "main").await.unwrap().scheme.as_deref(), Some("device_code"));
}

#[tokio::test(start_paused = true)]
async fn after_connecting_again_every_process_uses_the_new_tokens() {
    let world = World::new();
    let one = connected(&world).await;
    let two = world.runtime(hub()).await;
    two.tend_credentials().await.unwrap();
    for runtime in [&one, &two] {
        value(runtime, call("crm_list", json!({}))).await;
    }
    let start = one.begin_connect(ask("acme")).await.unwrap();
    one.finish_connect(back(&start)).await.unwrap();
    world.vendor.forget("at-canary-1");
    let calls = || world.vendor.sent("/contacts").len();
    let before = calls();
    value(&one, call("crm_list", json!({}))).await;
    assert_eq!(calls(), before + 1, "at once where it was connected");
    two.tend_credentials().await.unwrap();
    value(&two, call("crm_list", json!({}))).await;
    assert_eq!(calls(), before + 2, "at the next look elsewhere, without a refusal");
}
