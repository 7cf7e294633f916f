//! Valuemation's fake: return codes, and workflows of one imagined installation.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};
use support::Caller;

async fn call(caller: &Caller, over: Value) -> Value {
    let mut body = json!({"accessToken": known::VALUEMATION_TOKEN, "username": known::VALUEMATION_USER, "password": known::VALUEMATION_PASSWORD,
        "encrypted": "N", "service": "WS_Ping", "params": {}});
    body.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    caller.post("", body).await.expect(200)
}

#[tokio::test]
async fn every_failure_is_a_return_code_inside_a_200() {
    let sandbox = Sandbox::builder().vendor("valuemation").start("127.0.0.1:0").await.unwrap();
    let caller = Caller::new(sandbox.base_url("valuemation"), &[]);
    assert_eq!(call(&caller, json!({})).await["returnCode"], "00");
    for (over, code) in [
        (json!({"accessToken": "x"}), "44"),
        (json!({"username": ""}), "01"),
        (json!({"password": ""}), "02"),
        (json!({"password": "wrong"}), "04"),
        (json!({"service": "WS_Nothing"}), "05"),
        (json!({"service": "WS_UpdateCI", "params": {"ciNumber": "none"}}), "11"),
    ] {
        let answer = call(&caller, over.clone()).await;
        assert_eq!((&answer["returnCode"], &answer["result"]["score"]), (&json!(code), &json!("error")), "{over}");
    }
    sandbox.valuemation().lock_workflows(1);
    assert_eq!(call(&caller, json!({})).await["returnCode"], "45");
    assert_eq!(call(&caller, json!({})).await["returnCode"], "00");
}

#[tokio::test]
async fn what_is_linked_is_listed() {
    let sandbox = Sandbox::builder().vendor("valuemation").start("127.0.0.1:0").await.unwrap();
    let caller = Caller::new(sandbox.base_url("valuemation"), &[]);
    let found = call(&caller, json!({"service": "WS_FindCI", "params": {"name": "web01"}})).await;
    let web = found["result"]["data"]["list"][0]["ciNumber"].clone();
    let link = json!({"service": "WS_LinkCI", "params": {"ticket": "T0815", "ciNumber": web}});
    assert_eq!(call(&caller, link).await["result"]["data"]["shortText"], "web01");
    let links = call(&caller, json!({"service": "WS_ListLinks", "params": {"ticket": "T0815"}})).await;
    assert_eq!(links["result"]["data"]["list"][0]["ciNumber"], web);
    assert_eq!(sandbox.ledger().of_kind(EffectKind::TicketLinked)[0].parent.as_deref(), Some("T0815"));
}
