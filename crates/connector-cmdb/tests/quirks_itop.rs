//! One test per oddity of iTop's REST/JSON service, named after it. Sources: github.com/Combodo/iTop.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use connector_cmdb::Cmdb;
use connector_core::ErrorKind;
use connector_http::{EgressPolicy, HttpTransport};
use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};

async fn itop(password: &str) -> (Sandbox, Cmdb) {
    let sandbox = Sandbox::builder().vendor("itop").start("127.0.0.1:0").await.unwrap();
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let fields = [("username", known::ITOP_USER.into()), ("password", password.into())];
    let cmdb = Cmdb::builder().profile("itop").base_url(sandbox.base_url("itop")).credential(fields).transport(Arc::new(transport)).build().unwrap();
    (sandbox, cmdb)
}

async fn ask(cmdb: &Cmdb, tool: &str, args: Value) -> connector_core::Result<Value> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    cmdb.client().call_dynamic(tool, args).await?.body.to_value()
}

#[tokio::test]
async fn a_failure_is_a_code_inside_a_200() {
    let (_sandbox, cmdb) = itop("wrong-password").await;
    let error = ask(&cmdb, "cmdb_probe", json!({})).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some("1")), "{error}");
    assert!(!format!("{error:?}").contains("wrong-password"), "{error:?}");
}

#[tokio::test]
async fn a_text_in_oql_stays_inside_its_quotes() {
    let (sandbox, cmdb) = itop(known::ITOP_PASSWORD).await;
    for text in ["x' OR name LIKE '%", "x\\' OR 1 = 1", "x\\", "\"", "x') OR (name LIKE 'web"] {
        let found = ask(&cmdb, "cmdb_search_cis", json!({ "query": text })).await.unwrap();
        assert_eq!(found["results"], json!([]), "{text}");
        assert_eq!(cmdb.find_ci_by_name(text).await.unwrap(), None, "{text}");
        assert_eq!(ask(&cmdb, "cmdb_find_cis_by_serial", json!({ "serial": text })).await.unwrap()["results"], json!([]), "{text}");
        assert_eq!(ask(&cmdb, "cmdb_list_owned_cis", json!({ "owner": text })).await.unwrap()["results"], json!([]), "{text}");
    }
    for id in ["1 OR 1", "1)", "SELECT Server"] {
        assert_eq!(ask(&cmdb, "cmdb_get_ci", json!({ "id": id })).await.unwrap_err().kind(), ErrorKind::Invalid, "{id}");
    }
    assert!(sandbox.ledger().effects().is_empty());
}

#[tokio::test]
async fn wildcards_of_like_do_not_widen_what_is_found() {
    let (_sandbox, cmdb) = itop(known::ITOP_PASSWORD).await;
    assert_eq!(ask(&cmdb, "cmdb_search_cis", json!({ "query": "w%1" })).await.unwrap()["results"], json!([]));
}

#[tokio::test]
async fn one_link_more_does_not_replace_the_others() {
    let (sandbox, cmdb) = itop(known::ITOP_PASSWORD).await;
    let (web, database) = (cmdb.find_ci_by_name("web01").await.unwrap().unwrap().id, cmdb.find_ci_by_name("db01").await.unwrap().unwrap().id);
    ask(&cmdb, "cmdb_link_ticket", json!({ "ticket": "R-000001", "ci_ids": [web] })).await.unwrap();
    ask(&cmdb, "cmdb_link_ticket", json!({ "ticket": "R-000001", "ci_ids": [database] })).await.unwrap();
    let linked = ask(&cmdb, "cmdb_list_linked_cis", json!({ "ticket": "R-000001" })).await.unwrap();
    let names: Vec<&str> = linked["results"].as_array().unwrap().iter().map(|link| link["ci_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["web01", "db01"]);
    assert_eq!(sandbox.ledger().count(EffectKind::TicketLinked), 2);
}

#[tokio::test]
async fn an_external_key_may_be_a_query_and_what_it_misses_is_told() {
    let (_sandbox, cmdb) = itop(known::ITOP_PASSWORD).await;
    let create = |attributes: Value| ask(&cmdb, "cmdb_create_ci", json!({ "class": "server", "name": "srv-new", "attributes": attributes }));
    let error = create(json!({})).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("org_id"), "{error}");
    let made = create(json!({ "org_id": "SELECT Organization WHERE name = 'Acme'" })).await.unwrap();
    assert_eq!((&made["created"], &made["ci"]["owner"]), (&json!(true), &json!("Acme")));
}

#[tokio::test]
async fn related_items_of_classes_outside_the_profile_are_left_out() {
    // iTop's impact may reach tickets, whose ids mean something else.
    let (_sandbox, cmdb) = itop(known::ITOP_PASSWORD).await;
    let shop = cmdb.find_ci_by_name("shop").await.unwrap().unwrap().id;
    let down = ask(&cmdb, "cmdb_dependencies", json!({ "id": shop })).await.unwrap();
    assert!(down["nodes"].as_array().unwrap().iter().all(|node| !node["class"].as_str().unwrap().contains("Ticket")));
}

#[tokio::test]
async fn what_cannot_be_told_is_not_guessed() {
    let (sandbox, cmdb) = itop(known::ITOP_PASSWORD).await;
    let web = cmdb.find_ci_by_name("web01").await.unwrap().unwrap().id;
    let args = json!({ "id": web, "attributes": { "description": "x" }, "unless_changed_since": "2026-11-21T12:00:00Z" });
    let error = ask(&cmdb, "cmdb_update_ci", args).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(sandbox.ledger().count(EffectKind::CiUpdated), 0);
}
