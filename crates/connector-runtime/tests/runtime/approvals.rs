//! Approvals: bound to one exact write, used once, given by somebody else.

use std::time::Duration;

use connector_core::{Actor, ErrorKind, TenantId};
use connector_runtime::{
    ApprovalState, CallOutcome, CallRequest, Role, Runtime,
    config::{PolicyConfig, Writes},
};
use serde_json::json;

use crate::fixture::{Scripted, call, config, connection, runtime, runtime_with};

fn acme() -> TenantId {
    "acme".into()
}

fn ada() -> Actor {
    Actor::User("ada".into())
}

fn boss() -> Actor {
    Actor::User("boss".into())
}

fn delete() -> CallRequest {
    call("crm_delete", json!({ "id": "7" })).by(ada(), Role::Operator)
}

async fn pending(runtime: &Runtime, request: CallRequest) -> String {
    match runtime.call(request).await.unwrap() {
        CallOutcome::PendingApproval { approval_id, expires_at } => {
            assert_eq!(expires_at, 1_800_000_000 + 900);
            approval_id
        }
        other => panic!("expected a question, got {other:?}"),
    }
}

async fn needs_one(runtime: &Runtime, request: CallRequest) -> bool {
    matches!(runtime.call(request).await.unwrap(), CallOutcome::PendingApproval { .. })
}

#[tokio::test(start_paused = true)]
async fn an_approval_is_given_by_somebody_else_and_used_once() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let id = pending(&runtime, delete()).await;
    assert_eq!(pending(&runtime, delete()).await, id, "the same question is asked once");

    assert_eq!(runtime.approve(&acme(), &id, &boss(), Role::Operator).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(runtime.approve(&acme(), &id, &ada(), Role::Admin).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(runtime.approve(&"globex".into(), &id, &boss(), Role::Approver).await.unwrap_err().kind(), ErrorKind::NotFound);
    let approval = runtime.approve(&acme(), &id, &boss(), Role::Approver).await.unwrap();
    assert_eq!((approval.state, approval.decided_by.as_deref()), (ApprovalState::Approved, Some("user:boss")));
    assert_eq!(runtime.approve(&acme(), &id, &boss(), Role::Approver).await.unwrap_err().kind(), ErrorKind::Conflict);

    assert!(matches!(runtime.call(delete()).await.unwrap(), CallOutcome::Done(_)));
    assert_eq!(runtime.approval(&acme(), &id).await.unwrap().state, ApprovalState::Used);
    let second = pending(&runtime, delete()).await;
    assert_ne!(second, id);
    assert_eq!(connector.sent("crm_delete"), 1);
}

#[tokio::test(start_paused = true)]
async fn approval_mutate_each_field() {
    let connector = Scripted::new();
    let mut config = config(PolicyConfig { writes: Some(Writes::Approve), ..PolicyConfig::default() });
    config.connections.insert("second".into(), connection("acme", &["*"]));
    let runtime = runtime_with(connector.clone(), config).await;
    let update = |id: &str| call("crm_update", json!({ "id": id, "name": "n" })).by(ada(), Role::Operator).connection("main");
    let id = pending(&runtime, update("1")).await;
    runtime.approve(&acme(), &id, &boss(), Role::Approver).await.unwrap();

    let mut renamed = update("1");
    renamed.params.insert("name".into(), json!("m"));
    let mut shorter = update("1");
    shorter.params.remove("name");
    let mut other_tool = update("1");
    other_tool.tool = "crm_delete".into();
    other_tool.params.remove("name");
    let mut tenant = update("1").tenant("globex");
    tenant.connection = None;
    let mutations = [
        update("2"),
        renamed,
        shorter,
        other_tool,
        tenant,
        update("1").connection("second"),
        update("1").workspace("other"),
        update("1").by(Actor::User("eve".into()), Role::Operator),
        update("1").by(Actor::Agent("ada".into()), Role::Operator),
    ];
    for (at, mutated) in mutations.into_iter().enumerate() {
        assert!(needs_one(&runtime, mutated).await, "mutation {at} was let through");
    }
    assert!(connector.seen().is_empty());
    // A dry run neither needs nor uses it, and the order of arguments does not matter.
    let mut reordered = update("1");
    reordered.params = [("name".to_owned(), json!("n")), ("id".to_owned(), json!("1"))].into_iter().collect();
    assert!(matches!(runtime.call(reordered).await.unwrap(), CallOutcome::Done(_)));
}

#[tokio::test(start_paused = true)]
async fn approval_race_64() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let id = pending(&runtime, delete()).await;
    runtime.approve(&acme(), &id, &boss(), Role::Approver).await.unwrap();
    let racers: Vec<_> = (0..64)
        .map(|_| {
            let runtime = runtime.clone();
            tokio::spawn(async move { runtime.call(delete()).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    let mut asked = std::collections::BTreeSet::new();
    for racer in racers {
        match racer.await.unwrap() {
            CallOutcome::Done(_) => done += 1,
            CallOutcome::PendingApproval { approval_id, .. } => {
                asked.insert(approval_id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done, connector.sent("crm_delete"), asked.len()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_approval_lapses_and_a_denial_stands() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let id = pending(&runtime, delete()).await;
    runtime.approve(&acme(), &id, &boss(), Role::Approver).await.unwrap();
    tokio::time::advance(Duration::from_secs(901)).await;
    assert_eq!(runtime.approval(&acme(), &id).await.unwrap().state, ApprovalState::Expired);
    let CallOutcome::PendingApproval { approval_id, .. } = runtime.call(delete()).await.unwrap() else { panic!("a lapsed approval was used") };
    runtime.deny(&acme(), &approval_id, &boss(), Role::Approver).await.unwrap();
    let error = runtime.call(delete()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("denied by user:boss"));
    assert!(connector.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_under_the_same_key_needs_no_second_approval() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    let keyed = || delete().idempotency_key("k");
    let id = pending(&runtime, keyed()).await;
    runtime.approve(&acme(), &id, &boss(), Role::Approver).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(runtime.call(keyed()).await.unwrap(), CallOutcome::Done(_)));
    }
    assert_eq!(connector.sent("crm_delete"), 1);
    let mut other = keyed();
    other.params.insert("id".into(), json!("8"));
    assert_eq!(runtime.call(other).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_question_does_not_show_what_is_secret() {
    let connector = Scripted::new();
    let runtime = runtime(&connector).await;
    pending(&runtime, delete()).await;
    let listed = runtime.approvals(&acme()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].arguments["id"].as_str(), listed[0].requester.as_str()), (Some("7"), "user:ada"));
    assert!(runtime.approvals(&"globex".into()).await.unwrap().is_empty());
}
