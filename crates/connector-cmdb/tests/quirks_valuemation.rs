//! One test per oddity of Valuemation's call, named after it, and of profiles that connections bring themselves. What the vendor publishes is the
//! call; services and answers are the sandbox's own invention.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use connector_cmdb::Cmdb;
use connector_core::ErrorKind;
use connector_http::{EgressPolicy, HttpTransport};
use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};

const TEMPLATE: &str = include_str!("../profiles/valuemation.yaml");

async fn valuemation(own: Option<String>, key: &str) -> (Sandbox, Cmdb) {
    let sandbox = Sandbox::builder().vendor("valuemation").start("127.0.0.1:0").await.unwrap();
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let fields = [("username", known::VALUEMATION_USER.into()), ("password", known::VALUEMATION_PASSWORD.into()), ("key", key.into())];
    let builder = Cmdb::builder().profile("valuemation").base_url(sandbox.base_url("valuemation")).credential(fields).transport(Arc::new(transport));
    let builder = if let Some(own) = own { builder.setting("profile_yaml", own) } else { builder };
    let cmdb = builder.build().unwrap();
    (sandbox, cmdb)
}

async fn ask(cmdb: &Cmdb, tool: &str, args: Value) -> connector_core::Result<Value> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    cmdb.client().call_dynamic(tool, args).await?.body.to_value()
}

#[tokio::test]
async fn the_credential_goes_into_the_body_and_a_refused_client_is_told_without_it() {
    let (_sandbox, cmdb) = valuemation(None, known::VALUEMATION_TOKEN).await;
    assert!(cmdb.probe().await.unwrap().ok);
    let (_sandbox, cmdb) = valuemation(None, "another-client-token").await;
    let error = ask(&cmdb, "cmdb_probe", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Forbidden, Some("44")), "{error}");
    assert!(!format!("{error:?}").contains("another-client-token"), "{error:?}");
}

#[tokio::test]
async fn a_locked_workflow_passes() {
    let (sandbox, cmdb) = valuemation(None, known::VALUEMATION_TOKEN).await;
    sandbox.valuemation().lock_workflows(1);
    assert_eq!(cmdb.find_ci_by_name("web01").await.unwrap().unwrap().name, "web01");
}

#[tokio::test]
async fn a_crashed_workflow_leaves_it_open_whether_a_write_was_done() {
    let (_sandbox, cmdb) = valuemation(None, known::VALUEMATION_TOKEN).await;
    let engine_error = ask(&cmdb, "cmdb_update_ci", json!({ "id": "SRV-9999", "attributes": { "status": "x" } })).await.unwrap_err();
    assert_eq!((engine_error.kind(), engine_error.vendor_code()), (ErrorKind::Unknown, Some("11")), "{engine_error}");
}

#[tokio::test]
async fn a_service_that_is_called_otherwise_here_is_named_in_a_profile_of_one_s_own() {
    let own = TEMPLATE.replacen("profile: valuemation", "profile: acme-valuemation", 1).replace("WS_GetTicket", "WS_ACME_Ticket");
    let (_sandbox, cmdb) = valuemation(Some(own), known::VALUEMATION_TOKEN).await;
    assert_eq!(cmdb.find_ci_by_name("web01").await.unwrap().unwrap().system, "acme-valuemation");
    let error = ask(&cmdb, "cmdb_get_ticket", json!({ "ticket": "T0815" })).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Config, Some("05")), "{error}");
    assert!(error.message().contains("WS_ACME_Ticket"), "{error}");
}

#[tokio::test]
async fn a_profile_with_a_mistake_is_refused_before_anything_is_sent() {
    let own = TEMPLATE.replacen("params.text: \"{text}\"", "params.text: \"{txt}\"", 1);
    let (sandbox, cmdb) = valuemation(Some(own), known::VALUEMATION_TOKEN).await;
    let error = ask(&cmdb, "cmdb_search_cis", json!({ "query": "web" })).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("nobody fills `{txt}`"), "{error}");
    assert_eq!(sandbox.requests(), 0);
}

#[tokio::test]
async fn texts_stay_values_of_json() {
    let (sandbox, cmdb) = valuemation(None, known::VALUEMATION_TOKEN).await;
    for text in ["\",\"service\":\"WS_DeleteAll\",\"x\":\"", "{\"a\":1}", "params.max"] {
        assert_eq!(ask(&cmdb, "cmdb_search_cis", json!({ "query": text })).await.unwrap()["results"], json!([]), "{text}");
    }
    let error = ask(&cmdb, "cmdb_get_ci", json!({ "id": "SRV-1\",\"x\":\"" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(sandbox.ledger().of_kind(EffectKind::CiUpdated).is_empty());
}
