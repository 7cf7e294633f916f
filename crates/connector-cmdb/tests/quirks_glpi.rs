//! One test per oddity of GLPI's legacy REST API, named after it. <https://github.com/glpi-project/glpi/blob/main/apirest.md>

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use connector_cmdb::Cmdb;
use connector_core::ErrorKind;
use connector_http::{EgressPolicy, HttpTransport};
use connector_sandbox::{EffectKind, Sandbox, known};
use secrecy::SecretString;
use serde_json::{Value, json};

async fn glpi(fields: &[(&'static str, &str)]) -> (Sandbox, Cmdb) {
    let sandbox = Sandbox::builder().vendor("glpi").start("127.0.0.1:0").await.unwrap();
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let fields: Vec<(&'static str, SecretString)> = fields.iter().map(|(name, value)| (*name, SecretString::from(*value))).collect();
    let cmdb = Cmdb::builder().profile("glpi").base_url(sandbox.base_url("glpi")).credential(fields).transport(Arc::new(transport)).build().unwrap();
    (sandbox, cmdb)
}

const BOTH: [(&str, &str); 2] = [("token", known::GLPI_USER_TOKEN), ("key", known::GLPI_APP_TOKEN)];

async fn ask(cmdb: &Cmdb, tool: &str, args: Value) -> connector_core::Result<Value> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    cmdb.client().call_dynamic(tool, args).await?.body.to_value()
}

#[tokio::test]
async fn one_session_serves_many_calls_and_another_is_started_when_it_ended() {
    let (sandbox, cmdb) = glpi(&BOTH).await;
    cmdb.find_ci_by_name("web01").await.unwrap().unwrap();
    cmdb.find_ci_by_name("db01").await.unwrap().unwrap();
    assert_eq!(sandbox.glpi().sessions_started(), 1);
    sandbox.glpi().end_sessions();
    cmdb.find_ci_by_name("web02").await.unwrap().unwrap();
    assert_eq!(sandbox.glpi().sessions_started(), 2);
}

#[tokio::test]
async fn wrong_tokens_are_told_apart_and_never_shown() {
    for (fields, code) in [
        ([("token", "wrong-user-token"), ("key", known::GLPI_APP_TOKEN)], "ERROR_GLPI_LOGIN"),
        ([("token", known::GLPI_USER_TOKEN), ("key", "wrong-app-token")], "ERROR_WRONG_APP_TOKEN_PARAMETER"),
    ] {
        let (_sandbox, cmdb) = glpi(&fields).await;
        let error = ask(&cmdb, "cmdb_probe", json!({})).await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::AuthExpired, Some(code)), "{error}");
        assert!(!format!("{error:?}").contains("wrong-"), "{error:?}");
    }
}

#[tokio::test]
async fn a_search_without_hits_has_no_data_at_all() {
    let (_sandbox, cmdb) = glpi(&BOTH).await;
    let none = ask(&cmdb, "cmdb_search_cis", json!({ "query": "nothing like this" })).await.unwrap();
    assert_eq!(none, json!({ "results": [], "truncated": false }));
}

#[tokio::test]
async fn a_range_beyond_the_last_row_is_the_end_and_no_error() {
    let (_sandbox, cmdb) = glpi(&BOTH).await;
    let page = ask(&cmdb, "cmdb_list_cis", json!({ "class": "computer", "after": "5000" })).await.unwrap();
    assert_eq!((&page["results"], &page["next"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn a_text_in_a_criterion_stays_one_value() {
    let (_sandbox, cmdb) = glpi(&BOTH).await;
    for text in ["web01&criteria[1][link]=OR&criteria[1][field]=2&criteria[1][searchtype]=contains&criteria[1][value]=", "^", "$", "web01\" OR \"1"] {
        let found = ask(&cmdb, "cmdb_search_cis", json!({ "query": text })).await.unwrap();
        assert_eq!(found["results"], json!([]), "{text}");
        assert_eq!(cmdb.find_ci_by_name(text).await.unwrap(), None, "{text}");
    }
    let error = ask(&cmdb, "cmdb_link_ticket", json!({ "ticket": "1/../User", "ci_ids": ["Computer:1"] })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = ask(&cmdb, "cmdb_get_ci", json!({ "id": "User:2" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn a_filter_by_likeness_does_not_mix_tickets() {
    let (sandbox, cmdb) = glpi(&BOTH).await;
    // Ticket 1 is there; ten more make 10 and 11, which look like it.
    let caller = connector_http::HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let cx = connector_core::CallCx::new(Arc::new(connector_core::Connection::new("glpi", &sandbox.base_url("glpi")).unwrap()));
    let send = |method: http::Method, path: &str, session: Option<String>, body: &str| {
        use connector_core::transport::{Request, Transport as _};
        let mut request = Request::new(method, format!("{}{path}", sandbox.base_url("glpi")).parse().unwrap());
        request.head.headers.insert("app-token", known::GLPI_APP_TOKEN.parse().unwrap());
        match session {
            Some(session) => request.head.headers.insert("session-token", session.parse().unwrap()),
            None => request.head.headers.insert("authorization", format!("user_token {}", known::GLPI_USER_TOKEN).parse().unwrap()),
        };
        request.body = bytes::Bytes::from(body.to_owned()).into();
        let (caller, cx) = (&caller, &cx);
        async move {
            let body = caller.send(cx, request).await.unwrap().into_body().collect(1 << 20).await.unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        }
    };
    let session = send(http::Method::GET, "/apirest.php/initSession", None, "").await["session_token"].as_str().unwrap().to_owned();
    for _ in 0..10 {
        send(http::Method::POST, "/apirest.php/Ticket", Some(session.clone()), r#"{"input":{"name":"another"}}"#).await;
    }
    let (web, database) = (cmdb.find_ci_by_name("web01").await.unwrap().unwrap().id, cmdb.find_ci_by_name("db01").await.unwrap().unwrap().id);
    ask(&cmdb, "cmdb_link_ticket", json!({ "ticket": "11", "ci_ids": [web] })).await.unwrap();
    ask(&cmdb, "cmdb_link_ticket", json!({ "ticket": "1", "ci_ids": [database] })).await.unwrap();
    let linked = ask(&cmdb, "cmdb_list_linked_cis", json!({ "ticket": "1" })).await.unwrap();
    assert_eq!(linked["results"].as_array().unwrap().iter().map(|link| &link["ci_id"]).collect::<Vec<_>>(), [&json!(database)]);
}

#[tokio::test]
async fn the_status_that_means_retired_is_the_installation_s_own() {
    let (sandbox, cmdb) = glpi(&BOTH).await;
    let web = cmdb.find_ci_by_name("web01").await.unwrap().unwrap().id;
    let error = ask(&cmdb, "cmdb_retire_ci", json!({ "id": web })).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("`retired_status`"), "{error}");
    assert_eq!(sandbox.ledger().count(EffectKind::CiUpdated), 0);
}
