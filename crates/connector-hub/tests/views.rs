//! Views through the hub's own doors: HTTP and the command line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use axum::http::StatusCode;
use common::{hub::Hub, hub::json as printed, world::World};
use connector_runtime::Role;
use serde_json::{Value, json};

/// The connectors of this build that do an operation of a view.
fn doers(view: &str, operation: &str) -> Vec<&'static str> {
    let does = |built: &&connectors::Builtin| (built.manifest)().views.get(view).is_some_and(|fulfils| fulfils.operations.contains_key(operation));
    connectors::builtins().iter().filter(does).map(|built| built.id).collect()
}

#[tokio::test]
async fn tools_of_views_are_listed_with_the_connections_that_do_them() {
    let world = World::new("https://acme.example.com").await;
    let key = world.key("a", Role::Viewer, &["*"]).await;
    let tools = world.get(&key, "/api/v1/tools").await.json();
    let tools = tools.as_array().unwrap();
    let tool = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap_or_else(|| panic!("no `{name}`"));
    let find = tool("crm_find_contact");
    assert_eq!((&find["view"], &find["effect"], &find["connector"]), (&json!("crm"), &json!("read"), &Value::Null));
    assert_eq!(find["input_schema"]["required"], json!(["email"]));
    let over: Vec<&str> = find["over"].as_array().unwrap().iter().map(|over| over["connection"].as_str().unwrap()).collect();
    let expected: Vec<String> = doers("crm", "find_contact").iter().map(|id| format!("{id}-a")).collect();
    assert_eq!(over, expected, "each connection of the tenant that can, and no other");
    let hubspot = find["over"].as_array().unwrap().iter().find(|over| over["connector"] == "hubspot").unwrap();
    assert_eq!(hubspot["tool"], "hubspot_get_contact_by_email");
    for name in ["mailbox_send", "chat_send_message", "cmdb_item_impact"] {
        tool(name);
    }
    // A tenant without connections has none of them.
    let nobody = world.key("c", Role::Admin, &["*"]).await;
    let tools = world.get(&nobody, "/api/v1/tools").await.json();
    assert!(tools.as_array().unwrap().iter().all(|tool| tool["view"].is_null()));
}

#[tokio::test]
async fn a_dry_run_shows_the_request_of_the_tool_behind_it() {
    let world = World::new("https://acme.example.com").await;
    let key = world.key("a", Role::Operator, &["*"]).await;
    let ask = json!({ "connection": "hubspot-a", "params": { "email": "ada@example.com", "fields": ["tier"] }, "dry_run": true });
    let answer = world.post(&key, "/api/v1/tools/crm_find_contact/execute", ask).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let request = &answer.json()["request"];
    let url = request["url"].as_str().unwrap();
    assert!(url.starts_with("https://hubspot.example.com/crm/v3/objects/contacts/ada%40example.com?") && url.contains("idProperty=email"), "{url}");
    assert!(url.contains("tier"), "{url}");
    assert_eq!(request["headers"]["authorization"], "REDACTED");
}

#[tokio::test]
async fn a_write_waits_for_the_approval_of_the_underlying_call() {
    let world = World::new("https://acme.example.com").await;
    let (asker, approver) = (world.key("a", Role::Operator, &["*"]).await, world.key("a", Role::Approver, &["*"]).await);
    let ask = json!({ "connection": "hubspot-a", "params": { "id": "512", "first_name": "Ada", "custom": { "tier": "gold" } } });
    let answer = world.post(&asker, "/api/v1/tools/crm_update_contact/execute", ask).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    let id = answer.json()["approval_id"].as_str().unwrap().to_owned();
    let shown = world.get(&approver, &format!("/api/v1/approvals/{id}")).await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.body);
    assert_eq!(shown.json()["tool"], "hubspot_update_contact");
    assert_eq!(shown.json()["arguments"], json!({ "id": "512", "properties": { "firstname": "Ada", "tier": "gold" } }));
    let viewer = world.key("a", Role::Viewer, &["*"]).await;
    let ask = json!({ "connection": "hubspot-a", "params": { "id": "512", "first_name": "Ada" } });
    let answer = world.post(&viewer, "/api/v1/tools/crm_update_contact/execute", ask).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
}

#[test]
fn the_command_line_lists_and_calls_them_once_something_is_connected() {
    let hub = Hub::new();
    let views = |tools: Value| tools.as_array().unwrap().iter().filter(|tool| tool["view"].is_string()).count();
    assert_eq!(views(hub.json(&["tools", "--json"])), 0, "nothing is connected");
    let with_key = |args: &[&str]| {
        let output = hub.command(args).env("HUBSPOT_API_KEY", "pat-test").output().unwrap();
        printed(&output, args)
    };
    assert!(views(with_key(&["tools", "--json"])) >= 10);
    let shown = with_key(&["call", "crm_find_contact", "--arg", "email=ada@example.com", "--dry-run"]);
    assert!(shown["url"].as_str().unwrap().starts_with("https://api.hubapi.com/crm/v3/objects/contacts/ada%40example.com?"), "{shown}");
    let unknown = hub.command(&["call", "crm_find_contct"]).output().unwrap();
    assert!(common::hub::stderr(&unknown).contains("there is no tool `crm_find_contct`"), "{}", common::hub::stderr(&unknown));
}
