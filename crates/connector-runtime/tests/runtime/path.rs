//! The order of the stages, shown by what a call refused at each of them leaves behind; access; secrets.

use connector_core::{
    Actor, ErrorKind, OpReply, TenantId,
    state::{AuditFilter, AuditOutcome},
};
use connector_runtime::{
    AuthState, CallOutcome, HealthState, HubConfig, Role, Runtime,
    config::{CredentialConfig, PolicyConfig, WebhookConfig, Writes},
};
use serde_json::json;

use crate::fixture::{Scripted, Step, call, config, connection, runtime, runtime_with, value};

async fn trail(runtime: &Runtime) -> Vec<(String, AuditOutcome, Option<String>)> {
    let tail = runtime.audit_tail(&TenantId::from("acme"), AuditFilter::default()).await.unwrap();
    tail.into_iter().map(|entry| (entry.record.operation.to_string(), entry.record.outcome, entry.record.error)).collect()
}

#[tokio::test(start_paused = true)]
async fn each_stage_stands_before_the_next() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let viewer = |request: connector_runtime::CallRequest| request.by(Actor::User("eve".into()), Role::Viewer);

    // Access before validation: a viewer's wrong arguments are not even looked at.
    let error = runtime.call(viewer(call("crm_delete", json!({ "nonsense": 1 })))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    // Validation before approval: wrong arguments ask nobody.
    let error = runtime.call(call("crm_delete", json!({ "id": 5 }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(runtime.approvals(&"acme".into()).await.unwrap().is_empty());
    // Approval before idempotency: a question does not hold the key.
    let keyed = || call("crm_delete", json!({ "id": "1" })).idempotency_key("k");
    for _ in 0..2 {
        assert!(matches!(runtime.call(keyed()).await.unwrap(), CallOutcome::PendingApproval { .. }));
    }
    // Idempotency before the outbox and the connector: the second call is answered from the record.
    let update = || call("crm_update", json!({ "id": "1" })).idempotency_key("u");
    assert_eq!(value(&runtime, update()).await, value(&runtime, update()).await);
    assert_eq!(connector.sent("crm_update"), 1);
    // Audit around all of it: refusals are on record, and the intent stands before the outcome.
    let expected = [
        ("crm_delete", AuditOutcome::Refused, Some("denied")),
        ("crm_delete", AuditOutcome::Refused, Some("invalid")),
        ("crm_delete", AuditOutcome::Refused, Some("approval_required")),
        ("crm_delete", AuditOutcome::Refused, Some("approval_required")),
        ("crm_update", AuditOutcome::Ok, None),
    ];
    let trail = trail(&runtime).await;
    for (operation, outcome, error) in expected {
        assert!(trail.contains(&(operation.into(), outcome, error.map(str::to_owned))), "{operation} {outcome:?} {error:?} in {trail:?}");
    }
    let updates: Vec<AuditOutcome> = trail.iter().filter(|(operation, ..)| operation == "crm_update").map(|(_, outcome, _)| *outcome).collect();
    assert_eq!(updates[..2], [AuditOutcome::Intent, AuditOutcome::Ok]);
    assert!(connector.seen().iter().all(|seen| seen.operation == "crm_update"));
}

#[tokio::test(start_paused = true)]
async fn another_tenants_connection_looks_like_a_missing_one() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let refused = async |id: &str| runtime.call(call("crm_get", json!({ "id": "1" })).connection(id)).await.unwrap_err();
    let foreign = refused("rival").await;
    let missing = refused("nobody").await;
    assert_eq!(foreign.kind(), ErrorKind::NotFound);
    assert_eq!(foreign.to_string().replace("rival", "nobody"), missing.to_string());
    assert_eq!(
        runtime.connection(&"acme".into(), "rival").unwrap_err().to_string().replace("rival", "nobody"),
        runtime.connection(&"acme".into(), "nobody").unwrap_err().to_string()
    );
    assert!(connector.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn grants_and_roles_decide_who_may() {
    let connector = Scripted::new();
    let mut config = config(PolicyConfig::default());
    config.connections.insert("sales".into(), connection("acme", &["ws_sales"]));
    config.connections.insert("readonly".into(), {
        let mut connection = connection("acme", &["ws_audit"]);
        connection.policy = PolicyConfig { writes: Some(Writes::Deny), ..PolicyConfig::default() };
        connection
    });
    config.connections.remove("main");
    let runtime = runtime_with(connector.clone(), config).await;
    let get = || call("crm_get", json!({ "id": "1" }));

    let error = runtime.call(get().connection("sales")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("not granted to workspace `default`"), "{error}");
    let error = runtime.call(get()).await.unwrap_err();
    assert!(error.message().contains("workspace `default` has no connection of `crm`"), "{error}");
    assert_eq!(value(&runtime, get().workspace("ws_sales")).await["id"], "1");

    let write = || call("crm_update", json!({ "id": "1" }));
    let error = runtime.call(write().workspace("ws_audit")).await.unwrap_err();
    assert!(error.message().contains("refused by policy"), "{error}");
    for (role, allowed) in [(Role::Viewer, false), (Role::Operator, true), (Role::Approver, true), (Role::Admin, true)] {
        let result = runtime.call(write().workspace("ws_sales").by(Actor::User("u".into()), role)).await;
        assert_eq!(result.is_ok(), allowed, "{role}");
    }
    assert_eq!(runtime.stats().denied, 3);
}

#[tokio::test(start_paused = true)]
async fn of_several_connections_one_must_be_named() {
    let connector = Scripted::new();
    let mut config = config(PolicyConfig::default());
    config.connections.insert("second".into(), connection("acme", &["*"]));
    let runtime = runtime_with(connector, config).await;
    let error = runtime.call(call("crm_get", json!({ "id": "1" }))).await.unwrap_err();
    assert!(error.message().contains("`main`, `second`; say which with `connection`"), "{error}");
    assert_eq!(value(&runtime, call("crm_get", json!({ "id": "1" })).connection("second")).await["id"], "1");
}

#[tokio::test(start_paused = true)]
async fn wrong_arguments_are_named_and_never_shown() {
    let runtime = runtime(&Scripted::new()).await;
    let refused = async |params| runtime.call(call("crm_create", params)).await.unwrap_err().message().to_owned();
    insta::assert_snapshot!(
        [
            refused(json!({ "email": "s3cret@x.y", "amount": "s3cret" })).await,
            refused(json!({ "emial": "s3cret" })).await,
            refused(json!({ "email": ["s3cret"] })).await,
            refused(json!({})).await,
            runtime.call(call("crm_updat", json!({}))).await.unwrap_err().message().to_owned(),
        ]
        .join("\n"),
        @r"
    `amount` must be an integer
    there is no parameter `emial`; did you mean `email`?; the parameter `email` is missing: The email
    `email` must be a string
    the parameter `email` is missing: The email
    there is no tool `crm_updat`; did you mean `crm_update`?
    "
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_audit_trail_refuses_writes_and_not_reads() {
    let connector = Scripted::new();
    let clock = crate::fixture::TestClock::shared();
    let store = std::sync::Arc::new(crate::outbox::NoAudit(connector_state::MemoryState::new(clock.clone())));
    let runtime = crate::fixture::runtime_over(connector.clone(), config(PolicyConfig::default()), clock, store).await;
    let error = runtime.call(call("crm_create", json!({ "email": "a@b.c" })).idempotency_key("k")).await.unwrap_err();
    assert!(error.message().contains("audit trail cannot be written"), "{error}");
    assert!(connector.seen().is_empty());
    assert_eq!(value(&runtime, call("crm_get", json!({ "id": "1" }))).await["id"], "1");
}

#[tokio::test(start_paused = true)]
async fn health_tells_what_was_seen() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let of = async |id: &str| runtime.health().await.into_iter().find(|health| health.connection == id).unwrap();
    assert_eq!((of("main").await.state, of("main").await.auth), (HealthState::Unknown, AuthState::None));
    connector.script("crm_get", [Step::Slow(std::time::Duration::from_millis(40), json!({}))]);
    value(&runtime, call("crm_get", json!({ "id": "1" }))).await;
    let health = of("main").await;
    assert_eq!((health.state, health.calls, health.p50_ms), (HealthState::Ok, 1, Some(40)));
    connector.script("crm_find", [Step::Fail(ErrorKind::AuthExpired), Step::Fail(ErrorKind::AuthExpired)]);
    runtime.call(call("crm_find", json!({ "email": "a@b.c" }))).await.unwrap_err();
    let health = of("main").await;
    assert_eq!(health.error_rate, 0.5);
    assert_eq!(health.last_error.unwrap().kind, ErrorKind::AuthExpired);
    assert_eq!(of("rival").await.state, HealthState::Unknown);
}

#[tokio::test(start_paused = true)]
async fn retries_are_counted_by_the_class_that_caused_them() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    connector.script("crm_find", [Step::Fail(ErrorKind::Transient), Step::Fail(ErrorKind::Throttled), Step::Ok(json!({}))]);
    value(&runtime, call("crm_find", json!({ "email": "a@b.c" }))).await;
    connector.script("crm_find", std::iter::repeat_n(Step::Fail(ErrorKind::Transient), 3));
    runtime.call(call("crm_find", json!({ "email": "b@b.c" }))).await.unwrap_err();
    // A repeat of the same words by the caller is a new call, not a retry.
    value(&runtime, call("crm_find", json!({ "email": "b@b.c" }))).await;
    connector.script("crm_find", [Step::Slow(std::time::Duration::from_secs(3_600), json!({})), Step::Ok(json!({}))]);
    value(&runtime, call("crm_find", json!({ "email": "c@b.c" }))).await;
    let stats = runtime.stats();
    let retries: Vec<(&str, u64)> = stats.retries.iter().map(|(class, count)| (class.as_str(), *count)).collect();
    assert_eq!(retries, [("throttled", 1), ("timeout", 1), ("transient", 3)]);
    assert_eq!((stats.calls, stats.throttled_waits), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_what_can_be_printed() {
    let mut config: HubConfig = config(PolicyConfig::default());
    let main = config.connections.get_mut("main").unwrap();
    main.credential = CredentialConfig::Fields([("token".to_owned(), "${CRM_TOKEN}".to_owned())].into());
    main.base_url = Some("https://crm.example".into());
    main.webhook = Some(WebhookConfig { secrets: vec!["${CRM_HOOK}".into()], public_url: None });
    let connector = Scripted::new();
    let builder =
        Runtime::builder().connector(connector).config(config.clone()).env(|name| name.starts_with("CRM_").then(|| format!("canary-{name}")));
    let shown = format!("{builder:?}");
    let runtime = builder.build().await.unwrap();
    let reply = runtime.call(call("crm_get", json!({ "id": "1" }))).await.unwrap();
    let all = format!("{shown} {runtime:?} {config:?} {:?} {:?} {:?} {reply:?}", runtime.connections(), runtime.health().await, runtime.stats());
    assert!(!all.contains("canary"), "{all}");
    let plain = CredentialConfig::Fields([("token".to_owned(), "canary".to_owned())].into());
    let hook = WebhookConfig { secrets: vec!["canary".into()], public_url: None };
    assert!(!format!("{plain:?} {hook:?}").contains("canary"));
    let request = call("crm_get", json!({ "id": "canary" }));
    assert!(!format!("{request:?}").contains("canary"));
    drop::<Option<OpReply>>(reply.into_reply());
}
