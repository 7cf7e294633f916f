//! GLPI's fake: sessions, searches by numbered fields, pages by range, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::json;
use support::Caller;

async fn glpi() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().vendor("glpi").start("127.0.0.1:0").await.unwrap();
    let caller = Caller::new(format!("{}/apirest.php", sandbox.base_url("glpi")), &[("app-token", known::GLPI_APP_TOKEN)]);
    let session = caller.with("authorization", &format!("user_token {}", known::GLPI_USER_TOKEN)).get("/initSession").await.expect(200);
    let caller = caller.with("session-token", session["session_token"].as_str().unwrap());
    (sandbox, caller)
}

#[tokio::test]
async fn nothing_is_told_without_app_token_and_session() {
    let (sandbox, caller) = glpi().await;
    let base = format!("{}/apirest.php", sandbox.base_url("glpi"));
    assert_eq!(Caller::new(&base, &[]).get("/Computer").await.expect(400)[0], "ERROR_APP_TOKEN_PARAMETERS_MISSING");
    assert_eq!(caller.with("session-token", "none").get("/Computer").await.expect(401)[0], "ERROR_SESSION_TOKEN_INVALID");
    caller.get("/killSession").await.expect(200);
    assert_eq!(caller.get("/Computer").await.status, 401);
    assert_eq!(
        Caller::new(&base, &[("app-token", known::GLPI_APP_TOKEN), ("authorization", "user_token x")]).get("/initSession").await.expect(401)[0],
        "ERROR_GLPI_LOGIN"
    );
}

#[tokio::test]
async fn searches_go_by_numbered_fields_and_pages_by_range() {
    let (_sandbox, caller) = glpi().await;
    let by = |field: &str, how: &str, value: &str| {
        format!("/search/Computer?criteria[0][field]={field}&criteria[0][searchtype]={how}&criteria[0][value]={value}&forcedisplay[0]=5")
    };
    let found = caller.get(&by("1", "contains", "web")).await.expect(200);
    assert_eq!((&found["totalcount"], &found["data"][0]["1"], &found["data"][0]["5"]), (&json!(2), &json!("web01"), &json!("SN-W001")));
    assert!(caller.get(&by("1", "contains", "zzz")).await.expect(200).get("data").is_none());
    assert_eq!(caller.get(&by("4711", "contains", "x")).await.status, 400);
    let page = caller.get("/search/Computer?range=0-3").await;
    assert_eq!((page.status, page.header("content-range")), (206, "0-3/15"));
    assert_eq!(caller.get("/search/Computer?range=500-599").await.expect(400)[0], "ERROR_RANGE_EXCEED_TOTAL");
    assert_eq!(caller.get("/listSearchOptions/Computer").await.expect(200)["2"]["field"], "id");
}

#[tokio::test]
async fn items_are_written_as_input_and_an_impact_is_made_once() {
    let (sandbox, caller) = glpi().await;
    assert_eq!(caller.post("/Computer", json!({"name": "x"})).await.expect(400)[0], "ERROR_BAD_ARRAY");
    let made = caller.post("/Computer", json!({"input": {"name": "new01"}})).await.expect(201)["id"].clone();
    assert_eq!(caller.put(&format!("/Computer/{made}"), json!({"input": {"states_id": "2"}})).await.expect(200)[0][made.to_string()], json!(true));
    assert_eq!(caller.get(&format!("/Computer/{made}?expand_dropdowns=true")).await.expect(200)["states_id"], "Retired");
    assert_eq!(caller.get(&format!("/Computer/{made}/Log")).await.expect(200)[0]["new_value"], json!(2));
    let impact = json!({"input": {"itemtype_source": "Computer", "items_id_source": 1, "itemtype_impacted": "Computer", "items_id_impacted": made}});
    caller.post("/ImpactRelation", impact.clone()).await.expect(201);
    assert_eq!(caller.post("/ImpactRelation", impact).await.expect(400)[0], "ERROR_GLPI_ADD");
    assert_eq!(caller.get("/Computer/9999").await.expect(404)[0], "ERROR_ITEM_NOT_FOUND");
    assert_eq!(caller.get("/User").await.status, 400);
    assert_eq!(sandbox.ledger().count(EffectKind::CiUpdated), 1);
}
