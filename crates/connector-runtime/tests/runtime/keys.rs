//! Connecting with keys, connections that exist because their credential does, disconnecting, and what is told about scopes.

use connector_core::{ErrorKind, TenantId, webhook::RawWebhook};
use connector_runtime::{AuthState, CallRequest, CredentialCheck, HubConfig, Outcome, Runtime, config::CredentialConfig};
use connector_vault::CredentialState;
use http::{HeaderMap, Method};
use serde_json::{Map, json};

use crate::{
    fixture::{call, value},
    signin::{World, ask, back, connected, hub, secrets},
};

fn default_tenant() -> connector_runtime::ConnectAsk {
    ask("default")
}

#[tokio::test(start_paused = true)]
async fn a_key_is_stored_proven_and_makes_its_connection() {
    let world = World::new();
    let runtime = world.runtime(HubConfig::default()).await;
    let list = || CallRequest::new("crm_list", Map::new());
    let error = runtime.call(list()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);

    world.vendor.accept("good-canary");
    let report = runtime.connect_with(default_tenant(), secrets([("token", "good-canary")])).await.unwrap();
    assert_eq!((report.connection.as_str(), report.credential.as_str(), report.checked.as_deref()), ("crm", "crm", None));
    assert_eq!(value(&runtime, list()).await["id"], "1");
    let info = runtime.vault().unwrap().show(&TenantId::default(), "crm").await.unwrap();
    assert_eq!((info.scheme.as_deref(), info.owner.as_deref(), info.state), (Some("bearer"), Some("user:ada"), CredentialState::Active));

    // It is there again after a restart, also beside other connections that are written down.
    let again = world.runtime(hub()).await;
    assert_eq!(value(&again, list()).await["id"], "1");
    // And gone when it is taken apart.
    let gone = runtime.disconnect(&TenantId::default(), "crm").await.unwrap();
    assert!(gone.secrets_destroyed && !gone.tokens_destroyed && !gone.revoked_at_vendor, "{gone:?}");
    assert!(runtime.connections().is_empty());
    assert_eq!(runtime.disconnect(&TenantId::default(), "crm").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn another_process_sees_a_new_connection_at_its_next_look() {
    let world = World::new();
    let (one, two) = (world.runtime(HubConfig::default()).await, world.runtime(HubConfig::default()).await);
    world.vendor.accept("good-canary");
    one.connect_with(default_tenant(), secrets([("token", "good-canary")])).await.unwrap();
    assert!(two.connections().is_empty());
    two.tend_credentials().await.unwrap();
    assert_eq!(value(&two, CallRequest::new("crm_list", Map::new())).await["id"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_one_workspace_is_proven_for_that_workspace() {
    let world = World::new();
    let mut config = hub();
    config.connections.get_mut("main").unwrap().workspaces = vec!["sales".into()];
    let runtime = world.runtime(config).await;
    world.vendor.accept("good-canary");
    let report = runtime.connect_with(ask("acme"), secrets([("token", "good-canary")])).await.unwrap();
    assert_eq!(report.checked, None);
    let vault = runtime.vault().unwrap();
    assert_eq!(vault.show(&"acme".into(), "main").await.unwrap().workspaces, ["sales"]);
    assert_eq!(value(&runtime, call("crm_list", json!({})).workspace("sales")).await["id"], "1");
    // Both must say yes, and a credential that is not granted looks like one that is not there.
    vault.grant(&"acme".into(), "main", vec!["support".into()]).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    let error = runtime.call(call("crm_list", json!({})).workspace("sales")).await.unwrap_err();
    assert!(error.message().contains("there is no credential `main`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_is_stored_and_told() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    let report = runtime.connect_with(ask("acme"), secrets([("token", "bad-canary")])).await.unwrap();
    let why = report.checked.unwrap();
    assert!(why.contains("401") || why.contains("credential"), "{why}");
    assert!(!why.contains("bad-canary"));
    let checked = runtime.validate_credentials(&"acme".into(), "main").await.unwrap();
    assert_eq!((checked.outcome, checked.kind), (CredentialCheck::Refused, Some(ErrorKind::AuthExpired)));
    let health = async || runtime.health().await.into_iter().find(|health| health.connection == "main").unwrap().auth;
    assert_eq!(health().await, AuthState::Expired);

    world.vendor.accept("good-canary");
    let report = runtime.connect_with(ask("acme"), secrets([("token", "good-canary")])).await.unwrap();
    assert_eq!(report.checked, None);
    assert_eq!(health().await, AuthState::Ok);
    world.vendor.unreachable.store(true, std::sync::atomic::Ordering::SeqCst);
    let checked = runtime.validate_credentials(&"acme".into(), "main").await.unwrap();
    assert_eq!(checked.outcome, CredentialCheck::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn fields_must_be_those_of_one_way_to_authenticate() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    let refused = async |fields| runtime.connect_with(ask("acme"), fields).await.unwrap_err();
    let error = refused(secrets([("tokn", "x-canary")])).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("did you mean `token`") && !error.message().contains("canary"), "{error}");
    let error = refused(secrets([("client_id", "app")])).await;
    assert!(error.message().contains("`client_id` and `client_secret`"), "{error}");
    let error = refused(secrets([("token", "")])).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(runtime.vault().unwrap().list(&"acme".into()).await.unwrap().is_empty());

    // The client of an application is what a sign-in starts from; nothing is proven yet.
    let report = runtime.connect_with(ask("acme"), secrets([("client_id", "app"), ("client_secret", "client-canary")])).await.unwrap();
    assert!(report.note.unwrap().contains("comes next"));
    let health = runtime.health().await.into_iter().find(|health| health.connection == "main").unwrap();
    assert_eq!(health.auth, AuthState::Missing);
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    assert_eq!(runtime.finish_connect(back(&start)).await.unwrap().checked, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_holds_is_not_written_over() {
    let world = World::new();
    let mut config = hub();
    config.connections.get_mut("main").unwrap().credential = CredentialConfig::Fields([("token".into(), "${CRM}".into())].into());
    let builder = world.builder(config).await.env(|name| (name == "CRM").then(|| "file-canary".to_owned()));
    let runtime = builder.builtin("crm", crate::signin::manifest(), connector_manifest::Hooks::new()).build().await.unwrap();
    let error = runtime.connect_with(ask("acme"), secrets([("token", "x")])).await.unwrap_err();
    assert!(error.message().contains("hub.yaml"), "{error}");
    let done = runtime.disconnect(&"acme".into(), "main").await.unwrap();
    assert!(done.note.unwrap().contains("hub.yaml") && !done.secrets_destroyed);
}

#[tokio::test(start_paused = true)]
async fn disconnecting_tells_the_vendor_and_destroys_the_tokens() {
    let world = World::new();
    let runtime = connected(&world).await;
    let done = runtime.disconnect(&"acme".into(), "main").await.unwrap();
    assert!(done.revoked_at_vendor && done.tokens_destroyed && !done.secrets_destroyed, "{done:?}");
    let revoked = world.vendor.sent("/revoke");
    assert_eq!(revoked[0].1["token"], "rt-canary-1");
    let error = runtime.call(call("crm_list", json!({}))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::AuthExpired | ErrorKind::Config), "{error}");
    // The client stays, so that the account can be connected again.
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    assert_eq!(runtime.finish_connect(back(&start)).await.unwrap().checked, None);
    assert_eq!(value(&runtime, call("crm_list", json!({}))).await["id"], "1");

    // A vendor that cannot be told keeps nothing alive here.
    world.vendor.unreachable.store(true, std::sync::atomic::Ordering::SeqCst);
    let done = runtime.disconnect(&"acme".into(), "main").await.unwrap();
    assert!(!done.revoked_at_vendor && done.tokens_destroyed && done.note.unwrap().contains("could not be told"));
}

#[tokio::test(start_paused = true)]
async fn the_least_scopes_follow_from_the_tools() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    let report = runtime.scopes(&["crm_list".into(), "crm_create".into(), "crm_me".into()]).unwrap();
    let of = &report.connectors[0];
    assert_eq!((of.connector.as_str(), of.scheme.as_deref()), ("crm", Some("authorization_code")));
    assert_eq!(of.scopes, ["contacts.read", "contacts.write", "offline_access"]);
    assert_eq!(of.undeclared, ["crm_me"]);
    let error = runtime.scopes(&["crm_lits".into()]).unwrap_err();
    assert!(error.message().contains("crm_list"), "{error}");

    // Nobody knows what a private token may.
    world.vendor.accept("good-canary");
    runtime.connect_with(ask("acme"), secrets([("token", "good-canary")])).await.unwrap();
    let diff = runtime.scope_diff(&"acme".into(), "main", &[]).await.unwrap();
    assert!(diff.unknown && diff.missing.is_empty() && diff.unusable_tools.is_empty(), "{diff:?}");
}

async fn deliver(runtime: &Runtime, secret: &str, id: &str) -> Outcome {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {secret}").parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    let body = bytes::Bytes::from(json!({ "id": id, "event": "contact.changed" }).to_string());
    let url = "https://hub.example/api/v1/webhooks/crm/default";
    let raw = RawWebhook { method: &Method::POST, url, query: "", headers: &headers, body: &body };
    runtime.receive(&"acme".into(), "crm", "default", raw).await.outcome
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_proven_by_the_secret_in_the_vault_in_both_versions() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    assert_eq!(deliver(&runtime, "hook-1", "0").await, Outcome::NotFound);
    world.vendor.accept("good-canary");
    let fields = secrets([("token", "good-canary"), ("webhook_secret", "hook-1")]);
    runtime.connect_with(ask("acme"), fields).await.unwrap();
    assert_eq!(deliver(&runtime, "hook-1", "1").await, Outcome::Accepted);
    assert_eq!(deliver(&runtime, "hook-2", "2").await, Outcome::WrongProof);

    runtime.rotate_credential(&"acme".into(), "main", Some(secrets([("webhook_secret", "hook-2")])), None).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert_eq!(deliver(&runtime, "hook-2", "3").await, Outcome::Accepted);
    assert_eq!(deliver(&runtime, "hook-1", "4").await, Outcome::Accepted);
    tokio::time::advance(connector_runtime::OVERLAP).await;
    assert_eq!(deliver(&runtime, "hook-1", "5").await, Outcome::WrongProof);
    assert_eq!(deliver(&runtime, "hook-2", "6").await, Outcome::Accepted);

    // A new key does not take the webhook's secret away.
    runtime.connect_with(ask("acme"), secrets([("token", "good-canary")])).await.unwrap();
    assert_eq!(deliver(&runtime, "hook-2", "7").await, Outcome::Accepted);
    let used = runtime.who_used(&"acme".into(), "main", 0).await.unwrap();
    assert!(used.iter().any(|entry| &*entry.record.operation == "webhook.verify"), "{used:?}");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_not_given_up_because_the_key_service_is_away() {
    let world = World::new();
    let runtime = world.runtime(hub()).await;
    world.vendor.accept("good-canary");
    runtime.connect_with(ask("acme"), secrets([("token", "good-canary"), ("webhook_secret", "hook-1")])).await.unwrap();
    let fresh = world.runtime(hub()).await;
    world.key_away.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(deliver(&fresh, "hook-1", "1").await, Outcome::NotPersisted);
    world.key_away.store(false, std::sync::atomic::Ordering::SeqCst);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    assert_eq!(deliver(&fresh, "hook-1", "1").await, Outcome::Accepted);
}

#[tokio::test(start_paused = true)]
async fn another_tenants_id_looks_like_a_missing_one_everywhere() {
    let world = World::new();
    let runtime = connected(&world).await;
    crate::signin::with_client(&runtime, "globex", "rival").await;
    let us = TenantId::from("acme");
    let lines = async |id: &'static str| {
        let with = |connection: &str| connector_runtime::ConnectAsk { connection: Some(connection.into()), ..ask("acme") };
        let kind = |error: connector_core::Error| format!("{:?} {error}", error.kind()).replace(id, "ID");
        vec![
            ("connection", kind(runtime.connection(&us, id).unwrap_err())),
            ("check", kind(runtime.check(&us, id).await.unwrap_err())),
            ("call", kind(runtime.call(call("crm_list", json!({})).connection(id)).await.unwrap_err())),
            ("begin_connect", kind(runtime.begin_connect(with(id)).await.unwrap_err())),
            ("begin_device", kind(runtime.begin_device(with(id)).await.unwrap_err())),
            ("connect_with", kind(runtime.connect_with(with(id), secrets([("token", "x")])).await.unwrap_err())),
            ("disconnect", kind(runtime.disconnect(&us, id).await.unwrap_err())),
            ("scope_diff", kind(runtime.scope_diff(&us, id, &[]).await.unwrap_err())),
            ("validate_credentials", kind(runtime.validate_credentials(&us, id).await.unwrap_err())),
            ("rotate", kind(runtime.rotate_credential(&us, id, None, None).await.unwrap_err())),
            ("rotate with", kind(runtime.rotate_credential(&us, id, Some(secrets([("token", "x")])), None).await.unwrap_err())),
            ("who_used", format!("{:?}", runtime.who_used(&us, id, 0).await.unwrap())),
            ("approval", kind(runtime.approval(&us, id).await.unwrap_err())),
            ("approve", kind(runtime.approve(&us, id, &connector_core::Actor::System, connector_runtime::Role::Admin).await.unwrap_err())),
            ("deny", kind(runtime.deny(&us, id, &connector_core::Actor::System, connector_runtime::Role::Admin).await.unwrap_err())),
            ("webhook_url", format!("{:?}", runtime.webhook_url(&us, "crm", "default"))),
        ]
    };
    let (foreign, missing) = (lines("rival").await, lines("nobody").await);
    for (foreign, missing) in foreign.iter().zip(&missing) {
        assert_eq!(foreign, missing);
    }
    // Dead letters have numbers: a foreign one is answered as one that was never given.
    let job = connector_core::state::NewJob {
        tenant: "globex".into(),
        workspace: "default".into(),
        queue: "outbox".into(),
        subject: "x".into(),
        key: None,
        order_key: None,
        payload: "{}".into(),
        not_before: 0,
        max_attempts: 1,
    };
    let error = connector_core::state::JobError { kind: ErrorKind::Transient, message: String::new() };
    let id = world.store.bury_new(job, error).await.unwrap();
    let never = connector_core::state::JobId(id.0 + 1_000);
    for id in [id, never] {
        assert!(!runtime.retry_dead_letter(&us, id).await.unwrap());
        assert!(!runtime.discard_dead_letter(&us, id).await.unwrap());
    }
    assert!(runtime.dead_letters(&us, connector_core::state::JobFilter::default()).await.unwrap().is_empty());
}
